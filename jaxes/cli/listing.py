"""`jaxes list`."""

import argparse
import inspect
from typing import Any

from rich.console import Console

import jaxes
from jaxes import environments
from jaxes.config import files, tasks


def add_to(commands: Any) -> argparse.ArgumentParser:
    return commands.add_parser("list", help="strategies, environments, problems and configs")


def run(options: argparse.Namespace, console: Console) -> None:
    show("strategies", {name: _first_line(make) for name, make in jaxes.STRATEGIES.items()})
    about = {name: _about(name) for name in environments.names()}
    about[tasks.MANY] = _first_line(jaxes.problems.many)
    show("environments (environment.name)", about)
    show("environment.name: brax (environment.env_name)", environments.BRAX_ENVIRONMENTS)
    problems = {name: _first_line(make) for name, make in jaxes.problems.PROBLEMS.items()}
    show("problems (problem.name)", problems)
    models = {name: _first_line(make) for name, make in jaxes.planning.MODELS.items()}
    show("models of a planner (model.name)", models)
    objectives = {name: _first_line(make) for name, make in jaxes.planning.OBJECTIVES.items()}
    show("objectives of a planner (planner.objective.name)", objectives)
    show("configs", {path.stem: files.comment(path) for path in files.bundled()})


def show(title: str, lines: dict[str, str]) -> None:
    print(title)
    for name, text in lines.items():
        print(f"  {name:26s}{text}")


def _about(environment: str) -> str:
    """Its first line; a package that cannot be loaded is one line of the list as well."""
    try:
        return _first_line(environments.find(environment))
    except ValueError as error:
        return str(error)


def _first_line(function: Any) -> str:
    return (inspect.getdoc(function) or "-").splitlines()[0]
