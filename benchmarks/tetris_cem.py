"""Noisy cross-entropy on Tetris: the published table, in full.

Ten runs each without noise, with constant and with decreasing noise, on 10 x 20 with 22 features,
all in one sweep, that is in one program and one queue of games; the mean plays 30 games after each
iteration, uncapped. Beside them what was published (Szita & Lőrincz 2006) and the one replication
that was found, ten runs of each: mean, and standard deviation over runs.

    python benchmarks/tetris_cem.py [--seeds 10] [--iterations 80] [--run-dir runs/tetris-cem]
        [--cpu-devices N] [--output benchmarks/results/tetris-cem-cpu.json]

It goes on where it was cut. Exits with 1 unless noiseless runs end far below noisy ones.
"""

import statistics
import sys
from pathlib import Path
from typing import Any

import machine

import jaxes
from jaxes.training.metrics import read_rows

SCHEDULES: dict[str, dict[str, float]] = {
    "no noise": {"noise": 0.0, "noise_decay": 0.0},
    "constant": {"noise": 4.0, "noise_decay": 0.0},
    "decreasing": {"noise": 5.0, "noise_decay": 0.1},
}
PUBLISHED = {"no noise": 21_252, "constant": 72_705, "decreasing": 348_895}
REPLICATED = {  # mean, sd
    "no noise": {10: (214, 168), 20: (700, 993), 50: (551, 622), 80: (577, 615)},
    "constant": {10: (666, 801), 20: (7628, 8291), 50: (62_088, 43_235), 80: (102_870, 25_363)},
    "decreasing": {10: (410, 467), 20: (5085, 10_430), 50: (60_857, 60_620), 80: (73_400, 61_290)},
}


Curves = dict[str, list[dict[str, list[float]]]]  # by schedule and run, a number an iteration
COLUMNS = {"lines": "test/return_mean", "ci95": "test/return_ci95", "pieces": "rollout/env_steps"}


def curves(run_dir: Path, seeds: int) -> Curves:
    """Of the mean's 30 games: lines, half their 95 % interval; and the pieces of the iteration."""
    found: Curves = {}
    for i, name in enumerate(SCHEDULES):
        found[name] = []
        for seed in range(seeds):
            rows, _ = read_rows(run_dir / "trials" / f"{i * seeds + seed:04d}" / "metrics.jsonl")
            columns = {name: [row[key] for row in rows] for name, key in COLUMNS.items()}
            found[name].append(columns)
    return found


def table(runs: Curves) -> list[dict[str, Any]]:
    rows = []
    for name, of_seeds in runs.items():
        for iteration, replicated in REPLICATED[name].items():
            if any(len(run["lines"]) < iteration for run in of_seeds):
                continue
            lines = [run["lines"][iteration - 1] for run in of_seeds]
            rows.append(
                {
                    "schedule": name,
                    "iteration": iteration,
                    "runs": len(lines),
                    "mean": statistics.mean(lines),
                    "sd": statistics.stdev(lines),
                    "least": min(lines),
                    "most": max(lines),
                    "replicated_mean_sd": replicated,
                    "published": PUBLISHED[name],
                }
            )
    return rows


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--seeds", type=machine.count, default=10)
    parser.add_argument("--iterations", type=machine.count, default=80)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/tetris-cem"))
    parser.add_argument("--cpu-devices", type=machine.count)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.iterations not in REPLICATED["constant"] or options.seeds < 2:
        parser.error(f"--iterations: one of {list(REPLICATED['constant'])}; --seeds: at least 2")
    devices = jaxes.use_cpu_devices(options.cpu_devices)
    result = jaxes.sweep(
        jaxes.problems.tetris(),
        jaxes.cem(100, sigma=10.0, elite_fraction=0.1),
        list(SCHEDULES.values()),
        num_generations=options.iterations,
        num_seeds=options.seeds,
        test_every=1,
        checkpoint_every=1,
        run_dir=options.run_dir,
        resume=options.run_dir.exists(),
    )
    runs = curves(options.run_dir, options.seeds)
    rows = table(runs)
    for row in rows:
        mean, sd = row["replicated_mean_sd"]
        print(
            f"{row['schedule']:10s} iteration {row['iteration']:2d}: {row['mean']:9,.0f} "
            f"(sd {row['sd']:,.0f}; {row['least']:,.0f} to {row['most']:,.0f}) over {row['runs']} "
            f"runs; replicated {mean:,} ({sd:,}), published {row['published']:,}"
        )
    settings = vars(options) | {"output": str(options.output), "run_dir": str(options.run_dir)}
    machine.write(
        options.output,
        cpu_devices=devices,
        options=settings,
        seconds=result.seconds,
        rows=rows,
        runs=runs,
    )
    last = {row["schedule"]: row["mean"] for row in rows if row["iteration"] == options.iterations}
    sys.exit(last["no noise"] * 10 > min(last["constant"], last["decreasing"]))


if __name__ == "__main__":
    main()
