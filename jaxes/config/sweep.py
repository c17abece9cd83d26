"""Sweep configs: a config of `jaxes train` with one more section, `sweep`."""

import contextlib
import copy
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from jaxes import hparams
from jaxes.config.files import ConfigError, read, set_field
from jaxes.config.run import Config, Setup, found_from
from jaxes.config.sections import Section, validate
from jaxes.core import Problem, TrainHParams
from jaxes.strategies import STRATEGIES
from jaxes.sweeps.halving import Halving
from jaxes.sweeps.plan import Group
from jaxes.training.identity import place_of
from jaxes.training.run import Trial
from jaxes.training.schedule import Schedule

# Sections whose fields are those of what they name; a strategy's stand under its name.
NAMES = ("environment.name", "problem.name", "policy.name")
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


class SweepSetup(NamedTuple):
    """What a sweep config describes.

    Attributes:
      groups: the trials, by program.
      schedule: of all trials.
      options: further arguments of `run_sweep`.
      data: the whole config.
      static: the swept fields that make programs of their own.
      repeated: how many configurations were drawn or listed that there were already.
    """

    groups: list[Group]
    schedule: Schedule
    options: dict[str, Any]
    data: dict[str, Any]
    static: list[str]
    repeated: int


def load(path: str | Path, overrides: tuple[str, ...] = ()) -> SweepSetup:
    """Reads a sweep config and makes its trials. Nothing is compiled.

    Raises:
      ConfigError: a field or value, in any trial, is not allowed.
    """
    data = found_from(path, read(path, overrides))
    if "sweep" not in data:
        command = "plan" if "planner" in data else "train"
        raise ConfigError(f"sweep: {path} has no such section; run it with `jaxes {command}`")
    if not isinstance(data["sweep"], dict):
        raise ConfigError(f"sweep: expected a section, got {data['sweep']!r}")
    section = validate(SweepSection, data["sweep"], "sweep.")
    base = {name: value for name, value in data.items() if name != "sweep"}
    if section.num_seeds < 1:
        raise ConfigError(f"sweep.num_seeds: must be at least 1, got {section.num_seeds}")
    if section.num_seeds > MOST_TRIALS:
        raise ConfigError(f"sweep.num_seeds: at most {MOST_TRIALS}, got {section.num_seeds}")
    groups: dict[str, tuple[Setup, list[Trial]]] = {}
    training: dict[str, Any] = {}
    static: dict[str, None] = {}  # names in order
    builder = _Builder()
    count = 0
    for values in assignments(section):
        if count + section.num_seeds > MOST_TRIALS:
            raise ConfigError(f"sweep: at most {MOST_TRIALS} trials are allowed, got more")
        config = config_of(base, values)
        setup = builder.build(config, values)
        training = setup.training
        numbers = TrainHParams(setup.strategy.hparams, setup.problem.hparams)
        traced = traced_fields(config, numbers)
        _, trials = groups.setdefault(static_part(config, traced), (setup, []))
        static |= {name: None for name in values if _path(name, config.resolved) not in traced}
        for seed in range(training["seed"], training["seed"] + section.num_seeds):
            resolved = copy.deepcopy(config.resolved)
            resolved["training"]["seed"] = seed
            trials.append(Trial(count, seed, values, numbers, resolved))
            count += 1
    if training["loggers"]:
        raise ConfigError(f"training.loggers: a sweep has none, got {training['loggers']!r}")
    halving = section.halving and Halving(tuple(section.halving.generations), section.halving.keep)
    return SweepSetup(
        groups=[
            Group(setup.problem, setup.strategy, tuple(trials)) for setup, trials in groups.values()
        ],
        schedule=Schedule.of(training),
        options={
            "halving": halving,
            "exact": section.exact,
            "max_bytes": section.max_bytes,
            "mean": training["mean"],
        },
        data=data,
        static=list(static),
        repeated=_number_given(section) - count // section.num_seeds,
    )


def _number_given(section: SweepSection) -> int:
    """How many configurations a section gives, equal ones among them."""
    drawn = section.random.num_samples if section.random else 1
    return max(len(section.explicit), 1) * drawn * math.prod(map(len, section.grid.values()))


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
                configuration = explicit | drawn | values
                key = json.dumps(configuration, sort_keys=True)
                if key not in seen:  # a choice is often drawn twice
                    seen.add(key)
                    yield configuration


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
    # Names first: fields belong to them, and `*` stands for the strategy's.
    names = (*NAMES, "strategy.name")
    for name, value in sorted(values.items(), key=lambda item: item[0] not in names):
        if name.split(".")[0] == "training":
            raise ConfigError(f"sweep: {name} is common to all trials and cannot be swept")
        path, chosen = _path(name, data), _named(data)
        owner = path.split(".")[1] if path.startswith("strategy.") else chosen
        if chosen in STRATEGIES and owner in STRATEGIES and owner != chosen:
            raise ConfigError(
                f"sweep: {name} means nothing to a trial whose strategy is {chosen}; put it into "
                "`explicit`, beside strategy.name"
            )
        if path in paths:
            raise ConfigError(f"sweep: {path} is given twice")
        paths.add(path)
        if path in NAMES and _named(data, path.removesuffix(".name")) not in (None, value):
            section = path.removesuffix(".name")
            data[section] = {"name": value}  # the other's fields mean nothing to this one
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


def _named(data: Mapping[str, Any], section: str = "strategy") -> Any:
    """The name that a section of a config has; None where it has none that could be one."""
    content = data.get(section)
    name = content.get("name") if isinstance(content, dict) else None
    return name if isinstance(name, str) else None


class _Builder:
    """Builds the runs of many configs; equal problems are made once."""

    def __init__(self) -> None:
        self.problems: dict[str, Problem] = {}

    def build(self, config: Config, values: Mapping[str, Any]) -> Setup:
        sections = {
            name: config.resolved.get(name) for name in ("environment", "problem", "policy")
        }
        key = json.dumps(sections, sort_keys=True)
        with _of_trial(values):
            setup = config.build(self.problems.get(key))
        self.problems[key] = setup.problem
        return setup


def traced_fields(config: Config, numbers: TrainHParams) -> set[str]:
    """The paths, in the config, of the numbers that are traced."""
    strategy = f"strategy.{_named(config.resolved)}"
    of_strategy = {f"{strategy}.{path}" for path in hparams.paths(numbers.strategy)}
    return of_strategy | set(map(place_of, hparams.paths(numbers.problem)))


def static_part(config: Config, traced: set[str]) -> str:
    """What trials must share to be one program: all but the traced numbers and the seed."""
    data = copy.deepcopy(config.resolved)
    chosen = data["strategy"]["name"]
    data["strategy"] = {key: data["strategy"][key] for key in ("name", "population_size", chosen)}
    for path in traced:
        *parents, field = path.split(".")
        section = data
        for parent in parents:
            section = section.get(parent, {})  # {}: it is left out, and has its defaults
        section.pop(field, None)
    return json.dumps(data, sort_keys=True)


def _path(name: str, data: Mapping[str, Any]) -> str:
    """A field's path in a config, where `strategy.*` is the chosen strategy."""
    return name.replace("strategy.*.", f"strategy.{_named(data)}.")
