"""What an own problem may keep in its state, through a checkpoint and back."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes
from jaxes.core import TRAIN


class HParams(NamedTuple):
    pass


class Nested(NamedTuple):
    keys: jax.Array
    nothing: jax.Array
    count: jax.Array


def drawing(make_state, key_of):
    """A problem whose noise comes from a key in its own state."""

    def init(key, hparams=None):
        return make_state(key)

    def evaluate(key, population, state, phase=TRAIN):
        own = key_of(state)
        noise = jax.random.normal(own.reshape(-1)[0], (population.size,))
        new = jax.tree.map(
            lambda leaf: (
                jax.vmap(lambda k: jax.random.fold_in(k, 1))(leaf.reshape(-1)).reshape(leaf.shape)
                if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
                else leaf
            ),
            state,
        )
        new = jax.tree.map(lambda a, b: jnp.where(phase == TRAIN, a, b), new, state)
        fitness = -jnp.sum((population() - 1) ** 2, axis=1) + 0.1 * noise
        value = -jnp.sum((population.mean - 1) ** 2)[None]
        no = jnp.zeros(1, bool)
        tests = jaxes.Tests(value, jnp.ones(1, jnp.int32), no, no)
        return jaxes.Evaluation(fitness, new, {}, tests)

    return jaxes.Problem(init, evaluate, lambda key: jnp.zeros(3), HParams())


PROBLEMS = {
    "a key": drawing(lambda key: key, lambda state: state),
    "keys and nothing": drawing(
        lambda key: {"a": Nested(jax.random.split(key, (2, 3)), jnp.zeros((0, 3)), jnp.int32(7))},
        lambda state: state["a"].keys,
    ),
}


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_a_state_of_keys_is_saved_and_resumed(problem, tmp_path):
    strategy, options = jaxes.cma_es(8), {"run_dir": tmp_path / "run"}
    jaxes.train(problem, strategy, num_generations=4, **options)
    resumed = jaxes.train(problem, strategy, num_generations=9, resume=True, **options)
    whole = jaxes.train(problem, strategy, num_generations=9)
    for ours, theirs in zip(
        jax.tree.leaves(resumed.state), jax.tree.leaves(whole.state), strict=True
    ):
        if jnp.issubdtype(ours.dtype, jax.dtypes.prng_key):
            ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
        np.testing.assert_array_equal(ours, theirs)
    tested = jaxes.evaluate(tmp_path / "run", problem, strategy, num_episodes=2)
    assert tested.return_mean == whole.return_mean
