"""Commands of README and guides: the parser takes them, and the configs they name are there."""

import re
import shlex

import pytest
from markdown_it import MarkdownIt
from scripts import ROOT

from jaxes.cli.main import make_parser
from jaxes.config import files
from jaxes.config import plan as plan_config
from jaxes.config import run as run_config
from jaxes.config import sweep as sweep_config

GUIDES = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *GUIDES, ROOT / "examples" / "README.md"]
LOAD = {"train": run_config.load, "sweep": sweep_config.load, "plan": plan_config.load}


def commands(text):
    """The commands of jaxes in a page's shell blocks, fenced or indented, as lists of words. What
    stands after two spaces or more, or after `#`, says what a command does."""
    for token in MarkdownIt("commonmark").parse(text):
        is_shell = token.type == "fence" and token.info.split()[:1] in (["bash"], ["sh"])
        if is_shell or token.type == "code_block":
            for line in re.sub(r"\s*\\\n\s*", " ", token.content).splitlines():
                for part in line.split("&&"):
                    if part.split()[:1] == ["jaxes"]:
                        yield shlex.split(
                            re.split(r"(?<=\S)\s{2,}", part.strip())[0], comments=True
                        )


def check(command):
    """Fails where the parser or the config refuses a command; of `launch` also what it starts."""
    name, *rest = command[1:]
    options = make_parser().parse_args([name, *rest])
    if name == "launch":
        check(["jaxes", *options.rest[options.rest[:1] == ["--"] :]])
    if name in LOAD:
        LOAD[name](files.find(options.config), tuple(options.set))


FOUND = {
    (page.name, shlex.join(words)): words for page in PAGES for words in commands(page.read_text())
}


@pytest.mark.parametrize("where", FOUND, ids=": ".join)
def test_a_command_of_a_page_is_one(where, monkeypatch):
    monkeypatch.chdir(ROOT)
    check(FOUND[where])


def test_commands_are_found():
    assert len(FOUND) >= 30
    assert {"README.md", "command_line.md", "hosts.md", "planning.md", "tetris.md"} <= {
        page for page, _ in FOUND
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configs_that_a_page_names_are_there(page):
    named = re.findall(r"\bconfigs/[a-z0-9_]+\.yaml", page.read_text())
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_commands_as_pages_have_them():
    text = (
        "    jaxes list        what there is\n    pip install . && jaxes verify a # b\n\n"
        "- in a list\n\n  ```bash\n  jaxes resume 'a b' \\\n    --json\n  ```\n\n"
        "```python\njaxes = 1\n```\n"
    )
    assert list(commands(text)) == [
        ["jaxes", "list"],
        ["jaxes", "verify", "a"],
        ["jaxes", "resume", "a b", "--json"],
    ]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("jaxes trian quickstart", SystemExit),
        ("jaxes train quickstart --run_dir a", SystemExit),
        ("jaxes train no_such_config", files.ConfigError),
        ("jaxes train quickstart --set strategy.nme=cem", files.ConfigError),
        ("jaxes launch -n 2 -- train no_such_config", files.ConfigError),
        ("jaxes launch -n 2 -- trian quickstart", SystemExit),
    ],
)
def test_a_wrong_command_is_noticed(command, error):
    with pytest.raises(error):
        check(shlex.split(command))
