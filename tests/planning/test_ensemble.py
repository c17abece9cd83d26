"""What an ensemble learns of a system that is known, and what it makes of odd data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import point

import jaxes
from jaxes.planning import ensemble_model
from jaxes.planning.data import Transitions, no_transitions, stored

POINT = point()
ROWS = 400


def linear_data(key=None, rows=ROWS, noise=0.1):
    """x' = x + 0.5 a + noise in the first coordinate; the second is constant; reward a."""
    x_key, a_key, noise_key = jax.random.split(key if key is not None else jax.random.key(0), 3)
    x = jax.random.normal(x_key, (rows, 1))
    a = jax.random.uniform(a_key, (rows, 1), minval=-1)
    after = x + 0.5 * a + noise * jax.random.normal(noise_key, (rows, 1))
    constant = jnp.full((rows, 1), 7.0)
    return Transitions(
        observations=jnp.concatenate([x, constant], axis=1),
        actions=a,
        rewards=a[:, 0],
        next_observations=jnp.concatenate([after, constant], axis=1),
        dones=x[:, 0] > 1.0,
        total=jnp.int32(rows),
    )


def model_of(**options):
    small = {"hidden": (16,), "num_updates": 800, "learning_rate": 3e-3}
    return ensemble_model(POINT, **(small | options))


@pytest.fixture(scope="module")
def learned():
    """A model with its reward and end learned, its state after a fit, and the loss."""
    model = model_of(reward="learned", done="learned", members=3, particles=6)
    state, loss = jax.jit(model.fit)(
        jax.random.key(1), model.init(jax.random.key(0)), linear_data()
    )
    return model, state, float(loss)


@functools.partial(jax.jit, static_argnames=("model", "repeats"))
def predictions(model, state, x, a, repeats=300):
    """Of all particles, of so many draws of their noise: `[repeats, P, ...]`."""
    members = model.particles(state)
    start = model.start((), jnp.array([x, 7.0]))

    def one(member, key):
        return model.step(member, start, jnp.array([a]), key)

    keys = jax.random.split(jax.random.key(2), (repeats, model.num_particles))
    return jax.vmap(jax.vmap(one), (None, 0))(members, keys)


def test_mean_and_spread_of_a_step_are_those_of_the_system(learned):
    model, state, loss = learned
    for x, a in [(0.0, 0.5), (-1.0, -0.8), (0.7, 0.0)]:
        _, seen, reward, done = predictions(model, state, x, a)
        assert float(seen[..., 0].mean()) == pytest.approx(x + 0.5 * a, abs=0.06)
        assert float(seen[..., 0].std()) == pytest.approx(0.1, rel=0.4)
        np.testing.assert_array_equal(seen[..., 1], 7.0)  # a constant stays one
        assert float(reward.mean()) == pytest.approx(a, abs=0.05)
        assert not done.any()
    assert predictions(model, state, 1.6, 0.0)[3].all()
    assert np.isfinite(loss)


