"""REINFORCE of the benchmark, against the exact gradient of a problem whose every trajectory is
listed, and against baseline and reward-to-go by hand; and what the benchmark makes of estimates."""

import itertools
import math
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import reinforce
import reinforce_cosines
import reinforce_curves
import reinforce_estimator
import reinforce_settings
import reinforce_text
from reinforce_estimator import Episodes, advantages, gaussian_log_prob, leave_one_out, rollout
from reinforce_settings import BOTH, EPISODES, PAIRS, RAW

import jaxes
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


def every_trajectory():
    """All episodes there may be, `[N, T, ...]`, and the probability `[N]` of each."""
    trajectories = [([state], [], float(START[state]), True) for state in range(END)]
    for _ in range(HORIZON):
        longer = []
        for states, actions, probability, alive in trajectories:
            if not alive:  # one trajectory goes on behind the end: nothing depends on it
                longer.append(([*states, END], [*actions, 0], probability, False))
                continue
            for action, after in itertools.product(range(ACTIONS), range(STATES)):
                chance = float(jax.nn.softmax(PARAMS[states[-1]])[action])
                chance *= float(NEXT[states[-1], action, after])
                longer.append(
                    ([*states, after], [*actions, action], probability * chance, after != END)
                )
        trajectories = longer
    states = jnp.array([states[:HORIZON] for states, *_ in trajectories])
    actions = jnp.array([actions for _, actions, *_ in trajectories])
    alive = states != END
    rewards = jnp.where(alive, REWARD[jnp.minimum(states, 1), actions], 0.0)
    episodes = Episodes(SEEN[states], actions, rewards, alive)
    return episodes, jnp.array([probability for *_, probability, _ in trajectories])


@pytest.fixture(scope="module")
def trajectories():
    return every_trajectory()


def test_every_trajectory_is_there_and_their_mean_return_is_the_exact_one(trajectories):
    episodes, probability = trajectories
    np.testing.assert_allclose(probability.sum(), 1, rtol=1e-5)
    mean = probability @ episodes.rewards.sum(axis=1)
    np.testing.assert_allclose(mean, exact(PARAMS), rtol=1e-5)
    assert not episodes.alive.all()  # some end early


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_its_mean_over_every_trajectory_is_the_exact_gradient(trajectories, kind):
    """With a baseline over every pair of trajectories, since it is the mean of the others."""
    episodes, probability = trajectories
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
    np.testing.assert_allclose(leave_one_out(rewards[:, 0]), [1 - 5.5, 3 - 4.5, 8 - 2])


def test_an_episode_is_what_was_acted_on_and_stops_counting_at_its_end():
    """A counter, which ends on its third step; the reward is what the action was."""

    def step(state, action):
        return state + 1, (state + 1.0)[None], action[0], state + 1 >= 3

    environment = Environment(lambda key: (jnp.int32(0), jnp.zeros(1)), step, action_size=1)
    act = lambda key, observation: 10 + observation + jax.random.uniform(key, (1,))  # noqa: E731
    episode = rollout(environment, act, 5, jax.random.key(0))
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


def linear(params, key):
    """A return with the gradient 1, 2, ... and noise that only the members of a pair share."""
    return jnp.arange(1.0, 1 + params.size) @ params + 30 * jax.random.normal(key)


@pytest.mark.parametrize("pairs", [False, True])
def test_the_mean_of_evolution_is_the_gradient_of_a_linear_return(pairs):
    sampling = {"sampling": "antithetic", **RAW} if pairs else {"weights": leave_one_out}
    make = jaxes.openai_es if pairs else jaxes.nes
    strategy = make(EPISODES, sigma=0.5, learning_rate=1.0, **sampling)
    estimate = reinforce_settings.evolution_gradient(strategy, linear, pairs)
    params, keys = jnp.array([0.5, -1.0, 2.0]), jax.random.split(jax.random.key(0), 2000)
    found = np.asarray(jax.jit(jax.vmap(partial(estimate, params)))(keys), np.float64)
    gradient = np.arange(1.0, 4.0)
    error = np.sqrt(found.var(axis=0, ddof=1) / len(found))
    assert (abs(found.mean(axis=0) - gradient) < 4 * error).all()
    # Of N/2 pairs each (gᵀε)ε, whose covariance is |g|² I + ggᵀ; the shared noise cancels.
    of_pairs = (14 + gradient**2) / (EPISODES / 2)
    spread = of_pairs if pairs else 30**2 / 0.5**2 / EPISODES
    np.testing.assert_allclose(found.var(axis=0, ddof=1), spread, rtol=0.15 if pairs else 0.2)


def test_a_reference_says_how_near_it_is_to_the_truth():
    """Against planted noise: the cosine that it has, and the length that the gradient has."""
    generator = np.random.default_rng(0)
    gradient = generator.normal(size=161)
    std = 20 * np.geomspace(0.1, 1, 161)
    said, had = [], []
    for _ in range(10):
        found = gradient + std * generator.normal(size=(400, 161))
        said.append(reinforce_cosines.reference_of(found))
        had.append(float(reinforce_cosines.cosine(said[-1].gradient, gradient)))
    assert 0.85 < np.mean(had) < 0.95  # ‖mean‖² is a fifth too long
    cosines = [one.cosine_with_truth for one in said]
    np.testing.assert_allclose(cosines, had, atol=0.08)
    np.testing.assert_allclose(np.mean(cosines), np.mean(had), atol=0.01)
    squares = [one.squared_norm for one in said]
    np.testing.assert_allclose(np.mean(squares), gradient @ gradient, rtol=0.08)


