"""Drift: how far each column has moved from the distribution that the model learned on."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.log import FEATURE_PREFIX
from upturn.core.schema import ColumnProfile, Profile
from upturn.improve.monitor.distances import (
    chi_square,
    hellinger,
    jensen_shannon,
    ks,
    psi,
    total_variation,
    wasserstein,
)
from upturn.model.profile_counts import Counts, count_into

PREDICTION = "prediction"


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """How far one column has moved from its baseline.

    `psi` is the population stability index; without any drift it is `psi_noise` on average, for
    that many rows and bins. `ks` is the largest distance of the two distribution functions seen at
    the edges of the bins (numbers only, missing values left out); between edges it may be larger,
    by `ks_error` at most, which is 0 where it was taken from the values themselves. `wasserstein`
    is the area between the two functions over the baseline's standard deviation, right to within
    `wasserstein_error`; both are None where the baseline is constant or the range of the recent
    values is not known. `jensen_shannon`, `hellinger` and `total_variation` are distances from 0
    to 1 over the bins, missing and unseen ones included; `chi2`, `chi2_df` and `p_value` are
    Pearson's test on them, which takes rows for independent. `missing` and `unseen` are shares of
    the rows, `unseen` of values that are none of the baseline's kept categories; `…_before` are
    the baseline's.
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
    wasserstein: float | None = None
    wasserstein_error: float | None = None
    chi2: float = float("nan")
    chi2_df: int = 0
    p_value: float = float("nan")

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
    prediction = prediction_of(predictions["score"], predictions["answer"])
    return pa.Table.from_pydict(found | {PREDICTION: prediction})


def prediction_of(score: Any, answer: Any) -> Any:
    """The score, or the answer as text where no row has a score."""
    return score if score.null_count < max(1, len(score)) else _answers(answer)


def drift_of(before: ColumnProfile, after: Counts) -> Drift:
    """How far rows that were counted on the profile's bins have moved from it."""
    rows = sum(after.counts) + after.missing + after.unseen
    then = np.array([*before.counts, before.missing, before.other], np.int64)
    now = np.array([*after.counts, after.missing, after.unseen], np.int64)
    index, noise = psi(then, now)
    test = chi_square(then, now)
    distance = error = area = area_error = None
    if before.kind == "number":
        distance, error = ks(then[:-2], now[:-2])
        area, area_error = _area(before, after)
    return Drift(
        column=before.name,
        kind=before.kind,
        rows=rows,
        psi=index,
        psi_noise=noise,
        ks=distance,
        ks_error=error,
        wasserstein=area,
        wasserstein_error=area_error,
        jensen_shannon=jensen_shannon(then, now),
        hellinger=hellinger(then, now),
        total_variation=total_variation(then, now),
        chi2=test.statistic,
        chi2_df=test.df,
        p_value=test.p_value,
        missing=_share(after.missing, rows),
        missing_before=_share(before.missing, before.count),
        unseen=_share(after.unseen, rows),
        unseen_before=_share(before.other, before.count),
    )


def _area(before: ColumnProfile, after: Counts) -> tuple[float | None, float | None]:
    """The Wasserstein distance over the baseline's standard deviation, and its error."""
    if not before.std or before.low is None or before.high is None:
        return None, None
    if after.low is None or after.high is None:
        return None, None
    found, error = wasserstein(
        np.array(before.counts, np.int64),
        np.array(after.counts, np.int64),
        np.array(before.edges, np.float64),
        min(before.low, after.low),
        max(before.high, after.high),
    )
    if math.isnan(found):
        return None, None
    return found / before.std, error / before.std


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
