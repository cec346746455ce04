"""Quantiles: those of an arm's rows, with a variance that needs no density and respects units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from upturn.improve.experiment.estimate import Estimates
from upturn.improve.experiment.metrics import Quantile
from upturn.improve.experiment.source import Source, quoted, text
from upturn.improve.experiment.units import Units, rows_sql
from upturn.improve.statistics.distributions import normal_isf

_Z = normal_isf(0.025)


def quantile_estimates(
    source: Source, units: Units, metric: Quantile, arms: Sequence[str], where: str = ""
) -> tuple[Estimates, str]:
    """The quantile in each arm with its variance, and why nothing can be said, if so.

    The quantile is exact. The share of rows below it has a standard error d, by the delta method
    over units where a unit has several rows; the quantiles at q ± 1.96 d are then the ends of an
    interval that holds without knowing the density (Deng, Knoblich & Lu 2018, arXiv:1803.06336,
    §4.2), and 1 / 3.92 of its length is the quantile's standard error (Price & Bonett 2002).
    """
    source.check_number(metric.column, what="what a quantile is of")
    rows = rows_sql(units, metric.column)
    if where:
        rows = f"SELECT * FROM ({rows}) {where}"
    counts = _counts(source, units, rows)
    known = [counts.get(arm, (0, 0)) for arm in arms]
    n = np.array([unit for _, unit in known], dtype=np.float64)
    empty = Estimates(n, n * math.nan, np.diag(n * math.nan), n * math.nan, n * math.nan)
    if any(count < 2 for count, _ in known):
        arm = arms[int(np.argmin([count for count, _ in known]))]
        return empty, f"{arm} has no values"
    errors = _errors(source, units, rows, metric.q, dict(zip(arms, known, strict=True)))
    levels: dict[str, tuple[float, float, float]] = {}
    for arm in arms:
        low, high = metric.q - _Z * errors[arm], metric.q + _Z * errors[arm]
        if not (low > 0 and high < 1):
            return empty, f"{arm} has too few rows for its quantile {metric.q:g}"
        levels[arm] = (low, metric.q, high)
    found = _quantiles(source, rows, levels)
    value = np.array([found[arm][1] for arm in arms])
    variance = np.array([((found[arm][2] - found[arm][0]) / (2 * _Z)) ** 2 for arm in arms])
    return Estimates(n, value, np.diag(variance), value, variance), ""


def _counts(source: Source, units: Units, rows: str) -> dict[str, tuple[int, int]]:
    distinct = "count(DISTINCT unit)" if units.grouped else "count(*)"
    found = source.rows(f"SELECT arm, count(*), {distinct} FROM ({rows}) GROUP BY arm")
    return {str(arm): (count, unit) for arm, count, unit in found}


def _errors(
    source: Source, units: Units, rows: str, q: float, known: Mapping[str, tuple[int, int]]
) -> dict[str, float]:
    """The standard error of the share of rows below the quantile, in each arm."""
    if not units.grouped:
        return {arm: math.sqrt(q * (1 - q) / count) for arm, (count, _) in known.items()}
    at = _quantiles(source, rows, dict.fromkeys(known, (q,)))
    ends = " ".join(f"WHEN {text(arm)} THEN {at[arm][0]!r}::DOUBLE" for arm in known)
    # A unit's rows less than expected below the quantile: its influence, up to the mean of rows.
    found = source.rows(
        "SELECT arm, count(*), avg(size), sum(away * away) FROM ("
        f"SELECT arm, count(*) AS size, sum((x <= CASE arm {ends} END)::DOUBLE - {q!r}) AS away "
        f"FROM ({rows}) GROUP BY arm, unit) GROUP BY arm"
    )
    return {
        str(arm): math.sqrt(squares / max(1, count - 1) / count) / size
        for arm, count, size, squares in found
    }


def _quantiles(
    source: Source, rows: str, levels: Mapping[str, Sequence[float]]
) -> dict[str, list[float]]:
    asked = ", ".join(
        f"quantile_cont(x, {[float(one) for one in asked]}) FILTER (arm = {text(arm)}) "
        f"AS {quoted(arm)}"
        for arm, asked in levels.items()
    )
    [row] = source.rows(f"SELECT {asked} FROM ({rows})")
    return dict(zip(levels, row, strict=True))
