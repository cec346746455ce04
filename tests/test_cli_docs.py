"""What a page has to name: every command is on docs/cli.md, every setting on docs/storage.md."""

import re
from pathlib import Path

import pytest

from upturn.cli import COMMANDS
from upturn.core.settings import VARIABLES

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_its_place_and_an_example(command: str) -> None:
    page = (DOCS / "cli.md").read_text("utf-8")
    _, heading, rest = page.partition(f"\n### {command}\n")
    assert heading, f"docs/cli.md has no section {command!r}"
    section = re.split(r"\n#{2,3} ", rest)[0]
    assert f"$ upturn {command}" in section, f"docs/cli.md has no example of {command!r}"


def test_the_page_has_no_command_that_there_is_not() -> None:
    headings = re.findall(r"^### (.+)$", (DOCS / "cli.md").read_text("utf-8"), re.MULTILINE)
    assert set(headings) == set(COMMANDS)


def test_the_settings_are_those_of_the_table() -> None:
    page = (DOCS / "storage.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(UPTURN_\w+)`", page, re.MULTILINE)) == set(VARIABLES)


def test_links_between_pages_lead_somewhere() -> None:
    readme = DOCS.parent / "README.md"
    for page in [readme, *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_links_to_sections_lead_somewhere() -> None:
    for page in [DOCS.parent / "README.md", *DOCS.glob("*.md")]:
        for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]*)\)", page.read_text("utf-8")):
            there = page.parent / target if target else page
            assert anchor in anchors(there), f"{page.name} links to {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Return the sections of a page as links name them."""
    found = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in found}
