"""Self-check: how often a design finds a difference where there is none, on one's own history."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from upturn.core.errors import Invalid
from upturn.improve.experiment.analysis import units_with_clips
from upturn.improve.experiment.bounds import Rule
from upturn.improve.experiment.design import Design
from upturn.improve.experiment.estimate import Estimates, difference, estimate_arrays
from upturn.improve.experiment.metrics import Linear, Ratio
from upturn.improve.experiment.source import Source
from upturn.improve.experiment.units import Layout, Units
from upturn.improve.statistics.fixed import wilson
from upturn.improve.statistics.goodness import uniform_p

Array = NDArray[np.float64]
_MOST_UNITS = 100_000
_LOOKS = 10
_FEW = 100  # units at the first look, at least
_BLOCK = 2048


class MetricCheck(msgspec.Struct, frozen=True, kw_only=True):
    """In how many of the A/A splits a difference was found in one metric.

    `rate` has a Wilson interval. `uniform_p` is of the hypothesis that the fixed test's p-values
    are uniform, as they must be (Kolmogorov-Smirnov). `peeking_rate` is how often the fixed test
    finds something when it is looked at as often as the anytime one is.
    """

    metric: str
    found: int
    rate: float
    low: float
    high: float
    uniform_p: float
    peeking_rate: float
    sound: bool  # the rate is not shown to be above alpha


class SelfCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A/A tests on history: what the design finds where nothing differs."""

    experiment: str
    method: str
    alpha: float
    units: int
    splits: int
    looks: int
    metrics: tuple[MetricCheck, ...]

    @property
    def sound(self) -> bool:
        """Whether no metric is shown to find more than alpha."""
        return all(one.sound for one in self.metrics)


def self_check(
    design: Design, source: Source, *, splits: int, seed: int, at: str | None
) -> SelfCheck:
    """A/A tests: each split gives all units of a table arms anew, by a salted hash.

    The anytime method is looked at ten times, as the units come in; others once, at the end. Of a
    longer history the first hundred thousand units are used. Raises Invalid when there are too few.
    """
    if not 20 <= splits <= 20_000:
        raise Invalid(f"{splits:,} splits are not between 20 and 20,000.")
    layout = Layout(("all",), None, design.unit, at)
    units = units_with_clips(source, layout, design.linear)
    order = "ORDER BY day" if at is not None else ""
    names = [f"c{place}" for place in range(len(units.columns))] or ["1 AS c0"]
    rows = source.ask(
        f"SELECT {', '.join(names)} FROM ({units.sql()}) {order} LIMIT {_MOST_UNITS}"
    ).fetchnumpy()
    values = np.stack([_floats(rows[f"c{place}"]) for place in range(len(names))], axis=1)
    if len(values) < 2 * _FEW:
        raise Invalid(
            f"The history has {len(values):,} units.", hint=f"A/A tests take {2 * _FEW} or more."
        )
    looks = np.unique(np.geomspace(_FEW, len(values), _LOOKS).astype(int))
    share = design.arms[design.control]
    share /= share + design.arms[design.others[0]]
    salts = np.random.default_rng(seed).integers(0, 2**63, splits, dtype=np.uint64)
    checks = [
        _check(design, metric, _of_metric(metric, units, values), looks, salts, share)
        for metric in design.linear
    ]
    return SelfCheck(
        experiment=design.name,
        method=design.method,
        alpha=design.alpha,
        units=len(values),
        splits=splits,
        looks=len(looks) if design.method == "anytime" else 1,
        metrics=tuple(checks),
    )


