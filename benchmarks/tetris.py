"""How many pieces of Tetris a second?

Games of a good controller from empty boards to their ends, through the engine: queue, refill and
the last long games included. Beside it the same in plain Python, and iterations of noisy
cross-entropy: ten runs of equal strength in one program, and one run, whose longest game is five
times the mean.

    python benchmarks/tetris.py [--features bertsekas,dellacherie,du,dt,dt_fast_wells]
        [--lanes 128,512,1024] [--repeats 10] [--games-a-lane 16] [--cpu-devices N]
        [--output benchmarks/results/tetris-cpu.json]

On a CPU, `XLA_FLAGS=--xla_cpu_max_isa=AVX512` lets the compiler use wider instructions than
`jaxes.use_cpu_devices` does by default. Exits with 1 where a bar is missed.
"""

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np

import jaxes
from jaxes import parallel, tetris
from jaxes.tetris.games import MAX_PIECES, player

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
BARS = {128: 6e6, 1024: 12e6}  # pieces a second by lanes a device, with 22 features on two cores
ITERATION_BAR = 0.7  # of the steady rate, ten runs in one program
NOISELESS = (
    *(-3.75777, -4.95770, -11.28056, -4.63604, -5.50185, -7.96193, -7.77666, -4.46925, -7.93478),
    *(-2.75875, -9.24057, -3.25382, -6.80346, -6.01614, -3.43251, -7.01251, -7.16668, -3.82410),
    *(-7.83702, -7.94089, -19.30808, 0.0),
)  # found by the noiseless cross-entropy method, 305 lines a game on 10 x 20
GOOD = {
    "bertsekas": NOISELESS,
    **dict(tetris.PUBLISHED.values()),
    "dt": tetris.PUBLISHED["dt10"][1],
}
HEIGHT = {"bertsekas": 20}  # else 10


def load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def rates_of(play: Any, arguments: tuple, pieces: Any, repeats: int) -> tuple[list[float], float]:
    """Pieces a second of each repeat, and the seconds of compilation."""
    program, compiled = machine.compiled(play, *arguments)
    jax.block_until_ready(program(*arguments))
    rates = []
    for _ in range(repeats):
        started = time.monotonic()
        found = jax.block_until_ready(program(*arguments))
        rates.append(float(pieces(found)) / (time.monotonic() - started))
    return rates, compiled


def steady(features: str, lanes: int, repeats: int, games_a_lane: int) -> dict[str, Any]:
    height = HEIGHT.get(features, 10)
    controller = tetris.Weighted(tetris.Controller.of(features, height, 10), GOOD[features])
    # Games of thousands of pieces are cut, so that the last of them is not what is measured.
    most = MAX_PIECES if features == "bertsekas" else 2000
    play = player(controller, games_a_lane * lanes * jax.device_count(), most, lanes)
    key = parallel.place(jax.random.key(0))
    rates, compiled = rates_of(
        play, (key,), lambda found: np.asarray(found[0].pieces, np.float64).sum(), repeats
    )
    return {
        "what": "steady",
        "features": features,
        "lanes": lanes,
        "best": max(rates),
        "median": statistics.median(rates),
        "rates": rates,
        "compile_seconds": compiled,
        "bar": BARS.get(lanes) if features == "bertsekas" else None,
        "load": load(),
    }


def iteration(num_runs: int, lanes: int, rate: float, repeats: int) -> dict[str, Any]:
    """A generation of so many runs of equal strength, 100 games each."""
    problem = jaxes.problems.tetris(num_lanes=lanes if num_runs > 1 else min(lanes, 64))
    strategy = jaxes.cem(100, sigma=1e-3)
    step = jax.vmap(jaxes.make_update_step(strategy, problem))
    state = jaxes.init(jax.random.key(0), strategy, problem)
    state = state._replace(
        strategy=state.strategy._replace(mean=jnp.asarray(NOISELESS, jnp.float32))
    )
    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * num_runs), state)
    keys = jax.random.split(jax.random.key(1), num_runs)
    rates, compiled = rates_of(
        step,
        parallel.place((keys, states)),
        lambda found: np.asarray(found[1]["rollout/env_steps"], np.float64).sum(),
        repeats,
    )
    median = statistics.median(rates)
    return {
        "what": "iteration",
        "runs": num_runs,
        "lanes": lanes,
        "median": median,
        "best": max(rates),
        "rates": rates,
        "ratio": median / rate,
        "compile_seconds": compiled,
        "bar": ITERATION_BAR if num_runs == 10 else None,
        "load": load(),
    }


def in_python(seconds: float) -> dict[str, Any]:
    """The slow simulator of the tests, from an empty board."""
    import tetris_by_hand as by_hand

    names, rng = tetris.SETS["bertsekas"], np.random.default_rng(0)
    board, pieces, started = [[False] * 10 for _ in range(20)], 0, time.monotonic()
    while time.monotonic() - started < seconds:
        piece = list(by_hand.PIECES)[rng.integers(7)]
        best, _, options = by_hand.choose(board, piece, names, np.array(NOISELESS), 20)
        over = options[best].over
        board = [[False] * 10 for _ in range(20)] if over else options[best].board
        pieces += 1
    return {"what": "plain Python", "median": pieces / (time.monotonic() - started)}


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--features", type=machine.some_of(GOOD), default=list(GOOD))
    parser.add_argument("--lanes", type=machine.counts, default=[128, 512, 1024])
    parser.add_argument("--repeats", type=machine.count, default=10)
    parser.add_argument("--games-a-lane", type=machine.count, default=16)
    parser.add_argument("--cpu-devices", type=machine.count)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    devices = jaxes.use_cpu_devices(options.cpu_devices)
    rows: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        what = {name: row[name] for name in ("what", "features", "lanes", "runs") if name in row}
        said = f"{' '.join(map(str, what.values())):32s} {row['median'] / 1e6:9.4f} M pieces/s"
        if "best" in row:
            said += f" (best {row['best'] / 1e6:.3f}), load {row['load']:.1f}"
        if "ratio" in row:
            said += f", {row['ratio']:.2f} of the steady rate"
        print(said, flush=True)
        flags = os.environ.get("XLA_FLAGS", "")
        machine.write(
            options.output,
            cpu_devices=devices,
            xla_flags=flags,
            options=vars(options) | {"output": str(options.output)},
            rows=rows,
        )

    keep(in_python(5))
    for features in options.features:
        for lanes in options.lanes if features == "bertsekas" else options.lanes[:1]:
            keep(steady(features, lanes, options.repeats, options.games_a_lane))
    of_weights = [row for row in rows if row.get("features") == "bertsekas"]
    for num_runs in (10, 1) if of_weights else ():
        fewest = of_weights[0]  # lanes: what a sweep has
        keep(iteration(num_runs, fewest["lanes"], fewest["median"], options.repeats))
    missed = [
        row
        for row in rows
        if row.get("bar") and (row["ratio"] if "ratio" in row else row["best"]) < row["bar"]
    ]
    print(f"{len(missed)} bars missed")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
