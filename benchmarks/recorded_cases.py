"""The runs that `same_bits.py` compares: one case, on so many devices, by the jaxes of one tree.

    python benchmarks/recorded_cases.py CASE DEVICES whole|half|rest FOLDER

`half` trains to half of the generations, `rest` goes on from there, `whole` does both at once. The
last two write `FOLDER/record.json`: sha256 by name, of each metric's column, of each leaf of the
final state, and of what the result says. Both old and new forms of the interface are known here.
"""

import csv
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import commits
import jax
import jax.numpy as jnp
import machine
import numpy as np
import orbax.checkpoint as ocp
import yaml

import jaxes

Record = dict[str, str]
NOT_COMPARED = ("time/", "rollout/utilization", "seconds", "compile_seconds")
SEARCH = {  # a policy search's arguments, by their newest names
    "episode_length": 1000,
    "num_episodes": 1,
    "num_test_episodes": 100,
    "normalize_observations": True,
    "observation_clip": 10.0,
    "alive_penalty": 0.0,
    "num_lanes": None,
}
OLD_ARGUMENTS = {"alive_penalty": "alive_bonus"}


class Run(NamedTuple):
    """Where a case runs, and which part of it: `whole`, `half` or `rest`."""

    folder: Path
    part: str
    devices: int

    def generations(self, whole: int) -> int:
        """How many. Half of `whole` is to be tested anyway, or there is one test more."""
        return whole // 2 if self.part == "half" else whole

    @property
    def resume(self) -> bool:
        return self.part == "rest"


# What is recorded.


def of_array(leaf: Any) -> str:
    """Of dtype, shape and bytes."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(jax.device_get(leaf))
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()


def of_numbers(numbers: Any) -> str:
    """Of plain data; a float's text has all its bits."""
    return hashlib.sha256(json.dumps(numbers).encode()).hexdigest()


def is_compared(name: str) -> bool:
    return not name.startswith(NOT_COMPARED)


