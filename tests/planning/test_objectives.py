"""What the objectives say of sequences, against the same by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxes.planning import Model, reach, sum_of_rewards
from jaxes.planning.imagine import folded

OBSERVATIONS = np.array([[3.0, 0.0], [1.0, 1.0], [0.5, 2.0], [2.0, 2.0], [4.0, 0.0]], np.float32)
REWARDS = np.array([1.0, -2.0, 4.0, 8.0, 16.0], np.float32)
TARGET = (1.0, 2.0)
DISTANCES = np.linalg.norm(OBSERVATIONS - np.array(TARGET), axis=1)


def value_of(objective, *, end=None, begun=0, left=100, observations=OBSERVATIONS, rewards=REWARDS):
    """Of the recorded sequence, whose step number `end` (from 0) ends it."""
    rows = (jnp.asarray(observations), jnp.asarray(rewards))
    horizon = len(observations)

    def step(member, i, action, key):
        return i + 1, rows[0][i], rows[1][i], i == (-1 if end is None else end)

    model = Model(step, action_size=1, observation_size=observations.shape[1])
    ahead = jnp.arange(1, horizon + 1)
    keys = jax.random.split(jax.random.key(0), horizon)
    times = (jnp.zeros((horizon, 1)), keys, begun + ahead, ahead)
    objective.check(observations.shape[1])
    return float(folded(model, objective, (), jnp.int32(0), times, jnp.int32(left))[0])


def test_rewards_add_up_to_the_end():
    assert value_of(sum_of_rewards()) == 27
    assert value_of(sum_of_rewards(), end=2) == 3  # the step that ends it counts, none after it
    assert value_of(sum_of_rewards(), end=0) == 1
    assert value_of(sum_of_rewards(), left=2) == -1
    assert value_of(sum_of_rewards(), left=0) == 0
    discounted = value_of(sum_of_rewards(discount=0.5))
    assert discounted == pytest.approx(1 - 1 + 1 + 1 + 1)


def test_a_value_at_the_end_counts_where_the_episode_goes_on():
    objective = sum_of_rewards(discount=0.5, value=lambda observation: 32 * observation[0])
    assert value_of(objective) == pytest.approx(3 + 4)  # γ⁵ · 32 · 4
    assert value_of(objective, end=4) == pytest.approx(3)
    assert value_of(objective, left=6) == pytest.approx(3 + 4)
    assert value_of(objective, left=5) == pytest.approx(3)  # the episode ends there
    assert value_of(objective, left=4) == pytest.approx(2)


def test_distances_to_a_target():
    assert value_of(reach(TARGET)) == pytest.approx(-DISTANCES[-1])
    assert value_of(reach(TARGET, "every_step")) == pytest.approx(-DISTANCES.mean())
    assert value_of(reach(TARGET, "closest")) == pytest.approx(-DISTANCES.min())
    weighted = reach(TARGET, weights=(0.0, 4.0))
    assert value_of(weighted) == pytest.approx(-4)
    seen = reach((5.0,), features=lambda observation: observation.sum(keepdims=True))
    assert value_of(seen) == pytest.approx(-1)


def test_where_the_episode_ends_the_state_stays():
    assert value_of(reach(TARGET), end=1) == pytest.approx(-DISTANCES[1])
    stays = DISTANCES[[0, 1, 1, 1, 1]]
    assert value_of(reach(TARGET, "every_step"), end=1) == pytest.approx(-stays.mean())
    assert value_of(reach(TARGET), left=3) == pytest.approx(-DISTANCES[2])
    assert value_of(reach(TARGET, "every_step"), left=3) == pytest.approx(-DISTANCES[:3].mean())


def test_a_deadline_shortens_the_plan_and_then_is_to_be_held():
    assert value_of(reach(TARGET, deadline=3)) == pytest.approx(-DISTANCES[2])
    assert value_of(reach(TARGET, deadline=13), begun=10) == pytest.approx(-DISTANCES[2])
    assert value_of(reach(TARGET, deadline=99), begun=10) == pytest.approx(-DISTANCES[4])
    every = reach(TARGET, "every_step", deadline=12)
    assert value_of(every, begun=10) == pytest.approx(-DISTANCES[:2].mean())
    closest = reach(TARGET, "closest", deadline=2)
    assert value_of(closest) == pytest.approx(-DISTANCES[:2].min())
    for begun in (3, 7):  # from the deadline on all steps count
        for when in ("final", "every_step", "closest"):
            held = reach(TARGET, when, deadline=3)
            assert value_of(held, begun=begun) == pytest.approx(-DISTANCES.mean())


def test_a_target_may_move():
    moving = reach(lambda step: jnp.stack([step / 1.0, 0.0 * step]))
    assert value_of(moving, begun=10) == pytest.approx(-(15.0 - 4.0))


@pytest.mark.parametrize("objective", [sum_of_rewards(), reach(TARGET), reach(TARGET, "closest")])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_what_is_no_number_is_nan_where_it_was_seen_before_the_end(objective, bad, place):
    observations, rewards = OBSERVATIONS.copy(), REWARDS.copy()
    observations[place, 1] = bad
    assert np.isnan(value_of(objective, observations=observations))
    rewards[place] = bad
    assert np.isnan(value_of(objective, rewards=rewards))
    if place > 0:
        for cut in ({"end": place - 1}, {"left": place}):
            both = value_of(objective, observations=observations, rewards=rewards, **cut)
            assert np.isfinite(both)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: reach((1.0,)).check(2), "target must be of the 2 numbers of the observation"),
        (lambda: reach((1.0, np.nan)), "target must be a vector of finite numbers"),
        (lambda: reach("up"), "target must be a vector of finite numbers"),
        (lambda: reach(TARGET, "sometimes"), "when must be one of final, every_step, closest"),
        (lambda: reach(TARGET, deadline=0), "deadline must be a whole number of at least 1"),
        (lambda: reach(TARGET, weights=(1.0, -1.0)), "weights must be at least 0"),
        (lambda: reach(TARGET, weights=(1.0,)).check(2), "weights must be of the 2 numbers"),
        (lambda: reach(lambda step: jnp.zeros(3)).check(2), "target must be of the 2 numbers"),
        (lambda: reach(lambda step: 1 / 0).check(2), "target fails: ZeroDivisionError"),
        (lambda: sum_of_rewards(discount=0.0), r"discount must be in \(0, 1\]"),
        (
            lambda: sum_of_rewards(value=lambda x: x).check(2),
            r"value must be a function to one number \[\]",
        ),
        (lambda: reach((0.0,), features=lambda x: x[0]).check(2), "features must be .* a vector"),
    ],
)
def test_bad_input_is_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
