"""Devices: what each does, and that their number changes nothing."""

import math
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from apart import said_by

import jaxes
from jaxes import parallel
from jaxes.problems import functions

SCRIPT = """
import hashlib, json, os, sys
import jax, jax.numpy as jnp, numpy as np
import jaxes
from jax.sharding import Mesh
from jaxes import parallel
from jaxes.problems import functions
from jaxes.environments import Environment
from jaxes.rollouts.episodes import Origin
from jaxes.rollouts.lanes import Jobs
from jaxes.rollouts.width import Width
from adapters import Context, rollout
from walks import walk as breaking_walk

hosts, members = map(int, sys.argv[1:])
count = hosts * members
assert jaxes.use_cpu_devices(count) == count
assert jax.local_device_count() == count
assert os.environ["NPROC"] == str(count)  # and so many threads
# Devices of one process stand for those of several.
mesh = Mesh(np.array(jax.devices()).reshape(hosts, members), (parallel.HOST, parallel.MEMBER))
replicated = lambda fn: jax.jit(parallel.replicated(fn, mesh))
number = lambda: parallel.host_index() * members + parallel.device_index()

def train(problem, strategy, num_generations=3):
    state = jaxes.init(jax.random.key(0), strategy, problem, mesh=mesh)
    step = jaxes.make_update_step(strategy, problem, mesh)
    run = jax.jit(lambda key, state: jaxes.run(step, key, state, num_generations))
    state, metrics = run(parallel.place(jax.random.key(1), mesh), state)
    assert np.isfinite(metrics["fitness/mean"]).all()
    metrics.pop("rollout/utilization", None)
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((state, metrics))]
    return hashlib.sha256(b"".join(leaves)).hexdigest(), float(metrics["fitness/mean"][-1])

policy = jaxes.problems.policy_search(
    breaking_walk(limit=2.0), jaxes.policies.mlp((4,)), num_test_episodes=1, num_lanes=16
)
results = {
    "policy": train(policy, jaxes.openai_es(50, sigma=1.0)),
    "function": train(functions.rosenbrock(7), jaxes.cma_es(200)),
}
terms = 10.0 ** jax.random.uniform(jax.random.key(2), (99, 3), minval=-6, maxval=30)
signs = jnp.where(jax.random.bernoulli(jax.random.key(3), shape=terms.shape), 1, -1)
mine = lambda: jnp.arange(99) % count == number()
results["sum"] = np.asarray(replicated(lambda x: parallel.exact_sum(
    jnp.where(mine()[:, None], x, 0)))(terms * signs)).tolist()
share = lambda pending: parallel.divide(parallel.share_of_host(pending))
shares = replicated(lambda pending: parallel.all_sum(share(pending) * (1 + number())))
results["shares"] = np.asarray(shares(jnp.arange(20) % 3 > 0)).tolist()
results["rows"] = [
    np.asarray(replicated(lambda x: parallel.map_divided(jnp.sum, x, hosts=across))(x)).tolist()
    for x in (jnp.arange(2.0 * n).reshape(n, 2) for n in (1, 5, 9)) for across in (False, True)
]

def masked(mask, tree):  # of what a device did not run it has zeros
    return jax.tree.map(
        lambda x: jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.zeros_like(x)), tree)

def bits(tree):
    return [np.asarray(leaf).view(np.uint8).ravel().tolist() for leaf in jax.tree.leaves(tree)]

@replicated
def collected(tree, pending, tested):
    ran = masked(share(pending), tree)
    own = masked(jnp.arange(pending.size) * 7 % count == number(), tree)
    return parallel.collect(ran, pending), parallel.collect_tested(own, tested)

special = [0x7FC00001, 0xFFC12345, 0x80000000, 0x7F800000, 0xFF800000, 1]  # NaN, -0.0, inf, ...
special = np.uint32(special).view(np.float32)
results["collected"] = []
for size in (1, 37):
    rng = np.random.default_rng(size)
    tree = {
        "float": rng.choice(np.r_[special, rng.normal(size=9).astype(np.float32)], (size, 2, 3)),
        "int": rng.integers(-2**31, 2**31, size, np.int32),
        "flag": rng.random((size, 3)) < 0.5,
    }
    for pending in (np.ones(size, bool), rng.random(size) < 0.6, np.zeros(size, bool)):
        found = bits(collected(tree, pending, True))
        assert found == bits((masked(pending, tree), tree))
        results["collected"].append(found)
    untested = bits(collected(tree, pending, False)[1])
    assert count == 1 or untested == bits(jax.tree.map(np.zeros_like, tree))

def walk(width):  # 200 episodes of 1 to 200 steps, most of them short, of one reward each
    def reset(key):
        left = jax.random.geometric(key, 0.05).astype(jnp.int32)
        return (left, jax.random.uniform(key)), jnp.zeros(1)
    def step(state, action):
        left, reward = state
        return (left - 1, reward), jnp.zeros(1), reward, left == 1
    keys = jax.vmap(lambda job: jax.random.fold_in(jax.random.key(0), job))(jnp.arange(200))
    jobs = lambda pending: Jobs(
        pending, Origin(keys), jnp.arange(200),
        lambda jobs: Context(jnp.zeros(jobs.shape), jnp.zeros((jobs.size, 1))))
    def act(params, memory, observation):
        return params[None], memory
    run = lambda pending: rollout(
        Environment(reset, step, 1), act, (), jobs(pending), width=width,
        episode_length=200)
    episodes = replicated(run)(jnp.ones(200, bool)).episodes
    lengths, rewards = jax.vmap(lambda key: reset(key)[0])(keys)
    np.testing.assert_array_equal(episodes.length, lengths)
    np.testing.assert_allclose(episodes.total_reward, lengths * rewards, rtol=1e-5)
    return np.asarray(episodes.total_reward).tolist()

results["walk"] = walk(Width(8, refill=3, tail=5, block=2, sync=3))
if count == 1:
    assert results["walk"] == walk(Width(64, refill=8, tail=40, block=8))
try:
    jaxes.use_cpu_devices(count + 1)
except RuntimeError as error:
    results["error"] = str(error)
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def results():
    """What the script says, by number of devices: of one, and of two hosts with two each."""
    return {hosts * members: said_by(SCRIPT, hosts, members) for hosts, members in ((1, 1), (2, 2))}


@pytest.mark.parametrize("what", ["policy", "function", "walk", "sum", "collected"])
def test_the_number_of_devices_does_not_change_a_bit(results, what):
    assert results[1][what] == results[4][what]


def test_pending_jobs_are_dealt_out_in_pairs(results):
    """To hosts, and there to devices."""
    owner = np.array(results[4]["shares"])
    pending = np.arange(20) % 3 > 0
    np.testing.assert_array_equal(owner[~pending], 0)
    pair = np.arange(pending.sum()) // 2
    np.testing.assert_array_equal(owner[pending], 1 + pair % 2 * 2 + pair // 2 % 2)


def test_a_started_backend_is_left_alone(results):
    """The environment too: its flags would reach the processes that are started later."""
    assert "must be called before" in results[4]["error"]
    jax.devices()
    before = dict(os.environ)
    with pytest.raises(RuntimeError, match="must be called before JAX does anything else"):
        jaxes.use_cpu_devices(7)
    assert jaxes.use_cpu_devices(jax.local_device_count(), small_loops=True) == 1  # as it is
    assert dict(os.environ) == before


TERMS = {
    "of all sizes": 10 ** np.linspace(-30, 38, 1000) * (-1) ** np.arange(1000),
    "that cancel": np.r_[3e7, np.full(300, 0.1), -3e7],
    "of one size": np.linspace(1, 2, 100_000),
    "one": np.array([-1.7]),
    "tiny": np.full(5, -2e-38),
    "none": np.zeros(7),
    "the greatest": np.full(8, 3e38) * (-1) ** np.arange(8),
    "whose words cancel": np.r_[np.full(131_024, 2.0**-12 - 2.0**-36), np.full(32, -1.0)],
    **{f"{count} of them": np.linspace(0.3, -0.7, count) for count in (2, 3, 4, 5)},
}


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS)
def test_an_exact_sum_is_that_of_any_order(terms):
    terms, exact_sum = terms.astype(np.float32), jax.jit(parallel.exact_sum)
    total = exact_sum(jnp.asarray(terms))
    exact = math.fsum(terms.tolist())
    # All that is cut is 2⁻²⁴ of the greatest at most; the rest is rounding.
    assert abs(float(total) - exact) <= 2.0**-23 * (abs(exact) + np.max(abs(terms)))
    rng = np.random.default_rng(0)
    for shuffled in (terms[::-1], rng.permutation(terms), rng.permutation(terms)):
        assert exact_sum(jnp.asarray(shuffled)) == total


@pytest.mark.parametrize("n", [0, -1, 1.5, "2"])
def test_a_number_of_devices_is_a_count(n):
    with pytest.raises(ValueError, match="n must be a whole number of at least 1"):
        jaxes.use_cpu_devices(n)


def test_one_device_computes_what_many_do(results):
    """Here without `use_cpu_devices`, so that last bits may differ."""
    problem, strategy = functions.rosenbrock(7), jaxes.cma_es(200)
    mesh = jaxes.make_mesh(jax.devices()[:1])
    state = jaxes.init(jax.random.key(0), strategy, problem, mesh=mesh)
    step = jaxes.make_update_step(strategy, problem, mesh)
    run = jax.jit(lambda key, state: jaxes.run(step, key, state, 3))
    _, metrics = run(parallel.place(jax.random.key(1), mesh), state)
    expected = results[4]["function"][1]
    np.testing.assert_allclose(metrics["fitness/mean"][-1], expected, rtol=1e-4)


def test_rows_are_mapped_in_order(results):
    expected = [np.arange(2.0 * n).reshape(n, 2).sum(axis=1).tolist() for n in (1, 5, 9)]
    assert results[4]["rows"][::2] == results[4]["rows"][1::2] == expected
