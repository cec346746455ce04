"""100 empty tasks and a join as a whole process, against a bare process pool that does the same.

    python benchmarks/tasks.py [--runs 7] [--tasks 100]

Both start from nothing: interpreter, imports, workers, tasks, exit. Upturn's run also writes its
records and outputs to an empty store; `again` is the same run with everything known already. Runs
alternate between the three, so that all see the same neighbours.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FLOW = """
import upturn as up

@up.step
def empty(i: int) -> None:
    return None

@up.step
def join(results: list) -> int:
    return len(results)

@up.flow
def many(n: int):
    return join(empty.map(range(n)))
"""
POOL = """
import multiprocessing, sys

def empty(i):
    return None

if __name__ == "__main__":
    with multiprocessing.Pool() as pool:
        print(len(pool.map(empty, range(int(sys.argv[1])), chunksize=1)))
"""


def main() -> None:
    """Measure, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--tasks", type=int, default=100)
    options = parser.parse_args()
    times: dict[str, list[float]] = {"pool": [], "upturn": [], "again": []}
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            (home / "flow.py").write_text(FLOW)
            (home / "pool.py").write_text(POOL)
            upturn = ["-m", "upturn", "run", "flow.py:many", "--n", str(options.tasks)]
            times["pool"].append(seconds([str(home / "pool.py"), str(options.tasks)], home))
            times["upturn"].append(seconds(upturn, home))
            times["again"].append(seconds(upturn, home))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        ratio = median / medians["pool"]
        print(
            f"{name:<8} {median:.3f} s   {ratio:.2f} × the bare pool   (min {min(times[name]):.3f})"
        )


def seconds(arguments: list[str], home: Path) -> float:
    """How long a Python process takes, as a whole."""
    environment = {**os.environ, "UPTURN_HOME": str(home / "store")}
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], cwd=home, env=environment, check=True, capture_output=True
    )
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
