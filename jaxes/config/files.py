"""Config files: where they are, YAML, and `--set`; what they may hold is said in `config`."""

import re
from pathlib import Path
from typing import Any

import yaml

from jaxes.checks import near
from jaxes.training.identity import read_identity


class ConfigError(ValueError):
    """A config that cannot be run; the message names the field, the value and what is allowed."""


def bundled() -> list[Path]:
    """The configs that come with jaxes: in the wheel, or in the checkout that it runs from."""
    package = Path(__file__).parents[1]
    directories = [package / "configs", package.parent / "configs"]
    return sorted(path for directory in directories for path in directory.glob("*.yaml"))


def comment(path: Path) -> str:
    """The first line of a config, which is a comment that says what it is."""
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def find(name: str) -> Path:
    """The config file of that path, or the bundled one of that name.

    Raises:
      ConfigError: there is neither.
    """
    names = {path.stem: path for path in bundled()}
    if name in names and not Path(name).is_file():
        return names[name]
    if not Path(name).is_file():
        raise ConfigError(
            f"config: no file {name!r}, nor is it bundled{suggest(name, list(names))}"
        )
    return Path(name)


def config_of_run(run_dir: Path) -> Path:
    """The resolved config in a run directory.

    Raises:
      ConfigError: there is none.
      ValueError: the run is of another format.
    """
    path = run_dir / "config.yaml"
    if not run_dir.exists():
        raise ConfigError(f"run: there is no {run_dir}")
    if (run_dir / "run.json").exists():
        read_identity(run_dir)
    if not path.is_file() and (run_dir / "trials").is_dir():
        raise ConfigError(f"run: {run_dir} is a sweep: name a trial, as in {run_dir}/trials/0000")
    if not path.is_file():
        raise ConfigError(
            f"run: {run_dir} holds no run of `jaxes train` (no config.yaml in it), or one that no "
            "config can describe: give its problem and strategy, from Python, where it has them"
        )
    return path


def read(path: str | Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """The sections of a config file, overrides applied, as plain data that is not yet checked.

    Raises:
      ConfigError: the file is missing or no config.
    """
    try:
        data = yaml.load(Path(path).read_bytes(), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: not a config: expected sections, such as problem and strategy")
    for override in overrides:
        _set(data, override)
    return data


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number and 2026-11-23 a string."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        letter: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":timestamp")]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.YAMLError(f"{name!r} stands twice{node.start_mark}")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _set(data: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    what = f"--set {' '.join(override.split())}"  # on one line
    if not separator or not all(path.split(".")):
        raise ConfigError(f"{what}: expected key.path=value")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{what}: {text!r} is not a YAML value") from error
    set_field(data, path, value, what)


def set_field(data: dict[str, Any], path: str, value: Any, what: str) -> None:
    """Sets a field by its path; sections on the way are made.

    Raises:
      ConfigError: something on the way is no section; the message begins with `what`.
    """
    *parents, last = path.split(".")
    for i, parent in enumerate(parents):
        if data.setdefault(parent, {}) is None:
            data[parent] = {}
        data = data[parent]
        if not isinstance(data, dict):
            raise ConfigError(f"{what}: {'.'.join(parents[: i + 1])} is no section")
    data[last] = value


def suggest(name: Any, allowed: list[str]) -> str:
    return f"; allowed: {', '.join(allowed)}{near(name, allowed)}"
