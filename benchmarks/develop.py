"""What the engine costs, as whole processes, each figure beside a floor measured in the same run.

    python benchmarks/develop.py [--runs 5] [--only chain,array]

Every measurement starts from nothing: interpreter, imports, workers, tasks, records, exit, with an
empty store unless it says `again`. Measurement and floor alternate, so that both see the same
neighbours on a noisy machine; medians and their ratio are printed. Floors are a bare process pool
that does the same work without records, outputs or memory, and raw file writes.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FLOW = """
import time
import upturn as up

@up.step
def empty(i: int) -> int:
    return i

@up.step
def join(results: list) -> int:
    return len(results)

@up.flow
def one():
    return empty(1)

@up.flow
def chain(n: int = 10):
    found = 0
    for _ in range(n):
        found = following(found)
    return found

@up.step
def following(i: int) -> int:
    return i + 1

@up.flow
def many(n: int):
    return join(empty.map(range(n)))

@up.step
def busy(i: int, seconds: float) -> int:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    return i

@up.flow
def parallel(n: int = 16, seconds: float = 0.5):
    return join(busy.map(range(n), seconds=seconds))
"""
ARRAYS = """
import numpy as np
import upturn as up

@up.step
def made(mb: int) -> np.ndarray:
    return np.arange(mb * 125_000, dtype=np.float64)

@up.step
def passed(array: np.ndarray) -> np.ndarray:
    return array

@up.step
def summed(array: np.ndarray) -> float:
    return float(array[::1000].sum())

@up.flow
def arrays(mb: int = 200):
    return summed(passed(made(mb)))
"""
POOL = """
import multiprocessing, sys, time

def empty(i):
    return i

def busy(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass

if __name__ == "__main__":
    kind, n = sys.argv[1], int(sys.argv[2])
    with multiprocessing.Pool(len(__import__("os").sched_getaffinity(0))) as pool:
        if kind == "chain":
            found = 0
            for _ in range(n):
                found = pool.apply(empty, (found,))
        elif kind == "busy":
            pool.map(busy, [0.5] * n, chunksize=1)
        else:
            pool.map(empty, range(n), chunksize=1)
"""
WRITES = """
import sys
import numpy as np
array = np.arange(int(sys.argv[1]) * 125_000, dtype=np.float64)
with open(sys.argv[2], "wb") as file:
    file.write(memoryview(array).cast("B"))
print(float(np.memmap(sys.argv[2], dtype=np.float64)[::1000].sum()))
"""


@dataclass(frozen=True)
class Case:
    """A measurement, its floor, and what it is to reach: seconds, or a multiple of the floor."""

    name: str
    command: list[str]
    floor: list[str]
    floor_name: str
    aim: str
    again: bool = False


def cases(folder: Path) -> list[Case]:
    """Every measurement that is nothing but the seconds of a process."""
    upturn = [sys.executable, "-m", "upturn", "run"]
    pool = [sys.executable, str(folder / "pool.py")]
    bare = [sys.executable, "-c", "pass"]

    def pooled(name: str, words: list[str], floor: list[str], aim: str) -> Case:
        return Case(name, [*upturn, *words], [*pool, *floor], "pool", aim)

    return [
        Case("import", [sys.executable, "-c", "import upturn"], bare, "python", "≤ 0.25 s"),
        pooled("one step", ["flow.py:one"], ["many", "1"], "≤ 0.3 s"),
        pooled("chain of 10", ["flow.py:chain"], ["chain", "10"], ""),
        Case("chain again", [*upturn, "flow.py:chain"], bare, "python", "≤ 0.25 s", again=True),
        pooled("100 tasks", ["flow.py:many", "--n", "100"], ["many", "100"], "≤ 0.5 s"),
        pooled("1,000 tasks", ["flow.py:many", "--n", "1000"], ["many", "1000"], "≤ 1.5 s"),
        pooled("16 × 0.5 s", ["flow.py:parallel"], ["busy", "16"], "≥ 90 % of ideal"),
    ]


def main() -> None:
    """Measure, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help="names, or beginnings of them, with commas")
    options = parser.parse_args()
    wanted = tuple(options.only.split(",")) if options.only else ("",)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in (("flow", FLOW), ("arrays", ARRAYS), ("pool", POOL), ("writes", WRITES)):
            (folder / f"{file}.py").write_text(text)
        medians = {
            case.name: measure(case, folder, options.runs)
            for case in cases(folder)
            if case.name.startswith(wanted)
        }
        report_derived(medians)
        for extra, name in ((rerun, "rerun"), (array, "array")):
            if name.startswith(wanted):
                extra(folder, options.runs)


