"""The house rules that no linter knows: where files point, how modules open, how long they get."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "upturn"
MODULES = sorted(PACKAGE.rglob("*.py"))
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))

MAX_LINES = 500
# Put together here, so that this file passes its own test.
REGISTRIES = re.compile(
    "|".join(
        re.escape(".".join(parts))
        for parts in [
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("registry", "npmjs", "org"),
            ("registry", "yarnpkg", "com"),
            ("deb", "debian", "org"),
            ("conda", "anaconda", "org"),
        ]
    )
)
MACHINE_PATH = re.compile(r"(?<![\w.:/~-])/(?:root|work|home/\w+|Users/\w+)/")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_files() -> list[Path]:
    """Return what git tracks, and what the next `git add` would add, as far as it is text."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    paths = (ROOT / path.decode() for path in listing.stdout.split(b"\0") if path)
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


@pytest.mark.parametrize(
    "pattern", [pytest.param(REGISTRIES, id="registry"), pytest.param(MACHINE_PATH, id="path")]
)
def test_no_file_points_at_a_registry_or_into_a_machine(pattern: re.Pattern[str]) -> None:
    found = [
        f"{name(path)}:{number}: {match.group()}"
        for path in text_files()
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)
        if (match := pattern.search(line))
    ]
    if found:
        pytest.fail("\n".join([f"{len(found)} places", *found[:20]]), pytrace=False)


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_module_opens_with_one_sentence(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse(module.read_bytes())) or ""
    opening = " ".join(docstring.split("\n\n")[0].split())
    assert opening, f"{name(module)} does not say what it defines"
    assert opening.endswith("."), f"{name(module)} opens with no sentence: {opening}"
    assert not re.search(r"[.!?] [A-Z]", opening), f"{name(module)} opens with more: {opening}"


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_module_fits_in_a_sitting(module: Path) -> None:
    lines = len(module.read_text("utf-8").splitlines())
    assert lines <= MAX_LINES, f"{name(module)} has {lines} lines, more than {MAX_LINES}"


@pytest.mark.parametrize("lock", LOCKS, ids=name)
def test_a_lock_pins_by_hash_and_names_no_place(lock: Path) -> None:
    requirements = re.split(r"\n(?=\S)", lock.read_text("utf-8").strip())
    for requirement in requirements:
        assert re.match(r"[a-z0-9.-]+==\S+", requirement), f"not one pinned version: {requirement}"
        assert "--hash=sha256:" in requirement, f"no hash: {requirement}"
    assert not re.search(r"://|^-|file:| @ ", lock.read_text("utf-8"), re.MULTILINE)


def test_the_locks_are_there() -> None:
    assert {lock.stem for lock in LOCKS} >= {"uv", "test", "demo"}
