"""Performance: how good the answers were as far as the truth is known, and how far that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.core.schema import Signature
from upturn.improve.intervals import Blocks, blocks_of, metric_interval
from upturn.improve.measures.classes import class_accuracy, macro_f1, own_losses, own_squares
from upturn.improve.measures.ranking import RANKING, ranked
from upturn.improve.measures.sums import Summed, mean_of
from upturn.improve.metrics import Floats, MetricDef, base_rate, default_metrics, get_metric
from upturn.improve.monitor.answers import UNKNOWN, arrow_rows, class_places, class_shares, key
from upturn.improve.statistics.interval import Interval

_DAY = 86_400_000_000  # microseconds
_OF_CLASSES = ("accuracy", "macro_f1", "log_loss", "brier")
_OWN = mean_of(lambda labels, scores: scores)  # of losses that are known already


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics over the labelled rows of some predictions; nan where one is not defined.

    `completeness` is labelled / rows, nan without rows. `values` holds the base rate of the labels
    (their mean) beside the metrics. `intervals` are there where they were asked for; one whose ends
    are nan says in its `method` why. A Log that holds a sample counts its rows by 1 / `rate`:
    `sampled` says so.
    """

    rows: int
    labelled: int
    completeness: float
    values: dict[str, float]
    intervals: dict[str, Interval] = {}
    sampled: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """What metrics are computed from: a label, a score and a weight for each row that counts.

    `rows` are their places in the table. `metrics` are those asked for that fit, each with the
    scores that it judges: one array for all, bar of models of several classes.
    """

    labels: Floats
    weights: Floats | None
    rows: NDArray[np.intp]
    metrics: tuple[tuple[MetricDef, Floats], ...]
    with_base_rate: bool

    def values(self, intervals: Mapping[str, Interval] | None = None) -> dict[str, float]:
        """The metrics, by name, after the base rate of labels that have one.

        Those that have an interval are not computed again.
        """
        rate = {"base_rate": base_rate(self.labels, self.weights)} if self.with_base_rate else {}
        if intervals is not None:
            return rate | {name: one.estimate for name, one in intervals.items()}
        return rate | {
            metric.name: metric.function(self.labels, scores, self.weights)
            for metric, scores in self.metrics
        }

    def intervals(self, blocks: Blocks, level: float) -> dict[str, Interval]:
        """Of each metric, by the jackknife over blocks; see `metric_interval`."""
        return {
            metric.name: metric_interval(
                metric, self.labels, scores, blocks, weights=self.weights, level=level
            )
            for metric, scores in self.metrics
        }


def performance(
    joined: pa.Table,
    metrics: Sequence[str] | None = None,
    *,
    signature: Signature | None = None,
    level: float | None = None,
) -> Performance:
    """The metrics of a table as LogView.joined returns it, over rows with a label and a score.

    The metrics are those that fit the signature's output, probabilities if there is none. Rows
    count by 1 / `rate`, the share of such rows that the Log holds. For a model that answers labels
    or the probabilities of several classes, `accuracy` is the share of answers equal to the label
    (the most likely class), `macro_f1` the mean F1 of the classes; of probabilities there are
    `log_loss` and `brier` too. With a `level`, 0.95 say, each gets an interval by the jackknife
    over the days of `at`. Raises NotFound for a metric that does not exist.
    """
    found = judged(joined, metrics, signature=signature)
    labelled = joined.num_rows - joined["label"].null_count
    intervals: dict[str, Interval] | None = None
    if level is not None:
        intervals = found.intervals(blocks_of(instants(joined)[found.rows]), level)
    return Performance(
        rows=joined.num_rows,
        labelled=labelled,
        completeness=labelled / joined.num_rows if joined.num_rows else float("nan"),
        values=found.values(intervals),
        intervals=intervals or {},
        sampled=found.weights is not None,
    )


def performance_by(
    joined: pa.Table,
    period: Literal["day", "month"],
    metrics: Sequence[str] | None = None,
    *,
    signature: Signature | None = None,
    level: float | None = None,
) -> dict[str, Performance]:
    """The performance of each UTC day ('2013-04-01') or month ('2013-04') of `at`, in order."""
    shape = "%Y-%m-%d" if period == "day" else "%Y-%m"
    names = pc.strftime(joined["at"], format=shape)
    found = sorted(filter(None, pc.unique(names).to_pylist()))
    return {
        name: performance(
            joined.filter(_equal(names, name)), metrics, signature=signature, level=level
        )
        for name in found
    }


