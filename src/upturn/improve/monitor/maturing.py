"""Maturing: what a metric is going to be when all labels are there, from those that came early."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upturn.core.errors import Invalid
from upturn.core.schema import Signature
from upturn.core.time import duration
from upturn.improve.intervals import Blocks, blocks_of, left_out
from upturn.improve.metrics import Floats, MetricDef, default_metrics, get_metric
from upturn.improve.monitor.delays import DelayCurve
from upturn.improve.monitor.kinds import FEW, Kinds, LabelRows
from upturn.improve.statistics.interval import Interval
from upturn.improve.student import t_quantile

LEAST = 0.1  # of a group's labels have to have arrived: a row never stands for more than ten
_BLOCKS = 20  # of the history, that are left out one after the other


class Matured(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics corrected for labels that are still out, beside what the early labels say.

    `values` are corrected, `naive` are those of the labels that are there. Rows younger than
    `younger_than_s` are left out of both: too few labels of their age have arrived to stand for the
    rest. `assumes` says what has to hold for the correction to be right.
    """

    rows: int
    labelled: int
    left_out: int
    younger_than_s: float
    horizon_s: float
    values: dict[str, float]
    naive: dict[str, float]
    intervals: dict[str, Interval]
    curves: dict[str, DelayCurve]
    assumes: tuple[str, ...]
    unsaid: str = ""  # why there is no correction


def mature(
    window: pa.Table,
    history: pa.Table,
    *,
    known_by: datetime,
    metrics: Sequence[str] | None = None,
    signature: Signature | None = None,
    by: Sequence[str] = (),
    horizon: str | float | timedelta | None = None,
    absent: float | None = None,
    level: float = 0.95,
) -> Matured:
    """The metrics of `window` as they will be when its labels are there, by how labels arrived.

    Both tables are as LogView.joined returns them at `known_by`; `history` may hold the window's
    rows too, and reaches far enough back that its oldest labels are all there. A label counts 1 /
    (the share of labels of its kind that have arrived at its age): inverse probability weighting
    (Horvitz & Thompson 1952; Robins, Rotnitzky & Zhao 1994), the kind being the label itself (a
    class, or a fifth of the numbers) and the values of the features `by`. So quick labels may
    differ from slow ones. Labels later than `horizon` count as never; without one it is the longest
    delay seen.

    With `absent`, 0.0 say, a row without a label counts as that, until the other label arrives: a
    fraud that has not been reported. Then each label that came late stands for its like among the
    rows that are still counted as `absent`, and its share is taken off there (Ktena et al. 2019,
    arXiv 1907.06558, "fake negatives"). It is right for metrics that are functions of sums, and for
    AUC.

    Intervals add the uncertainty of the window's days and of the history's, both by the jackknife.
    Raises NotFound for an unknown metric, Invalid for one that `absent` does not go with or a
    feature that is not there.
    """
    output = signature.output if signature else "probability"
    wanted = [get_metric(name) for name in (metrics or default_metrics(output))]
    for metric in wanted:
        if absent is not None and metric.sums is None and metric.name != "auc":
            raise Invalid(
                f"{metric.name} can't be corrected for labels that are absent.",
                hint="Ask for auc, log_loss, brier, accuracy, f1, precision, recall or mcc.",
            )
    longest = math.inf if horizon is None else duration(horizon).total_seconds()
    past = LabelRows.of(history, known_by, signature, by, longest)
    now = LabelRows.of(window, known_by, signature, by, longest)
    kinds = Kinds.of(past, absent)
    curves = kinds.curves(past)
    found = _counted(now, kinds, curves, absent)
    labelled = int(np.isfinite(now.label).sum())
    unsaid = _unsaid(curves, found)
    values, intervals = {one.name: math.nan for one in wanted}, dict[str, Interval]()
    if not unsaid:
        values = {one.name: found.of(one) for one in wanted}
        intervals = _intervals(wanted, now, past, kinds, found, absent, level)
    reach = max((curve.delays_s[-1] for curve in curves.values() if curve.rows), default=math.nan)
    return Matured(
        rows=window.num_rows,
        labelled=labelled,
        left_out=int(now.rows - found.rows),
        younger_than_s=found.younger_than_s,
        horizon_s=longest if math.isfinite(longest) else reach,
        values=values,
        naive=_naive(wanted, now, found.younger_than_s, absent),
        intervals=intervals,
        curves=curves,
        assumes=_assumes(by, absent, reach),
        unsaid=unsaid,
    )


