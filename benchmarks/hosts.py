"""Many processes that exchange scalars: what they send, the same bits, and what it costs.

Processes of one machine, over loopback. Parts, each row written as it comes; rows that the output
has already are not measured again, and kills, terms and stops add up:

    bytes      what a process sends in a generation of 1,024 episodes, of policies of a thousand and
               a million parameters: from the compiled program's collectives; beside it the
               all-reduce of a gradient, and what commit 45933eb sent
    kernel     the same from the kernel's counters of the loopback, two processes of one device
    same_bits  one digest of rows and final state: 1 process x 4 devices, 2 x 2, 4 x 1, 3 x 1, and a
               run whose number of processes changes at each resume; a sweep likewise
    speed      two processes of one device against one of two, in turn; and what an exchange costs
    sleep      16 processes in an environment that sleeps 0.2 s an episode, 256 episodes
    figure     seconds a generation for 1, 2 and 4 processes, and from measured episodes, bytes and
               latencies a simulation to 1,440 and 8,192 workers
    kills      SIGKILL of a random process under `launch --restarts`: the bits of a run left alone
    terms      SIGTERM to one: all end with 143, a checkpoint, no row lost
    stops      SIGSTOP of one: all end, and its name is said

    python benchmarks/hosts.py [--parts bytes,kernel,...] [--count 50]
        [--output benchmarks/results/hosts-cpu.json]

Exits with 1 where a bar is missed.
"""

import functools
import hashlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np
from jax.sharding import Mesh

import jaxes
from jaxes import core
from jaxes.devices import num_cores
from jaxes.hosts import traffic
from jaxes.hosts.launch import free_port

Row = dict[str, Any]
Rows = Iterator[tuple[str, Callable[[], Row]]]

JAXES = [sys.executable, "-m", "jaxes.cli"]
JOBS, TESTS = 1024, 8
OBSERVATIONS = {"hopper": 11, "humanoid": 244}
HIDDEN = {  # of policies of about a thousand and a million parameters
    "hopper": {"thousand": (64,), "million": (980, 980)},
    "humanoid": {"thousand": (4,), "million": (800, 980)},
}
APART = ("time/", "net/", "rollout/utilization")  # of a row, what depends on the processes
TINY = """
environment: {name: pendulum}
policy: {name: mlp, hidden: [4]}
problem: {num_test_episodes: 4, episode_length: 100}
strategy: {name: openai_es, population_size: 32}
training: {num_generations: 2000, checkpoint_every: 20, test_every: 20}
"""
BODY = """
environment: {name: brax, env_name: %s}
policy: {name: mlp, hidden: [8]}
problem: {num_test_episodes: 4, episode_length: %d}
strategy: {name: openai_es, population_size: %d, openai_es: {sigma: 0.1, learning_rate: 0.05}}
training: {num_generations: %d, checkpoint_every: 5, test_every: 5}
"""
SWEEP = "sweep: {num_seeds: 2, grid: {strategy.openai_es.sigma: [0.05, 0.1]}}\n"


# Processes.


def start(arguments: list[str], hosts: str, devices: int, log: Path) -> subprocess.Popen:
    """A process of jaxes, whose output goes into a file."""
    own = ["--cpu-devices", str(devices), "--hosts", hosts]
    command = [*JAXES, *arguments, *own]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


def together(arguments: list[str], count: int, devices: int, folder: Path) -> list[int]:
    """The exit codes of so many processes of jaxes that run as one."""
    port = free_port()
    processes = []
    for index in range(count):
        hosts = f"127.0.0.1:{port},{count},{index}" if count > 1 else "off"
        processes.append(start(arguments, hosts, devices, folder / f"{count}-{index}.log"))
    return [process.wait() for process in processes]


