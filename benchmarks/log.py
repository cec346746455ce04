"""What the Log costs a server: python benchmarks/log.py [--seconds 2].

A loop does what an event loop does for a request: some work, system calls that let other threads
run, and a batch for the Log. The floor is the same loop with nobody who writes the batch. Sealing
is timed in a process of its own, as it runs, with the memory that it takes at most.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from upturn.core.ids import prediction_ids
from upturn.core.log import Layout, Matrix, PredictionBatch
from upturn.stores.logfile import LogWriter, seal

WIDTH = 30
LAYOUT = Layout([f"f{place:02d}" for place in range(WIDTH)], "f" * WIDTH)
WORK = {1: 60e-6, 1_000: 5e-3}  # seconds that a request of so many rows takes without a Log, or so


def batch(rows: int, *, lists: bool = False) -> PredictionBatch:
    """One request's rows, as the prediction path makes them."""
    values = np.random.default_rng(1).random((rows, WIDTH))
    ids = prediction_ids(rows)
    scores: list[Any] = values[:, 0].tolist()
    named = {name: values[:, place].tolist() for place, name in enumerate(LAYOUT.names)}
    return PredictionBatch(
        ids=ids,
        at=time.time_ns() // 1000,
        received_at=time.time_ns() // 1000,
        route=1,
        arm="champion",
        version=1,
        shadow=False,
        units=None,
        propensity=1.0,
        features=named if lists else Matrix(LAYOUT, values.tobytes()),
        scores=scores,
        answers=None,
        latency_s=0.0002,
        request=ids[0],
    )


def loop(seconds: float, work_s: float, take: Callable[[], object]) -> tuple[float, float]:
    """Turns a second of the loop that calls `take` in each, and the processor seconds of one."""
    near, far = os.pipe()
    numbers = range(int(work_s / 12e-9))
    turns, began, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        for _ in range(10):
            sum(numbers)
            os.write(far, b"x")
            os.read(near, 1)
            take()
        turns += 10
    os.close(near), os.close(far)
    return turns / (time.perf_counter() - began), (time.process_time() - cpu) / turns


def beside(seconds: float, rows: int, *, lists: bool) -> None:
    """The loop without a Log and with one, by turns."""
    home = Path(tempfile.mkdtemp(prefix="upturn-log-"))
    writer = LogWriter(home / "e")
    whole = msgspec.structs.asdict(batch(rows, lists=lists))

    def make() -> PredictionBatch:
        return PredictionBatch(**whole)

    floor: list[float] = []
    logged: list[float] = []
    costs: list[float] = []
    for _ in range(8):
        speed, made = loop(seconds / 8, WORK[rows], make)
        floor.append(speed)
        speed, cost = loop(seconds / 8, WORK[rows], lambda: writer.write(make()))
        logged.append(speed)
        costs.append(cost - made)
    writer.stop()
    shutil.rmtree(home)
    each = sorted(costs)[4]
    print(
        f"  {rows:5} rows a request, {'lists' if lists else 'matrix'}: "
        f"{max(logged):7,.0f} requests/s with a Log, {max(floor):7,.0f} without "
        f"({max(logged) / max(floor):.3f} of the floor); "
        f"{each * 1e6:6.1f} µs of processor a request for writing; {writer.lost_rows} rows lost"
    )


def sealing(rows: int, count: int, *, lists: bool) -> None:
    """How fast journals become Parquet, in a process of its own."""
    home = Path(tempfile.mkdtemp(prefix="upturn-log-"))
    writer = LogWriter(home / "e", max_queued_rows=10**9, max_queued_bytes=2**40)
    made = batch(rows, lists=lists)
    for _ in range(count // rows):
        writer.write(made)
    writer.stop()
    size = sum(path.stat().st_size for path in (home / "e").iterdir())
    done = subprocess.run(
        [sys.executable, __file__, "--seal", str(home / "e")], check=True, capture_output=True
    )
    seconds, before, peak = map(float, done.stdout.split())
    after = sum(path.stat().st_size for path in (home / "e").iterdir())
    shutil.rmtree(home)
    print(
        f"  {rows:5} rows a batch, {'lists' if lists else 'matrix'}: "
        f"{count / seconds:12,.0f} rows/s, {peak - before:5.0f} MB more at the peak; "
        f"{size / count:.0f} bytes a row in a journal, {after / count:.0f} sealed"
    )


def seal_here(directory: Path) -> None:
    """Seal, and print the seconds and the peak memory before and after, in MB."""
    import gc
    import resource

    import pyarrow.parquet  # noqa: F401 (not part of what is timed)

    gc.disable()  # as in housekeeping
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    seal(directory)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(time.perf_counter() - began, before, peak)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--seal", type=Path)
    arguments = parser.parse_args()
    if arguments.seal is not None:
        seal_here(arguments.seal)
        return
    print("A writer beside a loop:")
    for rows in (1, 1_000):
        for lists in (True, False):
            beside(arguments.seconds, rows, lists=lists)
    print("Sealing:")
    for rows in (1, 1_000):
        for lists in (True, False):
            sealing(rows, 200_000, lists=lists)


if __name__ == "__main__":
    main()