class _Counted(msgspec.Struct, frozen=True):
    """The labels, scores and weights that stand for all rows old enough."""

    label: Floats
    score: Floats
    weight: Floats
    at: NDArray[np.int64]
    rows: int  # of the window, that are old enough
    younger_than_s: float

    def of(self, metric: MetricDef) -> float:
        return metric.function(self.label, self.score, self.weight)


def _counted(
    now: LabelRows, kinds: Kinds, curves: Mapping[str, DelayCurve], absent: float | None
) -> _Counted:
    some = [curve for curve in curves.values() if curve.rows]
    youngest = max((curve.age_s(LEAST) for curve in some), default=math.inf)
    old = now.age_s >= youngest
    share = kinds.share(now, curves)
    seen = old & (share >= LEAST / 2)
    weight = now.weight[seen] / share[seen]
    rows = int(old.sum())
    if absent is None:
        return _Counted(now.label[seen], now.score[seen], weight, now.at[seen], rows, youngest)
    # Whoever has no label counts as absent; of those, as many as the late ones stand for do not.
    rest = old & ~seen
    none = np.full(int(rest.sum()), absent)
    taken = np.full(int(seen.sum()), absent)
    return _Counted(
        np.concatenate([now.label[seen], taken, none]),
        np.concatenate([now.score[seen], now.score[seen], now.score[rest]]),
        np.concatenate([weight, now.weight[seen] - weight, now.weight[rest]]),
        np.concatenate([now.at[seen], now.at[seen], now.at[rest]]),
        rows,
        youngest,
    )


def _naive(
    wanted: Sequence[MetricDef], now: LabelRows, younger_than_s: float, absent: float | None
) -> dict[str, float]:
    label = now.label if absent is None else np.where(np.isfinite(now.label), now.label, absent)
    use = (now.age_s >= younger_than_s) & np.isfinite(label)
    return {one.name: one.function(label[use], now.score[use], now.weight[use]) for one in wanted}


def _unsaid(curves: Mapping[str, DelayCurve], found: _Counted) -> str:
    few = [name for name, curve in curves.items() if curve.rows < FEW]
    if not curves or few:
        which = f" with {few[0]}" if few else ""
        return f"fewer than {FEW} rows of the history{which} have a label"
    return "" if found.rows else "no row is old enough"


def _intervals(
    wanted: Sequence[MetricDef],
    now: LabelRows,
    past: LabelRows,
    kinds: Kinds,
    found: _Counted,
    absent: float | None,
    level: float,
) -> dict[str, Interval]:
    blocks = blocks_of(found.at)
    history = blocks_of(past.at).merged(_BLOCKS)
    if not blocks.name or not history.name:
        return {}
    refits = [
        _counted(now, kinds, kinds.curves(_without(past, history, one)), absent)
        for one in range(history.count)
    ]
    intervals: dict[str, Interval] = {}
    for metric in wanted:
        whole, without, used = left_out(metric, found.label, found.score, found.weight, blocks)
        other = np.array([one.of(metric) for one in refits])
        error = math.hypot(_error(without), _error(other))
        if not (math.isfinite(whole) and math.isfinite(error) and error > 0):
            continue
        reach = t_quantile((1 + level) / 2, used.count - 1) * error
        intervals[metric.name] = Interval(
            estimate=whole,
            low=max(metric.span[0], whole - reach),
            high=min(metric.span[1], whole + reach),
            level=level,
            p_value=math.nan,
            method=f"jackknife over {used.name}, of the rows and of the history",
        )
    return intervals


def _error(without: Floats) -> float:
    count = len(without)
    return math.sqrt((count - 1) / count * float(np.square(without - without.mean()).sum()))


def _without(past: LabelRows, history: Blocks, one: int) -> LabelRows:
    keep = history.index != one
    return LabelRows(*(getattr(past, name)[keep] for name in past.__struct_fields__))


def _assumes(by: Sequence[str], absent: float | None, reach: float) -> tuple[str, ...]:
    apart = " and ".join(["label", *by])
    days = f"{reach / 86400:.3g} days" if math.isfinite(reach) else "the longest delay seen"
    said = [
        f"Labels of one {apart} arrive as they did in the history, whatever their score.",
        f"No label arrives after {days}, or those that do are like the others.",
        "Rows that are too young are like those that are old enough.",
    ]
    if absent is not None:
        said.append(f"A row whose label has not arrived by then is {absent:g}.")
    return tuple(said)
