"""The code part of a task's key: what changes it, what does not; nothing stale is reused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PROJECT = {
    "main.py": '''
import functools
import helpers
import pkg.deep as deep
from helpers import renamed as alias, Base
from dataclasses import dataclass
import upturn as up

LIMIT = 10
TABLE = {"a": 1, "b": [1, 2]}

@dataclass
class Options:
    depth: int = 3

class Child(Base):
    def own(self):
        return self.inherited() + 1

def decorated(function):
    @functools.wraps(function)
    def wrapper(x):
        return function(x) * 2
    return wrapper

@decorated
def doubled(x):
    return x

def closure():
    factor = 7
    def inner(x):
        return x * factor
    return inner

times = closure()
partly = functools.partial(helpers.power, exponent=2)

@up.step(retries=1)
def step(x):
    """What it does."""
    from pkg import lazy
    # a comment
    total = helpers.clean(x) + LIMIT + TABLE["a"] + Options().depth
    return total + Child().own() + alias(x) + doubled(x) + times(x) + partly(x) + lazy.late(x)

def unrelated(x):
    return x - 1
''',
    "helpers.py": """
from pkg.deep import third

def clean(x):
    return third(x) + 1

def renamed(x):
    return x + 2

def power(x, exponent):
    return x**exponent

class Base:
    START = 5
    def inherited(self):
        return self.START

def unused(x):
    return x
""",
    "pkg/__init__.py": "",
    "pkg/deep.py": """
SCALE = 3

def third(x):
    return fourth(x) * SCALE

def fourth(x):
    return x

def nobody(x):
    return x
""",
    "pkg/lazy.py": """
def late(x):
    return x + 100
""",
}
SHOW = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from upturn.develop.fingerprint import fingerprint
from upturn.develop.loading import load_file
step = load_file(Path(sys.argv[1]) / "main.py").step
print(fingerprint(step).digest, step.function(3))
"""
EDITS = {  # file, old, new
    "a helper": ("helpers.py", "third(x) + 1", "third(x) + 2"),
    "three modules away": (
        "pkg/deep.py",
        "    return x\n\ndef nobody",
        "    return -x\n\ndef nobody",
    ),
    "a constant three modules away": ("pkg/deep.py", "SCALE = 3", "SCALE = 4"),
    "a constant": ("main.py", "LIMIT = 10", "LIMIT = 11"),
    "a nested constant": ("main.py", '"a": 1', '"a": 2'),
    "a method": ("main.py", "self.inherited() + 1", "self.inherited() + 2"),
    "a base class": ("helpers.py", "START = 5", "START = 6"),
    "an alias": ("helpers.py", "return x + 2", "return x + 3"),
    "a dataclass default": ("main.py", "depth: int = 3", "depth: int = 4"),
    "a decorator": ("main.py", "function(x) * 2", "function(x) * 3"),
    "a closure": ("main.py", "factor = 7", "factor = 8"),
    "a partial's argument": ("main.py", "exponent=2", "exponent=3"),
    "a partial's function": ("helpers.py", "x**exponent", "x**exponent + 1"),
    "a lazy import": ("pkg/lazy.py", "x + 100", "x + 101"),
    "the step": ("main.py", "+ LIMIT", "- LIMIT"),
}
IDLE = {
    "a comment": ("main.py", "# a comment", "# another"),
    "a docstring": ("main.py", "What it does.", "What it is for."),
    "formatting": ("main.py", "helpers.clean(x) + LIMIT", "helpers.clean( x )+LIMIT"),
    "a blank line": ("pkg/deep.py", "def third", "\n\n\ndef third"),
    "a function that nobody calls": (
        "helpers.py",
        "def unused(x):\n    return x",
        "def unused(x):\n    return 0",
    ),
    "one that another calls": ("main.py", "return x - 1", "return x - 2"),
    "how the step is run": ("main.py", "retries=1", "retries=5, timeout='1h'"),
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def look(folder: Path, *, seed: str = "0") -> tuple[str, str]:
    """The step's digest and what it returns, in a process of its own."""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"}
    run = [sys.executable, "-c", SHOW, str(folder)]
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    digest, result = done.stdout.split()
    return digest, result


def edited(edit: tuple[str, str, str]) -> dict[str, str]:
    name, old, new = edit
    assert old in PROJECT[name]
    return {**PROJECT, name: PROJECT[name].replace(old, new)}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return look(write(tmp_path_factory.mktemp("original"), PROJECT))


@pytest.mark.parametrize("what", EDITS)
def test_what_changes_the_result_changes_the_digest(
    what: str, original: tuple[str, str], tmp_path: Path
) -> None:
    digest, result = look(write(tmp_path, edited(EDITS[what])))
    assert result != original[1]  # else the row would prove nothing
    assert digest != original[0]


@pytest.mark.parametrize("what", IDLE)
def test_what_changes_nothing_leaves_the_digest(
    what: str, original: tuple[str, str], tmp_path: Path
) -> None:
    assert look(write(tmp_path, edited(IDLE[what]))) == original


def test_it_is_the_same_everywhere(original: tuple[str, str], tmp_path: Path) -> None:
    assert look(write(tmp_path / "another" / "place", PROJECT), seed="12345") == original


def test_what_cannot_be_followed_is_taken_whole(tmp_path: Path) -> None:
    call = "getattr(helpers, 'na' + 'me')(x)"
    main = f"import helpers\nimport upturn as up\n@up.step\ndef step(x):\n    return {call}\n"
    helpers = "def name(x):\n    return x\n"
    one = look(write(tmp_path / "one", {"main.py": main, "helpers.py": helpers}))
    two = look(write(tmp_path / "two", {"main.py": main, "helpers.py": helpers + "\nX = 1\n"}))
    assert one[0] != two[0]


@st.composite
def chains(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str]]:
    """A project of some modules, each calling the next in one of several ways, and an edit."""
    length = draw(st.integers(2, 4))
    ways = [
        draw(st.sampled_from(["import", "from", "as", "partial", "class"])) for _ in range(length)
    ]
    constants = [draw(st.integers(0, 3)) for _ in range(length + 1)]
    at = draw(st.integers(0, length))
    changed = [*constants]
    changed[at] += draw(st.integers(0, 2))

    def files(values: list[int], comment: str) -> dict[str, str]:
        made = {
            f"m{length}.py": f"K = {values[length]}  # {comment}\ndef f(x):\n    return x * 5 + K\n"
        }
        for i, way in enumerate(ways):
            following = f"m{i + 1}"
            use, call = {
                "import": (f"import {following}", f"{following}.f(x)"),
                "from": (f"from {following} import f as g", "g(x)"),
                "as": (f"import {following} as n", "n.f(x)"),
                "partial": (
                    f"import functools\nfrom {following} import f as g\np = functools.partial(g)",
                    "p(x)",
                ),
                "class": (
                    f"import {following}\nclass C:\n"
                    f"    def run(self, x):\n        return {following}.f(x)",
                    "C().run(x)",
                ),
            }[way]
            made[f"m{i}.py"] = f"{use}\nK = {values[i]}\ndef f(x):\n    return {call} + K\n"
        main = "import m0\nimport upturn as up\n@up.step\ndef step(x):\n    return m0.f(x)\n"
        return {**made, "main.py": main}

    return files(constants, "one"), files(changed, "two")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pair=chains())
def test_no_result_is_stale(
    pair: tuple[dict[str, str], dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    before, after = (look(write(tmp_path_factory.mktemp("chain"), files)) for files in pair)
    # Each constant counts once in the sum, so the result tells whether the code is another.
    assert (before[0] == after[0]) == (before[1] == after[1])
