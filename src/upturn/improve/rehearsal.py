"""What a rehearsal found: each policy by month and overall, the differences, and who won."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
import numpy as np

from upturn.core.records import Decision
from upturn.core.schema import OutputKind
from upturn.improve.compare import Comparison, compare_paired
from upturn.improve.metrics import METRICS, default_metrics
from upturn.improve.simulation import Past

PREFIX = "rehearsal/"  # decisions that were only rehearsed are stored under this and the id
_DRAWS = 400  # of days, some hundreds of them: the interval's ends then vary by a few per cent
_DAY = 86_400_000_000  # microseconds


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What one policy did and how good its answers were over all labelled rows."""

    name: str  # 'loop', 'never', 'calendar'
    retrains: int  # trainings after the first
    changes: int  # of the version that answers everybody
    values: dict[str, float | None]


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
    verdict: Literal["better", "worse", "open"]


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What a loop would have done over [start, end), and what that would have been worth."""

    id: str
    loop: str
    endpoint: str
    model: str
    start: datetime
    end: datetime
    calendar: str
    metrics: tuple[str, ...]  # the first decides who won
    decisions: tuple[Decision, ...] = ()
    rows: int = 0
    labelled: int = 0
    policies: tuple[Policy, ...] = ()
    months: tuple[Month, ...] = ()
    differences: tuple[Difference, ...] = ()
    conclusion: str = ""
    seconds: float = 0.0
    training_seconds: float = 0.0

    @property
    def decisions_name(self) -> str:
        """The name under which the decisions are stored."""
        return PREFIX + self.id

    def policy(self, name: str) -> Policy | None:
        """The policy of that name."""
        return next((policy for policy in self.policies if policy.name == name), None)


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What one policy answered to every row, and at what cost."""

    scores: Any  # float64, one a row; nan for none
    retrains: int = 0
    changes: int = 0


def judge(
    rehearsal: Rehearsal,
    past: Past,
    truth: np.ndarray,
    answers: Mapping[str, Answers],
    *,
    seed: int,
) -> Rehearsal:
    """The rehearsal with what each policy was worth: overall, by month, and against the loop.

    `truth` has the label of every row, nan where it is not known.
    """
    metrics = rehearsal.metrics

    def values(scores: np.ndarray, rows: np.ndarray) -> dict[str, float | None]:
        usable = rows & ~np.isnan(truth) & ~np.isnan(scores)
        found = {name: METRICS[name].function(truth[usable], scores[usable]) for name in metrics}
        return {name: _finite(value) for name, value in found.items()}

    everything = np.ones(past.rows, dtype=np.bool_)
    judged = msgspec.structs.replace(
        rehearsal,
        rows=past.rows,
        labelled=int((~np.isnan(truth)).sum()),
        policies=tuple(
            Policy(
                name=name,
                retrains=one.retrains,
                changes=one.changes,
                values=values(one.scores, everything),
            )
            for name, one in answers.items()
        ),
        months=_months(past, truth, answers, values),
        differences=tuple(
            _difference(name, metric, past, truth, answers, seed)
            for name in answers
            if name != "loop"
            for metric in metrics
        ),
    )
    return msgspec.structs.replace(judged, conclusion=_conclusion(judged))


def metrics_for(gate_metric: str | None, output: OutputKind) -> tuple[str, ...]:
    """The metrics of a rehearsal, the deciding one first: the gate's, or the model's usual one.

    >>> metrics_for(None, "probability")
    ('auc', 'log_loss', 'brier')
    """
    # Accuracy says little where one class is rare, and one number less is easier to read.
    usual = [name for name in default_metrics(output) if name != "accuracy"]
    return tuple(dict.fromkeys([*([gate_metric] if gate_metric else []), *usual]))


def _finite(value: float) -> float | None:
    return value if value - value == 0 else None


def _months(
    past: Past,
    truth: np.ndarray,
    answers: Mapping[str, Answers],
    values: Callable[[np.ndarray, np.ndarray], dict[str, float | None]],
) -> tuple[Month, ...]:
    names = past.at.astype("datetime64[us]").astype("datetime64[M]")
    labelled = ~np.isnan(truth)
    months: list[Month] = []
    for name in np.unique(names):
        rows = names == name
        known = truth[rows & labelled]
        months.append(
            Month(
                month=str(name),
                rows=int(rows.sum()),
                labelled=len(known),
                completeness=len(known) / int(rows.sum()),
                base_rate=float(known.mean()) if len(known) else None,
                values={policy: values(one.scores, rows) for policy, one in answers.items()},
            )
        )
    return tuple(months)


def _difference(
    against: str,
    metric: str,
    past: Past,
    truth: np.ndarray,
    answers: Mapping[str, Answers],
    seed: int,
) -> Difference:
    comparison = compare_paired(
        metric,
        truth,
        answers[against].scores,
        answers["loop"].scores,
        past.at // _DAY,
        alpha=0.025,  # each bound on its own, so that both make a 95 % interval
        draws=_DRAWS,
        seed=seed,
    )
    better, worse = comparison.low > 0, comparison.high < 0
    if not METRICS[metric].greater_is_better:
        better, worse = worse, better
    return Difference(
        against=against,
        comparison=comparison,
        verdict="better" if better else "worse" if worse else "open",
    )


_AGAINST = {"never": "never retraining", "calendar": "retraining every {}"}


def _conclusion(rehearsal: Rehearsal) -> str:
    """Who won by the deciding metric, or that it can't be told, and at what cost."""
    sentences: list[str] = []
    for one in rehearsal.differences:
        found = one.comparison
        if found.metric != rehearsal.metrics[0]:
            continue
        against = _AGAINST[one.against].format(rehearsal.calendar)
        said = f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
        if found.difference == 0 and found.low == found.high:
            sentences.append(f"The loop and {against} gave the same answers.")
        elif one.verdict == "open":
            sentences.append(
                f"Whether the loop or {against} had the better {found.metric} can't be told:"
                f" {said}."
            )
        else:
            sentences.append(
                f"The loop's {found.metric} was {one.verdict} than that of {against}: {said}."
            )
    costs = [
        f"{policy.name} {policy.retrains}"
        for policy in rehearsal.policies
        if policy.name != "never"
    ]
    return " ".join([*sentences, f"Retrains: {', '.join(costs)}."])