def _check(
    design: Design,
    metric: Linear,
    values: Array,
    looks: NDArray[np.int64],
    salts: NDArray[np.uint64],
    share: float,
) -> MetricCheck:
    fixed = Rule("fixed", design.alpha)
    rule = design.rule.at(design.units or 0)  # of planned looks, the last
    crossed = np.zeros(len(salts), dtype=np.bool_)
    peeked = np.zeros(len(salts), dtype=np.bool_)
    z = np.zeros(len(salts))
    for n, found in _at_looks(metric, values, looks, salts, share, design):
        gap, variance = difference(found, 1, 0)
        with np.errstate(all="ignore"):
            z = np.where(variance > 0, np.abs(gap) / np.sqrt(variance), 0.0)
        crossed |= z > rule.multiplier(n)
        peeked |= z > fixed.multiplier(n)
    p_values = np.array([fixed.p_value(float(one), 1.0) for one in z])
    hits = crossed if design.method == "anytime" else z > rule.multiplier(len(values))
    found_in = int(hits.sum())
    shown = wilson(found_in, len(salts))
    return MetricCheck(
        metric=metric.title,
        found=found_in,
        rate=shown.estimate,
        low=shown.low,
        high=shown.high,
        uniform_p=uniform_p(p_values),
        peeking_rate=float(peeked.mean()),
        sound=shown.low <= design.alpha,
    )


def _at_looks(
    metric: Linear,
    values: Array,
    looks: NDArray[np.int64],
    salts: NDArray[np.uint64],
    share: float,
    design: Design,
) -> Iterator[tuple[int, Estimates]]:
    """The estimates of all splits at each look: sums of all splits at once, as a matrix product."""
    k = values.shape[1]
    whole = np.zeros((1 + k + k * k, 1))
    control = np.zeros((1 + k + k * k, len(salts)))
    known: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=1), dtype=np.bool_)
    outcomes = values[known, : len(metric.outcomes)]
    if len(outcomes) < 2 * _FEW or not np.ptp(outcomes, axis=0).any():
        raise Invalid(
            f"{metric.title} has one value in all units that have any, or too few have one: "
            "A/A tests of it say nothing.",
            hint="Check metrics that vary.",
        )
    centred = np.where(known[:, None], values - values[known].mean(axis=0), 0.0)
    begin = 0
    for end in looks.tolist():
        for start in range(begin, end, _BLOCK):
            stop = min(end, start + _BLOCK)
            part = centred[start:stop]
            products = (part[:, :, None] * part[:, None, :]).reshape(len(part), -1)
            parts = np.concatenate([known[start:stop, None], part, products], axis=1)
            assigned = _uniforms(np.arange(start, stop, dtype=np.uint64), salts) < share
            control += parts.T @ assigned.astype(np.float64)
            whole += parts.sum(axis=0)[:, None]
        begin = end
        sums = np.stack([control, whole - control], axis=1)  # (statistics, arms, splits)
        offset = values[known].mean(axis=0)
        yield end, _estimates(metric, sums, k, offset, design)


def _estimates(metric: Linear, sums: Array, k: int, offset: Array, design: Design) -> Estimates:
    n = sums[0].T  # (splits, arms)
    with np.errstate(all="ignore"):
        mean = np.moveaxis(sums[1 : 1 + k], 0, -1).swapaxes(0, 1) / n[..., None]
        products = np.moveaxis(sums[1 + k :], 0, -1).swapaxes(0, 1)
        scatter = products.reshape(*n.shape, k, k) - n[..., None, None] * (
            mean[..., :, None] * mean[..., None, :]
        )
        cov = scatter / (n - 1)[..., None, None]
    return estimate_arrays(
        n, mean + offset, cov, ratio=isinstance(metric, Ratio), adjustment=design.adjustment
    )


def _of_metric(metric: Linear, units: Units, values: Array) -> Array:
    """A metric's outcomes and covariates; where a covariate is missing it is 0."""
    outcomes = [units.columns.index(one) for one in metric.outcomes]
    covariates = [units.columns.index(one) for one in metric.covariates]
    given = values[:, covariates]
    return np.concatenate([values[:, outcomes], np.where(np.isfinite(given), given, 0.0)], axis=1)


def _uniforms(places: NDArray[np.uint64], salts: NDArray[np.uint64]) -> Array:
    """Numbers in [0, 1) for each place and salt: SplitMix64 (Steele, Lea & Flood 2014)."""
    x = places[:, None] * np.uint64(0x9E3779B97F4A7C15) + salts[None, :]
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _floats(column: object) -> Array:
    if isinstance(column, np.ma.MaskedArray):
        return np.asarray(column.filled(np.nan), dtype=np.float64)
    return np.asarray(column, dtype=np.float64)
