"""Evidence: records of what a loop saw before it decided, as its decisions store them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from upturn.core.errors import Problem
from upturn.core.records import Arm
from upturn.improve.compare import Comparison


class RouteSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoint's route: its revision, 0 when there is none, and who answers."""

    revision: int = 0
    arms: tuple[Arm, ...] = ()


class ColumnDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How far one column is from its training: the PSI, and the part that noise explains."""

    column: str
    psi: float
    noise: float

    @property
    def index(self) -> float:
        """What remains of the PSI after its noise."""
        return max(0.0, self.psi - self.noise)


class DriftSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The drift in [since, until) against the champion's training data.

    Features are those of every answered row, whoever answered; `prediction` is the champion's own.
    """

    since: datetime
    until: datetime
    rows: int
    columns: tuple[ColumnDrift, ...]  # largest first
    covered: bool = True  # whether the rows reach back over half of the window at least


class PerformanceSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The champion's metrics on its rows in [since, until) whose labels are known by `until`."""

    since: datetime
    until: datetime
    rows: int
    labelled: int
    values: dict[str, float]
    covered: bool = True  # whether the rows reach back over half of the window at least

    @property
    def completeness(self) -> float:
        """The share of the rows whose label is known."""
        return self.labelled / self.rows if self.rows else 0.0


class Trained(msgspec.Struct, frozen=True, kw_only=True, tag="trained"):
    """What a training made."""

    version: int
    trained_until: datetime | None  # its data ends before
    metrics: dict[str, float] = {}
    run: str | None = None
    artifact: str = ""  # digest of the model


class TrainingFailed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """Why a training made nothing, and the run to resume."""

    problem: Problem
    run: str | None = None


class SliceSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Candidate and champion on one part of a gate's rows, as 'origin=JFK'.

    `p_harm` is the one-sided p-value of the candidate's being worse by no more than the gate
    allows: small where it is worse by more. No comparison: the rows are too few or too alike.
    """

    name: str
    rows: int
    comparison: Comparison | None = None
    p_harm: float | None = None


class GateSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Candidate and champion on the same rows in [since, until), labels known by `until`.

    No comparison: there were not enough rows, or they could not be scored; `note` says which.
    `values` are further metrics of the candidate on these rows. Of a gate of several metrics,
    `comparison` is of the first and `further` of the rest, each in its place; `slices` are in the
    order of those gates, too.
    """

    since: datetime
    until: datetime
    rows: int
    labelled: int
    comparison: Comparison | None = None
    values: dict[str, float] = {}
    note: str = ""
    impossible: bool = False  # more rows would not help
    further: tuple[Comparison, ...] = ()
    slices: tuple[tuple[SliceSeen, ...], ...] = ()
    newest: datetime | None = None  # when the last of the labels became known

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """One for each metric of the gate; none when there was nothing to compare."""
        return () if self.comparison is None else (self.comparison, *self.further)


class GuardSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One guard's comparison of candidate and champion on the rows of the stage so far.

    `rows` are those of the arm that has fewer. An exempt guard has nothing to look at, ever.
    """

    metric: str
    rows: int
    comparison: Comparison | None = None
    exempt: str = ""


class LabelsSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The labelled rows since the champion's training data ends, by what was known at `until`."""

    since: datetime
    until: datetime
    labelled: int
    newest: datetime | None = None  # when the last of the labels became known


class AlarmsSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The alarms of the endpoint's monitors that go on: their names, and what each says."""

    going_on: dict[str, str] = {}


class ApprovalSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What a person said of a candidate, to the decision of that number."""

    decision: int
    approved: bool
    who: str
    why: str = ""
    at: datetime | None = None


class ExposureSeen(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests candidates answered in [since, until), of how many in all."""

    since: datetime
    until: datetime
    exposed: int
    answered: int


class UndoSeen(msgspec.Struct, frozen=True, kw_only=True):
    """That a person took a decision back: which one, and the state that it started from."""

    decision: int
    action: str
    before: dict[str, Any]
    model: str
    who: str
    why: str = ""
    quiet_until: datetime


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that one decision rests on, besides the state and the time."""

    route: RouteSeen = RouteSeen()
    refused: str = ""  # why the server does not take the route that the state asks for
    drift: DriftSeen | None = None
    performance: PerformanceSeen | None = None
    training: Trained | TrainingFailed | None = None
    gate: GateSeen | None = None
    guards: tuple[GuardSeen, ...] = ()
    labels: LabelsSeen | None = None
    alarms: AlarmsSeen | None = None  # None: nobody watches, as in a rehearsal
    approval: ApprovalSeen | None = None
    exposure: ExposureSeen | None = None
    undo: UndoSeen | None = None


def to_json(record: msgspec.Struct) -> dict[str, Any]:
    """The record as JSON values."""
    # Through text: infinities and NaN (a metric of one class) become null, times become strings.
    return msgspec.json.decode(msgspec.json.encode(record))
