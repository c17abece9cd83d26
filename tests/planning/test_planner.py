"""Planning with models that can be solved by hand, and with ones that misbehave."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import DT, line, point

import jaxes
from jaxes.planning import Objective, planner, reach, true_model

KEY = jax.random.key(0)


def plans(strategy=None, **options):
    strategy = strategy or jaxes.cma_es(24, sigma=0.5)
    return planner(strategy, **({"horizon": 6, "iterations": 4, "noise": "white"} | options))


def act(agent, state=0.0, key=KEY, **start):
    return jax.jit(agent.plan)(key, (), jnp.asarray(state, jnp.float32), agent.init(**start))


@pytest.mark.parametrize(
    ("make", "noise"),
    [(jaxes.cma_es, "colored"), (jaxes.snes, "white"), (jaxes.cem, "colored")],
)
def test_a_plan_is_the_optimum_where_that_is_known(make, noise):
    """Minimizing Σ (x_h - 3)² + c Σ a_h² over unbounded small actions is least squares."""
    horizon, cost = 5, 30.0

    def step(x, action):
        x = x + action[0]
        return x, x[None], -((x - 3) ** 2) - cost * action[0] ** 2, jnp.bool_(False)

    sums = np.tril(np.ones((horizon, horizon)))
    best = np.linalg.solve(sums.T @ sums + cost * np.eye(horizon), sums.T @ np.full(horizon, 3.0))
    searched = plans(make(64, sigma=0.3), horizon=horizon, iterations=80, noise=noise, beta=1.0)
    searched = searched._replace(execute="mean", warm_start="none")
    _, _, info = act(searched.with_model(line(step)))
    np.testing.assert_allclose(info.plan[:, 0], best, atol=0.02)
    value = -np.sum((sums @ best - 3) ** 2) - cost * np.sum(best**2)
    assert value - 0.5 < float(info.value) <= value + 1e-3


def test_the_next_search_begins_with_the_last_mean_one_step_on():
    """And the best sequence is executed with a true model, the mean with one that learns."""
    best = plans(noise="colored").with_model(line())
    mean = plans(noise="colored").with_model(line()._replace(fit=lambda *_: None))
    action, after, info = act(best)
    again, _, of_mean = act(mean)
    np.testing.assert_array_equal(action, info.plan[0])
    np.testing.assert_array_equal(again, of_mean.plan[0])
    assert not np.array_equal(info.plan, of_mean.plan)
    shifted = np.concatenate([of_mean.plan[1:], of_mean.plan[-1:]])
    np.testing.assert_allclose(after.mean, shifted, atol=1e-6)
    assert (int(after.step), int(after.left)) == (1, 2**31 - 2)


def test_actions_stay_in_range_and_the_model_sees_them_so():
    def step(x, action):
        return x, x[None], 10 * action[0] - 100 * (jnp.abs(action[0]) > 1), jnp.bool_(False)

    action, _, info = act(plans(jaxes.cem(32, sigma=5.0)).with_model(line(step)))
    assert float(action[0]) == 1.0
    np.testing.assert_array_less(np.abs(info.plan), 1 + 1e-6)
    assert float(info.value) == pytest.approx(60)


def test_it_is_pure_under_vmap_and_scan_and_is_traced_once():
    agent = plans().with_model(line())
    traced = chex.assert_max_traces(lambda *inputs: agent.plan(*inputs), n=1)
    keys, starts = jax.random.split(KEY, 3), jnp.array([0.0, 1.0, 5.0])
    chex.clear_trace_counter()
    step = jax.jit(traced)
    alone = [step(key, (), x, agent.init()) for key, x in zip(keys, starts, strict=True)]
    together = jax.jit(jax.vmap(agent.plan, (0, None, 0, None)))(keys, (), starts, agent.init())
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    chex.assert_trees_all_close(stacked, together, atol=1e-5)

    def body(carry, key):
        x, state = carry
        action, state, _ = agent.plan(key, (), x, state)
        return (x + action[0], state), action

    (x, _), _ = jax.jit(lambda: jax.lax.scan(body, (jnp.float32(0), agent.init()), keys))()
    assert float(x) == pytest.approx(3.0, abs=0.2)


def test_what_is_left_of_the_episode_alone_counts():
    """A sprint pays only if it ends within the plan and the episode."""

    def step(x, action):
        x = x + action[0]
        reward = jnp.where(x > 2.5, 10.0, 0.0) - action[0] ** 2
        return x, x[None], reward, jnp.bool_(False)

    agent = plans(jaxes.cem(128, sigma=0.7), horizon=4).with_model(line(step))
    long, short = act(agent), act(agent, episode_length=2)
    assert float(long[2].value) > 5
    assert abs(float(short[0][0])) < 0.2
    assert float(short[2].value) <= 0
    over = act(agent, episode_length=0)
    np.testing.assert_array_equal(over[0], 0)
    assert float(over[2].value) == 0


def test_nan_is_never_chosen_and_infinite_rewards_are_not_great():
    def step(x, action):  # the state says what is bad of it, and what the others are worth
        bad, slope = x
        reward = jnp.where(action[0] > 0.1, bad, slope * action[0])
        return x, jnp.zeros(1), reward, jnp.bool_(False)

    agent = plans(jaxes.cem(64, sigma=0.5), horizon=1).with_model(line(step))
    planned = jax.jit(agent.plan)
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        action, after, info = planned(KEY, (), jnp.array([bad, 1.0]), agent.init())
        assert 0 < float(action[0]) <= 0.1
        assert np.isfinite(info.value)
        assert np.all(np.isfinite(after.mean))
        # Those that are numbers are worth the same, as with a reward of 1 a step; the mean is not.
        beyond = agent.init(mean=jnp.full((1, 1), 0.15))
        action, _, info = planned(KEY, (), jnp.array([bad, 0.0]), beyond)
        assert float(action[0]) <= 0.1
        assert float(info.value) == 0


def test_where_nothing_can_be_judged_it_stays_with_what_it_had():
    def step(x, action):
        return x, x[None] * jnp.nan, jnp.float32(jnp.nan), jnp.bool_(False)

    start = jnp.linspace(0.0, 0.5, 6)[:, None]
    action, after, info = act(plans().with_model(line(step)), mean=start)
    np.testing.assert_allclose(action, start[0], atol=1e-6)
    assert float(info.value) == -np.inf
    assert np.all(np.isfinite(after.mean))


@pytest.mark.parametrize("horizon", [1, 60])
def test_any_horizon_and_an_end_at_the_first_step(horizon):
    def ends(x, action):
        return x, x[None], action[0], jnp.bool_(True)

    searched = plans(jaxes.cem(64, sigma=1.0), horizon=horizon, noise="colored")
    action, _, info = act(searched.with_model(line(ends)))
    assert float(info.value) == pytest.approx(float(action[0]), abs=1e-6)
    assert float(action[0]) > 0.5


def test_particles_are_averaged():
    def step(member, x, action, key):
        reward = member * action[0] - action[0] ** 2
        return x, x[None], reward, jnp.bool_(False)

    pulls = jnp.array([-1.0, 0.0, 2.5])
    model = line()._replace(step=step, particles=lambda state: pulls, num_particles=3)
    agent = plans(horizon=1, iterations=12, execute="mean").with_model(model)
    assert float(act(agent)[0][0]) == pytest.approx(0.25, abs=0.02)  # mean pull / 2


def chance(num_particles=1):
    """A model whose rewards are noise alone."""

    def step(member, x, action, key):
        return x, x[None], jax.random.uniform(key), jnp.bool_(False)

    return line()._replace(step=step, particles=lambda state: (), num_particles=num_particles)


def best_values(model, **options):
    agent = plans(jaxes.snes(8), horizon=2, **options).with_model(model)
    keys = jax.random.split(KEY, 200)
    _, after, info = jax.jit(
        jax.vmap(lambda key: agent.plan(key, (), jnp.zeros(()), agent.init()))
    )(keys)
    return after, info.value


def test_noise_is_common_to_a_generation_and_new_in_each_and_in_each_particle():
    after, one = best_values(chance(), iterations=1)
    np.testing.assert_array_equal(after.mean, 0)  # so that all sequences are worth the same
    _, ten = best_values(chance(), iterations=10)
    assert ten.mean() > one.mean() + 0.4  # the best of ten draws
    _, averaged = best_values(chance(64), iterations=1)
    assert averaged.std() < one.std() / 6
    _, last = best_values(chance()._replace(noisy=True), iterations=10)
    assert abs(last.mean() - one.mean()) < 0.15  # of the last generation, not of the luckiest


@pytest.mark.parametrize("name", jaxes.STRATEGIES)
def test_any_strategy_plans(name):
    agent = plans(jaxes.STRATEGIES[name](20), iterations=2).with_model(line())
    action, after, _ = jax.eval_shape(agent.plan, KEY, (), jnp.zeros(()), agent.init())
    assert action.shape == (1,)
    assert after.mean.shape == (6, 1)


def noisy(with_key):
    """Pays for guessing a coin that its state's key decides."""

    def reset(key):
        return (jnp.zeros(1), key), jnp.zeros(1)

    def step(state, action):
        x, key = state
        now, key = jax.random.split(key)
        coin = jnp.where(jax.random.bernoulli(now), 1.0, -1.0)
        return (x, key), x, coin * action[0], jnp.bool_(False)

    return jaxes.Environment(reset, step, 1, "coins", with_key=with_key)


