"""The command line: `jaxes train | sweep | resume | evaluate | report | list`."""

import argparse
import contextlib
import inspect
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

import jaxes
from jaxes import clock, parallel
from jaxes.checks import check_count, check_seed
from jaxes.sweeps import config as sweep_config
from jaxes.sweeps.results import flat
from jaxes.sweeps.sweeper import run_sweep
from jaxes.training import TrainResult, config, config_files, evaluation, startup
from jaxes.training.display import PatientConsole, number, say
from jaxes.training.metrics import finite

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130  # exit codes


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; its exit code is 0, 1 (failed), 2 (bad input) or 130 (Ctrl-C)."""
    options = _parser().parse_args(arguments)
    # With --json, stdout is for machines and everything else goes to stderr.
    console = PatientConsole(stderr=getattr(options, "json", False))
    try:
        if "cpu_devices" in options:
            _set_up_jax(options)
        options.command(options, console)
    except BrokenPipeError:  # of `jaxes list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        say(Console(stderr=True), f"jaxes: error: {error}")
        return BAD_INPUT
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        say(Console(stderr=True), f"jaxes: failed: {error}")
        return FAILED
    except KeyboardInterrupt as interrupt:
        said = f"interrupted: {interrupt}" if str(interrupt) else "interrupted"
        say(console, said)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxes", description="Train policies by evolution strategies on accelerators."
    )
    parser.add_argument("--version", action="version", version=jaxes.__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    train = commands.add_parser("train", help="train from a config")
    train.set_defaults(command=_train)
    sweep = commands.add_parser("sweep", help="train many configurations and seeds at once")
    sweep.set_defaults(command=_sweep)
    sweep.add_argument("--dry-run", action="store_true", help="show the plan and stop")
    for command in (train, sweep):
        command.add_argument(
            "config", help="a YAML file, or the name of one that `jaxes list` shows"
        )
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY.PATH=VALUE",
            help="override a field of the config; may be repeated",
        )
        command.add_argument("--run-dir", help="default: runs/CONFIG-DATE-TIME-PROCESS")

    resume = commands.add_parser("resume", help="go on with a run or sweep from its checkpoints")
    resume.set_defaults(command=_resume)
    resume.add_argument("run", type=Path, help="the directory of a run or a sweep")

    evaluate = commands.add_parser("evaluate", help="test a run's policy on fresh episodes")
    evaluate.set_defaults(command=_evaluate)
    evaluate.add_argument("run", type=Path, help="a run directory")
    evaluate.add_argument("--episodes", type=int, default=100, help="default: 100")
    evaluate.add_argument("--seed", type=int, default=0, help="of the episodes; default: 0")

    for command in (train, sweep, resume, evaluate):
        command.add_argument("--json", action="store_true", help="end with one JSON object")
        command.add_argument("--cpu-devices", type=int, metavar="N", help="default: one a core")
        command.add_argument(
            "--cache-dir",
            metavar="DIR",
            help="where compiled programs are kept, or `none`; default: the user's cache folder",
        )

    report = commands.add_parser("report", help="rank and plot the configurations of a sweep")
    report.set_defaults(command=_report)
    report.add_argument("sweep", type=Path, help="the directory of a sweep")
    report.add_argument("--output", type=Path, help="of the plots; default: SWEEP/report")

    listing = commands.add_parser("list", help="strategies, problems and configs")
    listing.set_defaults(command=_list)
    return parser


def _set_up_jax(options: Any) -> None:
    """Devices and the compilation cache, before JAX starts."""
    chosen = options.cpu_devices is not None
    if chosen:
        check_count("--cpu-devices", options.cpu_devices, most=1024)
    try:
        parallel.use_cpu_devices(options.cpu_devices)
    except RuntimeError as error:  # called from a program in which JAX runs already
        if chosen:
            raise ValueError(f"--cpu-devices: {error}") from error
    startup.keep_compiled_programs(options.cache_dir)


def _train(options: Any, console: Console) -> None:
    path = config_files.find(options.config)
    settings = config.load(path, tuple(options.set))
    _run(settings, _run_dir(path, options), options, console, resume=False)


def _run_dir(path: Path, options: Any) -> Path:
    if options.run_dir == "":
        raise ValueError("--run-dir must be a path, got ''")
    default = f"runs/{path.stem}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    return Path(options.run_dir or default)


def _resume(options: Any, console: Console) -> None:
    path = config_files.of_run(options.run)
    if "sweep" in config_files.read(path):
        _run_sweep(sweep_config.load(path), options.run, options, console, resume=True)
    else:
        _run(config.load(path), options.run, options, console, resume=True)


def _sweep(options: Any, console: Console) -> None:
    path = config_files.find(options.config)
    plan = sweep_config.load(path, tuple(options.set))
    _run_sweep(plan, _run_dir(path, options), options, console, resume=False)


def _run(
    settings: config.Config, run_dir: Path, options: Any, console: Console, resume: bool
) -> None:
    problem, strategy, training = settings.build()
    _say_ready(console)
    with _resumable(run_dir):
        result = jaxes.train(
            problem,
            strategy,
            **training,
            run_dir=run_dir,
            resume=resume,
            console=console,
            config=settings.resolved,
        )
    _say_result(result, console)
    quoted = shlex.quote(str(run_dir))
    say(
        console,
        f"{result.env_steps:,} environment steps in {result.seconds:,.0f} s, "
        f"{result.compile_seconds:,.0f} s of them compilation\n"
        f"run: {run_dir}\n"
        f"next: jaxes evaluate {quoted}        (test the policy)\n"
        f"      jaxes train {quoted}/config.yaml --set training.seed=1        (another seed)",
    )
    if options.json:
        print(json.dumps(finite(_summary(result))))


def _run_sweep(
    plan: sweep_config.SweepRun, run_dir: Path, options: Any, console: Console, resume: bool
) -> None:
    trials = sum(len(group.trials) for group in plan.groups)
    static = f", because of {', '.join(plan.static)}" if plan.static else ""
    _say_ready(console)
    say(console, f"{trials} trials in {len(plan.groups)} programs{static}")
    dry_run = getattr(options, "dry_run", False)
    with contextlib.nullcontext() if dry_run else _resumable(run_dir):
        result = run_sweep(
            plan.groups,
            plan.schedule,
            **plan.options,
            run_dir=run_dir,
            resume=resume,
            console=console,
            config=plan.data,
            dry_run=dry_run,
        )
    if dry_run:
        if options.json:
            print(json.dumps({"trials": trials, "programs": len(plan.groups)}))
        return
    from jaxes.report.ranking import rank, read_sweep, table

    sweep = read_sweep(run_dir)
    console.print(table(sweep, rank(sweep)))
    quoted = shlex.quote(str(run_dir))
    say(
        console,
        f"{trials} trials in {result.seconds:,.0f} s, {result.compile_seconds:,.0f} s of them "
        f"compilation\nsweep: {run_dir}\n"
        f"next: jaxes report {quoted}        (plots)",
    )
    if (run_dir / "best.yaml").exists():
        say(console, f"      jaxes train {quoted}/best.yaml        (the best configuration)")
    else:
        say(console, "all trials diverged")
    if options.json:
        rows = [finite(flat(row)) for row in result.results]
        print(json.dumps({"run_dir": str(run_dir), "seconds": result.seconds, "trials": rows}))


@contextlib.contextmanager
def _resumable(run_dir: Path) -> Iterator[None]:
    """Says how to go on after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        reason = str(interrupt) or "before the first generation"
        command = f"jaxes resume {shlex.quote(str(run_dir))}"
        raise KeyboardInterrupt(f"{reason}; go on with: {command}") from interrupt


