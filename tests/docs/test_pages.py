"""Pages of the documentation are programs: each runs, within minutes, and writes what it shows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import pages  # noqa: E402

PAGES = {
    str(page.relative_to(ROOT)): pages.read(page)
    for page in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "docs" / "lecture").glob("*.md")),
    ]
}
SECONDS = 300  # of a shared core; a minute on two quiet ones


def run(page, output, timeout=SECONDS):
    """The page's process, with XLA as a reader has it: the flags of the tests are left out."""
    command = [sys.executable, str(ROOT / "docs" / "pages.py"), str(page), "--output", str(output)]
    reader = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=reader)


OURS = ("XLA_FLAGS", "JAX_")  # see conftest.py


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if page.blocks])
def test_every_block_of_a_page_runs(name, tmp_path):
    done = run(ROOT / name, tmp_path)
    assert done.returncode == 0, done.stderr


def test_pictures_that_pages_show_are_committed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    committed = set(tracked.stdout.splitlines())
    shown = {
        str(Path(name).parent / picture)
        for name, page in PAGES.items()
        for picture in page.pictures
    }
    assert shown <= committed
    assert all((ROOT / picture).stat().st_size < 100_000 for picture in shown)


def test_a_page_runs_in_one_namespace_where_its_pictures_go(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n```python\nx = 1\n```\n\n- within a list\n\n  ```python\n  x += 1\n  ```\n\n"
        "<!-- not run: needs a wheel -->\n```python\nx = wheel\n```\n\n"
        "<!-- not run: -->\n```python\nx += 1\n```\n\n```bash\nrm -r /nowhere\n```\n\n"
        '```python\nopen("x.svg", "w").write(f"{x} {__name__}")\n```\n\n'
        "![what it is](x.svg) ![elsewhere](../y.svg) ![far](https://example.org/z.svg)\n"
    )
    output = tmp_path / "elsewhere"
    output.mkdir()
    done = run(page, output)
    assert done.returncode == 0, done.stderr
    assert f"{page}: 4 blocks in" in done.stderr
    assert (output / "x.svg").read_text() == "3 __main__"
    assert not (tmp_path / "x.svg").exists()


def test_a_block_that_takes_long_is_run_with_other_numbers(tmp_path):
    page = tmp_path / "page.md"
    block = "```python\nnum_seeds=3; count = f(\n    num_seeds=10, n=5\n)\n```\n"
    page.write_text(
        f"<!-- run with: n=2 -->\n{block}\n<!-- run with: n=2, num_seeds=1 -->\n{block}"
    )
    with pytest.raises(ValueError, match=r"page.md, line 8: run with num_seeds=1: .* 2 times"):
        pages.read(page)
    page.write_text(page.read_text().replace("num_seeds=3; ", ""))
    shortened = [code.splitlines()[1].strip() for _, code in pages.read(page).blocks]
    assert shortened == ["num_seeds=10, n=2", "num_seeds=1, n=2"]


def test_tracebacks_name_the_page_and_its_lines(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n```python\nx = 1\n```\n\ntext\n\n```python\n\nx = x / 0\n```\n")
    done = run(page, tmp_path)
    assert done.returncode == 1
    assert f'"{page}", line 11, in <module>\n    x = x / 0\n' in done.stderr


@pytest.mark.parametrize("there", [False, True], ids=["nowhere", "from an earlier run"])
def test_a_picture_that_was_not_written_fails(there, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n```python\nx = 1\n```\n\n![a picture](x.svg)\n")
    if there:
        (tmp_path / "x.svg").write_text("old")
    done = run(page, tmp_path)
    assert done.returncode == 1
    assert "shows what it has not written: x.svg" in done.stderr