def test_a_true_model_does_not_foresee_the_noise():
    fair = noisy(lambda state, key: (state[0], key))
    options = {"num_episodes": 20, "episode_length": 20}
    searched = plans(jaxes.cem(32, sigma=1.0), horizon=2)
    guessed = jaxes.control(fair, searched, true_model(fair, particles=4), **options)
    assert abs(float(np.mean(guessed.returns))) < 4  # of 20
    blind = noisy(None)
    seen = jaxes.control(blind, searched, true_model(blind, foresees=True), **options)
    assert float(np.mean(seen.returns)) > 15
    with pytest.raises(ValueError, match=r"coins: its state holds a key .*with_key"):
        true_model(blind)


def test_bad_input_is_one_line():
    environment = point()
    for options, message in [
        ({"horizon": 10**9}, "horizon must be a whole number of at least 1 and at most 10000"),
        ({"horizon": 0}, "horizon must be a whole number of at least 1"),
        ({"iterations": 0}, "iterations must be"),
        ({"noise": "pink"}, "noise must be one of colored, white"),
        ({"beta": -1.0}, "beta must be at least 0"),
        (
            {"beta": 6.0, "horizon": 200, "noise": "colored"},
            "beta must be smaller with a horizon of 200",
        ),
        ({"warm_start": "cold"}, "warm_start must be one of shift, none"),
        ({"execute": "worst"}, "execute must be one of best, mean"),
        ({"objective": "reach"}, "objective must be an Objective"),
        ({"strategy": "cem"}, "strategy must be a Strategy"),
    ]:
        with pytest.raises(ValueError, match=message):
            plans(**options)
    discrete = environment._replace(action_size=None, num_actions=2)
    discrete = discrete._replace(step=lambda state, action: environment.step(state, action[None]))
    with pytest.raises(ValueError, match="discrete actions cannot be planned"):
        true_model(discrete)
    model = true_model(environment)
    with pytest.raises(ValueError, match="target must be of the 2 numbers of the observation"):
        plans(objective=reach((0.0,))).with_model(model)

    def vector(folded, moment):
        return moment.observation

    def other(folded, moment):
        return folded, folded

    for objective, message in [
        (Objective(0.0, lambda x, moment: x, vector), "objective.value must be a function to one"),
        (Objective(0.0, other, lambda x, moment: x), "objective.update must be a function to the"),
        (Objective(0.0, None, vector), "objective.update fails: TypeError"),
        (Objective(0.0, vector, vector, check=None), "objective.check must be a function"),
    ]:
        with pytest.raises(ValueError, match=message):
            plans(objective=objective).with_model(line())
    for options, message in [
        ({"num_particles": 0}, "model.num_particles must be a whole number of at least 1"),
        ({"particles": lambda state: jnp.zeros(3)}, "model.particles must be a function to arrays"),
        ({"particles": lambda state: 1 / 0}, "model.particles fails: ZeroDivisionError"),
        ({"report": lambda state: [1]}, "model.report must be a function to"),
        ({"report": lambda state: {"x": jnp.zeros(2)}}, "model.report must be a function to"),
    ]:
        with pytest.raises(ValueError, match=message):
            act(plans().with_model(line()._replace(**options)))
    with pytest.raises(ValueError, match="target must be a vector of finite numbers, less than"):
        reach((1e30,))
    lost = act(plans().with_model(line()), mean=jnp.full((6, 1), jnp.nan))
    assert np.isfinite(lost[0])
    for step, message in [
        (lambda member, x, action, key: (x, x[None]), "model.step must be a function to"),
        (lambda member, x, action, key: 1 / 0, "model.step fails: ZeroDivisionError"),
        (
            lambda member, x, action, key: (x, x, x, jnp.bool_(False)),
            r"model.step's observation must be float32 \[1\]",
        ),
        (
            lambda member, x, action, key: (x, x[None], x, x),
            r"model.step's done must be bool",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            act(plans().with_model(line()._replace(step=step)))


def test_a_double_integrator_is_brought_to_rest():
    environment = point()
    searched = plans(jaxes.cem(48, sigma=0.5, elite_fraction=0.2), horizon=12, noise="colored")
    episodes = jaxes.control(
        environment, searched, true_model(environment), num_episodes=8, episode_length=40
    )
    assert np.all(np.abs(episodes.observations[:, -1]) < 0.2)
    np.testing.assert_array_equal(episodes.length, 40)
    # Rewards are those of the states that were seen.
    seen, actions = np.asarray(episodes.observations), np.asarray(episodes.actions)
    rewards = -(seen[:, 1:, 0] ** 2) - 0.1 * seen[:, 1:, 1] ** 2 - 0.01 * actions[..., 0] ** 2
    np.testing.assert_allclose(rewards.sum(axis=1), episodes.returns, rtol=1e-4)
    speed = seen[:, :-1, 1] + DT * actions[..., 0]
    np.testing.assert_allclose(seen[:, 1:, 1], speed, atol=1e-5)
