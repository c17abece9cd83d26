"""REINFORCE of the benchmark, against the exact gradient of a problem whose every course is listed,
and against what its devices are by hand."""

import itertools
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import reinforce
import reinforce_estimator
from reinforce_estimator import Episodes, advantages, gaussian_log_prob, less_the_others, play

from jaxes.environments import Environment

# Two states that go on and one, the last, that ends the episode; two actions; horizon 3.
STATES, ACTIONS, HORIZON, END = 3, 2, 3, 2
START = jnp.array([0.6, 0.4])
NEXT = jnp.array(  # [state, action, next state]
    [[[0.5, 0.3, 0.2], [0.1, 0.5, 0.4]], [[0.3, 0.3, 0.4], [0.6, 0.2, 0.2]]]
)
REWARD = jnp.array([[1.0, -2.0], [0.5, 3.0]])  # [state, action]
PARAMS = jnp.array([[0.3, -0.4], [-0.2, 0.7]])  # [state, action], logits
SEEN = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # [state, O]; scores go on behind the end
KINDS = [
    {"baseline": baseline, "reward_to_go": reward_to_go}
    for baseline, reward_to_go in itertools.product((False, True), repeat=2)
]


def log_prob(params, observation, action):
    """Of a softmax; an action is a number."""
    return jax.nn.log_softmax(observation @ params)[action]


def exact(params):
    """E[return], by dynamic programming from the end."""
    policy = jax.nn.softmax(params, axis=1)
    value = jnp.zeros(STATES)
    for _ in range(HORIZON):
        going_on = jnp.sum(policy * (REWARD + NEXT @ value), axis=1)
        value = jnp.append(going_on, 0.0)
    return START @ value[:END]


def every_course():
    """All episodes there may be, `[N, T, ...]`, and the probability `[N]` of each."""
    courses = [([state], [], float(START[state]), True) for state in range(END)]
    for _ in range(HORIZON):
        longer = []
        for states, actions, probability, alive in courses:
            if not alive:  # one course goes on behind the end: nothing depends on it
                longer.append(([*states, END], [*actions, 0], probability, False))
                continue
            for action, after in itertools.product(range(ACTIONS), range(STATES)):
                chance = float(jax.nn.softmax(PARAMS[states[-1]])[action])
                chance *= float(NEXT[states[-1], action, after])
                longer.append(
                    ([*states, after], [*actions, action], probability * chance, after != END)
                )
        courses = longer
    states = jnp.array([states[:HORIZON] for states, *_ in courses])
    actions = jnp.array([actions for _, actions, *_ in courses])
    alive = states != END
    rewards = jnp.where(alive, REWARD[jnp.minimum(states, 1), actions], 0.0)
    episodes = Episodes(SEEN[states], actions, rewards, alive)
    return episodes, jnp.array([probability for *_, probability, _ in courses])


@pytest.fixture(scope="module")
def courses():
    return every_course()


def test_every_course_is_there_and_their_mean_return_is_the_exact_one(courses):
    episodes, probability = courses
    np.testing.assert_allclose(probability.sum(), 1, rtol=1e-5)
    mean = probability @ episodes.rewards.sum(axis=1)
    np.testing.assert_allclose(mean, exact(PARAMS), rtol=1e-5)
    assert not episodes.alive.all()  # some end early


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_its_mean_over_every_course_is_the_exact_gradient(courses, kind):
    """With a baseline over every pair of courses, since it is the mean of the others."""
    episodes, probability = courses
    count = probability.size
    batches = jnp.arange(count)[:, None]
    if kind["baseline"]:
        batches = jnp.array(list(itertools.product(range(count), repeat=2)))
    estimate = partial(reinforce_estimator.gradient, log_prob, PARAMS, **kind)
    one = jax.jit(jax.vmap(lambda batch: estimate(jax.tree.map(lambda x: x[batch], episodes))))
    mean = jnp.tensordot(jnp.prod(probability[batches], axis=1), one(batches), axes=1)
    np.testing.assert_allclose(mean, jax.grad(exact)(PARAMS), atol=1e-5)


def test_reward_to_go_holds_the_reward_of_its_own_step_and_of_no_earlier_one():
    """An earlier reward would leave the mean as it is, and only add noise."""
    rewards = jnp.array([[1.0, 2.0, 4.0], [3.0, 0.0, 1.0], [8.0, 4.0, 1.0]])
    to_go = [[7, 6, 4], [4, 1, 1], [13, 5, 1]]
    found = advantages(rewards, baseline=False, reward_to_go=True)
    np.testing.assert_array_equal(found, to_go)
    found = advantages(rewards, baseline=False, reward_to_go=False)
    np.testing.assert_array_equal(found, [[7] * 3, [4] * 3, [13] * 3])
    found = advantages(rewards, baseline=True, reward_to_go=True)
    np.testing.assert_allclose(found[0], [7 - 8.5, 6 - 3, 4 - 1])  # less the mean of the other two
    np.testing.assert_allclose(less_the_others(rewards[:, 0]), [1 - 5.5, 3 - 4.5, 8 - 2])


def test_an_episode_is_what_was_acted_on_and_stops_counting_at_its_end():
    """A counter, which ends on its third step; the reward is what the action was."""

    def step(state, action):
        return state + 1, (state + 1.0)[None], action[0], state + 1 >= 3

    environment = Environment(lambda key: (jnp.int32(0), jnp.zeros(1)), step, action_size=1)
    act = lambda key, observation: 10 + observation + jax.random.uniform(key, (1,))  # noqa: E731
    episode = play(environment, act, 5, jax.random.key(0))
    np.testing.assert_array_equal(episode.observations[:, 0], range(5))
    np.testing.assert_array_equal(episode.alive, [True, True, True, False, False])
    np.testing.assert_array_equal(episode.rewards[3:], 0)
    np.testing.assert_array_equal(episode.rewards[:3], episode.actions[:3, 0])
    noise = episode.actions - 10 - episode.observations
    assert len(np.unique(noise)) == 5  # each action has noise of its own


def test_a_gaussian_has_the_exact_gradient_by_quadrature():
    """One step whose reward is -(a - 3)²: E = -((μ - 3)² + σ²), averaged over Gauss-Hermite nodes,
    which is exact for polynomials."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    std, mean = 0.3, jnp.array(1.0)
    actions = (mean + std * nodes).astype(jnp.float32)[:, None, None]  # [N, T, A]
    flat = jnp.ones(actions.shape[:2])
    episodes = Episodes(actions, actions, -((actions[..., 0] - 3) ** 2), flat > 0)

    log_prob = lambda mean, _, action: gaussian_log_prob(action, mean, std)  # noqa: E731

    def one(episode):
        batch = jax.tree.map(lambda x: x[None], episode)
        kind = {"baseline": False, "reward_to_go": True}
        return reinforce_estimator.gradient(log_prob, mean, batch, **kind)

    found = weights @ np.asarray(jax.vmap(one)(episodes)) / weights.sum()
    np.testing.assert_allclose(found, -2 * (mean - 3), rtol=1e-4)


def test_directions_of_a_noise_are_counted():
    generator = np.random.default_rng(0)
    everywhere = 5 + generator.normal(size=(2000, 10))
    np.testing.assert_allclose(reinforce.directions(everywhere), 10, rtol=0.1)
    line = generator.normal(size=(2000, 1)) * np.ones(10)
    np.testing.assert_allclose(reinforce.directions(line), 1, rtol=0.2)