def trained(
    config: str, folder: Path, name: str, count: int, devices: int, more: list[str] | None = None
) -> Path:
    """The directory of a run in so many processes."""
    path = folder / f"{name}.yaml"
    path.write_text(config)
    command = "sweep" if "sweep:" in config else "train"
    run_dir = folder / name
    arguments = [command, str(path), "--run-dir", str(run_dir), *(more or [])]
    codes = together(arguments, count, devices, folder)
    if any(codes):
        said = (folder / f"{count}-0.log").read_text()[-2000:]
        raise RuntimeError(f"exit codes {codes}: {said}")
    return run_dir


def digest(run_dir: Path) -> str:
    """Of rows and the last checkpoint of a run, or of all trials of a sweep."""
    from jaxes.training.checkpoint import Checkpoints

    found = hashlib.sha256()
    runs = sorted((run_dir / "trials").glob("*")) or [run_dir]
    for run in runs:
        for row in rows_of(run):
            kept = {name: value for name, value in row.items() if not name.startswith(APART)}
            found.update(json.dumps(kept, sort_keys=True).encode())
        newest = Checkpoints(run / "checkpoints", read_only=True).newest()
        assert newest is not None
        for name, leaf in sorted(newest[1].items()):
            found.update(name.encode() + leaf.tobytes())
    return found.hexdigest()


def rows_of(run_dir: Path) -> list[Row]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


# What is sent.


def bytes_row(env_name: str, size: str) -> Row:
    """From the program for two hosts of one device, compiled in this process."""
    mesh = Mesh(np.array(jax.devices()[:2]).reshape(2, 1), ("host", "member"))
    problem = jaxes.problems.brax(
        env_name, policy=jaxes.policies.mlp(HIDDEN[env_name][size]), num_test_episodes=TESTS
    )
    strategy = jaxes.openai_es(JOBS, sigma=0.1, learning_rate=0.05)
    state = jaxes.init(jax.random.key(0), strategy, problem, mesh=mesh)
    step = core.make_generation(strategy, problem, mesh)
    key, phase = jax.device_put((jax.random.key(1), jnp.int32(0)))
    key = jaxes.parallel.place(key, mesh)
    phase = jaxes.parallel.place(phase, mesh)
    text = jax.jit(step).lower(key, state, phase).compile().as_text()
    sent = traffic.of_generation(text, 2, 1)
    observations = OBSERVATIONS[env_name]
    bar = 16 * (JOBS + TESTS) + 48 * observations + 4096
    parameters = state.strategy.mean.size
    return {
        "env_name": env_name,
        "parameters": parameters,
        "bytes": sent,
        "bytes_of_a_test": traffic.of_generation(text, 2, 1, test=True),
        "bar": bar,
        "gradient_bytes": 4 * parameters,  # a ring of two sends it once
        "bytes_45933eb": JOBS * (9 + 8 * observations),
        "met": sent <= bar,
    }


def bytes_rows(count: int) -> Rows:
    del count
    for env_name, sizes in HIDDEN.items():
        for size in sizes:
            name = f"{env_name}, a {size} parameters"
            yield name, functools.partial(bytes_row, env_name, size)


def loopback() -> int:
    """Bytes that were sent over the loopback since the machine started."""
    line = next(x for x in Path("/proc/net/dev").read_text().splitlines() if x.strip()[:3] == "lo:")
    return int(line.split()[9])


