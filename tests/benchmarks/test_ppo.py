"""brax's PPO as a peer: what it leaves behind, and that our tests test its own policy."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import ppo
import ppo_peer
import table_runs
import table_settings

from jaxes import core
from jaxes.training.identity import describe, read_run
from jaxes.training.run import Run, Trial


class Standing:
    """A peer whose policy is always worth its parameters."""

    template = core.TrainState(jnp.int32(0), (), ())

    def state_of(self, params):
        return self.template._replace(problem=params)

    def test(self, key, state):
        ends = jnp.zeros(4, bool)
        return core.Tests(jnp.full(4, state.problem), jnp.full(4, 10), ends, ends, {})


def test_the_first_epoch_compiles_and_steps_are_counted_from_one_epoch_to_the_next(
    tmp_path, monkeypatch
):
    took = iter([30.0, 100.0, 10.0, 12.0])
    monkeypatch.setattr(ppo.Told, "_since", lambda self: next(took))
    run = Run(Trial(0, 0, {}, core.TrainHParams((), ())), tmp_path)
    run.open()
    told = ppo.Told(Standing(), run)
    for done, value in [(0, 0.0), (1000, 5.0), (2000, 6.0), (3500, 7.0)]:
        told(done, value)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["rollout/env_steps"] for row in rows] == [1000, 1000, 1500]
    assert [row["test/return_mean"] for row in rows] == [5.0, 6.0, 7.0]
    assert [row["time/seconds"] for row in rows] == [10.0, 10.0, 12.0]
    assert told.compile_seconds == 30 + 90
    assert run.env_steps == 3500
    assert int(told.state.generation) == 3


@pytest.mark.parametrize("task", ppo_peer.VALUES)
def test_the_budget_is_spent_and_hardly_more(task):
    peer = object.__new__(ppo_peer.Peer)
    peer.values = ppo_peer.COMMON | ppo_peer.VALUES[task]
    names = ("batch_size", "unroll_length", "num_minibatches", "action_repeat")
    update = int(np.prod([peer.values[name] for name in names]))
    for steps in (table_settings.TASKS[task].steps, 20_000_000):
        epochs = peer.epochs(steps)
        spent = epochs * update * int(np.ceil(steps / (epochs * update)))  # as brax's trainer does
        assert steps <= spent <= table_runs.OVERSPENT * steps
        assert epochs >= 2
        most = max(table_settings.STEPS_BETWEEN_TESTS, update)  # from one test to the next
        assert spent / epochs <= most


def test_what_was_cut_after_its_last_seed_ends_and_other_seeds_are_refused(tmp_path, monkeypatch):
    trained = []

    def train_seed(peer, directory, index, seed, steps):
        directory.mkdir(parents=True)
        (directory / "final.json").write_text(json.dumps({"steps": steps}))
        trained.append(seed)

    monkeypatch.setattr(ppo, "Peer", lambda task, backend: None)
    monkeypatch.setattr(ppo, "train_seed", train_seed)
    folder = tmp_path / "ppo"
    ppo.train("hopper", folder, 100, 2)
    describe(folder, {"sweep": [[0, {}], [1, {}]]}, None)  # as a kill leaves it
    assert read_run(folder)["reason"] is None
    ppo.train("hopper", folder, 100, 2)
    assert (read_run(folder)["reason"], trained) == ("done", [0, 1])
    with pytest.raises(ValueError, match="sweep: the run in"):
        ppo.train("hopper", folder, 100, 3)
    with pytest.raises(SystemExit, match="100 steps: choose another"):
        ppo.train("hopper", folder, 200, 2)
    assert trained == [0, 1]


def test_whole_is_what_the_seeds_come_to_on_average(tmp_path, monkeypatch):
    def train(task, folder, steps, seeds, backend):
        assert (task, steps, backend) == ("inverted_pendulum", 2_000_000, "positional")
        for i, value in enumerate((897, 997)):
            trial = folder / "trials" / f"{i:04d}"
            trial.mkdir(parents=True, exist_ok=True)
            rows = [
                {"generation": j, "rollout/env_steps": 700_000, "time/seconds": 1.0}
                | {"test/return_mean": value + j, "test/diverged": 0}
                for j in (1, 2, 3)
            ]
            (trial / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    monkeypatch.setattr(ppo, "train", train)
    assert ppo.is_whole(tmp_path, 2)
    about = json.loads((tmp_path / "whole.json").read_text())
    assert about == {"backend": "positional", "steps": 2_100_000, "returns": [900, 1000]}
    assert not ppo.is_whole(tmp_path, 1)


@pytest.mark.slow  # Brax's environment is made
def test_our_policy_is_its_own_and_holds_an_action_as_long():
    from brax.training.acme.running_statistics import NestedMeanStd

    peer = ppo_peer.Peer("reacher")
    keys = jax.random.split(jax.random.key(0), 4)
    observations = jax.random.normal(keys[0], (5, 11))
    moments = NestedMeanStd(observations[0], 1 + jax.random.uniform(keys[1], (11,)))
    params = moments, peer.network.policy_network.init(keys[2])
    act = peer.networks.make_inference_fn(peer.network)(params, deterministic=True)
    expected = [act(observation, keys[3])[0] for observation in observations]
    state = peer.state_of(params)
    policy = peer.problem.policy(state.strategy.mean, state.problem)
    memory = policy.initial_state
    for step, observation in enumerate(observations):
        action, memory = policy.apply(policy.init(keys[3]), memory, observation)
        np.testing.assert_allclose(action, expected[4 * (step // 4)], rtol=1e-6)
    standing = peer.problem.policy(peer.standing(state).strategy.mean, state.problem)
    parts = standing.init(keys[3])
    action, _ = standing.apply(parts, policy.initial_state, observations[0])
    np.testing.assert_array_equal(action, 0)
    np.testing.assert_array_equal(parts["std"], moments.std)
