"""Actions: what a loop can do to the world, and training by a flow, the same in every world."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, cast

from upturn.core.errors import Invalid, UpturnError
from upturn.core.records import Arm, Route, Version
from upturn.core.time import instant
from upturn.improve.evidence import AlarmsSeen, ApprovalSeen, Trained, TrainingFailed
from upturn.improve.loop import Trains

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

DAY = timedelta(days=1)


class Actions(Protocol):
    """The world that a loop acts on: the real one (`upturn.wiring`) or a rehearsed one.

    Every action may be repeated without further effect. Used by one thread at a time.
    """

    def route(self) -> Route | None:
        """The endpoint's present route."""
        ...

    def set_route(self, arms: tuple[Arm, ...], *, after: int, why: str, now: datetime) -> str:
        """Make these the arms, and wait until they are served. Why they are not, or ''.

        Raises Conflict when the route is not at the revision `after` any more.
        """
        ...

    def train(self, start: datetime, until: datetime) -> Trained | TrainingFailed:
        """Train on the data in [start, until)."""
        ...

    def version(self, number: int) -> Version:
        """The version of the endpoint's model. Raises NotFound."""
        ...

    def trained(self, number: int) -> Trained:
        """What is known of how that version was trained."""
        ...

    def alarms(self) -> AlarmsSeen | None:
        """The alarms of the endpoint's monitors that go on; None where nobody watches."""
        ...

    def approval(self, asked: int) -> ApprovalSeen | None:
        """What a person said to the loop's decision of that number; None as long as nobody did."""
        ...

    def score(self, number: int, rows: pa.Table) -> np.ndarray:
        """The version's score of each row (nan for none). Columns are the inputs by name, and `id`.

        Raises UpturnError when it can't be loaded or the rows lack an input.
        """
        ...


def train(
    flow: Trains,
    start: datetime,
    until: datetime,
    *,
    heard: Callable[[str], None] = lambda _: None,
) -> Trained | TrainingFailed:
    """Run the flow on [start, until) in this process; its version, or why there is none.

    `heard` is told when it begins, and which run it was. Runs reuse what others have made, so
    repeating a training that was interrupted repeats no finished step.
    """
    run: str | None = None
    heard(f"training {flow.name} on {start:%Y-%m-%d %H:%M} until {until:%Y-%m-%d %H:%M}")
    try:
        handle = flow.run(**window_params(flow, start, until))
        run = handle.id
        heard(f"trained by run {run}")
        version = handle.result()
        if not isinstance(version, Version):
            raise Invalid(
                f"The flow {flow.name!r} returned {type(version).__name__}, not a Version.",
                hint="End it with: return up.register(…).",
            )
    except UpturnError as error:
        return TrainingFailed(problem=error.problem, run=run or error.fields.get("run"))
    return Trained(
        version=version.number,
        trained_until=until,
        metrics=dict(version.metrics),
        run=run,
        artifact=version.artifact,
    )


def window_params(function: object, start: datetime, until: datetime) -> dict[str, Any]:
    """`start` and `end` as a function wants them: whole days for `date`, the last one included.

    >>> def daily(start: date, end: date): ...
    >>> window_params(daily, instant("2013-01-01"), instant("2013-04-01"))
    {'start': datetime.date(2013, 1, 1), 'end': datetime.date(2013, 3, 31)}
    """
    first = (start + DAY - timedelta(microseconds=1)).date()  # the first day that is whole
    last = until.date() - DAY
    days = {"start": first, "end": last}
    instants = {"start": start, "end": until}
    return {name: days[name] if _is_date(function, name) else instants[name] for name in days}


def trained_until(version: Version) -> datetime | None:
    """The instant at which the version's training data ends, from its flow's parameter `end`."""
    end = version.params.get("end")
    if not isinstance(end, str | date):
        return None
    try:
        at = instant(end)
    except Invalid:
        return None
    whole_day = len(end) == len("2013-03-31") if isinstance(end, str) else type(end) is date
    return at + DAY if whole_day else at


def trained_as(version: Version) -> Trained:
    """What the version's own record says of how it was trained."""
    return Trained(
        version=version.number,
        trained_until=trained_until(version),
        metrics=dict(version.metrics),
        run=version.run,
        artifact=version.artifact,
    )


def _is_date(function: object, name: str) -> bool:
    plain = cast("Callable[..., Any]", getattr(function, "function", function))
    try:
        kind = inspect.signature(plain, eval_str=True).parameters[name].annotation
    except (KeyError, NameError, TypeError, ValueError):
        return False
    return kind is date