def kernel_row(env_name: str, generations: int) -> Row:
    """Bytes a generation and process between the rows of a run of two processes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = BODY % (env_name, 1000 if env_name == "hopper" else 60, JOBS, generations)
        config = config.replace("test_every: 5", f"test_every: {generations}")
        (folder / "config.yaml").write_text(config)
        arguments = ["train", str(folder / "config.yaml"), "--run-dir", str(folder / "run")]
        port = free_port()
        processes = [
            start(arguments, f"127.0.0.1:{port},2,{i}", 1, folder / f"{i}.log") for i in range(2)
        ]
        rows = folder / "run" / "metrics.jsonl"
        seen: list[tuple[int, int, float]] = []  # rows, bytes, when
        while any(process.poll() is None for process in processes):
            count = rows.read_bytes().count(b"\n") if rows.exists() else 0
            if not seen or count > seen[-1][0]:
                seen.append((count, loopback(), time.monotonic()))
            time.sleep(0.002)
        said = rows_of(folder / "run")[-2]["net/bytes"]
    # From the second chunk to the last but one, without start and end.
    (first, before, began), (last, after, ended) = seen[2], seen[-2]
    each = (after - before) / (last - first) / 2
    bar = 16 * (JOBS + 4) + 48 * OBSERVATIONS[env_name] + 4096
    # Signs of life and the agreement on each chunk are in it as well.
    return {
        "bytes": each,
        "said": said,
        "bar": bar,
        "generations": last - first,
        "seconds_a_generation": (ended - began) / (last - first),
        "met": each <= bar,
    }


def kernel_rows(count: int) -> Rows:
    del count
    for env_name, generations in {"hopper": 40, "humanoid": 12}.items():
        yield f"{env_name}, kernel", functools.partial(kernel_row, env_name, generations)


# The same bits.


def same_bits_row(env_name: str, shapes: list[tuple[int, int]], sweep: bool) -> Row:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = BODY % (env_name, 200, 32, 20) + SWEEP * sweep
        digests = {}
        for processes, devices in shapes:
            shape = f"{processes} x {devices}"
            digests[shape] = digest(trained(config, folder, shape, processes, devices))
            print(f"{env_name} {shape}: {digests[shape][:16]}", file=sys.stderr, flush=True)
        if not sweep:  # on and on, in other numbers of processes
            run_dir = folder / "resumed"
            for end, processes in ((5, 3), (10, 1), (15, 2), (20, 4)):
                more = ["--set", f"training.num_generations={end}", "--resume"]
                trained(config, folder, "resumed", processes, 1, more)
            digests["resumed in 3, 1, 2, 4"] = digest(run_dir)
    return {"digests": digests, "met": len(set(digests.values())) == 1}


def same_bits_rows(count: int) -> Rows:
    del count
    shapes = [(1, 4), (2, 2), (4, 1), (3, 1)]
    for env_name in OBSERVATIONS:
        yield (
            f"{env_name}, 20 generations",
            functools.partial(same_bits_row, env_name, shapes, False),
        )
    few = [(1, 2), (2, 1)]
    yield "hopper, a sweep", functools.partial(same_bits_row, "hopper", few, True)


# What it costs.


def seconds_a_generation(config: str, processes: int, devices: int) -> float:
    with tempfile.TemporaryDirectory() as name:
        run = trained(config, Path(name), "run", processes, devices)
        rows = rows_of(run)
    return statistics.median(row["time/seconds"] for row in rows[2:])


def speed_row(config: str, repeats: int, at_least: float | None, at_most: float | None) -> Row:
    pairs = []
    for _ in range(repeats):
        one = seconds_a_generation(config, 1, 2)
        pairs.append((one, seconds_a_generation(config, 2, 1)))
    ratios = [one / two for one, two in pairs]
    cost = statistics.median(two - one for one, two in pairs)
    return {
        "seconds_one_process": [one for one, _ in pairs],
        "seconds_two_processes": [two for _, two in pairs],
        "efficiency": statistics.median(ratios),
        "fixed_seconds": cost,
        "bar": at_least if at_least is not None else at_most,
        "met": (at_least is None or statistics.median(ratios) >= at_least)
        and (at_most is None or cost <= at_most),
    }


def speed_rows(count: int) -> Rows:
    del count
    hopper = (BODY % ("hopper", 1000, 512, 40)).replace("test_every: 5", "test_every: 40")
    yield "hopper, 2 processes", functools.partial(speed_row, hopper, 3, 0.9, None)
    yield "tiny, fixed cost", functools.partial(speed_row, TINY, 3, None, 0.005)


SLEEPER = """
import sys, time
import jax, jax.numpy as jnp, numpy as np
import jaxes
hosts, path = sys.argv[1:3]
jaxes.use_cpu_devices(1)
if hosts != "off":
    jaxes.use_hosts(hosts)
