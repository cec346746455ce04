"""One test for each row of the table in docs/develop.md that says what reruns."""

import ast
import importlib
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from property.live import seen
from upturn.develop.fingerprint import Fingerprint, changes, fingerprint

ROOT = Path(__file__).parents[3]
TESTED: set[str] = set()
ELSEWHERE = {  # row: its tests, in files under tests/
    "an argument's value, or the output of a step before": (
        "unit/develop/test_memory.py::test_values_that_differ_in_kind_are_different_inputs",
        "unit/develop/test_memory.py::test_order_and_place_count",
        "unit/develop/test_memory.py::test_a_value_that_came_another_way_is_the_same_input",
    ),
    "nothing": ("unit/develop/test_memory.py::test_the_same_code_and_inputs_run_once",),
    "the step ran and made the same bytes as before": (
        "unit/develop/test_memory.py"
        "::test_a_step_that_ran_again_with_the_same_output_spares_what_follows",
        "contract/test_same_bytes.py::test_the_hash_seed_does_not_matter",
    ),
    "the content of a file passed as a `Path`": (
        "unit/develop/test_memory.py::test_a_path_is_an_input_by_content",
        "unit/develop/test_memory.py::test_a_folder_is_an_input_by_its_files",
    ),
    "the lock of the step's own environment (`env`); libraries and Python here then do not count": (
        "unit/develop/test_env.py::test_the_code_of_a_step_counts_and_the_flow_s_packages_do_not",
    ),
    "a stored output is gone or damaged": (
        "unit/develop/test_memory.py::test_a_deleted_output_is_made_again",
    ),
    "the content of a file that a task was [seen](#files) to open": (
        "unit/develop/test_reads.py::test_a_file_that_a_step_opens_is_an_input",
        "unit/develop/test_reads.py::test_a_change_that_keeps_size_and_time_is_seen",
    ),
    "a file that it looked for in vain is there now, or one that it read is gone": (
        "unit/develop/test_reads.py::test_that_there_was_no_file_is_an_input",
    ),
    "a name in a folder that it listed": (
        "unit/develop/test_reads.py::test_the_names_in_a_folder_are_an_input",
    ),
    "a file or folder named with `up.File`": (
        "unit/develop/test_reads.py::test_a_file_named_for_a_native_reader_is_an_input",
        "unit/develop/test_reads.py::test_a_folder_named_for_a_native_reader_is_an_input",
    ),
    "a file that a module of your own reads when it is imported": (
        "unit/develop/test_reads.py::test_what_a_module_reads_when_it_is_imported_is_an_input",
    ),
    "a file changed while a task read it": (
        "unit/develop/test_reads.py::test_what_is_made_of_a_file_that_changes_meanwhile_is_not_kept",
    ),
    "content that was there before comes back": (
        "unit/develop/test_reads.py::test_a_file_that_a_step_opens_is_an_input",
    ),
    "an environment variable that the step declares, another value, set or not set": (
        "unit/develop/test_reads.py::test_a_declared_variable_is_an_input",
    ),
    "an environment variable that it does not declare": (
        "unit/develop/test_reads.py::test_a_variable_that_is_not_declared_stays_as_it_was",
    ),
}


