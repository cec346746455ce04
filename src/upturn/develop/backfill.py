"""Backfill: one run of a flow for each interval of a range, those left out that are done."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.ids import new_id
from upturn.core.records import Run, RunState
from upturn.develop.flow import Flow
from upturn.develop.schedule.launcher import output_dir
from upturn.develop.schedule.start import Start, interval_params
from upturn.develop.schedule.timetable import Timetable
from upturn.stores.workspace import Workspace

MOST = 10_000
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Interval:
    """A part of the range, and what the flow is given for it."""

    start: datetime
    end: datetime
    params: dict[str, Any]  # JSON values


def named(flow: Flow[..., Any], param: str | None) -> dict[str, str]:
    """Which parameters an interval is given to: 'start' and 'end', or one named by the user.

    Raises Invalid when the flow has none such.
    """
    known = [one.name for one in flow.params]
    if param is not None:
        if param not in known:
            raise Invalid(
                f"The flow {flow.name!r} has no parameter {param!r}.",
                hint=did_you_mean(param, known),
            )
        return {param: "start"}
    found = {name: name for name in ("start", "end") if name in known}
    if not found:
        raise Invalid(
            f"The flow {flow.name!r} has no parameters 'start' and 'end'.",
            hint="Say which one takes the start of the interval: --param NAME",
        )
    return found


def intervals(
    flow: Flow[..., Any],
    *,
    start: datetime,
    end: datetime,
    every: timedelta | Timetable,
    tz: str,
    names: dict[str, str],
    params: dict[str, Any],
) -> list[Interval]:
    """The parts of [start, end), each as long as `every`, or from tick to tick of a timetable."""
    if end <= start:
        raise Invalid("The range is empty.", hint="--end is to be after --start.")
    edges = [start]
    while edges[-1] < end:
        following = every.next(edges[-1]) if isinstance(every, Timetable) else edges[-1] + every
        edges.append(end if following is None else min(following, end))
        if len(edges) > MOST + 1:
            raise Invalid(f"These are more than {MOST:,} intervals.", hint="Take longer ones.")
    made: list[Interval] = []
    for since, until in pairwise(edges):
        given = interval_params(flow.params, since, until, tz, names)
        plain = msgspec.to_builtins(flow.convert({**params, **given}), enc_hook=str)
        made.append(Interval(since, until, plain))
    return made


def done_already(
    workspace: Workspace, flow: Flow[..., Any], wanted: Sequence[Interval]
) -> set[int]:
    """The numbers of the intervals that a run of the flow has done, whoever started it."""
    entry = _relative(flow, workspace.settings.root)
    runs = {
        run.id: run
        for run in workspace.meta.select(Run, flow=flow.name, parent=None)
        if run.entry == entry and run.project == workspace.settings.project
    }
    states = workspace.meta.last_each(RunState, run=list(runs))
    done = {_key(runs[state.run].params) for state in states if state.status == "done"}
    return {number for number, one in enumerate(wanted) if _key(one.params) in done}


def backfill(
    workspace: Workspace,
    flow: Flow[..., Any],
    wanted: Sequence[Interval],
    *,
    at_once: int,
    heard: Callable[[Interval, str, int], None],
) -> int:
    """Run the flow for each of them, `at_once` of them side by side; how many failed.

    Each is a process of its own. `heard` is told of each end: the interval, the run's id, and the
    exit status. When this is interrupted, those that go on are, too.
    """
    folder = output_dir(workspace, f"backfill-{flow.name}")
    folder.mkdir(parents=True, exist_ok=True)
    waiting = list(wanted)[::-1]
    going_on: list[tuple[Interval, str, subprocess.Popen[bytes]]] = []
    failed = 0
    try:
        while waiting or going_on:
            while waiting and len(going_on) < at_once:
                interval = waiting.pop()
                run = new_id()
                start = Start(run=run, params=interval.params)
                going_on.append((interval, run, _run(workspace, flow, start, folder)))
            time.sleep(_LOOK_S)
            for one in [one for one in going_on if one[2].poll() is not None]:
                going_on.remove(one)
                failed += one[2].returncode != 0
                heard(one[0], one[1], one[2].returncode)
    finally:
        for _, _, process in going_on:
            process.terminate()
        for _, _, process in going_on:
            process.wait()
    return failed


def _run(
    workspace: Workspace, flow: Flow[..., Any], start: Start, folder: Path
) -> subprocess.Popen[bytes]:
    with (folder / f"{start.run}.log").open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "upturn", "run", "--start", start.encoded(), flow.entry],
            cwd=workspace.settings.root,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def _key(params: dict[str, Any]) -> bytes:
    return msgspec.json.encode(params, order="deterministic")


def _relative(flow: Flow[..., Any], root: Path) -> str:
    file, _, name = flow.entry.rpartition(":")
    path = Path(file)
    return f"{path.relative_to(root)}:{name}" if path.is_relative_to(root) else flow.entry