def test_the_shape_of_a_noise_is_seen():
    generator = np.random.default_rng(0)
    everywhere = 5 + generator.normal(size=(2000, 10))
    np.testing.assert_allclose(reinforce_cosines.participation_ratio(everywhere), 10, rtol=0.1)
    along = reinforce_cosines.share_along(everywhere, np.ones(10))
    np.testing.assert_allclose(along, 0.1, rtol=0.2)
    line = generator.normal(size=(2000, 1)) * np.ones(10)
    np.testing.assert_allclose(reinforce_cosines.participation_ratio(line), 1, rtol=0.2)
    np.testing.assert_allclose(reinforce_cosines.share_along(line, 3 * np.ones(10)), 1)


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (0.01, [0.001, 0.003, 0.01, 0.03, 0.1]),
        (0.1, [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]),
        (0.0003, [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]),
        (9.0, [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]),
    ],
)
def test_a_search_goes_on_while_the_best_rate_is_the_outermost(best, tried):
    found = reinforce_curves.search(lambda rates: [-abs(math.log(rate / best)) for rate in rates])
    assert list(found) == tried
    assert max(found, key=found.get) == min(tried, key=lambda rate: abs(math.log(rate / best)))


def test_a_search_takes_no_rate_that_diverged():
    found = reinforce_curves.search(lambda rates: [math.nan if r > 0.05 else r for r in rates])
    assert max(found, key=found.get) == 0.03


def gradient_row(where, name, horizon, cosine, ci95, not_finite=0):
    about = {"part": "gradient", "name": f"{where}: {name}, {horizon} steps"}
    return {**about, "cosine": cosine, "ci95": ci95, "not_finite": not_finite}


def curve_row(name, by_seed):
    return {"part": "curve", "name": f"{name}, 50 steps", "by_seed": by_seed}


def test_verdicts_compare_falls_and_seeds():
    rows = [
        gradient_row("initial", BOTH, 50, 0.5, 0.03),
        gradient_row("initial", BOTH, 1000, 0.9, 0.04),
        gradient_row("initial", PAIRS, 50, 0.3, 0.0),
        gradient_row("initial", PAIRS, 1000, 0.1, 0.12, not_finite=3),
        gradient_row("trained", PAIRS, 50, 0.3, 0.0),  # no fall without the other end
        curve_row(BOTH, [1.0, 12.0, 23.0]),
        curve_row(PAIRS, [3.0, 13.0, 26.0]),
    ]
    told = {row["name"]: row for row in reinforce_text.verdicts(rows)}
    assert {row["part"] for row in told.values()} == {"verdict"}

    rose = told.pop(f"initial: {BOTH}: 50 steps less 1000")
    assert (rose["above_0"], rose["below_0"]) == (False, True)
    np.testing.assert_allclose([rose["difference"], rose["ci95"]], [-0.4, 0.05])
    fell = told.pop(f"initial: {PAIRS}: 50 steps less 1000")
    assert (fell["above_0"], fell["below_0"]) == (True, False)
    between = told.pop(f"initial: fall of {BOTH} less fall of {PAIRS}")
    np.testing.assert_allclose([between["difference"], between["ci95"]], [-0.6, 0.13])

    # By seed 2, 1 and 3 less, although the seeds themselves lie 10 apart.
    returns = told.pop(f"return, {BOTH} less {PAIRS}, 50")
    assert returns["by_seed"] == [-2, -1, -3]
    half = 4.3027 / math.sqrt(3)  # Student's quantile of 2 degrees of freedom
    np.testing.assert_allclose([returns["difference"], returns["ci95"]], [-2, half], rtol=1e-4)
    assert not returns["below_0"]

    left_out = told.pop(
        f"initial: {PAIRS}, 1000 steps: estimates left out, since they are not finite"
    )
    assert left_out["not_finite"] == 3
    assert not told


def test_growth_is_of_the_gradient_without_noise():
    objective = reinforce_settings.ESTIMATORS[PAIRS].objective
    rows = [
        {"name": f"trained: {PAIRS}, 200 steps", "noise": 7.0},
        {"name": f"trained: {objective}, 200 steps", "norm": 5.0, "norm_without_noise": 4.0},
    ]
    told = {row["name"]: row for row in reinforce_text.growth(rows)}
    found = told[f"trained: {PAIRS}"]
    assert (found["signal"], found["noise"]) == ([4.0], [7.0])
    assert told[f"initial: {PAIRS}"]["signal"] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--parts", "policy,course"], "no 'course'; there are policy, reference,"),
        (["--draw", "picture.svg", "--output", "nothing.json"], "no rows in nothing.json"),
    ],
)
def test_what_cannot_be_done_is_refused(options, said, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reinforce.py", *options])
    with pytest.raises(SystemExit) as refused:
        reinforce.main()
    assert refused.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
