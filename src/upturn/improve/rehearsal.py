"""What a rehearsal found: what each policy did, cost and was worth, and what may be concluded."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from upturn.core.records import Decision
from upturn.core.schema import OutputKind
from upturn.improve.compare import Comparison
from upturn.improve.metrics import ROW_LOSSES, default_metrics

PREFIX = "rehearsal/"  # decisions that were only rehearsed are stored under this and the id
PolicyKind = Literal["loop", "never", "calendar", "version", "oracle"]
Standing = Literal["better", "worse", "open"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a policy did at a time, and the version that it did it with."""

    at: datetime
    action: str  # 'retrain', 'promote', 'refuse', 'rollback', …
    version: int | None = None


class Regret(msgspec.Struct, frozen=True, kw_only=True):
    """By how much a policy lost more than the best one, summed over rows, with a 95 % interval.

    All intervals of a rehearsal hold together: the chance that any of them misses is 5 %. Over too
    few days there are none.
    """

    total: float
    low: float | None
    high: float | None


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What one policy did, what that cost, and how good its answers were over all labelled rows."""

    name: str  # 'loop', 'never', 'calendar'
    retrains: int  # trainings after the first
    changes: int  # of the version that answers everybody
    values: dict[str, float | None]
    kind: PolicyKind = "loop"
    training_seconds: float = 0.0  # that the steps of these trainings took when they ran
    training_rows: int = 0  # labelled rows that these trainings used, each as often as it was used
    settings: dict[str, str] = {}  # by which a variant differs: {'when.psi': '0.2'}
    events: tuple[Event, ...] = ()
    decisions_name: str | None = None  # under which its decisions are stored
    regret: Regret | None = None


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """One month: its rows, and each policy's metrics on the labelled ones."""

    month: str  # '2013-04'
    rows: int
    labelled: int
    completeness: float
    base_rate: float | None
    values: dict[str, dict[str, float | None]]  # by policy, then metric


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The loop against a baseline on the same rows; `comparison.candidate` is the loop."""

    against: str
    comparison: Comparison
    verdict: Standing


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of one policy over time, with a 95 % interval; None where it can't be said."""

    policy: str
    figure: str  # a metric, or 'regret': the sum until then
    at: tuple[datetime, ...]  # the end of each period
    values: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the best of many policies is better than a reference, though it was picked as such.

    `p` is of Hansen's test for superior predictive ability (2005), after White's reality check
    (2000): the chance that the best of so many would look at least as good if none were better.
    """

    best: str
    against: str
    among: int
    p: float


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """A variant to use: chosen on the earlier part of the past, looked at on the later part.

    `chosen_by` and `validated` compare it with the best of the earlier part: the suggestion's loss
    less that one's. `holds` says whether the later part agrees that it is not worse.
    """

    name: str
    settings: dict[str, str]
    best: str
    split: datetime  # the later part begins here
    retrains: int  # of the suggestion in the earlier part
    best_retrains: int
    chosen_by: Comparison | None
    validated: Comparison | None
    holds: Literal["yes", "no", "open", "same"]
    text: str


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What policies would have done over [start, end), and what that would have been worth."""

    id: str
    loop: str
    endpoint: str
    model: str
    start: datetime
    end: datetime
    calendar: str
    metrics: tuple[str, ...]  # the first decides who won
    decisions: tuple[Decision, ...] = ()  # of the first loop
    rows: int = 0
    labelled: int = 0
    policies: tuple[Policy, ...] = ()
    months: tuple[Month, ...] = ()
    differences: tuple[Difference, ...] = ()
    conclusion: str = ""
    seconds: float = 0.0
    training_seconds: float = 0.0
    trainings: int = 0  # of different windows, whoever asked for them
    loss: str = ""  # the metric that regret is counted in: a mean over rows
    best: str = ""  # the policy that lost the least, in hindsight
    block_days: float = 1.0  # the mean length of the blocks of days that intervals come from
    curves: tuple[Curve, ...] = ()
    selection: Selection | None = None
    suggestion: Suggestion | None = None
    reused: tuple[str, ...] = ()  # policies whose ticks were not run again

    @property
    def decisions_name(self) -> str:
        """The name under which the first loop's decisions are stored."""
        return PREFIX + self.id

    def policy(self, name: str) -> Policy | None:
        """The policy of that name."""
        return next((policy for policy in self.policies if policy.name == name), None)

    def curve(self, policy: str, figure: str) -> Curve | None:
        """A figure of that policy over time: a metric, or 'regret'."""
        found = (one for one in self.curves if one.policy == policy and one.figure == figure)
        return next(found, None)


def metrics_for(gate_metric: str | None, output: OutputKind) -> tuple[str, ...]:
    """The metrics of a rehearsal, the deciding one first: the gate's, or the model's usual one.

    >>> metrics_for(None, "probability")
    ('auc', 'log_loss', 'brier')
    """
    # Accuracy says little where one class is rare, and one number less is easier to read.
    usual = [name for name in default_metrics(output) if name != "accuracy"]
    return tuple(dict.fromkeys([*([gate_metric] if gate_metric else []), *usual]))


def loss_for(metrics: tuple[str, ...]) -> str:
    """The metric that regret is counted in: the first that is a mean of what rows lose, or ''.

    >>> loss_for(("auc", "log_loss", "brier")), loss_for(("rmse", "mae"))
    ('log_loss', 'rmse')
    """
    return next((name for name in metrics if name in ROW_LOSSES and name != "accuracy"), "")
