"""Pages of the public names, with their docstrings: what `jaxes` and its public modules export.

No name is listed here: a page is made of what `__all__` says, or of a module's own public names
where it has none. mkdocstrings then fails at a name that it does not find.
"""

import ast
import inspect
import sys
from types import ModuleType
from typing import Any

import jaxes
import jaxes.report.render
import jaxes.trials

BESIDE = (jaxes.trials, jaxes.report.render)  # public, but not in the namespace of `jaxes`


def names(module: ModuleType) -> list[str]:
    """The public names of a module, in the order of `__all__` or of its source."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    found = []
    for node in ast.parse(inspect.getsource(module)).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.append(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found.append(name)
    return [name for name in found if not name.startswith("_")]


def modules(module: ModuleType = jaxes) -> list[ModuleType]:
    """The public modules in a module's namespace, and in theirs."""
    found = []
    for name in names(module):
        value = getattr(module, name)
        if isinstance(value, ModuleType):
            found += [value, *modules(value)]
    return found


def where(module: ModuleType, name: str) -> str:
    """The place at which a public name is defined, which its docstring is looked up at."""
    value = getattr(module, name)
    if inspect.isfunction(value) or inspect.isclass(value):
        home, own = sys.modules[value.__module__], value.__qualname__
        if home.__name__.startswith("jaxes.") and getattr(home, own, None) is value:
            return f"{home.__name__}.{own}"
    return f"{module.__name__}.{name}"


def page(title: str, about: str, module: ModuleType, some: list[str], shown: dict[str, str]) -> str:
    """Names of a module, the classes first, but for modules.

    Args:
      shown: of what other pages show, the public name, by its place; this page's are added.
    """
    values = {name: getattr(module, name) for name in some}
    some = [name for name in some if not isinstance(values[name], ModuleType)]
    some.sort(key=lambda name: not inspect.isclass(values[name]))
    entries = []
    for name in some:
        public, place = f"{module.__name__}.{name}", where(module, name)
        if place in shown:
            entries.append(f"## {public}\n\nIt is [{shown[place]}][{place}].\n")
        else:
            entries.append(f"::: {place}\n    options: {{heading: {public}, toc_label: {name}}}\n")
            shown[place] = public
    return "\n".join([f"# {title}", "", about, "", *entries])


def pages() -> dict[str, str]:
    """All of them, by file name."""
    strategies = ["STRATEGIES", *jaxes.STRATEGIES]
    rest = [name for name in jaxes.__all__ if name not in strategies]
    factories = "Functions that make a `jaxes.Strategy`; `jaxes.STRATEGIES` has them by name."
    shown: dict[str, str] = {}
    made = {
        "index.md": page("jaxes", "What `import jaxes` has, but for modules.", jaxes, rest, shown),
        "strategies.md": page("Strategies", factories, jaxes, strategies, shown),
    }
    for module in [*modules(), *BESIDE]:
        title, about = module.__name__, inspect.getdoc(module) or ""
        made[f"{title}.md"] = page(title, about, module, names(module), shown)
    return made


def on_files(files: Any, config: Any) -> Any:
    """MkDocs: adds the pages."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, f"api/{name}", content=text))
    return files