def row(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Say which row of the table a test is of."""
    TESTED.add(text)
    return lambda test: test


def test_each_row_has_a_test() -> None:
    text = (ROOT / "docs" / "develop.md").read_text()
    table = text.partition("| what changed |")[2].partition("\n\n")[0]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]
    assert set(rows) == TESTED | set(ELSEWHERE)
    for name, _, test in (place.partition("::") for found in ELSEWHERE.values() for place in found):
        tree = ast.parse((ROOT / "tests" / name).read_text())
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


STEP = "import upturn as up\n{head}\n@up.step\ndef step(x):\n    {body}\n"


def main(head: str, body: str) -> str:
    return STEP.format(head=textwrap.dedent(head).strip(), body=body)


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., tuple[Fingerprint, list[str]]]:
    """Return a function that writes a project to a new folder and looks at its step."""
    folders: Iterator[int] = iter(range(100))

    def look(files: dict[str, str]) -> tuple[Fingerprint, list[str]]:
        return seen(tmp_path / str(next(folders)), files)

    return look


Look = Callable[[dict[str, str]], tuple[Fingerprint, list[str]]]
Edit = tuple[str, str, str]  # file, old, new


def edited(files: dict[str, str], edit: Edit) -> dict[str, str]:
    name, old, new = edit
    assert old in files[name], "the edit would change nothing"
    return {**files, name: files[name].replace(old, new)}


def check_reruns(look: Look, files: dict[str, str], *edits: Edit) -> None:
    before, outputs = look(files)
    for edit in edits:
        after, changed = look(edited(files, edit))
        assert changed != outputs, "the result would not be stale"
        assert after.digest != before.digest, edit
        assert changes(before, after)


def check_reused(look: Look, files: dict[str, str], *edits: Edit) -> None:
    before, outputs = look(files)
    for edit in edits:
        after, changed = look(edited(files, edit))
        assert changed == outputs
        assert after.digest == before.digest, edit
        assert changes(before, after) == []


@row("a comment, a docstring, formatting")
def test_what_says_the_same(look: Look) -> None:
    files = {
        "main.py": main("import helpers", '"""Do."""; return helpers.f(x) + 1  # it'),
        "helpers.py": 'def f(x):\n    """Say."""\n    # why\n    return x\nclass A:\n    "A."\n',
    }
    check_reused(
        look,
        files,
        ("main.py", "Do.", "Do it."),
        ("main.py", "# it", "# them"),
        ("main.py", "f(x) + 1", "f( x )+1"),
        ("helpers.py", '    """Say."""\n', ""),
        ("helpers.py", "# why", "# because"),
        ("helpers.py", "def f", "\n\n\ndef f"),
    )


@row("the step's code")
def test_the_step(look: Look) -> None:
    check_reruns(look, {"main.py": main("", "return x + 1")}, ("main.py", "x + 1", "x + 2"))


@row("a function of your own that the step reaches by name, in whatever module")
def test_functions(look: Look) -> None:
    files = {
        "main.py": main("import a", "return a.f(x)"),
        "a.py": "from p.b import g\ndef f(x):\n    return g(x) + 1\n",
        "p/__init__.py": "",
        "p/b.py": "from . import c\ndef g(x):\n    return c.h(x) + 2\n",
        "p/c.py": "def h(x):\n    return x + 3\n",
    }
    check_reruns(look, files, ("a.py", "1", "4"), ("p/b.py", "2", "4"), ("p/c.py", "3", "4"))


@row("a class: its methods, bases, attributes, metaclass, the defaults of a dataclass, an enum")
def test_classes(look: Look) -> None:
    head = """
    from dataclasses import dataclass
    from enum import Enum
    class Meta(type):
        def size(cls):
            return 11
    class Base(metaclass=Meta):
        def base(self):
            return 12
    class Child(Base):
        start = 13
        @property
        def own(self):
            return self.base() + 14
    Child.later = 15
    @dataclass
    class Options:
        depth: int = 16
    class Kind(Enum):
        A = 17
    """
    body = "c = Child(); return x + Child.size() + c.own + c.start + c.later + Options().depth"
    files = {"main.py": main(head, f"{body} + Kind.A.value")}
    check_reruns(look, files, *(("main.py", str(n), "20") for n in range(11, 18)))


@row("a decorator, its arguments, what it wraps")
def test_decorators(look: Look) -> None:
    head = """
    import functools
    def plus(n):
        def decorate(f):
            @functools.wraps(f)
            def wrapper(x):
                return f(x) + n + 11
            return wrapper
        return decorate
    @functools.lru_cache
    @plus(12)
    def f(x):
        return x + 13
    """
    files = {"main.py": main(head, "return f(x)")}
    check_reruns(look, files, *(("main.py", str(n), "20") for n in (11, 12, 13)))


@row("the default of a parameter")
def test_defaults(look: Look) -> None:
    head = "A = 11\nB = [12]\ndef f(x, a=A, *, b=B, c=lambda: 13):\n    return x + a + b[0] + c()"
    files = {"main.py": main(head, "return f(x)")}
    check_reruns(look, files, *(("main.py", str(n), "20") for n in (11, 12, 13)))


@row("a constant of your own, also within containers, objects and arrays")
def test_constants(look: Look) -> None:
    head = """
    import numpy as np
    class Thing:
        def __init__(self, n):
            self.n = n
        def __getstate__(self):
            return {}
    A = 11
    B = {"a": [12, (13,)], "f": lambda: 14}
    C = Thing(15)
    D = np.array([16])
    """
    body = "return x + A + B['a'][0] + B['a'][1][0] + B['f']() + C.n + int(D[0])"
    files = {"main.py": main(head, body)}
    check_reruns(look, files, *(("main.py", str(n), "20") for n in range(11, 17)))


@row("what it reaches by a re-export, an alias, `functools.partial`, a closure, a table, `getattr`")
def test_indirection(look: Look) -> None:
    head = """
    import functools, operator
    import p
    from p import f as renamed
    alias = renamed
    part = functools.partial(p.g, n=11)
    def outer():
        n = 12
        return lambda x: p.h(x) + n
    inner = outer()
    table = {"i": [p.i]}
    j = operator.attrgetter("j")
    """
    body = "return alias(x) + part(x) + inner(x) + table['i'][0](x) + j(p)(x) + getattr(p, 'k')(x)"
    names = dict(zip("fghijk", range(13, 19), strict=True))
    defined = [f"def {name}(x, n=0):\n    return x + n + {n}\n" for name, n in names.items()]
    files = {
        "main.py": main(head, body),
        "p/__init__.py": "from .q import *\n",
        "p/q.py": "".join(defined),
    }
    inside = [("p/q.py", str(n), "20") for n in names.values()]
    check_reruns(look, files, ("main.py", "11", "20"), ("main.py", "12", "20"), *inside)


@row("an import inside a function, and what it leads to")
def test_lazy_imports(look: Look) -> None:
    files = {
        "main.py": main("", "from p import f; import a; return f(x) + a.g(x)"),
        "p/__init__.py": "from p.q import f\n",
        "p/q.py": "N = 11\ndef f(x):\n    return x + N\n",
        "a.py": "import q\nREG = {}\ndef g(x):\n    return REG['g'](x)\nimport b\n",
        "b.py": "import a\ndef g(x):\n    return x + 12\na.REG['g'] = g\n",
        "q.py": "",
    }
    check_reruns(look, files, ("p/q.py", "11", "20"), ("b.py", "12", "20"))


@row("what a module does when it is imported: options and seeds of libraries, patches, registries")
def test_effects_of_imports(look: Look) -> None:
    files = {
        "main.py": main("import random\nimport a", "return a.f(x) + random.randint(0, 10**6)"),
        "a.py": "import b\ndef f(x):\n    return x\nTABLE = {}\nimport c\n",
        "b.py": "import random\nfor _ in range(2):\n    random.seed(11)\n",
        "c.py": "import a\ndef better(x):\n    return x + 12\na.f = better\n",
    }
    check_reruns(look, files, ("b.py", "11", "20"), ("c.py", "12", "20"))


@row("code beside it that the step does not reach")
def test_what_is_not_reached(look: Look) -> None:
    files = {
        "main.py": main("import a\nOTHER = 11\ndef other():\n    return 12", "return a.f(x)"),
        "a.py": "def f(x):\n    return x\ndef g(x):\n    return 13\nclass A:\n    n = 14\n",
    }
    edits = [("main.py", "11", "20"), ("main.py", "12", "20")]
    check_reused(look, files, *edits, ("a.py", "13", "20"), ("a.py", "14", "20"))


@row("an annotation, the name of a parameter")
def test_signatures(look: Look) -> None:
    files = {"main.py": main("def f(x: int, y=1):\n    return x", "return f(x)")}
    before, _ = look(files)
    for edit in (("main.py", "x: int", "x: float"), ("main.py", "y=1", "z=1")):
        assert look(edited(files, edit))[0].digest != before.digest


@row("`cpus`, `retries`, `timeout`, `cache`")
def test_options(look: Look) -> None:
    files = {"main.py": main("", "return x")}
    check_reused(look, files, ("main.py", "@up.step", "@up.step(cpus=2, retries=3, cache='7d')"))


SHOW = """
if __name__ == "__main__":
    from upturn.develop.fingerprint import fingerprint
    print(fingerprint(step).digest)
"""


NOTEBOOK = """
import linecache, sys
from upturn.develop.fingerprint import fingerprint
del __file__  # a notebook has none

def cell(number, text):
    name = f"<ipython-input-{number}-0>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), globals())

cell(1, "def f(x):\\n    return x + 11\\n")
cell(2, "def step(x):\\n    return f(x)\\n")
print(fingerprint(step).digest)
cell(3, "def f(x):\\n    # the same\\n    return x + 11\\n")
print(fingerprint(step).digest)
cell(4, "def f(x):\\n    return x + 20\\n")
print(fingerprint(step).digest)
"""


@row("the same in a script that is run as `__main__`, or in the cells of a notebook")
def test_scripts_and_notebooks(look: Look, tmp_path: Path) -> None:
    files = {"main.py": main("def f(x):\n    return x + 11", "return f(x)") + SHOW}
    imported, _ = look(files)

    def run(text: str) -> str:
        file = tmp_path / "main.py"
        file.write_text(text)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, str(file)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert run(files["main.py"]) == imported.digest
    assert run(files["main.py"].replace("11", "20")) != imported.digest

    said = run(NOTEBOOK).split()
    assert said[0] == said[1] != said[2]


def test_an_edit_is_noticed_in_a_living_process(tmp_path: Path) -> None:
    (tmp_path / "living.py").write_text("def g(x):\n    return x\ndef f(x):\n    return g(x) + 1\n")
    sys.path.insert(0, str(tmp_path))
    try:
        living = importlib.import_module("living")
        first = fingerprint(living.f).digest
        assert fingerprint(living.f).digest == first
        (tmp_path / "living.py").write_text(
            "def g(x):\n    return -x\ndef f(x):\n    return g(x) + 1\n"
        )
        second = fingerprint(living.f).digest
        assert second != first
        living.g.__defaults__ = (3,)
        assert fingerprint(living.f).digest != second
        living.g.__defaults__ = None
        assert fingerprint(living.f).digest == second
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["living"]


@row("the version of a library that this code imports, or of one that it declares that it needs")
def test_distributions(look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site-packages"
    for name, needs in (("liba", "libb>=1"), ("libb", "libc; extra == 'x'"), ("libc", "")):
        (site / f"{name}-1.0.dist-info").mkdir(parents=True)
        text = f"Name: {name}\nVersion: 1.0\n" + (f"Requires-Dist: {needs}\n" if needs else "")
        (site / f"{name}-1.0.dist-info" / "METADATA").write_text(text + "\n")
        (site / f"{name}.py").write_text("def f(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(site))
    files = {"main.py": main("from liba import f", "return f(x)")}
    first, _ = look(files)
    try:
        (site / "libc-1.0.dist-info").rename(site / "libc-2.0.dist-info")
        assert look(files)[0].digest == first.digest
        (site / "libb-1.0.dist-info").rename(site / "libb-2.0.dist-info")
        second, _ = look(files)
        assert changes(first, second) == ["distribution libb: 1.0 → 2.0"]
        (site / "liba-1.0.dist-info").rename(site / "liba-3.0.dist-info")
        assert changes(second, look(files)[0]) == ["distribution liba: 1.0 → 3.0"]
    finally:
        sys.modules.pop("liba", None)


@row("the minor version of Python (3.11 to 3.12)")
def test_python(look: Look) -> None:
    found, _ = look({"main.py": main("", "return x")})
    parts = {part.name: part.source for part in found.parts}
    assert parts["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"


WHOLE = {  # what can't be followed: the line, and how the reason begins
    "return getattr(a, 'na' + 'me')(x)": "getattr(a, 'na' + 'me') in main.step",
    "return eval('a.name(x)')": "eval('a.name(x)') in main.step",
    "return vars(a)['name'](x)": "vars(a) in main.step",
    "import importlib; return importlib.import_module('a'[:]).name(x)": (
        "importlib.import_module('a'[:]) in main.step"
    ),
}


@row("anything in a module that code which can't be followed may reach")
@pytest.mark.parametrize("body", WHOLE)
def test_what_cannot_be_followed_is_taken_whole_and_says_why(body: str, look: Look) -> None:
    files = {
        "main.py": main("import a", body),
        "a.py": "N = 11\ndef name(x):\n    return x + N\n",
    }
    check_reruns(look, files, ("a.py", "11", "20"))
    before, _ = look(files)
    assert WHOLE[body] in {part.reason for part in before.parts}
    shifted, _ = look({**files, "main.py": "# a line\n" + files["main.py"]})
    assert shifted == before  # where the code stands is not in it


PROJECT = """
import sys
import upturn as up
from shapes import Square

@up.step
def made(side: int) -> Square:
    return Square(side)

@up.step
def measured(shape, note: str) -> int:
    with open(note, "a") as file:
        file.write("ran\\n")
    return shape.area()

@up.flow
def main(side: int, note: str):
    return measured(made(side), note)

if __name__ == "__main__":
    print(main(int(sys.argv[1]), sys.argv[2]))
"""
SHAPES = """
class Square:
    def __init__(self, side):
        self.side = side
    def area(self):
        return self.side ** 2 + LATER

LATER = 0
"""


@row("the class of an object that the step is given, also when no name leads to it")
def test_what_values_carry(note: str, said: Callable[[], list[str]], tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(PROJECT)

    def run(shapes: str) -> str:
        (tmp_path / "shapes.py").write_text(shapes)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, str(tmp_path / "main.py"), "3", note]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert [run(SHAPES), run(SHAPES + "# the same")] == ["9", "9"]
    assert said() == ["ran"]
    assert run(SHAPES.replace("LATER = 0", "LATER = 1")) == "10"
    assert run(SHAPES.replace("side ** 2", "side * 4")) == "12"
    assert said() == ["ran"] * 3


def test_reasons_are_only_where_code_is_taken_whole(look: Look) -> None:
    found, _ = look({"main.py": main("A = 1\ndef f(x):\n    return x + A", "return f(x)")})
    assert [part.reason for part in found.parts] == [""] * len(found.parts)
    assert not [part for part in found.parts if re.search(r"opaque|module", part.kind)]
