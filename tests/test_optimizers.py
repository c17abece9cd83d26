"""ClipUp against its definition, and names."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxes import optimizers


@jax.enable_x64(True)
def test_clipup_is_its_definition():
    rate, momentum, max_speed = 0.1, 0.8, 0.15
    optimizer = optimizers.clipup(rate, momentum, max_speed)
    rng = np.random.default_rng(0)
    x, velocity = rng.normal(size=5), np.zeros(5)
    ours, state = jnp.asarray(x), optimizer.init(jnp.asarray(x))
    speeds = []
    for _ in range(20):
        gradient = 1e6 * rng.normal(size=5) + 1e6
        updates, state = optimizer.update(jnp.asarray(gradient), state, ours)
        ours = optax.apply_updates(ours, updates)
        velocity = momentum * velocity - rate * gradient / np.linalg.norm(gradient)
        speeds.append(np.linalg.norm(velocity))
        if speeds[-1] > max_speed:
            velocity = velocity * max_speed / speeds[-1]
        x = x + velocity
        np.testing.assert_allclose(ours, x, rtol=1e-12)
    assert min(speeds) < max_speed < max(speeds)  # it was clipped, and not always


def test_clipup_of_a_zero_gradient_rests():
    optimizer = optimizers.clipup(0.1)
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(updates))


def test_the_numbers_of_clipup_may_be_traced():
    def first_step(rate):
        optimizer = optimizers.clipup(rate)
        return jnp.linalg.norm(optimizer.update(jnp.ones(4), optimizer.init(jnp.ones(4)))[0])

    np.testing.assert_allclose(jax.vmap(first_step)(jnp.array([0.1, 0.2])), [0.1, 0.2], rtol=1e-6)


@pytest.mark.parametrize("name", optimizers.OptimizerName.__args__)
def test_every_name_descends(name):
    optimizer = optimizers.resolve(name)(0.1)
    x = jnp.array([3.0, -2.0])
    state = optimizer.init(x)
    for _ in range(50):
        updates, state = optimizer.update(2 * x, state, x)
        x = optax.apply_updates(x, updates)
    assert jnp.linalg.norm(x) < 2 < jnp.linalg.norm(jnp.array([3.0, -2.0]))


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(ValueError, match=r"optimizer must be one of .* did you mean 'adam'"):
        optimizers.resolve("adm")
    with pytest.raises(ValueError, match="optimizer must be a function of the learning rate"):
        optimizers.resolve(0.1)