def _report(options: Any, console: Console) -> None:
    from jaxes.report.plots import draw
    from jaxes.report.ranking import rank, read_sweep, table

    output = options.output or options.sweep / "report"
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output: {output} is not a directory")
    sweep = read_sweep(options.sweep)
    ranked = rank(sweep)
    console.print(table(sweep, ranked))
    for path in draw(sweep, ranked, output):
        say(console, str(path))


def _say_ready(console: Console) -> None:
    devices = jax.local_devices()
    say(
        console,
        f"ready after {time.monotonic() - clock.STARTED:.1f} s, on {len(devices)} "
        f"{devices[0].platform} device{'s' if len(devices) > 1 else ''}",
    )


def _say_result(result: TrainResult | evaluation.EvaluationResult, console: Console) -> None:
    diverged = f"; {result.num_test_diverged} DIVERGED" if result.num_test_diverged else ""
    say(
        console,
        f"return {number(result.return_mean)} ± {number(result.return_std)} over "
        f"{result.num_test_episodes} fresh episodes{diverged} "
        f"(zero policy: {number(result.floor_mean)}), at generation {result.generation}",
    )


def _summary(result: TrainResult) -> dict[str, Any]:
    summary = {name: value for name, value in result._asdict().items() if name != "state"}
    return summary | {"run_dir": str(result.run_dir)}


def _evaluate(options: Any, console: Console) -> None:
    check_count("--episodes", options.episodes)
    check_seed("--seed", options.seed)
    settings = config.load(config_files.of_run(options.run))
    problem, strategy, training = settings.build()
    result = evaluation.evaluate(
        problem,
        strategy,
        options.run,
        train_seed=training["seed"],
        num_episodes=options.episodes,
        seed=options.seed,
    )
    _say_result(result, console)
    if options.json:
        print(json.dumps(finite(result._asdict() | {"run_dir": str(options.run)})))


def _list(options: Any, console: Console) -> None:
    def show(title: str, lines: dict[str, str]) -> None:
        print(title)
        for name, text in lines.items():
            print(f"  {name:26s}{text}")

    show("strategies", {name: _first_line(make) for name, make in jaxes.STRATEGIES.items()})
    show("environments (problem.name: brax)", jaxes.environments.BRAX_ENVIRONMENTS)
    problems = {name: _first_line(make) for name, make in jaxes.problems.PROBLEMS.items()}
    show("problems (problem.name)", problems)
    show("configs", {path.stem: config_files.comment(path) for path in config_files.bundled()})


def _first_line(function: Any) -> str:
    return (inspect.getdoc(function) or "").splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
