"""Start: what a run is told by whoever started it, and the parameters that follow from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Protocol

import msgspec

from upturn.develop.schedule.timetable import zone_of

_DAY = timedelta(days=1)


class Param(Protocol):
    """A parameter of a flow."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def type(self) -> Any:
        """Its type."""
        ...

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        ...


class Start(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a run is to be made: its id, what it is given, and the interval that it is for."""

    run: str
    params: dict[str, Any] = {}
    same: dict[str, Any] = {}  # parameters of what it comes after
    since: datetime | None = None
    until: datetime | None = None
    tz: str = "UTC"
    overlap: str = ""

    def encoded(self) -> str:
        """As text, for the command line of the process."""
        return msgspec.json.encode(self).decode()


def decoded(text: str) -> Start:
    """The start of which that is the text."""
    return msgspec.json.decode(text, type=Start)


def params_of(params: Sequence[Param], start: Start) -> dict[str, Any]:
    """What a flow of those parameters is given.

    First counts what the schedule says, then what it comes after; the interval is for parameters
    named `start` and `end` that have no default.
    """
    known = {param.name: param for param in params}
    given = {name: value for name, value in start.same.items() if name in known} | start.params
    if start.since is not None and start.until is not None:
        for name in ("start", "end"):
            param = known.get(name)
            if param is not None and param.required and name not in given:
                given[name] = interval_value(param, name, start.since, start.until, start.tz)
    return given


def interval_value(
    param: Param, which: str, since: datetime, until: datetime, tz: str
) -> date | datetime:
    """The start or the end of [since, until) as a parameter takes it.

    Dates are days of the zone, the last one included: the day in which it starts, up to the one
    before that in which it ends. So one interval after the other leaves out no day.
    """
    if param.type is not date:
        return since if which == "start" else until
    zone = zone_of(tz)
    first = since.astimezone(zone).date()
    if which == "start":
        return first
    return max(first, until.astimezone(zone).date() - _DAY)


def interval_params(
    params: Sequence[Param], since: datetime, until: datetime, tz: str, names: Mapping[str, str]
) -> dict[str, Any]:
    """The parameters of an interval: `names` says which one is its 'start', and which its 'end'."""
    known = {param.name: param for param in params}
    return {
        name: interval_value(known[name], which, since, until, tz) for name, which in names.items()
    }
