"""What does it cost to train many configurations and seeds as one program?

    python benchmarks/sweep.py [--parts singles,shell,config,searches,memory]
        [--output benchmarks/results/sweep-cpu.json]

singles   32 trials on hopper, against the same 32 runs one after another in one process, by one
          program that was compiled once: physics against physics
shell     the like from the shell, against `jaxes train` 32 times: a few such runs are timed, with
          the cache of compiled programs that the first one leaves, and scaled up
config    `jaxes sweep configs/sweep.yaml` from the shell: 48 trials in three programs
searches  1,000 runs of CMA-ES on a 10-D function in one call, against pycma one after another
memory    the plan's bytes over what the process takes, by the number of trials

Exits with 1 where a bar is missed.
"""

import multiprocessing
import multiprocessing.connection
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cma
import jax
import jax.numpy as jnp
import machine
import numpy as np

import jaxes
from jaxes import core, parallel
from jaxes.sweeps.grid import replaced
from jaxes.training.batch import Batch, keys_of
from jaxes.training.program import trace_chunk
from jaxes.training.run import Run, Trial

TRIALS, POPULATION, GENERATIONS = 32, 64, 20
SHELL_RUNS = 3
SEARCHES, PYCMA_SEARCHES, DIM, TARGET = 1000, 50, 10, 1e-8
CONFIG = Path(__file__).parents[1] / "configs" / "sweep.yaml"
CONFIG_BAR = 300.0  # seconds
MEMORY_BAR = 0.3
MEMORY_TRIALS = (64, 128, 256)


def hopper() -> tuple[jaxes.Problem, jaxes.Strategy]:
    problem = jaxes.problems.brax("hopper", num_test_episodes=10)
    return problem, jaxes.openai_es(POPULATION, sigma=0.05, learning_rate=0.02)


def one_sweep(problem: jaxes.Problem, strategy: jaxes.Strategy, trials: int) -> dict:
    sigmas = np.geomspace(0.02, 0.2, trials).tolist()
    started = time.monotonic()
    result = jaxes.sweep(
        problem,
        strategy,
        {"sigma": sigmas},
        num_generations=GENERATIONS,
        test_every=GENERATIONS,
    )
    return {
        "seconds": time.monotonic() - started,
        "compile_seconds": result.compile_seconds,
        "env_steps": sum(row.env_steps for row in result.results),
        "returns": [row.return_mean for row in result.results],
        "sigmas": sigmas,
    }


def singles() -> dict:
    problem, strategy = hopper()
    together = one_sweep(problem, strategy, TRIALS)
    step = core.with_run_key(core.make_generation(strategy, problem))

    def start(key: jax.Array, sigma: float) -> jaxes.TrainState:
        hparams = jaxes.TrainHParams(strategy.hparams._replace(sigma=sigma), problem.hparams)
        return jaxes.init(key, strategy, problem, hparams)

    init_key, run_key, test_key = parallel.place(keys_of(0))
    begin = jax.jit(start)
    program = trace_chunk(step, run_key, begin(init_key, together["sigmas"][0])).compile()
    yes = np.bool_(True)
    program(run_key, begin(init_key, 0.1), 1, True, yes)
    started, returns = time.monotonic(), []
    for sigma in together["sigmas"]:
        state, _, _ = program(run_key, begin(init_key, sigma), GENERATIONS, True, yes)
        _, _, test = program(test_key, state, 0, True, yes)
        returns.append(float(np.asarray(test.returns, np.float64).mean()))
    alone = time.monotonic() - started
    same = sum(a == b for a, b in zip(returns, together["returns"], strict=True))
    physics = together["seconds"] - together["compile_seconds"]
    print(f"{same} of {TRIALS} trials have the return of their run alone, to the bit")
    return {
        "what": f"{TRIALS} runs one after another over one sweep, physics",
        "ratio": alone / physics,
        "bar": 1 / 1.05,
        "same_returns": same,
        "seconds": [physics, alone],
        "compile_seconds": [together["compile_seconds"], program.compile_seconds],
        "env_steps": together["env_steps"],
    }


def shell() -> dict:
    settings = {
        "problem.num_test_episodes": 10,
        "strategy.population_size": POPULATION,
        "training.num_generations": GENERATIONS,
        "training.test_every": GENERATIONS,
    }
    sigmas = np.geomspace(0.02, 0.2, TRIALS).tolist()

    def timed(folder: str, command: str, config: str, name: str, *more: str) -> float:
        words = [
            sys.executable,
            "-m",
            "jaxes.cli",
            command,
            config,
            "--run-dir",
            f"{folder}/{name}",
        ]
        for setting in (*(f"{field}={value}" for field, value in settings.items()), *more):
            words += ["--set", setting]
        # A cache of its own for the sweep: it starts cold, as the first of the runs does.
        words += ["--cache-dir", f"{folder}/cache-of-{command}"]
        started = time.monotonic()
        subprocess.run(words, check=True, capture_output=True)
        return time.monotonic() - started

    with tempfile.TemporaryDirectory() as folder:
        grid = f"sweep.grid={{strategy.openai_es.sigma: {sigmas}}}"
        config = Path(folder) / "hopper-sweep.yaml"
        config.write_text((CONFIG.parent / "hopper.yaml").read_text() + "sweep: {}\n")
        together = timed(folder, "sweep", str(config), "sweep", grid)
        chosen = np.linspace(0, TRIALS - 1, SHELL_RUNS + 1).astype(int)  # over all of σ
        seconds = [
            timed(folder, "train", "hopper", f"{i}", f"strategy.openai_es.sigma={sigmas[i]}")
            for i in chosen
        ]
    whole = seconds[0] + (TRIALS - 1) * statistics.mean(seconds[1:])
    return {
        "what": f"`jaxes train` {TRIALS} times over one sweep, both from the shell",
        "ratio": whole / together,
        "bar": 5.0,
        "seconds": [together, whole],
        "shell_runs": seconds,
    }


