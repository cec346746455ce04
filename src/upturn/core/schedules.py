"""Schedules: records of what is started when, and of what was started for which reason."""

from datetime import datetime
from typing import Any, Literal

from upturn.core.record import Record

Runs = Literal["flow", "loop", "monitor", "bandit"]
CatchUp = Literal["none", "last", "all"]
TickStatus = Literal["claimed", "started", "done", "failed"]  # started, done: rounds without a run


class Schedule(Record, frozen=True, kw_only=True):
    """What is to be started when, under a name; the last one holds.

    Nothing is started for what happened before `at`: a schedule that is changed, or goes on after
    a pause, begins anew.
    """

    table = "schedule"
    key = ("name", "seq")
    sequence = "seq"

    name: str
    seq: int = 0
    runs: Runs = "flow"
    entry: str  # where it is, within `root`: 'flights.py:delays'
    cron: str = ""  # '0 3 * * *', '@weekly', '@every 6h'; '' when only `after` starts it
    tz: str = "UTC"
    after: tuple[str, ...] = ()  # 'flow/prepare', 'model/delays', 'data/purchases.parquet'
    params: dict[str, Any] = {}  # JSON values that the flow is given each time
    overlap: str = ""  # instead of what the flow says itself
    catch_up: CatchUp = "last"  # of the ticks that nobody was there for
    paused: bool = False
    removed: bool = False
    project: str
    root: str  # the folder in which it is started
    who: str
    at: datetime


class Tick(Record, frozen=True, kw_only=True):
    """That something was started for a reason, or failed to; the last one holds.

    Whoever puts the first one of a cause, with the number 1, is the one who starts it: no other
    can. `run` is decided then, so that whoever has to start it again makes the same run.
    """

    table = "tick"
    key = ("schedule", "cause", "seq")
    sequence = "seq"
    indexed = ("run",)

    schedule: str
    cause: str  # '2026-03-29T01:00:00Z', 'run/k3f9x2', 'version/delays:7', 'data/FILE@DIGEST'
    seq: int = 0
    status: TickStatus = "claimed"
    run: str = ""  # the id of the run; '' for a round of a loop
    attempt: int = 1
    why: str = ""  # it failed
    at: datetime


class Position(Record, frozen=True, kw_only=True):
    """How far somebody has read the records of a kind, in the order of puts; the last one holds."""

    table = "position"
    key = ("reader", "kind", "seq")
    sequence = "seq"

    reader: str  # 'schedules', 'hook/ci'
    kind: str  # the table
    seq: int = 0
    position: int
    at: datetime
