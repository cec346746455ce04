"""Rehearsal: a loop on past data with a simulated clock, beside never retraining and a calendar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from upturn.core.errors import Invalid, RunFailed, did_you_mean
from upturn.core.ids import new_id
from upturn.core.records import Arm, Decision, Version
from upturn.core.rehearsing import rehearsing
from upturn.core.time import duration, end_instant, instant, spell
from upturn.improve.actions import window_params
from upturn.improve.evidence import Trained, TrainingFailed
from upturn.improve.loop import Duration, Loop
from upturn.improve.rehearsal import PREFIX, Answers, Rehearsal, judge, metrics_for
from upturn.improve.rollout import CHAMPION
from upturn.improve.runner import tick
from upturn.improve.simulation import (
    Past,
    Scores,
    Simulation,
    Trainings,
    past_of,
    past_of_log,
)
from upturn.stores.workspace import Workspace

BASELINES = ("never", "calendar")


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a rehearsal is: the simulated time, days done and in all, and what it does now."""

    at: datetime
    done: int
    total: int
    doing: str


def rehearse(
    workspace: Workspace,
    loop: Loop,
    *,
    start: str | date | datetime,
    end: str | date | datetime,
    history: Any = None,
    initial: int | None = None,
    baselines: Sequence[str] = BASELINES,
    calendar: Duration = "30d",
    progress: Callable[[Progress], None] | None = None,
    seed: int = 0,
) -> Rehearsal:
    """Run the loop over the rows from `start` to `end` with a simulated clock, and judge it.

    A date as `end` is the last day, included; an instant is the first that is left out.

    The clock moves by `loop.every`. At each step the rows since the last one are answered by the
    arms of the simulated route, the labels that became known are told, and the very `tick` that
    runs a real loop decides. Rows come from `history` (a table), else from `loop.history`, else
    from the endpoint's own Log. The first champion is version `initial`, else one trained on the
    `window` before `start`. Trainings are real runs of the loop's flow, so what they made is reused
    when the rehearsal is run again, after Ctrl-C too.

    The baselines: `never` keeps the first champion; `calendar` trains on the last `window` every
    `calendar` and deploys what comes, without a gate. Differences come with the 95 % interval of a
    bootstrap that draws days (`compare_paired`).

    What is simulated is only as good as the history: labels and features have to be those known at
    the time, answers have no influence on what happens, and there are no latencies to guard.

    Raises Invalid when there is nothing to rehearse on, RunFailed when the first training fails.
    """
    token = rehearsing.set(True)
    try:
        return _rehearse(
            workspace,
            loop,
            start=instant(start),
            end=end_instant(end),
            history=history,
            initial=initial,
            baselines=baselines,
            calendar=calendar,
            progress=progress,
            seed=seed,
        )
    finally:
        rehearsing.reset(token)


def _rehearse(
    workspace: Workspace,
    loop: Loop,
    *,
    start: datetime,
    end: datetime,
    history: Any,
    initial: int | None,
    baselines: Sequence[str],
    calendar: Duration,
    progress: Callable[[Progress], None] | None,
    seed: int,
) -> Rehearsal:
    began = time.perf_counter()
    _check(start, end, baselines)
    heard = progress or (lambda _: None)
    days = _Days(start, end, loop.every, heard)
    trainings = Trainings(loop.train, days.doing)
    find = _finder(workspace, loop)
    first = _first(trainings, find, initial, start, loop.window)
    days.doing("reading the history")
    past = _history(workspace, loop, history, start, end)
    scores = Scores(workspace, past, find)
    name = PREFIX + new_id()
    world, decisions = _run_loop(
        workspace, loop, past, scores, trainings, find, first, days, name=name
    )
    actions = [decision.action for decision in decisions]
    answers = {
        "loop": Answers(
            scores=world.answered,
            retrains=actions.count("retrain"),
            changes=actions.count("promote"),
        )
    }
    if "never" in baselines:
        answers["never"] = Answers(scores=scores.of(first, 0, past.rows))
    if "calendar" in baselines:
        every = duration(calendar)
        answers["calendar"] = _run_calendar(loop, past, scores, trainings, first, start, end, every)
    days.doing("comparing")
    version = find(first)
    outline = Rehearsal(
        id=name.removeprefix(PREFIX),
        loop=loop.name,
        endpoint=loop.endpoint.name,
        model=loop.endpoint.model_name,
        start=start,
        end=end,
        calendar=spell(duration(calendar)),
        metrics=metrics_for(loop.gate.metric if loop.gate else None, version.signature.output),
        decisions=tuple(decisions),
    )
    found = judge(outline, past, past.truth(version, end), answers, seed=seed)
    return msgspec.structs.replace(
        found, seconds=time.perf_counter() - began, training_seconds=trainings.seconds
    )


