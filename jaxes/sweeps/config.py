"""Sweep configs: a config of `jaxes train` with one more section, `sweep`."""

import contextlib
import copy
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from jaxes.core import Problem, TrainHParams
from jaxes.strategies import STRATEGIES
from jaxes.sweeps.batches import Group
from jaxes.sweeps.halving import Halving
from jaxes.sweeps.results import Trial
from jaxes.training.config import Config, Run, Section, validate
from jaxes.training.config_files import ConfigError, read, set_field
from jaxes.training.schedule import Schedule

MOST_TRIALS = 100_000  # each has a directory


class Distribution(Section):
    """One of: bounds of a uniform or log-uniform number, or a list to choose from."""

    uniform: tuple[float, float] | None = None
    log_uniform: tuple[float, float] | None = None
    choice: list[Any] | None = None


class RandomSearch(Section):
    num_samples: int
    fields: dict[str, Distribution]
    seed: int = 0


class HalvingSection(Section):
    generations: list[int]
    keep: float = 0.5


class SweepSection(Section):
    """What is swept: all combinations of the three ways to say it, each with so many seeds.

    A field is written as its path, such as `strategy.cem.sigma`; `strategy.*.sigma` is that of the
    strategy that the trial has.
    """

    grid: dict[str, list[Any]] = Field(default_factory=dict)
    random: RandomSearch | None = None
    explicit: list[dict[str, Any]] = Field(default_factory=list)
    num_seeds: int = 1
    halving: HalvingSection | None = None
    exact: bool = True
    max_bytes: int | None = None


class SweepRun(NamedTuple):
    """What a sweep config describes.

    Attributes:
      groups: the trials, by program.
      schedule: of all trials.
      options: further arguments of `run_sweep`.
      data: the whole config.
      static: the swept fields that make programs of their own.
    """

    groups: list[Group]
    schedule: Schedule
    options: dict[str, Any]
    data: dict[str, Any]
    static: list[str]


def load(path: str | Path, overrides: tuple[str, ...] = ()) -> SweepRun:
    """Reads a sweep config and makes its trials. Nothing is compiled.

    Raises:
      ConfigError: a field or value, in any trial, is not allowed.
    """
    data = read(path, overrides)
    if "sweep" not in data:
        raise ConfigError(f"sweep: {path} has no such section; run it with `jaxes train`")
    if not isinstance(data["sweep"], dict):
        raise ConfigError(f"sweep: expected a section, got {data['sweep']!r}")
    section = validate(SweepSection, data["sweep"], "sweep.")
    base = {name: value for name, value in data.items() if name != "sweep"}
    if section.num_seeds < 1:
        raise ConfigError(f"sweep.num_seeds: must be at least 1, got {section.num_seeds}")
    if section.num_seeds > MOST_TRIALS:
        raise ConfigError(f"sweep.num_seeds: at most {MOST_TRIALS}, got {section.num_seeds}")
    groups: dict[str, tuple[Run, list[Trial]]] = {}
    training: dict[str, Any] = {}
    static: dict[str, None] = {}  # names in order
    builder = _Builder()
    number = 0
    for values in assignments(section):
        if number + section.num_seeds > MOST_TRIALS:
            raise ConfigError(f"sweep: at most {MOST_TRIALS} trials are allowed, got more")
        config = config_of(base, values)
        run = builder.build(config, values)
        training = run.training
        hparams = TrainHParams(run.strategy.hparams, run.problem.hparams)
        _, trials = groups.setdefault(static_part(config, run), (run, []))
        static |= {name: None for name in values if _is_static(name, config, run)}
        for seed in range(training["seed"], training["seed"] + section.num_seeds):
            resolved = copy.deepcopy(config.resolved)
            resolved["training"]["seed"] = seed
            trials.append(Trial(number, seed, values, hparams, resolved))
            number += 1
    if training["loggers"]:
        raise ConfigError(f"training.loggers: a sweep has none, got {training['loggers']!r}")
    halving = section.halving and Halving(tuple(section.halving.generations), section.halving.keep)
    return SweepRun(
        groups=[Group(run.problem, run.strategy, tuple(trials)) for run, trials in groups.values()],
        schedule=Schedule.of(training),
        options={"halving": halving, "exact": section.exact, "max_bytes": section.max_bytes},
        data=data,
        static=list(static),
    )


