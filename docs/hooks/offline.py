"""The site is read without a network: no page needs anything of another host, MathJax included.

Links to what may be read elsewhere go there.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files as contents
from pathlib import Path
from typing import Any

# Of django-static-mathjax, which needs no Django: all in one file, fonts as curves.
MATHJAX = "static/mathjax/es5/tex-svg-full.js"
LOADING = {"src", "srcset", "href", "xlink:href", "data", "poster", "action", "style"}
ELSEWHERE = re.compile(r"^(\w+:)?//")
LOADED = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:\w+:)?//[^"')\s]+)""")


class Page(HTMLParser):
    """What a page loads, as `loads`."""

    def __init__(self, text: str):
        super().__init__()
        self.loads: list[str] = []
        self.in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.in_style = tag == "style"
        told = tag == "a" or ("rel", "canonical") in attributes  # an address, which is not loaded
        for name, value in attributes:
            if name in LOADING and value and not (told and name == "href"):
                self.loads += LOADED.findall(value) if name == "style" else value.split(", ")

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.loads += LOADED.findall(data)


def from_elsewhere(text: str, suffix: str) -> list[str]:
    """The addresses of other hosts from which a page (.html, .svg) or a style (.css) loads."""
    loads = LOADED.findall(text) if suffix == ".css" else Page(text).loads
    return [address for address in loads if ELSEWHERE.match(address.strip())]


def faults(site: Path) -> Iterator[str]:
    """What a built site loads from other hosts, a line each."""
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".svg", ".css"):
            for address in from_elsewhere(path.read_text(), path.suffix):
                yield f"{path.relative_to(site)} loads {address}"


def on_files(files: Any, config: Any) -> Any:
    """MkDocs: adds MathJax."""
    from mkdocs.structure.files import File

    source = contents("mathjax") / MATHJAX
    files.append(File.generated(config, "assets/mathjax.js", abs_src_path=str(source)))
    return files


def on_post_build(config: Any) -> None:
    """MkDocs: fails where a page loads from another host."""
    from mkdocs.exceptions import PluginError

    if found := list(faults(Path(config.site_dir))):
        raise PluginError("\n".join(["the site needs a network:", *found]))
