"""A year's rehearsal of the flights with eight policies: how long, how much of it is training.

    python benchmarks/improve_rehearsal.py [--until 2013-12-31] [--html page.html]

The rehearsal with an empty store, a second time with what the first one kept, and once more with a
ninth policy. The floor, in the same run: the very trainings alone, in a store of their own. CPU
seconds are those of this process and of the flows' workers: what else the machine does makes
seconds longer, and CPU seconds hardly.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from upturn.develop.warm import close_pools

HERE = Path(__file__).resolve().parent
FLIGHTS = HERE.parent / "examples" / "flights"
START = "2013-04-01"
CALENDARS = ["30d", "90d"]
CHANGES: dict[str, list[Any]] = {"when.psi": [0.25, 1.0], "when.stale.after": ["21d", "35d"]}


def main() -> None:
    """Print what the floor and each rehearsal took."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--until", default="2013-12-31")
    options.add_argument("--html", type=Path)
    given = options.parse_args()
    # Threads of a training that wait for each other sleep: on a machine that is busy with other
    # things spinning would make any figure a matter of luck.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["UPTURN_HOME"] = f"{folder}/home"
        os.chdir(FLIGHTS)
        sys.path.insert(0, str(FLIGHTS))
        _all(given.until, given.html, Path(folder))


def _all(until: str, html: Path | None, folder: Path) -> None:
    from flights import loop

    import upturn as up
    from upturn.core.records import Run
    from upturn.improve.rehearsing.page import rehearsal_page

    policies = up.vary(loop, CHANGES)
    span: dict[str, Any] = {"start": START, "end": until, "calendar": CALENDARS}

    def rehearse(loops: Any) -> Any:
        workspace = up.open_workspace()
        try:
            return up.rehearse(workspace, loops, **span)
        finally:
            workspace.close()

    first = _timed("eight policies, empty store", lambda: rehearse(policies))
    again = _timed("the same again", lambda: rehearse(policies))
    more = {**policies, "psi=0.5": up.vary(loop, {"when.psi": [0.4]})["psi=0.4"]}
    _timed("a ninth policy", lambda: rehearse(more))
    workspace = up.open_workspace()
    windows = {(run.params["start"], run.params["end"]) for run in workspace.meta.select(Run)}
    workspace.close()
    # The floor comes last, because it is the rehearsal that says what there is to train.
    os.environ["UPTURN_HOME"] = f"{folder}/floor"

    def trainings() -> None:
        for start, end in sorted(windows):
            loop.train.run(start=start, end=end)

    _timed(f"floor: the {len(windows)} trainings of all alone", trainings)
    print(f"\n{first.trainings} trainings, {len(first.policies)} policies, {first.rows:,} rows")
    print(f"known the second time: {len(again.reused)} of {len(policies)} loops")
    print(first.conclusion)
    if first.suggestion is not None:
        print(first.suggestion.text)
    if html is not None:
        html.write_text(rehearsal_page(first), encoding="utf-8")
        print(f"{html}: {html.stat().st_size:,} bytes")


def _timed(name: str, work: Callable[[], Any]) -> Any:
    """Run it, and print its seconds, the CPU seconds here and in workers, and the peak memory."""
    began, used = time.perf_counter(), time.process_time()
    found = work()
    seconds, own = time.perf_counter() - began, time.process_time() - used
    workers = _workers()
    close_pools()  # what follows has workers of its own, and theirs alone are counted
    trained = getattr(found, "training_seconds", None)
    waited = "" if trained is None else f", {trained:.1f} s of it trainings"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name:44} {seconds:7.1f} s{waited}; CPU {own:.1f} s here, {workers:.1f} s in workers;"
        f" peak {peak:,.0f} MB here",
        flush=True,
    )
    return found


def _workers() -> float:
    """The CPU seconds so far of all other processes that have our store as their home."""
    home = f"UPTURN_HOME={os.environ['UPTURN_HOME']}".encode()
    ticks = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            if home in (process / "environ").read_bytes().split(b"\0"):
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                ticks += sum(int(field) for field in fields[11:15])  # its own, and its children's
        except OSError:  # it has ended, or is another user's
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