def measure(case: Case, folder: Path, runs: int) -> float:
    """The median seconds of a case, printed beside its floor's."""
    times, floors = list[float](), list[float]()
    with store(folder) as home:
        if case.again:
            seconds(case.command, folder, home)
        for _ in range(runs):
            if not case.again:
                shutil.rmtree(home, ignore_errors=True)
            times.append(seconds(case.command, folder, home))
            floors.append(seconds(case.floor, folder, home))
    report(case.name, times, floors, case.floor_name, case.aim)
    return statistics.median(times)


def report(name: str, times: list[float], floors: list[float], floor: str, aim: str) -> None:
    """One line: the median, its spread, the floor, the ratio, the aim."""
    took, least = statistics.median(times), statistics.median(floors)
    print(
        f"{name:<14} {took:7.3f} s  (min {min(times):.3f})   {floor} {least:.3f} s   "
        f"× {took / least:5.2f}   {aim}"
    )


def report_derived(medians: dict[str, float]) -> None:
    """What follows from the measurements: the cost of one more task, and how parallel it was."""
    if {"100 tasks", "1,000 tasks"} <= medians.keys():
        each_ms = (medians["1,000 tasks"] - medians["100 tasks"]) / 900 * 1000
        print(f"{'a task more':<14} {each_ms:7.3f} ms   (aim ≤ 1 ms)")
    if {"16 × 0.5 s", "one step"} <= medians.keys():
        cores = min(16, len(os.sched_getaffinity(0)))
        ideal = 16 * 0.5 / cores
        share = ideal / (medians["16 × 0.5 s"] - medians["one step"])
        whole = ideal / medians["16 × 0.5 s"]
        print(f"{'parallel':<14} {whole:7.1%} of ideal on {cores} cores, {share:.1%} without start")


def rerun(folder: Path, runs: int) -> None:
    """`upturn rerun` of one small step, against a bare interpreter."""
    times, floors = list[float](), list[float]()
    command = [sys.executable, "-m", "upturn", "run", "flow.py:one"]
    with store(folder) as home:
        said = subprocess.run(
            command, cwd=folder, env=environment(home), check=True, capture_output=True, text=True
        )
        run = said.stderr.split()[1]
        for _ in range(runs):
            again = [sys.executable, "-m", "upturn", "rerun", f"{run}/empty"]
            times.append(seconds(again, folder, home))
            floors.append(seconds([sys.executable, "-c", "pass"], folder, home))
    report("rerun a step", times, floors, "python", "≤ 0.3 s")


def array(folder: Path, runs: int) -> None:
    """A 200 MB array through three steps: seconds, memory of all processes, bytes on disk."""
    times, floors, peaks = list[float](), list[float](), list[int]()
    size = 0
    with store(folder) as home:
        for _ in range(runs):
            shutil.rmtree(home, ignore_errors=True)
            words = [sys.executable, "-m", "upturn", "run", "arrays.py:arrays"]
            with peak_memory(words, folder, home) as (took, peak):
                times.append(took)
                peaks.append(peak)
            size = sum(file.stat().st_size for file in (home / "blobs").rglob("*"))
            raw = folder / "raw"
            words = [sys.executable, str(folder / "writes.py"), "200", str(raw)]
            floors.append(seconds(words, folder, home))
            raw.unlink()
    report("200 MB array", times, floors, "write+map", "≤ 1.0 s")
    print(f"{'':<14} {statistics.median(peaks) / 1e6:7.0f} MB in all processes at most   ≤ 450 MB")
    print(f"{'':<14} {size / 1e6:7.0f} MB on disk for 200 MB that two steps returned   one write")


@contextmanager
def peak_memory(words: list[str], folder: Path, home: Path) -> Iterator[tuple[float, int]]:
    """Run a command; its seconds, and the most that it and its children held, mapped files too."""
    from upturn.core.machine import process_tree

    began = time.perf_counter()
    process = subprocess.Popen(
        words, cwd=folder, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    peak, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(0.01):
            peak[0] = max(peak[0], sum(map(_held_bytes, process_tree(process.pid))))

    thread = threading.Thread(target=look)
    thread.start()
    output, _ = process.communicate()
    took = time.perf_counter() - began
    ended.set()
    thread.join()
    assert process.returncode == 0, output
    yield took, peak[0]


def _held_bytes(pid: int) -> int:
    """A process's share of memory: what several map counts once in all."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line[:4] == "Pss:")


@contextmanager
def store(folder: Path) -> Iterator[Path]:
    """An empty store."""
    home = folder / "store"
    shutil.rmtree(home, ignore_errors=True)
    yield home


def seconds(words: list[str], folder: Path, home: Path) -> float:
    """How long a process takes, as a whole."""
    began = time.perf_counter()
    subprocess.run(words, cwd=folder, env=environment(home), check=True, capture_output=True)
    return time.perf_counter() - began


def environment(home: Path) -> dict[str, str]:
    """The process's own, with a store of its own."""
    return {**os.environ, "UPTURN_HOME": str(home)}


if __name__ == "__main__":
    main()
