"""How long does the command line take to the end of the first generation, cold and warm?

Cold is with an empty cache of compiled programs, warm with the one that the cold start left; the
time is the process's, from its start:

    python benchmarks/startup.py [--config hopper] [--repeats 5]
        [--output benchmarks/results/startup-cpu.json]

Exits with 1 where a bar is missed.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine

BARS = {"cold": 21.9, "warm": 7.3}  # seconds, on hopper


def start(config: str, folder: str) -> tuple[float, list[str]]:
    """Seconds to the first generation's end, and the timeline that the command shows."""
    command = [sys.executable, "-m", "jaxes.cli", "train", config, "--cache-dir", f"{folder}/cache"]
    options = ["--run-dir", tempfile.mkdtemp(dir=folder), "--set", "training.num_generations=1"]
    started, timeline = time.monotonic(), []
    with subprocess.Popen(command + options, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            timeline.append(line.strip())
            if line.startswith("first generation"):
                seconds = time.monotonic() - started
    if process.returncode:
        raise SystemExit("\n".join(timeline))
    return seconds, [line for line in timeline if " s" in line]


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--config", default="hopper")
    parser.add_argument("--repeats", type=machine.count, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            for kind in BARS:
                seconds, timeline = start(options.config, folder)
                rows.append({"kind": kind, "seconds": seconds, "timeline": timeline})
                print(f"{kind}: {seconds:.1f} s  ({'; '.join(timeline[:3])})", flush=True)
    missed = 0
    for kind, bar in BARS.items():
        seconds = [row["seconds"] for row in rows if row["kind"] == kind]
        median = statistics.median(seconds)
        missed += median > bar
        print(f"{kind}: {median:.1f} s ({min(seconds):.1f} to {max(seconds):.1f}, bar {bar:.0f})")
    machine.write(options.output, config=options.config, bars=BARS, rows=rows)
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
