"""What the policies of one rehearsal share: the past, scores, trainings, and how far they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
import numpy as np

from upturn.core.records import Decision, Version
from upturn.improve.evidence import Trained, TrainingFailed
from upturn.improve.loop import Loop
from upturn.improve.past.kept import Kept
from upturn.improve.past.log import Columns
from upturn.improve.past.rows import Past
from upturn.improve.past.scores import Scores
from upturn.improve.past.trainings import Trainings, Window
from upturn.improve.rehearsal import Event, PolicyKind
from upturn.stores.workspace import Workspace


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a rehearsal is: the simulated time, days done and in all, and what it does now."""

    at: datetime
    done: int
    total: int
    doing: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One policy to rehearse."""

    name: str
    kind: PolicyKind
    model: str | None = None
    loop: Loop | None = None  # whose flow trains, and over which window
    version: int | None = None  # that answers, for a policy that never trains
    every: timedelta | None = None  # of a calendar
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What one policy answered to every row, and at what cost."""

    plan: Plan
    scores: np.ndarray  # float64, one a row; nan for none
    made: tuple[tuple[Window, Trained | TrainingFailed], ...] = ()  # its trainings, in order
    changes: int = 0
    events: tuple[Event, ...] = ()
    decisions: tuple[Decision, ...] = ()
    decisions_name: str | None = None
    reused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The world that all policies of a rehearsal are in. Safe to use from several threads."""

    workspace: Workspace
    past: Past
    digest: str  # of the past, for what is kept
    columns: Columns
    scores: Scores
    trainings: Trainings
    kept: Kept
    find: Callable[[int], Version]
    clock: Clock
    start: datetime
    end: datetime
    name: str  # under which the decisions of the leading loop are stored
    lead: str  # the first loop's name

    def decisions_name(self, plan: Plan) -> str:
        """The name under which the decisions of a policy are stored."""
        return self.name if plan.name == self.lead else f"{self.name}/{plan.name}"


class Clock:
    """How far the policies are, told to one listener at a time, from whichever thread it is."""

    def __init__(self, start: datetime, end: datetime, heard: Callable[[Progress], None]) -> None:
        self._start, self._end = start, end
        self._heard = heard
        self._lock = threading.RLock()
        self._at: dict[str, datetime] = {}
        self._steps: dict[str, tuple[int, int]] = {}  # done and in all, by policy

    def expect(self, plan: Plan) -> None:
        """A policy is going to run."""
        if plan.loop is not None and plan.kind == "loop":
            steps = -(-(self._end - self._start) // plan.loop.every)
            self._steps[plan.name] = (0, steps)
            self._at[plan.name] = self._start

    def doing(self, what: str) -> None:
        """Tell what is being done now."""
        with self._lock:
            done = sum(one for one, _ in self._steps.values())
            total = sum(every for _, every in self._steps.values())
            at = min(self._at.values(), default=self._end if done else self._start)
            self._heard(Progress(at=at, done=done, total=total, doing=what))

    def days(self, plan: Plan) -> Iterator[tuple[datetime, datetime]]:
        """Each [since, until) of a loop in turn, told as it begins."""
        assert plan.loop is not None
        since = self._start
        while since < self._end:
            until = min(since + plan.loop.every, self._end)
            self.doing("deciding")
            yield since, until
            self._advance(plan, until)
            since = until

    def finish(self, plan: Plan) -> None:
        """A policy is done, whether its days were run or not."""
        self._advance(plan, self._end)

    def _advance(self, plan: Plan, until: datetime) -> None:
        with self._lock:
            done, total = self._steps[plan.name]
            self._steps[plan.name] = (total if until >= self._end else done + 1, total)
            self._at[plan.name] = min(until, self._end)
