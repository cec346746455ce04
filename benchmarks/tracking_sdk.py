"""What `up.log` costs in the caller, and how many metrics a second get into the store.

    python benchmarks/tracking_sdk.py

The floor, measured in the same run, is a bare `list.append` of as many values. `up.log` is called
in a tracked run while its thread brings what is logged into the store, as in any training loop, at
full speed and at a thousand calls a second; and in a task of a flow. Shown is the least of 40 parts
of a loop, as `timeit` does it, and the median, in which other work on the machine counts, too. A
metric counts as durable when the store has it: from the first `up.log` to the end of the run.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["UPTURN_HOME"] = tempfile.mkdtemp(prefix="upturn-bench-")

import upturn as up

PARTS, CALLS = 40, 500
AIM_US, AIM_DURABLE = 5.0, 10_000


Cost = tuple[float, float]  # microseconds: the least, and the median


def appended(values: int) -> Cost:
    """Microseconds for appending that many values to a list."""
    kept: list[float] = []
    return _each(lambda step: [kept.append(0.5) for _ in range(values)])


def logged(values: int) -> Cost:
    """Microseconds for `up.log` of that many metrics."""
    if values == 1:
        return _each(lambda step: up.log(loss=0.5, step=step))
    return _each(lambda step: up.log(loss=0.5, accuracy=0.25, rate=0.001, step=step))


def _each(call: Callable[[int], object]) -> Cost:
    parts: list[float] = []
    for part in range(PARTS):
        begin = time.perf_counter()
        for step in range(part * CALLS, (part + 1) * CALLS):
            call(step)
        parts.append((time.perf_counter() - begin) / CALLS)
    return min(parts) * 1e6, statistics.median(parts) * 1e6


def paced(calls: int = 1_000, a_second: float = 1_000.0) -> Cost:
    """Microseconds for one `up.log` in a loop that does other things between."""
    took: list[float] = []
    begin = time.perf_counter()
    for step in range(calls):
        while time.perf_counter() - begin < step / a_second:
            pass
        before = time.perf_counter()
        up.log(loss=0.5, step=step)
        took.append(time.perf_counter() - before)
    return min(took) * 1e6, statistics.median(took) * 1e6


@up.step(cache=False)
def task() -> list[Cost]:
    """What one and three metrics cost in a task."""
    return [logged(1), logged(3)]


@up.flow
def tasks() -> object:
    """A flow of that one task."""
    return task()


def durable(points: int = 100_000) -> float:
    """Metrics a second, until the store has all of them."""
    begin = time.perf_counter()
    with up.track("durable") as run:
        for step in range(points // 2):
            up.log(loss=0.5, accuracy=0.25, step=step)
    took = time.perf_counter() - begin
    workspace = up.open_workspace()
    stored = sum(series.count for series in workspace.tracking.series([run.id])[run.id])
    workspace.close()
    assert stored == points, f"{stored:,} of {points:,} points are in the store"
    return points / took


def journal_bytes() -> int:
    """What is left in the journals' folder: nothing."""
    folder = Path(os.environ["UPTURN_HOME"], "journals")
    return sum(path.stat().st_size for path in folder.glob("*.points"))


def main() -> None:
    """Measure, and print each figure beside its floor and its aim."""
    rows: list[tuple[str, Cost, Cost]] = []
    with up.track("benchmark"):
        for values in (1, 3):
            floor = appended(values)
            rows.append((f"up.log, {values} metrics, full speed", logged(values), floor))
        rows.append(("up.log, 1 metric, 1,000 a second", paced(), rows[0][2]))
    one, three = tasks.run().result()
    rows += [("in a task, 1 metric", one, rows[0][2]), ("in a task, 3 metrics", three, rows[1][2])]
    head = f"{'least µs':>9} {'median':>7} {'append':>7} {'ratio':>6}"
    print(f"{'in the caller':<34} {head}   aim < {AIM_US:g} µs")
    for name, (least, median), (floor, _) in rows:
        met = "met" if least < AIM_US else "missed"
        print(f"{name:<34} {least:9.2f} {median:7.2f} {floor:7.3f} {least / floor:5.0f}×   {met}")
    rate = durable()
    met = "met" if rate >= AIM_DURABLE else "missed"
    print(f"metrics a second until durable: {rate:,.0f}, {rate / AIM_DURABLE:.1f} × the aim: {met}")
    print(f"left in journals: {journal_bytes()} bytes")


if __name__ == "__main__":
    main()