def config() -> dict:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "jaxes.cli", "sweep", str(CONFIG), "--cache-dir", "none"]
        started = time.monotonic()
        subprocess.run([*command, "--run-dir", f"{folder}/run"], check=True, capture_output=True)
        seconds = time.monotonic() - started
    bar = CONFIG_BAR
    return {"what": f"{bar:.0f} s over configs/sweep.yaml", "ratio": bar / seconds, "bar": 1.0}


def searches() -> dict:
    with jax.enable_x64(True):
        scales = jnp.asarray(10 ** (6 * np.arange(DIM) / (DIM - 1)))
        problem = jaxes.problems.functions.function(
            lambda x: -jnp.sum(scales * x**2),
            lambda key: jax.random.uniform(key, (DIM,), jnp.float64, -4, 4),
        )
        started = time.monotonic()
        result = jaxes.sweep(
            problem,
            jaxes.cma_es(10, sigma=2.0),
            num_seeds=SEARCHES,
            num_generations=1000,
            test_every=20,
            checkpoint_every=1000,
            target_return=-TARGET,
            exact=False,
        )
        mine = time.monotonic() - started
    solved = np.mean([row.status == "target" for row in result.results])
    numpy_scales = np.asarray(scales)
    started, found = time.monotonic(), []
    for seed in range(1, PYCMA_SEARCHES + 1):
        options = {"popsize": 10, "ftarget": TARGET, "verbose": -9, "seed": seed, "maxiter": 1000}
        x0 = np.random.default_rng(seed).uniform(-4, 4, DIM)
        search = cma.CMAEvolutionStrategy(x0, 2.0, options)
        while not search.stop():
            solutions = np.array(search.ask())
            search.tell(solutions, (numpy_scales * solutions**2).sum(axis=1))
        found.append(search.result.fbest <= TARGET)
    theirs = (time.monotonic() - started) * SEARCHES / PYCMA_SEARCHES
    return {
        "what": f"pycma {SEARCHES} times over one call",
        "ratio": theirs / mine,
        "bar": 20.0,
        "seconds": [mine, theirs],
        "compile_seconds": result.compile_seconds,
        "solved": [float(solved), float(np.mean(found))],
        "generations": statistics.mean(row.generation for row in result.results),
    }


def peak_of(trials: int, pipe: multiprocessing.connection.Connection) -> None:
    """Sends the plan's bytes, and what the process took more while the trials ran."""
    jaxes.use_cpu_devices()
    problem = jaxes.problems.brax("inverted_pendulum", episode_length=50, num_test_episodes=1)
    strategy = jaxes.cma_es(256)
    values = [{"sigma": sigma} for sigma in np.linspace(0.1, 1, trials)]
    defaults = jaxes.TrainHParams(strategy.hparams, problem.hparams)
    each = [Trial(i, 0, values[i], replaced(defaults, values[i])) for i in range(trials)]
    runs = [Run(trial, None) for trial in each]
    batch = Batch.of_trials(runs, problem, strategy, None, trials, exact=True)
    state = jax.block_until_ready(batch.state)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) * jax.local_device_count()
    program = batch.compile()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    program(batch.keys, state, 2, False, batch.active)
    pipe.send((program.num_bytes, status("VmHWM") - before + held))


def status(field: str) -> int:
    """Bytes that the system says of this process."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{field}:")[2].split()[0]) * 1024


def memory() -> dict:
    context = multiprocessing.get_context("spawn")
    figures = {}
    for trials in MEMORY_TRIALS:
        here, there = context.Pipe()
        process = context.Process(target=peak_of, args=(trials, there))
        process.start()
        figures[trials] = here.recv()
        process.join()
    errors = {trials: plan / taken for trials, (plan, taken) in figures.items()}
    worst = max(abs(error - 1) for error in errors.values())
    return {
        "what": "least agreement of the plan's bytes with the process's",
        "ratio": 1 - worst,
        "bar": 1 - MEMORY_BAR,
        "bytes_by_trials": figures,
    }


PARTS = {
    "singles": singles,
    "shell": shell,
    "config": config,
    "searches": searches,
    "memory": memory,
}


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--parts", type=machine.some_of(PARTS), default=list(PARTS))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    devices = jaxes.use_cpu_devices()
    rows = []
    for name in options.parts:
        rows.append(row := {"part": name} | PARTS[name]())
        print(f"{name:9s} {row['what']}: {row['ratio']:.2f} (bar {row['bar']:.2f})", flush=True)
        machine.write(options.output, cpu_devices=devices, rows=rows)
    machine.exit_by_bars(rows)


if __name__ == "__main__":
    main()
