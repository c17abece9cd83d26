"""All scripts in `benchmarks/`, also those that no test runs."""

import ast
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = {path.stem: ast.parse(path.read_text()) for path in sorted(FOLDER.glob("*.py"))}

OF_OTHER_COMMITS = {("jaxes.trials", "mapped")}  # timed_programs.py runs with those too


def is_looked_at(module: str) -> bool:
    return module in SCRIPTS or module.partition(".")[0] == "jaxes"


def is_module(module: str) -> bool:
    """Of the library."""
    return importlib.util.find_spec(module) is not None


def is_there(module: str, name: str) -> bool:
    """Whether the library has this name, or a script, which is not run: it may need a peer."""
    if module in SCRIPTS:
        bound = [getattr(node, "name", None) for node in SCRIPTS[module].body]
        nodes = [node for node in ast.walk(SCRIPTS[module]) if isinstance(node, ast.Name)]
        return name in bound or name in [n.id for n in nodes if isinstance(n.ctx, ast.Store)]
    found = importlib.import_module(module)
    return hasattr(found, name) or (hasattr(found, "__path__") and is_module(f"{module}.{name}"))


def used(script: ast.Module) -> Iterator[tuple[str, str]]:
    """The module and name of all that a script takes from the others and from the library."""
    modules = {}
    for node in ast.walk(script):
        if isinstance(node, ast.Import):
            modules |= {each.name: each.name for each in node.names if is_looked_at(each.name)}
        elif isinstance(node, ast.ImportFrom) and is_looked_at(str(node.module)):
            for each in node.names:
                yield str(node.module), each.name
                if node.module == "jaxes" and is_module(f"jaxes.{each.name}"):
                    modules[each.asname or each.name] = f"jaxes.{each.name}"
    for node in ast.walk(script):
        name = getattr(node, "value", None)
        if isinstance(node, ast.Attribute) and isinstance(name, ast.Name) and name.id in modules:
            yield modules[name.id], node.attr


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_uses_is_there(name):
    missing = {taken for taken in used(SCRIPTS[name]) if not is_there(*taken)}
    assert missing <= OF_OTHER_COMMITS


def test_what_is_not_there_is_seen():
    script = ast.parse(
        "import jaxes, machine\nfrom jaxes import core\nfrom table_settings import gone, TASKS\n"
        "jaxes.gone, jaxes.train, core.gone, core.make_generation, machine.gone, machine.count"
    )
    missing = {taken for taken in used(script) if not is_there(*taken)}
    modules = ("jaxes", "jaxes.core", "table_settings", "machine")
    assert missing == {(module, "gone") for module in modules}
