"""The rollout engine on an environment whose episodes can be computed by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adapters import Context, rollout
from walks import EPISODE_LENGTH, walk

from jaxes import parallel
from jaxes.policies import Policy
from jaxes.rollouts import lanes
from jaxes.rollouts.episodes import Origin, make_simulation
from jaxes.rollouts.lanes import Jobs
from jaxes.rollouts.width import Width


def act(params, policy_state, observation):
    """Remembers how often it acted; moves by params · that number."""
    return (params * policy_state)[None], policy_state + 1


def by_hand(key, param, breaks_at=None):
    """One episode in plain Python: return, length, diverged, observations."""
    state, _ = walk().reset(key)
    position, steps_left = float(state.position), int(state.steps_left)
    total, length, observations = 0.0, 0, []
    while steps_left > 0 and length < EPISODE_LENGTH:
        observations.append([position, steps_left])
        position += param * length
        steps_left -= 1
        length += 1
        if steps_left == breaks_at:
            return total, length, True, np.array(observations)
        total += position
    return total, length, False, np.array(observations)


def jobs_of(pending, center=(0.0, 0.0)):
    """Job j starts from key j // 2 and acts with the parameter j / 100."""
    number = jnp.arange(pending.size)
    return Jobs(
        pending=pending,
        origins=Origin(jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(number)),
        episode=number // 2,
        context=lambda jobs: Context(
            0.01 * jobs.astype(jnp.float32), jnp.tile(jnp.asarray(center), (jobs.size, 1))
        ),
    )


@pytest.mark.parametrize(
    "width",
    [
        Width(1, refill=1, tail=0, block=8),
        Width(3, refill=2, tail=0, block=1, sync=7),
        Width(8, refill=3, tail=3, block=2, sync=1),
        pytest.param(Width(16, refill=16, tail=8, block=8), marks=pytest.mark.slow),
        Width(40, refill=8, tail=33, block=4, sync=5),
    ],
)
@pytest.mark.parametrize(
    "queue", [(0, 40), pytest.param((10, 30), marks=pytest.mark.slow), (39, 40), (5, 5)]
)
def test_every_pending_job_runs_to_its_end(width, queue):
    center = jnp.array([0.5, 10.0])
    result = rollout(
        walk(breaks_at=4),
        act,
        jnp.zeros(()),
        jobs_of((queue[0] <= jnp.arange(40)) & (jnp.arange(40) < queue[1]), center),
        width=width,
        episode_length=EPISODE_LENGTH,
    )
    episodes = result.episodes
    for job in range(40):
        if not queue[0] <= job < queue[1]:
            assert episodes.length[job] == 0
            continue
        key = jax.random.fold_in(jax.random.key(0), job // 2)
        total, length, diverged, observations = by_hand(key, 0.01 * job, breaks_at=4)
        assert episodes.length[job] == length
        assert episodes.diverged[job] == diverged
        np.testing.assert_allclose(episodes.total_reward[job], total, rtol=1e-4, atol=1e-4)
        deviations = observations - np.asarray(center)
        np.testing.assert_allclose(
            episodes.moments.first[job], deviations.sum(axis=0), rtol=1e-4, atol=1e-3
        )
        np.testing.assert_allclose(
            episodes.moments.second[job], (deviations**2).sum(axis=0), rtol=1e-4, atol=1e-3
        )
    assert (result.utilization > 0) == (queue[0] < queue[1])
    assert result.utilization <= 1


def test_steps_follow_the_episodes_not_their_bound():
    """Episodes of at most 30 steps under a bound of 10⁹ end at once."""
    result = rollout(
        walk(),
        act,
        jnp.zeros(()),
        jobs_of(jnp.ones(5, bool)),
        width=Width(5, refill=1, tail=0, block=1, sync=10**9),
        episode_length=10**9,
    )
    lengths = [
        walk().reset(jax.random.fold_in(jax.random.key(0), job // 2))[0][1] for job in range(5)
    ]
    np.testing.assert_array_equal(result.episodes.length, lengths)
    np.testing.assert_allclose(result.utilization, np.mean(lengths) / np.max(lengths), rtol=1e-6)


def test_a_job_sends_sixteen_bytes_to_the_other_devices():
    """When all are done; tallies stay where they ran. (Before, which jobs nobody has begun.)"""
    jobs = jobs_of(jnp.ones(40, bool))
    simulation = make_simulation(
        lambda system: walk(),
        lambda params, *inputs: act(params[0], *inputs),
        Policy(init=None, initial_state=jnp.zeros(()), apply=None),
        episode_length=EPISODE_LENGTH,
        num_observations=2,
        center=lambda params: params[1],
    )
    run = jax.make_jaxpr(
        lambda: lanes.rollout(simulation, jobs, Width(8, refill=3, tail=3, block=2)),
        axis_env=[(parallel.MEMBER, 2)],
    )()
    exchanged = [
        variable.aval
        for equation in run.eqns
        if "psum" in equation.primitive.name
        for variable in equation.invars
    ]
    assert sum(x.dtype.itemsize * x.size for x in exchanged if x.shape) == 16 * 40
