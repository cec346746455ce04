"""Overlap: what a run does when another run of its flow goes on, in this process or elsewhere.

Runs of a flow line up in the records. A run first holds its lease, then is put, then notes the
state `queued`; these states are in one order for everybody. A run has its turn when no living run
of the flow is `running`, or was queued before it. Of two runs the later one therefore always sees
the earlier one, so no two have the turn at once, and none waits for a later one. A run lives while
its lease is held: what a dead driver left behind is passed by when its lease has ended.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from upturn.core.errors import Conflict, Invalid, Problem, did_you_mean
from upturn.core.records import Overlap, Run, RunState
from upturn.core.time import utcnow
from upturn.develop import context
from upturn.stores.workspace import Workspace

OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)
_LOOK_S, _LONGEST_S = 0.1, 1.0
_WAITS: tuple[Overlap, ...] = ("queue", "newest")


def checked(overlap: str, flow: str) -> Overlap:
    """The word as one of the four. Raises Invalid."""
    for known in OVERLAPS:
        if overlap == known:
            return known
    raise Invalid(
        f"The flow {flow!r} has overlap={overlap!r}.",
        hint=did_you_mean(overlap, OVERLAPS),
    )


def take_turn(
    workspace: Workspace,
    run: Run,
    *,
    resumed: bool = False,
    told: Callable[[Run, Sequence[str]], None] = lambda run, behind: None,
) -> RunState | None:
    """Wait for the run's turn, as its `overlap` says: None, or how it ended without running.

    The caller holds the run's lease, and has since before the run was put. A resumed run waits
    where another one would be skipped: somebody asked for this very one. `told` is called when it
    begins to wait, with the runs that it waits for. On Ctrl-C the run is cancelled.
    """
    if run.overlap == "parallel":
        return None
    meta = workspace.meta
    overlap: Overlap = "queue" if resumed else run.overlap
    meta.put(RunState(run=run.id, status="queued", at=utcnow()))
    waits = False
    try:
        while True:
            stamp = meta.stamp()
            line = _line_of(workspace, run)
            why_not = _refusal(overlap, line)
            if why_not is not None:
                return meta.add(_skipped(run, why_not))
            if not line.ahead:
                return None
            _refuse_deadlock(run, line)
            if not waits:
                waits = True
                told(run, line.ahead)
            _await_change(workspace, stamp)
    except KeyboardInterrupt:
        meta.put(RunState(run=run.id, status="cancelled", at=utcnow()))
        raise
    except Invalid as error:
        meta.put(RunState(run=run.id, status="failed", at=utcnow(), problem=error.problem))
        raise


@dataclass(frozen=True, slots=True)
class Line:
    """The living runs of the flow around one of them."""

    ahead: tuple[str, ...]  # those that run, then those that were queued before
    behind: tuple[str, ...]  # those that were queued after it, and will wait


def _await_change(workspace: Workspace, stamp: int) -> None:
    """Until somebody wrote, or for a while: a lease ends without a write."""
    deadline = time.monotonic() + _LONGEST_S
    while time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        if workspace.meta.stamp() != stamp:
            return


def _line_of(workspace: Workspace, run: Run) -> Line:
    meta = workspace.meta
    others = {
        other.id: other
        for other in meta.select(Run, flow=run.flow, parent=None)
        if other.entry == run.entry and other.project == run.project
    }
    states = meta.last_each(RunState, run=list(others))
    unfinished = [state for state in states if state.status in ("queued", "running")]
    known = {state.run for state in states}
    alive = {lease.name.removeprefix("run/") for lease in meta.leases("run/")}
    # One that may run beside others never queues: it runs from the moment in which it is put.
    running = [
        id for id, other in others.items() if id not in known and other.overlap == "parallel"
    ]
    running += [state.run for state in unfinished if state.status == "running"]
    line = [one for one in _queued(workspace, unfinished) if one == run.id or one in alive]
    if run.id not in line:
        raise Conflict(f"Run {run.id} was taken out of the queue by another process.")
    at = line.index(run.id)
    ahead = [one for one in running if one != run.id and one in alive] + line[:at]
    behind = [one for one in line[at + 1 :] if others[one].overlap in _WAITS]
    return Line(tuple(ahead), tuple(behind))


def _queued(workspace: Workspace, states: list[RunState]) -> list[str]:
    """The runs that are queued, in the order in which they came."""
    ids = [state.run for state in states if state.status == "queued"]
    came = workspace.meta.select(RunState, run=ids, newest_first=True)
    newest_first = dict.fromkeys(state.run for state in came if state.status == "queued")
    return list(newest_first)[::-1]


def _refusal(overlap: Overlap, line: Line) -> str | None:
    """Why the run is not to run at all."""
    if overlap == "skip" and line.ahead:
        return f"Run {line.ahead[0]} of this flow goes on."
    if overlap == "newest" and line.behind:
        return f"The newer run {line.behind[-1]} of this flow took its place in the queue."
    return None


def _skipped(run: Run, why: str) -> RunState:
    problem = Problem(code="skipped", message=why, fields={"run": run.id})
    return RunState(run=run.id, status="skipped", at=utcnow(), problem=problem)


def _refuse_deadlock(run: Run, line: Line) -> None:
    session = context.session.get()
    outer = getattr(getattr(session, "run", None), "id", None)
    if outer in line.ahead:
        raise Invalid(
            f"The flow {run.flow!r} would wait for itself: it was started in its own run {outer}.",
            hint=f"Call it, {run.flow}(…), which makes it a child run.",
        )
