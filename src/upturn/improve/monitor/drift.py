"""Drift: how far each column has moved from the distribution that the model learned on."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.core.log import FEATURE_PREFIX
from upturn.core.schema import ColumnProfile, Profile
from upturn.improve.monitor.distances import hellinger, jensen_shannon, total_variation
from upturn.model.profile import Counts, count_into

PREDICTION = "prediction"
_EPSILON = 0.5  # rows added to every bin, so that an empty one costs much but not infinity


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """How far one column has moved from its baseline.

    `psi` is the population stability index; without any drift it is `psi_noise` on average, for
    that many rows and bins. `ks` is the largest distance of the two distribution functions seen at
    the edges of the bins (numbers only, missing values left out); between edges it may be larger,
    by `ks_error` at most. `jensen_shannon`, `hellinger` and `total_variation` are distances from 0
    to 1 over the bins, missing and unseen ones included. `missing` and `unseen` are shares of the
    rows, `unseen` of values that are none of the baseline's kept categories; `…_before` are the
    baseline's.
    """

    column: str
    kind: str
    rows: int
    psi: float
    psi_noise: float
    ks: float | None
    ks_error: float | None
    jensen_shannon: float
    hellinger: float
    total_variation: float
    missing: float
    missing_before: float
    unseen: float
    unseen_before: float

    @property
    def excess(self) -> float:
        """The part of `psi` that is more than noise, from 0 up: what a trigger should look at."""
        return max(0.0, self.psi - self.psi_noise)


def drift(profile: Profile, table: pa.Table, columns: Sequence[str] | None = None) -> list[Drift]:
    """How far the table's columns have moved from the profile's, in the profile's order.

    The table has a column for each feature under the model's own name, and `prediction`; `observed`
    makes such a table from rows of the Log. Columns that either side lacks are left out, and so are
    those that are not among `columns`. Missing values are a bin of their own, and so are those that
    are none of the categories kept in the profile. A text where the baseline has numbers counts as
    missing.
    """
    return [
        drift_of(column, count_into(column, table[column.name]))
        for column in profile.columns
        if column.name in table.column_names and (columns is None or column.name in columns)
    ]


def observed(predictions: pa.Table) -> pa.Table:
    """Rows of the Log as `drift` takes them: features by name, and `prediction`.

    The prediction is the score, or the answer as text where rows have no score.
    """
    features = [name for name in predictions.column_names if name.startswith(FEATURE_PREFIX)]
    found = {name.removeprefix(FEATURE_PREFIX): predictions[name] for name in features}
    scored = predictions["score"].null_count < max(1, predictions.num_rows)
    prediction = predictions["score"] if scored else _answers(predictions["answer"])
    return pa.Table.from_pydict(found | {PREDICTION: prediction})


def psi(before: NDArray[np.int64], after: NDArray[np.int64]) -> tuple[float, float]:
    """The population stability index of two counts over the same bins, and its mean without drift.

    Σ (q - p) · ln(q / p) over bins, p and q being shares of before and after with half a row added
    to every bin (Lewis 1994; the symmetric Kullback-Leibler divergence, Jeffreys 1946). Bins that
    are empty in both are left out. If both samples come from one distribution it is about
    (B - 1)·(1/n + 1/m) on average, B bins, n and m rows (Yurdakul & Naranjo 2020), which is
    returned with it. Both are nan if either has no rows.

    >>> index, noise = psi(np.array([50, 50]), np.array([80, 20]))
    >>> round(index, 2), noise
    (0.41, 0.02)
    """
    some = (before + after) > 0
    before, after = before[some], after[some]
    bins, n, m = len(before), int(before.sum()), int(after.sum())
    if not n or not m:
        return float("nan"), float("nan")
    p = (before + _EPSILON) / (n + bins * _EPSILON)
    q = (after + _EPSILON) / (m + bins * _EPSILON)
    return float(np.sum((q - p) * np.log(q / p))), (bins - 1) * (1 / n + 1 / m)


def ks(before: NDArray[np.int64], after: NDArray[np.int64]) -> tuple[float, float]:
    """The Kolmogorov-Smirnov distance of two counts over ordered bins, and how much it may lack.

    The distance is exact at the edges of bins. Inside bin i one function lies between F[i-1] and
    F[i] and the other between G[i-1] and G[i], so their distance is at most
    max(F[i] - G[i-1], G[i] - F[i-1]): the excess of that over the distance at the edges is the
    error, never more than the share of the baseline's fullest bin. Both are nan if either has no
    rows.

    >>> ks(np.array([50, 50]), np.array([75, 25]))
    (0.25, 0.5)
    """
    if not before.sum() or not after.sum():
        return float("nan"), float("nan")
    f, g = np.cumsum(before) / before.sum(), np.cumsum(after) / after.sum()
    at_edges = float(np.abs(f - g).max())
    f_before, g_before = np.concatenate(([0.0], f[:-1])), np.concatenate(([0.0], g[:-1]))
    inside = float(np.maximum(f - g_before, g - f_before).max())
    return at_edges, max(0.0, inside - at_edges)


def drift_of(before: ColumnProfile, after: Counts) -> Drift:
    """How far rows that were counted on the profile's bins have moved from it."""
    rows = sum(after.counts) + after.missing + after.unseen
    then = np.array([*before.counts, before.missing, before.other], np.int64)
    now = np.array([*after.counts, after.missing, after.unseen], np.int64)
    index, noise = psi(then, now)
    distance = error = None
    if before.kind == "number":
        distance, error = ks(np.array(before.counts, np.int64), np.array(after.counts, np.int64))
    return Drift(
        column=before.name,
        kind=before.kind,
        rows=rows,
        psi=index,
        psi_noise=noise,
        ks=distance,
        ks_error=error,
        jensen_shannon=jensen_shannon(then, now),
        hellinger=hellinger(then, now),
        total_variation=total_variation(then, now),
        missing=_share(after.missing, rows),
        missing_before=_share(before.missing, before.count),
        unseen=_share(after.unseen, rows),
        unseen_before=_share(before.other, before.count),
    )


def _share(part: int, rows: int) -> float:
    return part / rows if rows else float("nan")


def _answers(answers: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    """JSON answers as plain text: "late" without its quotes."""
    distinct = pc.unique(answers)
    plain = [_plain(text) for text in distinct.to_pylist()]
    return pa.chunked_array([pa.array(plain, pa.string())]).take(_places(answers, distinct))


def _places(values: "pa.ChunkedArray[Any]", among: Any) -> Any:
    """Where each value is in `among`: an int32 array, null where it is not."""
    return pc.index_in(values.combine_chunks(), among)


def _plain(text: str | None) -> str | None:
    value = None if text is None else msgspec.json.decode(text)
    return value if isinstance(value, str) or value is None else str(text)