from jaxes.environments import Environment

def nap(x):
    time.sleep(0.2)
    return np.float32(0)

def step(state, action):
    slept = jax.pure_callback(nap, jax.ShapeDtypeStruct((), jnp.float32), action[0],
                              vmap_method="sequential")
    return state, jnp.zeros(1), action[0] + slept, jnp.bool_(True)

environment = Environment(lambda key: (jnp.zeros(1), jnp.zeros(1)), step, 1)
problem = jaxes.problems.policy_search(environment, jaxes.policies.linear(), episode_length=1,
    num_test_episodes=1, num_lanes=1, normalize_observations=False)
seconds = []
jaxes.train(problem, jaxes.openai_es(256, sigma=0.1, learning_rate=0.1), num_generations=5,
    test_every=5, callback=lambda row, state: seconds.append(row["time/seconds"]) or False)
if seconds:
    print(min(seconds[1:]))
"""


def sleep_row(count: int) -> Row:
    """Each process plays 16 episodes, one after another: 3.2 s."""
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SLEEPER, f"127.0.0.1:{port},{count},{i}", "-"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]
    said = [process.communicate() for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError(said[0][1][-2000:])
    seconds = float(said[0][0].split()[-1])
    ideal = 256 / count * 0.2
    return {
        "processes": count,
        "seconds": seconds,
        "ideal": ideal,
        "efficiency": ideal / seconds,
        "bar": 0.9,
        "met": ideal / seconds >= 0.9,
    }


def sleep_rows(count: int) -> Rows:
    del count
    yield "16 processes that sleep", functools.partial(sleep_row, 16)


# Our own Figure 1.

PAPER = {18: 657.0, 1440: 10.0}  # minutes to 6,000 on humanoid (Salimans et al. 2017, Figure 1)
EPISODES = 10_000  # a batch of theirs
LATENCY, BANDWIDTH = 1e-4, 1.25e8  # seconds a message and bytes a second of a network: 1 Gbit/s


def figure_row() -> Row:
    """A worker is a core with a share of the episodes, side by side in lanes; a generation ends
    when the last worker has, every worker has all scalars, and has made the update."""
    measured = {n: seconds_a_generation(_figure_config(), n, 1) for n in (1, 2, 4)}
    cores = num_cores()
    step_seconds = {lanes: _step_seconds(lanes) for lanes in (1, 8, 32, 64)}
    lengths = _episode_lengths()
    update = _update_seconds()
    exchange = _exchange_seconds()
    generator = np.random.default_rng(0)

    def simulated(workers: int, episodes: int, network: Callable[[int], float]) -> float:
        drawn = generator.choice(lengths, episodes)
        own = [drawn[i::workers] for i in range(min(workers, episodes))]
        return max(_worker(each, step_seconds) for each in own) + update + network(workers)

    here = {
        n: simulated(n, JOBS, lambda n: exchange if n > 1 else 0.0) * max(1.0, n / cores)
        for n in measured
    }

    def network(workers: int) -> float:
        sent = 16 * EPISODES + 48 * OBSERVATIONS["humanoid"]
        return LATENCY * np.log2(workers) + sent / BANDWIDTH

    there = {n: simulated(n, EPISODES, network) for n in (18, 1440, 8192)}
    scaled = {n: PAPER[18] * there[n] / there[18] for n in there}
    errors = {n: here[n] / measured[n] for n in measured}
    return {
        "measured_seconds": measured,
        "simulated_seconds": here,
        "simulated_by_measured": errors,
        "seconds_a_step_by_lanes": step_seconds,
        "mean_length": float(lengths.mean()),
        "longest": int(lengths.max()),
        "update_seconds": update,
        "exchange_seconds": exchange,
        "seconds_a_generation": there,
        "minutes_if_18_cores_take_657": scaled,
        "paper": {"18": 657, "1440": 10, "8192 (Ray)": 3.7},
        "speedup_18_to_1440": there[18] / there[1440],
        "paper_speedup": 65.7,
        "assumptions": (
            f"humanoid as trained here ({lengths.size} episodes measured), {EPISODES} episodes a "
            f"generation, a device a core, {LATENCY * 1e6:.0f} us a message, {BANDWIDTH / 1e6:.0f} "
            "MB a second, every worker makes the update; as many generations as with 18 cores"
        ),
        "met": all(0.5 <= error <= 2 for error in errors.values()),
    }


def _figure_config() -> str:
    config = BODY % ("humanoid", 1000, JOBS, 8)
    return config.replace("test_every: 5", "test_every: 8")


@functools.cache
def _humanoid() -> tuple[jaxes.Problem, jaxes.Strategy]:
    problem = jaxes.problems.brax("humanoid", policy=jaxes.policies.mlp((8,)), num_test_episodes=4)
    return problem, jaxes.openai_es(JOBS, sigma=0.1, learning_rate=0.05)


def _step_seconds(lanes: int) -> float:
    """Of one step of so many lanes of humanoid, on one core."""
    from jaxes.environments import brax

    environment = brax("humanoid")
    reset = jax.jit(jax.vmap(environment.reset))
    states, _ = reset(jax.random.split(jax.random.key(0), lanes))

    @jax.jit
    def run(states: Any) -> Any:
        def step(_: Any, states: Any) -> Any:
            return jax.vmap(environment.step)(states, jnp.zeros((lanes, environment.action_size)))[
                0
            ]

        return jax.lax.fori_loop(0, 50, step, states)

    jax.block_until_ready(run(states))
    seconds = []
    for _ in range(5):
        started = time.monotonic()
        jax.block_until_ready(run(states))
        seconds.append(time.monotonic() - started)
    return min(seconds) / 50


def _episode_lengths() -> np.ndarray:
    """Of the tests of a policy as it begins: episodes are as long as those that are timed."""
    _, strategy = _humanoid()
    many = jaxes.problems.brax("humanoid", policy=jaxes.policies.mlp((8,)), num_test_episodes=512)
    state = jaxes.init(jax.random.key(0), strategy, many)
    step = jax.jit(core.make_generation(strategy, many))
    key = jaxes.parallel.place(jax.random.key(1))
    _, _, tests = step(key, state, jaxes.parallel.place(jnp.int32(core.TEST)))
    return np.asarray(tests.length)


def _update_seconds() -> float:
    problem, strategy = _humanoid()
    state = jaxes.init(jax.random.key(0), strategy, problem).strategy
    state = jaxes.parallel.local(jax.device_get(state))
    tell = jax.jit(strategy.tell)
    fitness = jnp.arange(float(JOBS))
    seconds = []
    for _ in range(5):
        started = time.monotonic()
        jax.block_until_ready(tell(jax.random.key(0), state, fitness))
        seconds.append(time.monotonic() - started)
    return min(seconds)


def _exchange_seconds() -> float:
    """What a generation of two processes takes more than one of two devices."""
    pairs = [(seconds_a_generation(TINY, 1, 2), seconds_a_generation(TINY, 2, 1))]
    return max(0.0, statistics.median(two - one for one, two in pairs))


def _worker(lengths: np.ndarray, step_seconds: dict[int, float]) -> float:
    """Seconds in which one worker plays its episodes: lanes take the next one when one ends."""
    sizes = sorted(step_seconds)
    lanes = min(len(lengths), sizes[-1])
    ends = np.zeros(lanes)
    for length in lengths:
        ends[ends.argmin()] += length
    known = [step_seconds[size] for size in sizes]
    return float(ends.max() * np.interp(lanes, sizes, known))


def figure_rows(count: int) -> Rows:
    del count
    yield "humanoid, our Figure 1", figure_row


# What is lost.


@functools.cache
def undisturbed() -> str:
    with tempfile.TemporaryDirectory() as name:
        return digest(trained(TINY, Path(name), "alone", 1, 2))


def launched(folder: Path, restarts: int, *more: str) -> subprocess.Popen:
    (folder / "tiny.yaml").write_text(TINY)
    command = [*JAXES, "launch", "-n", "3", "--restarts", str(restarts)]
    command += ["--cpu-devices", "1", "--", "train", str(folder / "tiny.yaml")]
    command += ["--run-dir", str(folder / "run"), *more]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def signaled(folder: Path, seed: int, number: int, until_rows: bool = True) -> int:
    """Sends a signal to a random process at a random moment; returns which it was."""
    rng = random.Random(seed)
    rows, end = folder / "run" / "metrics.jsonl", time.monotonic() + 120
    while until_rows and not (rows.exists() and rows.stat().st_size) and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 3) if until_rows else rng.uniform(1, 8))
    which = rng.randrange(3)
    found = subprocess.run(["pgrep", "-f", "--", f"{folder}/run .*--hosts"], capture_output=True)
    for pid in map(int, found.stdout.split()):
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        if re.search(rf",3,{which}\0", line):
            os.kill(pid, number)
            return which
    raise RuntimeError(f"there is no process {which} of {folder}/run")


def kill_row(seed: int) -> Row:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = launched(folder, restarts=3)
        which = signaled(folder, seed, signal.SIGKILL, until_rows=seed % 5 > 0)
        code = process.wait(timeout=300)
        same = code == 0 and digest(folder / "run") == undisturbed()
        again = (folder / "log").read_text().count("starting again")
        said = "" if same else (folder / "log").read_text()[-1500:]
    return {"process": which, "code": code, "started_again": again, "said": said, "met": same}


def term_row(seed: int) -> Row:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = launched(folder, 0, "--set", "training.num_generations=100000")
        which = signaled(folder, 1000 + seed, signal.SIGTERM)
        code = process.wait(timeout=300)
        saved = sorted(int(path.name) for path in (folder / "run" / "checkpoints").glob("[0-9]*"))
        rows = [row["generation"] for row in rows_of(folder / "run")]
        clean = code == 143 and rows == list(range(1, saved[-1] + 1))
        said = "" if clean else (folder / "log").read_text()[-1500:]
    return {"process": which, "code": code, "said": said, "met": clean}


def stop_row(seed: int, patience: float = 10.0) -> Row:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        more = ("--set", "training.num_generations=100000", "--patience", str(patience))
        process = launched(folder, 0, *more)
        which = signaled(folder, 2000 + seed, signal.SIGSTOP)
        started = time.monotonic()
        code = process.wait(timeout=300)
        seconds = time.monotonic() - started
        log = (folder / "log").read_text()
        named = re.search(rf"process {which} (on \S+ \(pid \d+\): no sign|has not answered)", log)
    met = named is not None and code == 75 and seconds < patience + 15
    said = "" if met else log[-1500:]
    return {"process": which, "code": code, "seconds": seconds, "said": said, "met": met}


def counted(part: str, row: Callable[[int], Row], share: float) -> Callable[[int], Rows]:
    def rows(count: int) -> Rows:
        for seed in range(round(count * share)):
            yield f"{part} {seed}", functools.partial(row, seed)

    return rows


PARTS: dict[str, Callable[[int], Rows]] = {
    "bytes": bytes_rows,
    "kernel": kernel_rows,
    "same_bits": same_bits_rows,
    "speed": speed_rows,
    "sleep": sleep_rows,
    "figure": figure_rows,
    "kills": counted("kill", kill_row, 1.0),
    "terms": counted("term", term_row, 0.4),
    "stops": counted("stop", stop_row, 0.2),
}


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--parts", type=machine.some_of(PARTS), default=list(PARTS))
    parser.add_argument("--count", type=machine.count, default=50)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    jaxes.use_cpu_devices(2)
    rows = machine.rows_of(options.output)
    parts = {part: PARTS[part](options.count) for part in options.parts}
    machine.measure(rows, parts, {row["name"] for row in rows}, options.output)
    machine.exit_by_met(rows)


if __name__ == "__main__":
    main()
