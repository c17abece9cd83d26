"""brax's own PPO as a peer of the table: the same environment, episodes, tests and count of steps.

    python benchmarks/ppo.py [--tasks inverted_pendulum,hopper] [--steps 20e6] [--seeds 5]
        [--runs runs/table] [--whole runs/ppo_whole]

First it shows that the peer is whole: on inverted_pendulum, with the physics and the steps of
brax's notebook, a mean return of at least 950, or it exits with 1; `table.py collect --whole` takes
what it writes about that. Each task leaves a directory like a sweep's, which `table.py collect`
reads. A seed that was cut begins anew, since brax keeps no optimizer.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import machine
from ppo_peer import VALUES, Peer
from table_rows import mean_of_whole
from table_runs import keep_final, said_of, unfinished
from table_settings import BACKEND, FINAL_EPISODES, FINAL_SEED, TASKS, WHOLE

from jaxes.core import TrainHParams
from jaxes.devices import CPU_FLAGS, num_cores
from jaxes.files import write_whole
from jaxes.training.batch import keys_of
from jaxes.training.directory import locked, trial_dir
from jaxes.training.evaluate import outcome
from jaxes.training.identity import check_identity, describe, note_end, read_run
from jaxes.training.metrics import finite, read_rows
from jaxes.training.run import Run, Trial
from jaxes.training.tested import row_of, score_of
from jaxes.versions import versions

NOTEBOOK_BACKEND, NOTEBOOK_STEPS = "positional", 2_000_000  # of inverted_pendulum


class Told:
    """Writes a row of metrics after each epoch.

    The first epoch compiles: what it takes longer than the second one counts as compilation, as
    does all that is before it.
    """

    def __init__(self, peer: Peer, run: Run):
        self.peer, self.run = peer, run
        self.rows: list[dict[str, Any]] = []
        self.done, self.at = 0, time.monotonic()
        self.compile_seconds = 0.0
        self.state = peer.template

    def __call__(self, done: int, params: Any) -> None:
        if done == 0:
            self.compile_seconds = self._since()
            return
        epoch = len(self.rows) + 1
        state = self.peer.state_of(params)._replace(generation=jnp.int32(epoch))
        key = jax.random.fold_in(keys_of(self.run.trial.seed)[1], epoch)
        row = {"generation": epoch, "rollout/env_steps": done - self.done}
        row |= row_of(jax.device_get(self.peer.test(key, state)))
        row["time/seconds"] = self._since()
        self.rows.append(row)
        self.state, self.done = state, done
        print(f"{done:12,} steps  return {row['test/return_mean']:10.2f}", flush=True)
        if epoch == 2:
            first, second = (each["time/seconds"] for each in self.rows)
            self.compile_seconds += max(0.0, first - second)
            self.rows[0]["time/seconds"] = min(first, second)
            self.run.write(self.rows)
        elif epoch > 2:
            self.run.write([row])

    def _since(self) -> float:
        """Seconds since this was last asked."""
        before, self.at = self.at, time.monotonic()
        return self.at - before


def train_seed(peer: Peer, directory: Path, index: int, seed: int, steps: int) -> None:
    """A seed from its start to the test at its end."""
    config = peer.config()
    trial = Trial(index, seed, {}, TrainHParams((), ()), config)
    directory.mkdir(parents=True)
    describe(directory, {"seed": seed, "config": config}, config)
    run = Run(trial, directory)
    run.open()
    told = Told(peer, run)
    peer.train(seed, steps, told)
    result = outcome(
        run,
        told.state,
        peer.final_test,
        peer.standing,
        num_episodes=FINAL_EPISODES,
        seed=FINAL_SEED,
    )
    note_end(directory, **result.end())
    keep_final(directory, steps, result, told.compile_seconds)
    print(f"{directory}: {said_of(result)}, {told.compile_seconds:.0f} s compiling", flush=True)


def train(task: str, folder: Path, steps: int, seeds: int, backend: str = BACKEND) -> None:
    """All seeds of a task that are not finished."""
    trials = [trial_dir(folder, i) for i in range(seeds)]
    identity = {"sweep": [[i, {}] for i in range(seeds)]}
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", folder):
        left = unfinished(trials, steps)
        check_identity(folder, identity)
        if not left and read_run(folder)["reason"] == "done":
            print(f"{folder}: finished already")
            return
        describe(folder, identity, None)
        peer = Peer(task, backend) if left else None
        for i in left:
            shutil.rmtree(trials[i], ignore_errors=True)
            train_seed(peer, trials[i], i, i, steps)
        note_end(folder, "done", None)


def is_whole(folder: Path, seeds: int) -> bool:
    """Whether seeds come to what a whole one comes to on inverted_pendulum; writes `whole.json`."""
    train("inverted_pendulum", folder, NOTEBOOK_STEPS, seeds, NOTEBOOK_BACKEND)
    rows = [read_rows(trial_dir(folder, i) / "metrics.jsonl")[0] for i in range(seeds)]
    about = {
        "backend": NOTEBOOK_BACKEND,
        "steps": max(int(sum(row["rollout/env_steps"] for row in of_seed)) for of_seed in rows),
        "returns": [finite(score_of(of_seed[-1])) for of_seed in rows],
    }
    write_whole(folder / "whole.json", json.dumps(about) + "\n")
    print(f"inverted_pendulum: {about} (bar: a mean of {WHOLE})")
    return mean_of_whole(about) >= WHOLE


def use_devices(n: int) -> None:
    """All cores, as the strategies have, but with XLA's own flags: with those of jaxes, which keep
    bits, an epoch takes 21.5 seconds of CPU time instead of 15.1."""
    patient = "xla_cpu_collective_call_terminate_timeout_seconds"
    given = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{given} --{patient}={CPU_FLAGS[patient]}".strip()
    jax.config.update("jax_num_cpu_devices", n)


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--tasks", type=machine.some_of(VALUES), default=list(VALUES))
    parser.add_argument("--steps", type=machine.count, help="default: the task's")
    parser.add_argument("--seeds", type=machine.count, default=5)
    parser.add_argument("--runs", type=Path, default=Path("runs/table"))
    parser.add_argument("--whole", type=Path, default=Path("runs/ppo_whole"))
    parser.add_argument("--cpu-devices", type=machine.count)
    options = parser.parse_args()
    use_devices(options.cpu_devices or num_cores())
    print(versions(("jaxes", "jax", "jaxlib", "brax", "flax", "optax")))
    if not is_whole(options.whole, options.seeds):
        sys.exit(1)
    for task in options.tasks:
        steps = options.steps or TASKS[task].steps
        train(task, options.runs / task / "ppo", steps, options.seeds)


if __name__ == "__main__":
    main()