def judged(
    joined: pa.Table, metrics: Sequence[str] | None = None, *, signature: Signature | None = None
) -> Judged:
    """The rows that have a label and a score, and the metrics that fit. See `performance`."""
    output = signature.output if signature else "probability"
    if output == "label":
        return _of_labels(joined, metrics or ("accuracy", "macro_f1"))
    if output == "scores" and signature is not None:
        return _of_shares(joined, metrics or ("accuracy", "macro_f1", "log_loss"), signature)
    wanted = [
        get_metric(name) for name in (default_metrics(output) if metrics is None else metrics)
    ]
    labels, predicted = outcomes(joined, signature), scores(joined)
    rows = np.flatnonzero(np.isfinite(labels) & np.isfinite(predicted))
    labels, predicted = labels[rows], predicted[rows]
    return Judged(
        labels=labels,
        weights=_weights(joined, rows),
        rows=rows,
        metrics=tuple((one, predicted) for one in wanted),
        with_base_rate=True,
    )


def ranking_performance(
    joined: pa.Table,
    *,
    by: str = "request",
    k: int | None = 10,
    signature: Signature | None = None,
    level: float = 0.95,
) -> Performance:
    """Metrics of rankings: the rows with one value of the column `by` are one query's candidates.

    The labels are the rows' relevance; rows without one are left out, and with them queries that
    have no relevant row. `values` are the means over queries of `ndcg`, `map`, `mrr` and
    `ranking_recall` of the first `k` rows, a query counting by 1 / `rate` of its first row.
    Intervals are by the jackknife over the days of the queries.
    """
    labels, predicted = outcomes(joined, signature), scores(joined)
    groups = joined[by].combine_chunks()
    rows = np.flatnonzero(
        np.isfinite(labels) & np.isfinite(predicted) & np.asarray(groups.is_valid())
    )
    names = groups.take(arrow_rows(rows)).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    found = ranked(labels[rows], predicted[rows], names)
    first = np.searchsorted(found.query, np.arange(found.queries))
    heads = rows[found.order[first]] if found.queries else rows[:0]
    weights, at = _weights(joined, heads), instants(joined)[heads]
    values: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    for name, function in RANKING.items():
        each = function(found, k)
        some = np.flatnonzero(np.isfinite(each))
        own = None if weights is None else weights[some]
        metric = _own_metric(name, 1.0)
        values[name] = metric.function(each[some], each[some], own)
        intervals[name] = metric_interval(
            metric, each[some], each[some], blocks_of(at[some]), weights=own, level=level
        )
    labelled = joined.num_rows - joined["label"].null_count
    return Performance(
        rows=joined.num_rows,
        labelled=labelled,
        completeness=labelled / joined.num_rows if joined.num_rows else float("nan"),
        values=values,
        intervals=intervals,
        sampled=weights is not None,
    )


def outcomes(joined: pa.Table, signature: Signature | None = None) -> Floats:
    """The labels as numbers, one a row: nan where not known.

    With a signature that names two classes, a label is 1 if it is the second class, 0 if it is the
    first, and nan if it is neither; without, text that is no number is nan.

    >>> table = pa.table({"label": ["late", "in time", None]})
    >>> from upturn.core.schema import Signature
    >>> outcomes(table, Signature(inputs=(), output="probability", classes=("in time", "late")))
    array([ 1.,  0., nan])
    """
    labels = joined["label"].combine_chunks()
    classes = signature.classes if signature and len(signature.classes) == 2 else ()
    keys = [key(value) for value in classes]
    if pa.types.is_string(labels.type) or pa.types.is_large_string(labels.type):
        places = {one: float(place) for place, one in enumerate(keys)}
        return np.array([_outcome(label, places) for label in labels.to_pylist()], np.float64)
    numbers = np.asarray(labels.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    if not keys or any(isinstance(one, str) for one in keys):
        return numbers  # false and true, or 0 and 1, whatever the classes are called
    return np.where(numbers == keys[1], 1.0, np.where(numbers == keys[0], 0.0, np.nan))


def scores(joined: pa.Table) -> Floats:
    """The scores, one a row; nan where a prediction has none."""
    return _floats(joined["score"])


def weights_of(joined: pa.Table) -> Floats:
    """How many rows each row of the Log stands for: 1 / `rate`, and 1 where no rate is known.

    >>> weights_of(pa.table({"rate": [1.0, 0.1, None]}))
    array([ 1., 10.,  1.])
    """
    if "rate" not in joined.column_names:
        return np.ones(joined.num_rows)
    rate = _floats(joined["rate"])
    known = np.isfinite(rate) & (rate > 0)
    return np.divide(1.0, rate, out=np.ones(len(rate)), where=known)


def instants(joined: pa.Table) -> NDArray[np.int64]:
    """Each row's `at`, in microseconds since 1970."""
    at = joined["at"].combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False)
    return np.asarray(at, np.int64)