def _check(start: datetime, end: datetime, baselines: Sequence[str]) -> None:
    if start >= end:
        raise Invalid(
            f"A rehearsal from {start:%Y-%m-%d} until {end:%Y-%m-%d} has no days.",
            hint="Give a --start before the --end.",
        )
    for name in baselines:
        if name not in BASELINES:
            raise Invalid(f"There is no baseline {name!r}.", hint=did_you_mean(name, BASELINES))


def _finder(workspace: Workspace, loop: Loop) -> Callable[[int], Version]:
    known: dict[int, Version] = {}

    def find(number: int) -> Version:
        if number not in known:
            known[number] = workspace.meta.get(Version, loop.endpoint.model_name, number)
        return known[number]

    return find


def _first(
    trainings: Trainings,
    find: Callable[[int], Version],
    initial: int | None,
    start: datetime,
    window: timedelta,
) -> int:
    if initial is not None:
        return find(initial).number
    made = trainings.on(start - window, start)
    if isinstance(made, TrainingFailed):
        raise RunFailed(
            f"The first training failed: {made.problem.message}",
            hint=f"upturn resume {made.run}" if made.run else made.problem.hint,
        )
    return made.version


def _history(
    workspace: Workspace, loop: Loop, history: Any, start: datetime, end: datetime
) -> Past:
    if history is None and loop.history is None:
        return past_of_log(workspace, loop.endpoint, start, end)
    if history is None:
        assert loop.history is not None
        history = loop.history(**window_params(loop.history, start, end))
    return past_of(history, loop.endpoint, start, end)


def _run_loop(
    workspace: Workspace,
    loop: Loop,
    past: Past,
    scores: Scores,
    trainings: Trainings,
    find: Callable[[int], Version],
    first: int,
    days: _Days,
    *,
    name: str,
) -> tuple[Simulation, list[Decision]]:
    world = Simulation(past, endpoint=loop.endpoint, scores=scores, trainings=trainings, find=find)
    arm = Arm(name=CHAMPION, version=first, share=1.0)
    world.set_route((arm,), after=0, why="the first champion", now=days.start)
    decisions: list[Decision] = []
    for since, until in days:
        world.pass_time(since, until)
        decisions += tick(loop, world.log, world, workspace.meta, until, name=name)
    return world, decisions


def _run_calendar(
    loop: Loop,
    past: Past,
    scores: Scores,
    trainings: Trainings,
    first: int,
    start: datetime,
    end: datetime,
    every: timedelta,
) -> Answers:
    parts: list[np.ndarray] = []
    version, retrains, changes, at = first, 0, 0, start
    while at < end:
        if at > start:
            made = trainings.on(at - loop.window, at)
            retrains += 1
            if isinstance(made, Trained) and made.version != version:
                version, changes = made.version, changes + 1
        low, high = past.span(at, min(at + every, end))
        parts.append(scores.of(version, low, high))
        at += every
    return Answers(scores=np.concatenate(parts), retrains=retrains, changes=changes)


class _Days:
    """The simulated clock: yields each [since, until) in turn and tells how far it is."""

    def __init__(
        self,
        start: datetime,
        end: datetime,
        every: timedelta,
        heard: Callable[[Progress], None],
    ) -> None:
        self.start = start
        self._end = end
        self._every = every
        self._heard = heard
        self._total = -(-(end - start) // every)
        self._done = 0

    def doing(self, what: str) -> None:
        """Tell what is being done now."""
        at = min(self.start + self._done * self._every, self._end)
        self._heard(Progress(at=at, done=self._done, total=self._total, doing=what))

    def __iter__(self) -> Iterator[tuple[datetime, datetime]]:
        since = self.start
        while since < self._end:
            until = min(since + self._every, self._end)
            self.doing("deciding")
            yield since, until
            self._done += 1
            since = until
