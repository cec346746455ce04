"""Every page's Python runs: README.md and docs/ are scripts that a reader can paste.

A page is one script, from its first ```python block to its last, run in an empty folder with a
workspace of its own. A block that cannot run says so on the line before it:

    <!-- not run: the figure needs a screen -->

A block with ``>>>`` prompts is checked as a doctest, in the same namespace.
"""

import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w+-]*)")
NOT_RUN = re.compile(r"^\s*<!--\s*not run:\s*(?P<reason>.*?)\s*-->\s*$")


@dataclass(frozen=True)
class Block:
    """One runnable block: its code, dedented, and the index of its opening fence in the page."""

    fence: int
    code: tuple[str, ...]

    @property
    def is_session(self) -> bool:
        return any(line.startswith(">>>") for line in self.code)


def blocks(page: str) -> list[Block]:
    """Return the page's Python blocks that are to be run, in order."""
    lines = page.splitlines()
    found: list[Block] = []
    index = 0
    while index < len(lines):
        fence = FENCE.match(lines[index])
        if fence is None:
            index += 1
            continue
        indent, ticks = fence["indent"], fence["ticks"]
        end = index + 1
        while end < len(lines) and lines[end].strip() != ticks:
            end += 1
        excluded = index > 0 and NOT_RUN.match(lines[index - 1])
        if fence["language"] == "python" and not excluded:
            code = tuple(line.removeprefix(indent) for line in lines[index + 1 : end])
            found.append(Block(index, code))
        index = end + 1
    return found


def script(page: str, path: Path) -> str:
    """Return the page as a script in which each line has the number that it has on the page."""
    lines = [""] * len(page.splitlines())
    for block in blocks(page):
        if block.is_session:
            last = block.fence + len(block.code)
            lines[block.fence] = (
                "from test_docs import check_session as _check; "
                f"_check({str(path)!r}, {block.fence}, {last}, globals())"
            )
        else:
            lines[block.fence + 1 : block.fence + 1 + len(block.code)] = block.code
    return "\n".join(lines) + "\n"


def check_session(path: str, fence: int, last: int, names: dict[str, Any]) -> None:
    """Run the doctest between two lines of a page in the script's own names, or exit."""
    code = "\n".join(Path(path).read_text("utf-8").splitlines()[fence + 1 : last + 1]) + "\n"
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(optionflags=flags)
    test = doctest.DocTestParser().get_doctest(code, names, Path(path).name, path, fence + 1)
    test.globs = names  # the parser copies them, and the blocks that follow need what this one sets
    if runner.run(test, clear_globs=False).failed:
        sys.exit(f"{Path(path).name}, line {fence + 2}: the session does not go as written")


def runnable() -> list[Any]:
    pages = [page for page in PAGES if page.exists() and blocks(page.read_text("utf-8"))]
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in pages]


@pytest.mark.parametrize("page", runnable())
def test_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    program = folder / f"{page.stem}_page.py"  # statistics.py would hide Python's own
    program.write_text(script(page.read_text("utf-8"), page), "utf-8")
    run = subprocess.run(
        [sys.executable, "-W", "error", program.name],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    if run.returncode:
        name = page.relative_to(ROOT)
        places = re.findall(rf'File ".*{re.escape(program.name)}", line (\d+)', run.stderr)
        line = f":{places[-1]}" if places else ""
        pytest.fail(f"{name}{line} does not run\n{run.stdout}{run.stderr}", pytrace=False)


def test_a_block_is_left_out_only_for_a_reason() -> None:
    for page in filter(Path.exists, PAGES):
        for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
            excluded = NOT_RUN.match(line)
            assert not excluded or excluded["reason"], f"{page.name}:{number} gives no reason"


PAGE = """\
# A page

```python
x = 1
```
<!-- not run: it needs a cluster -->
```python
x = 2
```

1. In a list:

   ```python
   x += 1
   ```

```console
$ upturn up
```

```python
>>> x
2
>>> y = x
```
"""


def test_code_keeps_its_line_numbers() -> None:
    lines = script(PAGE, Path("page.md")).splitlines()
    assert lines[3] == "x = 1"
    assert lines[13] == "x += 1"
    assert "x = 2" not in lines
    assert not any("upturn up" in line for line in lines)


def test_a_session_shares_the_names_of_its_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE, "utf-8")
    names: dict[str, Any] = {"x": 2}
    session = blocks(PAGE)[-1]
    check_session(str(page), session.fence, session.fence + len(session.code), names)
    assert names["y"] == 2
    with pytest.raises(SystemExit, match=r"page\.md, line"):
        check_session(str(page), session.fence, session.fence + len(session.code), {"x": 3})
