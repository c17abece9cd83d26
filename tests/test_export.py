"""Programs lower for accelerators that are not here."""

import jax
import jax.numpy as jnp
import pytest
from jax import export

import jaxes


@pytest.mark.parametrize("name", ["cma_es", "openai_es"])
def test_an_update_step_lowers_for_cuda_and_tpu(name):
    strategy = jaxes.STRATEGIES[name](16)
    problem = jaxes.problems.function(lambda x: -jnp.sum(x**2), lambda key: jnp.ones(5))
    mesh = jaxes.make_mesh(1)
    update_step = jax.jit(jaxes.make_update_step(strategy, problem, mesh))
    key = jax.random.key(0)
    state = jaxes.init(key, strategy, problem, mesh=mesh)
    exported = export.export(update_step, platforms=["cuda", "tpu"])(key, state)
    assert exported.platforms == ("cuda", "tpu")
    told, _ = exported.out_tree.unflatten(exported.out_avals)
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(told), strict=True):
        assert (before.shape, before.dtype) == (after.shape, after.dtype)
