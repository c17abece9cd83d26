"""README as the first page, and what pages link to in the repository as pages beside it.

Files stay where they are, with links that hold there: a link that leaves `docs/` is turned to a
page that is made of the file it leads to, Markdown as it is and code as a listing.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import relpath
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
FIRST = {ROOT / "README.md": "index.md"}
ALWAYS = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


def uri(path: Path) -> str:
    """The page, within the site's sources, that shows a file."""
    if path in FIRST:
        return FIRST[path]
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    name = path.relative_to(ROOT).as_posix()
    return f"repository/{name}" if path.suffix == ".md" else f"repository/{name}.md"


def text_of(path: Path) -> str:
    """A file as Markdown."""
    text = path.read_text()
    if path.suffix == ".md":
        return text
    language = {".py": "python", ".sh": "bash", ".sbatch": "bash"}.get(path.suffix, path.suffix[1:])
    return f"# {path.relative_to(ROOT)}\n\n````{language}\n{text}````\n"


def linked(path: Path) -> Iterator[Path]:
    """The files that a file in Markdown links to, but for those that are not there."""
    if path.suffix == ".md":
        for match in LINK.finditer(path.read_text()):
            target = (path.parent / match["path"]).resolve()
            if target.is_file() and target.is_relative_to(ROOT):
                yield target


def outside() -> list[Path]:
    """The files outside of `docs/` that become pages."""
    found: list[Path] = []
    todo = [*FIRST, *ALWAYS, *DOCS.rglob("*.md")]
    while todo:
        path = todo.pop()
        if path in found:
            continue
        if not path.is_relative_to(DOCS):
            found.append(path)
        todo += [target for target in linked(path) if not target.is_relative_to(DOCS)]
    return sorted(found)


def relinked(text: str, path: Path) -> str:
    """The text of a file, with the links of its page."""

    def link(match: re.Match) -> str:
        target = (path.parent / match["path"]).resolve()
        if not (target.is_file() and target.is_relative_to(ROOT)):
            return match[0]  # MkDocs complains
        return relpath(uri(target), PurePosixPath(uri(path)).parent) + (match["anchor"] or "")

    return LINK.sub(link, text)


def on_files(files: Any, config: Any) -> Any:
    """MkDocs: adds the pages."""
    from mkdocs.structure.files import File

    for path in outside():
        files.append(File.generated(config, uri(path), content=text_of(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """MkDocs: turns the links of pages that are files of the repository."""
    sources = {uri(path): path for path in outside()}
    path = sources.get(page.file.src_uri, DOCS / page.file.src_uri)
    return relinked(markdown, path) if path.suffix == ".md" else markdown
