"""The key of a step in a project of 200 modules, cold and warm, against parsing the same files.

    python benchmarks/key.py [--modules 200] [--runs 5]

`all`: the step reaches every module, along a chain and a fan-out of functions, classes and
constants. `ten`: the project is the same, and the step reaches ten of them. Cold is the first
`fingerprint()` of a new process whose modules are imported; warm is the next, with nothing edited;
edited is one after one file was. The floor is `ast.parse` of the files that the step reaches.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

MODULE = '''"""Module {i} of a project."""

from dataclasses import dataclass, field

import {following} as following
from {following} import SCALE as NEXT, Base as NextBase

SCALE = {i} + 1
NAMES = ["a{i}", "b{i}", {{"c": {i}}}]


@dataclass
class Options:
    """How it is done."""

    depth: int = {i}
    names: list[str] = field(default_factory=lambda: list(NAMES[:2]))


class Base(NextBase):
    """One thing on top of another."""

    def value(self, x: float) -> float:
        # What is below, and a little more.
        return super().value(x) + SCALE * Options().depth


def clean(x: float, by: int = SCALE) -> float:
    """What the step calls."""
    kept = [value for value in (x, by, NEXT) if value is not None]
    return sum(kept) + helper(x) + following.clean(x)


def helper(x: float) -> float:
    return x * SCALE + len(NAMES) + Base().value(x)


def unused(x: float) -> float:
    return x - {i}
'''
LAST = """SCALE = 0

class Base:
    def value(self, x):
        return x

def clean(x):
    return x
"""
MAIN = """{imports}
import upturn as up


@up.step
def all(x: float) -> float:
    return {all}


@up.step
def ten(x: float) -> float:
    return {ten}
"""
MEASURE = """
import ast, gc, json, os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import main
from upturn.develop.fingerprint import fingerprint

def ms(call):
    begin = time.perf_counter()
    result = call()
    return (time.perf_counter() - begin) * 1e3, result

step = getattr(main, sys.argv[2]).function
root = Path(sys.argv[1])
cold, first = ms(lambda: fingerprint(step))
warm, again = ms(lambda: fingerprint(step))
assert first == again
edited = root / "m001.py"
edited.write_text(edited.read_text() + "\\n# edited\\n")
after, third = ms(lambda: fingerprint(step))
assert first == third
names = {part.name.removeprefix("constant ").partition(".")[0] for part in first.parts}
files = [path for path in root.glob("*.py") if path.stem in names]
floor, _ = ms(lambda: [ast.parse(path.read_bytes()) for path in files])
times = {"cold": cold, "warm": warm, "edited": after, "floor": floor, "files": len(files)}
print(json.dumps(times))
"""


def main() -> None:
    """Measure, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modules", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print(
        f"{'step':6}{'files':>6}{'floor':>10}{'cold':>10}{'warm':>10}{'edited':>10}  (ms, medians)"
    )
    for step in ("all", "ten"):
        rounds = [measured(options.modules, step) for _ in range(options.runs)]
        found = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        times = "".join(f"{found[key]:10.2f}" for key in ("floor", "cold", "warm", "edited"))
        ratio = found["cold"] / found["floor"]
        print(f"{step:6}{found['files']:6.0f}{times}  cold is {ratio:.1f}× the floor")


def measured(modules: int, step: str) -> dict[str, float]:
    """The times of one new process, in a new project."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), modules)
        run = [sys.executable, "-c", MEASURE, folder, step]
        return json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)


def write(folder: Path, modules: int) -> None:
    """A project whose modules are chains of ten, and a file that has steps on top of them."""
    heads: list[int] = []
    for i in range(modules):
        end = i % 10 == 9 or i == modules - 1
        (folder / f"m{i:03}.py").write_text(
            MODULE.format(i=i, following="last" if end else f"m{i + 1:03}")
        )
        if i % 10 == 0:
            heads.append(i)
    (folder / "last.py").write_text(LAST)
    (folder / "main.py").write_text(
        MAIN.format(
            imports="\n".join(f"import m{i:03}" for i in heads),
            all=" + ".join(f"m{i:03}.clean(x)" for i in heads),
            ten="m000.clean(x)",
        )
    )


if __name__ == "__main__":
    main()
