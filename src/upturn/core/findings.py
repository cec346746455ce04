"""Findings: records of what was learned about a model in the world, and of what was done then."""

from datetime import datetime
from typing import Any, Literal

from upturn.core.record import Record


class Decision(Record, frozen=True, kw_only=True):
    """What a loop decided, the evidence that it rests on, and the state that it left behind."""

    table = "decision"
    key = ("loop", "seq")
    sequence = "seq"
    indexed = ("action",)

    loop: str
    seq: int = 0
    action: str
    why: str
    evidence: dict[str, Any]
    state: dict[str, Any]
    at: datetime  # on the loop's clock
    recorded_at: datetime
    otherwise: str = ""  # what would have changed it
    endpoint: str = ""
    entry: str = ""  # where the loop is, if it was said: '/srv/flights.py:loop'
    gathered_at: datetime | None = None  # when its evidence was asked of the Log, by our clock


class Check(Record, frozen=True, kw_only=True):
    """One answer of a monitor."""

    table = "check"
    key = ("endpoint", "seq")
    sequence = "seq"

    endpoint: str
    seq: int = 0
    since: datetime
    until: datetime
    report: dict[str, Any]
    at: datetime


class Verdict(Record, frozen=True, kw_only=True):
    """What may be concluded from an experiment so far; it can be had again from its rows."""

    table = "verdict"
    key = ("experiment", "seq")
    sequence = "seq"
    indexed = ("endpoint",)

    experiment: str
    seq: int = 0
    endpoint: str | None = None  # whose arms are compared; None: those of a table
    since: datetime | None = None
    until: datetime | None = None
    spec: dict[str, Any]  # what was asked: arms, metrics, method
    report: dict[str, Any]
    says: str  # the conclusion, in one sentence
    at: datetime


class Alert(Record, frozen=True, kw_only=True):
    """That something about an endpoint was noticed, goes on, or is over; the last one holds.

    `name` says what it is about, the same as long as it goes on: 'drift/dep_hour'.
    """

    table = "alert"
    key = ("endpoint", "name", "seq")
    sequence = "seq"

    endpoint: str
    name: str
    seq: int = 0
    status: Literal["raised", "worse", "over"]
    severity: Literal["warning", "critical"] = "warning"
    says: str  # what changed, in one sentence
    began_at: datetime  # of the first row of the window in which it began
    version: str | None = None
    owner: str = ""
    facts: dict[str, Any] = {}
    check: int = 0  # the number of the Check that it rests on
    told: tuple[str, ...] = ()  # the channels that took it
    failed: dict[str, str] = {}  # those that did not, and why
    muted: bool = False
    at: datetime


class Mute(Record, frozen=True, kw_only=True):
    """That nobody is to be told of an alert until an instant; the last one holds."""

    table = "mute"
    key = ("endpoint", "name", "seq")
    sequence = "seq"

    endpoint: str
    name: str  # an alert's; a pattern: 'drift/*'
    seq: int = 0
    until: datetime | None  # None: it is muted no longer
    why: str = ""
    who: str
    at: datetime


class Approval(Record, frozen=True, kw_only=True):
    """What a person said to a loop that asked; `decision` is the number of the one that asked."""

    table = "approval"
    key = ("loop", "seq")
    sequence = "seq"

    loop: str
    seq: int = 0
    decision: int
    approved: bool
    why: str = ""
    who: str
    at: datetime