def assignments(section: SweepSection) -> Iterator[dict[str, Any]]:
    """The values by path of each configuration."""
    if section.model_fields_set & {"grid"} and not section.grid:
        raise ConfigError("sweep.grid: at least one field is required, got {}")
    for name, listed in section.grid.items():
        if not listed:
            raise ConfigError(f"sweep.grid.{name}: at least one value is required, got []")
    seen = set()
    grid = [
        dict(zip(section.grid, values, strict=True))
        for values in itertools.product(*section.grid.values())
    ]
    for explicit in section.explicit or [{}]:
        for drawn in samples(section.random) if section.random else [{}]:
            for values in grid:
                twice = [name for name in values if name in explicit or name in drawn]
                twice += [name for name in drawn if name in explicit]
                if twice:
                    raise ConfigError(f"sweep: {twice[0]} is given twice")
                found = explicit | drawn | values
                about = json.dumps(found, sort_keys=True)
                if about not in seen:  # a choice is often drawn twice
                    seen.add(about)
                    yield found


def samples(search: RandomSearch) -> list[dict[str, Any]]:
    """The draws of a random search; the same for the same seed."""
    if search.num_samples < 1:
        got = search.num_samples
        raise ConfigError(f"sweep.random.num_samples: must be at least 1, got {got}")
    generator = np.random.default_rng(search.seed)

    def draw(name: str, distribution: Distribution) -> Any:
        where = f"sweep.random.fields.{name}"
        given = distribution.model_dump(exclude_none=True)
        if len(given) != 1:
            raise ConfigError(f"{where}: one of uniform, log_uniform or choice is required")
        kind, bounds = next(iter(given.items()))
        if kind == "choice":
            if not bounds:
                raise ConfigError(f"{where}.choice: at least one value is required, got []")
            return bounds[generator.integers(len(bounds))]
        low, high = bounds
        if not low < high or (kind == "log_uniform" and low <= 0):
            more = "0 < " if kind == "log_uniform" else ""
            raise ConfigError(f"{where}.{kind}: must be {more}low < high, got {[low, high]}")
        if kind == "log_uniform":
            return float(np.exp(generator.uniform(np.log(low), np.log(high))))
        return float(generator.uniform(low, high))

    return [
        {name: draw(name, distribution) for name, distribution in search.fields.items()}
        for _ in range(search.num_samples)
    ]


def config_of(base: dict[str, Any], values: Mapping[str, Any]) -> Config:
    """The config of one configuration's runs."""
    data = copy.deepcopy(base)
    paths: set[str] = set()
    # The strategy's name first, since `*` stands for it.
    for name, value in sorted(values.items(), key=lambda item: item[0] != "strategy.name"):
        if name.split(".")[0] == "training":
            raise ConfigError(f"sweep: {name} is common to all trials and cannot be swept")
        strategy = data.get("strategy")
        chosen = strategy.get("name") if isinstance(strategy, dict) else None
        path = name.replace("strategy.*.", f"strategy.{chosen}.")
        owner = path.split(".")[1] if path.startswith("strategy.") else chosen
        if chosen in STRATEGIES and owner in STRATEGIES and owner != chosen:
            raise ConfigError(
                f"sweep: {name} means nothing to a trial whose strategy is {chosen}; put it into "
                "`explicit`, beside strategy.name"
            )
        if path in paths:
            raise ConfigError(f"sweep: {path} is given twice")
        paths.add(path)
        set_field(data, path, value, f"sweep: {name}")
    with _of_trial(values):
        return Config(data)


@contextlib.contextmanager
def _of_trial(values: Mapping[str, Any]) -> Iterator[None]:
    """Says of a ConfigError which values it came with."""
    try:
        yield
    except ConfigError as error:
        said = ", ".join(f"{name}={value!r}" for name, value in values.items())
        raise ConfigError(f"sweep, with {said}: {error}" if said else str(error)) from error


class _Builder:
    """Builds the runs of many configs; equal problems are made once."""

    def __init__(self) -> None:
        self.problems: dict[str, Problem] = {}

    def build(self, config: Config, values: Mapping[str, Any]) -> Run:
        sections = {name: config.resolved.get(name) for name in ("problem", "policy")}
        about = json.dumps(sections, sort_keys=True)
        with _of_trial(values):
            run = config.build(self.problems.get(about))
        self.problems[about] = run.problem
        return run


def static_part(config: Config, run: Run) -> str:
    """What trials must share to be one program: all but the traced numbers and the seed."""
    data = copy.deepcopy(config.resolved)
    name = data["strategy"]["name"]
    data["strategy"] = {key: data["strategy"][key] for key in ("name", "population_size", name)}
    for field in run.strategy.hparams._fields:
        data["strategy"][name].pop(field, None)
    for field in run.problem.hparams._fields:
        data["problem"].pop(field, None)
    return json.dumps(data, sort_keys=True)


def _is_static(name: str, config: Config, run: Run) -> bool:
    """Whether different values of a field make programs of their own."""
    section, _, field = name.rpartition(".")
    chosen = config.resolved["strategy"]["name"]
    ours = section in (f"strategy.{chosen}", "strategy.*")
    part = run.problem if section == "problem" else run.strategy if ours else None
    return part is None or field not in part.hparams._fields