def metrics_of(run_dir: Path) -> Record:
    """Each column of `metrics.jsonl`: its values with their generations."""
    columns: dict[str, list] = {}
    for line in (run_dir / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name in filter(is_compared, row):
            columns.setdefault(name, []).append([row["generation"], row[name]])
    return {f"metric {name}": of_numbers(column) for name, column in columns.items()}


def leaves_of(state: Any) -> Record:
    return {
        f"state {jax.tree_util.keystr(path)}": of_array(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def checkpoint_of(run_dir: Path) -> Record:
    """The leaves of the latest checkpoint, read without jaxes."""
    with ocp.CheckpointManager(
        (run_dir / "checkpoints").resolve(),
        item_handlers=ocp.StandardCheckpointHandler(),
        options=ocp.CheckpointManagerOptions(read_only=True),
    ) as manager:
        leaves = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore())
    return {f"state {name}": of_array(leaf) for name, leaf in leaves.items()}


def result_of(result: Any) -> Record:
    """The numbers of a result, but for times."""
    fields = result._asdict() if hasattr(result, "_asdict") else vars(result)
    return {
        f"result {name}": of_numbers(value)
        for name, value in fields.items()
        if is_compared(name) and isinstance(value, int | float | str)
    }


def sweep_of(run_dir: Path) -> Record:
    """Each trial's metrics and final state, and the columns of the table."""
    record: Record = {}
    for trial in sorted((run_dir / "trials").iterdir()):
        found = metrics_of(trial) | checkpoint_of(trial)
        record |= {f"trial {trial.name} {name}": value for name, value in found.items()}
    with (run_dir / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = {name: [row[name] for row in rows] for name in filter(is_compared, rows[0])}
    return record | {f"table {name}": of_numbers(column) for name, column in columns.items()}


def trained(
    run: Run, problem: jaxes.Problem, strategy: jaxes.Strategy, whole: int, **options: Any
) -> Record:
    run_dir = run.folder / "run"
    result = jaxes.train(
        problem,
        strategy,
        num_generations=run.generations(whole),
        run_dir=run_dir,
        resume=run.resume,
        **options,
    )
    return metrics_of(run_dir) | leaves_of(result.state) | result_of(result)


def swept(run: Run, *what: Any, whole: int, **options: Any) -> Record:
    run_dir = run.folder / "run"
    generations = run.generations(whole)
    jaxes.sweep(*what, num_generations=generations, run_dir=run_dir, resume=run.resume, **options)
    return sweep_of(run_dir)


# The problems.


def search(**given: Any) -> dict[str, Any]:
    """All arguments of a policy search, by the names that this tree has for them."""
    known = inspect.signature(jaxes.problems.policy_search).parameters
    wanted = SEARCH | given
    return {name if name in known else OLD_ARGUMENTS[name]: wanted[name] for name in wanted}


def stumbler() -> jaxes.Environment:
    """A point that runs away from the origin; too far out, reward or observation are no numbers."""

    def observe(position: jax.Array, left: jax.Array) -> jax.Array:
        return jnp.append(position, 0.1 * left)

    def reset(key: jax.Array) -> tuple[Any, jax.Array]:
        position, left = jax.random.normal(key, (3,)), jax.random.randint(key, (), 5, 31)
        return (position, left), observe(position, left)

    def step(state: Any, action: jax.Array) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
        position, left = state
        position, left = 1.05 * position + 0.3 * jnp.sin(4 * position) + 0.3 * action, left - 1
        reward = jnp.where(position[0] > 4.5, jnp.nan, 1 - jnp.mean(position**2))
        observation = observe(jnp.where(position[1] < -5, jnp.inf, position), left)
        return (position, left), observation, reward, left == 0

    return jaxes.Environment(reset, step, 3)


def stumbling(**given: Any) -> jaxes.Problem:
    given = {"episode_length": 25, "num_episodes": 3, "num_test_episodes": 8} | given
    return jaxes.problems.policy_search(stumbler(), jaxes.policies.mlp((8,)), **search(**given))


# The cases.


def quickstart(strategy_name: str, run: Run) -> Record:
    """`configs/quickstart.yaml` of this tree, without its target."""
    text = (commits.imported_tree() / "configs" / "quickstart.yaml").read_text()
    config = yaml.safe_load(text)
    env_name = (config.get("environment") or config["problem"])["env_name"]
    policy = jaxes.policies.mlp(tuple(config["policy"]["hidden"]))
    of_strategy = config["strategy"]
    strategy = jaxes.STRATEGIES[strategy_name](
        of_strategy["population_size"], **of_strategy[strategy_name]
    )
    return trained(run, jaxes.problems.brax(env_name, policy=policy), strategy, 40)


def hopper_gru(run: Run) -> Record:
    settings = search(num_episodes=2, episode_length=150, num_test_episodes=10, alive_penalty=1.0)
    problem = jaxes.problems.brax("hopper", policy=jaxes.policies.gru(8), **settings)
    return trained(run, problem, jaxes.openai_es(32, sigma=0.1), 8, test_every=2)


def diverging(run: Run) -> Record:
    record = trained(run, stumbling(alive_penalty=0.1), jaxes.cma_es(24), 30, test_every=5)
    lines = (run.folder / "run" / "metrics.jsonl").read_text().splitlines()
    diverged = [json.loads(line)["rollout/diverged"] for line in lines]
    if not 0 < np.mean(diverged) < 24 * 3 / 2:
        raise SystemExit(f"some episodes should diverge, not all, but there were {diverged}")
    return record


def unnormalized(run: Run) -> Record:
    """Without observation statistics, which need not be kept then: they are not compared."""
    problem = stumbling(normalize_observations=False)
    record = trained(run, problem, jaxes.snes(24), 30, test_every=5)
    return {name: value for name, value in record.items() if ".observations." not in name}


def cartpole(run: Run) -> Record:
    settings = search(episode_length=200, num_test_episodes=20)
    problem = jaxes.problems.gymnax("CartPole-v1", policy=jaxes.policies.mlp((8,)), **settings)
    return trained(run, problem, jaxes.pgpe(64), 30, test_every=5)


def every_strategy(run: Run) -> Record:
    """On a plain function."""
    record: Record = {}
    for name, make in jaxes.STRATEGIES.items():
        problem = jaxes.problems.functions.rosenbrock(6)
        folder = run.folder / name
        found = trained(run._replace(folder=folder), problem, make(16), 30, test_every=5)
        record |= {f"{name} {key}": value for key, value in found.items()}
    return record


def minimized(run: Run) -> Record:
    """`jaxes.minimize`, compiled with bounds and restarts, and of a function on the host."""

    def compiled(x: jax.Array) -> jax.Array:
        return jnp.sum(x**2 + 10 - 10 * jnp.cos(2 * jnp.pi * x))

    def on_host(x: np.ndarray) -> np.ndarray:
        return np.sum((x - 1) ** 2, axis=1)

    start, box = np.full(4, 2.5, np.float32), (-5.0, 5.0)
    results = {
        "ipop": jaxes.minimize(
            compiled, start, jaxes.cma_es, bounds=box, restarts="ipop", budget=20_000, target=1e-6
        ),
        "host": jaxes.minimize(on_host, start, host=True, target=1e-6),
    }
    record: Record = {}
    for name, result in results.items():
        found = result_of(result) | {
            f"state {part}": of_array(np.asarray(getattr(result, part)))
            for part in ("solution", "mean")
        }
        record |= {f"{name} {key}": value for key, value in found.items()}
    return record


def sweep_config(run: Run) -> Record:
    """`configs/sweep.yaml` of this tree by the command line, with fewer seeds and generations."""
    from jaxes import cli

    config, run_dir = commits.imported_tree() / "configs" / "sweep.yaml", run.folder / "run"
    words = ["sweep", str(config), "--run-dir", str(run_dir), "--cpu-devices", str(run.devices)]
    for setting in ("training.num_generations=20", "training.test_every=5", "sweep.num_seeds=2"):
        words += ["--set", setting]
    if code := cli.main(words):
        raise SystemExit(f"the command ended with {code}")
    return sweep_of(run_dir)


def halving(run: Run) -> Record:
    """With trials that are dropped, one that reaches its target, and episodes that diverge."""
    return swept(
        run,
        stumbling(),
        jaxes.openai_es(16),
        {"sigma": [0.03, 0.1, 0.3, 1.0]},
        whole=20,
        num_seeds=2,
        test_every=2,
        target_return=2.0,
        halving=jaxes.Halving((4, 8), 0.5),
    )


def inexact(run: Run) -> Record:
    sigmas = {"sigma": [0.1, 0.3, 1.0]}
    options = {"whole": 20, "num_seeds": 4, "test_every": 5, "exact": False}
    return swept(run, stumbling(), jaxes.cma_es(16), sigmas, **options)


CASES: Mapping[str, Callable[[Run], Record]] = {
    "quickstart-cem": partial(quickstart, "cem"),
    "quickstart-cma_es": partial(quickstart, "cma_es"),
    "quickstart-openai_es": partial(quickstart, "openai_es"),
    "hopper-gru": hopper_gru,
    "diverging": diverging,
    "unnormalized": unnormalized,
    "cartpole": cartpole,
    "strategies": every_strategy,
    "minimize": minimized,
    "sweep-config": sweep_config,
    "sweep-halving": halving,
    "sweep-inexact": inexact,
}


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("devices", type=int)
    parser.add_argument("part", choices=["whole", "half", "rest"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    commits.imported_tree()
    jaxes.use_cpu_devices(options.devices)
    run = Run(options.folder, options.part, options.devices)
    record = CASES[options.case](run)
    if options.part != "half":
        (options.folder / "record.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