def days(joined: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The UTC day of each row's `at`, as days since 1970: the blocks of a comparison."""
    return np.floor_divide(instants(joined), _DAY)


def _of_labels(joined: pa.Table, metrics: Sequence[str]) -> Judged:
    labels, said, classes = class_places(joined)
    return _of_places(joined, metrics, labels, said, _summed(classes), {})


def _of_shares(joined: pa.Table, metrics: Sequence[str], signature: Signature) -> Judged:
    labels, shares = class_shares(joined, signature)
    whole = np.isfinite(shares).all(axis=1) & (shares.sum(axis=1) > 0)
    said = np.where(whole, np.where(whole[:, None], shares, 0.0).argmax(axis=1), UNKNOWN)
    own: dict[str, Floats] = {}
    rows = np.flatnonzero((labels != UNKNOWN) & whole)
    for name, losses in (("log_loss", own_losses), ("brier", own_squares)):
        own[name] = losses(labels[rows], shares[rows])
    return _of_places(joined, metrics, labels, said, _summed(len(signature.classes)), own)


def _summed(classes: int) -> dict[str, Summed]:
    return {"accuracy": class_accuracy(classes), "macro_f1": macro_f1(classes)}


def _of_places(
    joined: pa.Table,
    metrics: Sequence[str],
    labels: NDArray[np.int64],
    said: NDArray[np.int64],
    counted: Mapping[str, Summed],
    own: Mapping[str, Floats],
) -> Judged:
    rows = np.flatnonzero((labels != UNKNOWN) & (said != UNKNOWN))
    answers = said[rows].astype(np.float64)
    made: list[tuple[MetricDef, Floats]] = []
    for name in metrics:
        if name in counted:
            sums = counted[name]
            made.append((MetricDef(name, sums.of, True, "probability", sums, (0.0, 1.0)), answers))
        elif name in own:
            made.append((_own_metric(name, float("inf")), own[name]))
        elif name not in _OF_CLASSES:
            get_metric(name)
    return Judged(
        labels=labels[rows].astype(np.float64),
        weights=_weights(joined, rows),
        rows=rows,
        metrics=tuple(made),
        with_base_rate=False,
    )


def _own_metric(name: str, high: float) -> MetricDef:
    return MetricDef(name, _OWN.of, high <= 1, "number", _OWN, (0.0, high))


def _weights(joined: pa.Table, rows: NDArray[np.intp]) -> Floats | None:
    """The rows' weights, None where all are alike: then they change nothing."""
    found = weights_of(joined)[rows]
    return None if not len(found) or bool(np.all(found == found[0])) else found


def _floats(column: "pa.ChunkedArray[Any]") -> Floats:
    found = column.combine_chunks().cast(pa.float64())
    return np.asarray(found.to_numpy(zero_copy_only=False), np.float64)


def _equal(names: Any, name: str) -> Any:
    return pc.equal(names, pa.scalar(name, pa.string()))


def _outcome(label: str | None, places: dict[float | str, float]) -> float:
    if label is None:
        return float("nan")
    found = key(label)
    if places:
        return places.get(found, float("nan"))
    return found if isinstance(found, float) else float("nan")