def test_particles_keep_their_networks_in_turn(learned):
    model, state, _ = learned
    members = model.particles(state)
    for leaf, of_state in zip(
        jax.tree.leaves(members.params), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_array_equal(leaf, of_state[jnp.array([0, 1, 2, 0, 1, 2])])
    first = jax.tree.leaves(state.params)[0]
    assert not np.array_equal(first[0], first[1])


def test_predictions_stay_within_what_the_data_showed(learned):
    model, state, _ = learned
    data = linear_data()
    high = data.next_observations.max(axis=0)
    std = data.next_observations.std(axis=0)
    imagined, seen, reward, _ = predictions(model, state, 50.0, 1.0)
    np.testing.assert_allclose(seen[..., 0], high[0] + std[0], rtol=1e-5)
    np.testing.assert_array_equal(imagined.bounded, 1)
    assert float(reward.max()) <= float(data.rewards.max())
    assert model.report(imagined)["bounded"].mean() == 1
    inside = predictions(model, state, 0.0, 0.5)[0]
    assert float(inside.bounded.mean()) < 0.05


def test_a_fit_goes_on_from_the_last_one(learned):
    model, state, loss = learned
    _, again = jax.jit(model.fit)(jax.random.key(3), state, linear_data())
    assert float(again) < loss + 0.05
    counts = [leaf for leaf in jax.tree.leaves(state.optimizer) if leaf.dtype == jnp.int32]
    np.testing.assert_array_equal(counts[0], [800] * 3)


def test_data_that_is_constant_or_missing_gives_finite_predictions():
    model = model_of(num_updates=20, members=2)
    empty = no_transitions(8, 2, 1)
    one = stored(empty, linear_data(rows=1), jnp.ones(1, bool))
    fit = jax.jit(model.fit)
    for data in (empty, one):
        state, loss = fit(jax.random.key(0), model.init(jax.random.key(0)), data)
        _, seen, reward, _ = predictions(model, state, 0.0, 0.5, repeats=2)
        assert np.all(np.isfinite(seen))
        assert np.all(np.isfinite(reward))
        assert np.isfinite(loss)


def test_a_fit_that_diverges_leaves_what_was_learned(learned):
    model, state, _ = learned
    data = linear_data()
    broken = data._replace(next_observations=data.next_observations.at[3].set(jnp.nan))
    after, loss = jax.jit(model.fit)(jax.random.key(0), state, broken)
    assert np.isnan(loss)
    assert jax.tree.all(jax.tree.map(np.array_equal, after.params, state.params))


def test_networks_learn_from_different_rows():
    """With one row in a hundred that says otherwise, a bootstrap misses it in a third of cases."""
    model = model_of(members=8, num_updates=300, hidden=())
    data = linear_data(rows=60, noise=0.0)
    data = data._replace(next_observations=data.next_observations.at[0, 0].add(30.0))
    state, _ = jax.jit(model.fit)(jax.random.key(5), model.init(jax.random.key(0)), data)
    _, seen, _, _ = predictions(model, state, 0.0, 0.0, repeats=50)
    of_members = seen[..., 0].std(axis=0)  # how much noise each network has learned
    assert of_members.max() > 1.5 * of_members.min()


def test_a_buffer_keeps_the_last_rows():
    data = no_transitions(5, 1, 1)
    for start, valid in [(0, [1, 1, 1]), (3, [1, 0, 1]), (6, [1, 1, 0])]:
        numbers = jnp.arange(start, start + 3, dtype=jnp.float32)
        rows = Transitions(
            numbers[:, None], numbers[:, None], numbers, numbers[:, None], numbers > 3, jnp.int32(0)
        )
        data = jax.jit(stored)(data, rows, jnp.array(valid, bool))
    assert (int(data.total), int(data.num_rows)) == (7, 5)
    np.testing.assert_array_equal(sorted(data.rewards), [2, 3, 5, 6, 7])  # 0 and 1 made way
    np.testing.assert_array_equal(data.observations[:, 0], data.rewards)
    np.testing.assert_array_equal(data.dones, data.rewards > 3)


def test_what_the_environment_knows_is_not_learned():
    cartpole = jaxes.environments.continuous_cartpole()
    known, learned = ensemble_model(cartpole), ensemble_model(cartpole, reward="learned")
    sizes = [
        jax.eval_shape(model.init, jax.random.key(0)).targets.mean.shape
        for model in (known, learned)
    ]
    assert sizes == [(4,), (5,)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": 0}, "members must be a whole number of at least 1"),
        ({"particles": 7}, "particles must be a multiple of the 5 members"),
        ({"hidden": (0,)}, "hidden must be"),
        ({"num_updates": 0}, "num_updates must be"),
        ({"batch_size": 1.5}, "batch_size must be"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"bound": -1.0}, "bound must be at least 0"),
        ({"reward": "given"}, "reward must be a function or one of learned"),
        ({"done": "always"}, "done must be a function or one of learned, never"),
        ({"features": "sin"}, "features must be a function or None"),
        ({"features": lambda x: 1 / 0}, "features fails: ZeroDivisionError"),
        ({"features": lambda x: x[None]}, "features must be a function to a vector"),
        ({"hidden": 64}, "hidden must be a sequence of sizes"),
        ({"reward": lambda x, action, y: y}, "reward must be a function to one number"),
        ({"done": lambda x: x}, "done must be a function to one number"),
    ],
)
def test_bad_input_is_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        ensemble_model(POINT, **options)
