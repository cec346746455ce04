"""Judging: what each policy of a rehearsal was worth, by month, over time, and against others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from upturn.core.time import from_micros, micros
from upturn.improve.compare import compare_paired
from upturn.improve.influence import influence
from upturn.improve.metrics import ROW_LOSSES, get_metric
from upturn.improve.past.rows import Past
from upturn.improve.rehearsal import (
    Curve,
    Difference,
    Month,
    Regret,
    Rehearsal,
    Selection,
    Standing,
)
from upturn.improve.rehearsing.blocks import behind, block_for, reach, sum_error, widening
from upturn.improve.rehearsing.selection import superior
from upturn.improve.rehearsing.shared import Done

_DRAWS = 400  # of days, some hundreds of them: the interval's ends then vary by a few per cent
_DAY = 86_400_000_000  # microseconds
_PERIODS = (timedelta(days=7), timedelta(days=28), timedelta(days=91))
_MOST = 60  # periods of a curve; of longer ones there are fewer
_LEAST_DAYS = 5  # of a period, so that its interval says something
Floats = np.ndarray


class Rows(NamedTuple):
    """The rows that every policy answered and whose label is known, by day."""

    used: Floats  # places among all rows
    truth: Floats
    scores: list[Floats]
    day: np.ndarray  # the place of each row's day
    days: np.ndarray  # microseconds at which each day begins


def rows_of(past: Past, truth: Floats, done: Sequence[Done]) -> Rows:
    """The rows on which all policies can be compared."""
    usable = ~np.isnan(truth)
    for one in done:
        usable &= ~np.isnan(one.scores)
    used = np.flatnonzero(usable)
    days, day = np.unique(past.at[used] // _DAY, return_inverse=True)
    scores = [one.scores[used] for one in done]
    return Rows(used, truth[used], scores, day, days * _DAY)


def judge(
    rehearsal: Rehearsal, past: Past, truth: Floats, done: Sequence[Done], *, seed: int
) -> Rehearsal:
    """The rehearsal with what each policy was worth: overall, by month, and against each other.

    `truth` has the label of every row, nan where it is not known. `rehearsal.policies` are those of
    `done`, in the same order.
    """
    metrics = rehearsal.metrics

    def values(scores: Floats, rows: Floats) -> dict[str, float | None]:
        usable = rows & ~np.isnan(truth) & ~np.isnan(scores)
        found = {name: get_metric(name).function(truth[usable], scores[usable]) for name in metrics}
        return {name: _finite(value) for name, value in found.items()}

    everything = np.ones(past.rows, dtype=np.bool_)
    policies = tuple(
        msgspec.structs.replace(policy, values=values(one.scores, everything))
        for policy, one in zip(rehearsal.policies, done, strict=True)
    )
    judged = msgspec.structs.replace(
        rehearsal,
        rows=past.rows,
        labelled=int((~np.isnan(truth)).sum()),
        policies=policies,
        months=_months(past, truth, done, values),
        differences=_differences(rehearsal, past, truth, done, seed),
    )
    rows = rows_of(past, truth, done)
    if judged.loss and len(rows.days):
        judged = _regrets(judged, rows, done, seed)
    return msgspec.structs.replace(judged, curves=(*judged.curves, *_curves(judged, rows, done)))


def losses_by_day(loss: str, rows: Rows) -> Floats:
    """What each policy lost on each day, summed over its rows: (policies, days)."""
    count = len(rows.days)
    return np.array(
        [
            np.bincount(rows.day, weights=ROW_LOSSES[loss](rows.truth, scores), minlength=count)
            for scores in rows.scores
        ]
    )


def common_block(losses: Floats) -> float:
    """The mean block length for comparing policies: for the two that ask for the longest."""
    count = len(losses)
    pairs = [losses[one] - losses[two] for one in range(count) for two in range(one)]
    return block_for(pairs, losses.shape[1])


def _regrets(judged: Rehearsal, rows: Rows, done: Sequence[Done], seed: int) -> Rehearsal:
    losses = losses_by_day(judged.loss, rows)
    real = [place for place, one in enumerate(done) if one.plan.kind != "oracle"]
    totals = losses.sum(axis=1)
    best = min(real, key=lambda place: (totals[place], place))
    block = common_block(losses[real])
    found = behind(losses, best, block, seed=seed)
    policies = tuple(
        msgspec.structs.replace(
            policy,
            regret=Regret(total=float(total), low=_finite(low), high=_finite(high)),
        )
        for policy, total, low, high in zip(judged.policies, *found, strict=True)
    )
    return msgspec.structs.replace(
        judged,
        policies=policies,
        best=done[best].plan.name,
        block_days=block,
        curves=tuple(
            _regret_curve(one.plan.name, series, rows, block)
            for one, series in zip(done, losses - losses[best], strict=True)
        ),
        selection=_selection(done, losses, real, block, seed),
    )


def _selection(
    done: Sequence[Done], losses: Floats, real: list[int], block: float, seed: int
) -> Selection | None:
    """Whether the best of the others is better than never retraining, though it was picked."""
    reference = next((place for place in real if done[place].plan.kind == "never"), None)
    others = [place for place in real if place != reference]
    if reference is None or len(others) < 2 or losses.shape[1] / block < 4:
        return None
    best = min(others, key=lambda place: losses[place].sum())
    scale = widening(block, losses.shape[1])
    p = superior(losses[reference], losses[others], block, scale=scale, seed=seed)
    return Selection(
        best=done[best].plan.name,
        against=done[reference].plan.name,
        among=len(others),
        p=p,
    )


def _regret_curve(name: str, series: Floats, rows: Rows, block: float) -> Curve:
    """Regret summed up to the end of each week or longer, each with an interval of its own."""
    ends = _ends(rows.days)
    totals = np.cumsum(series)
    values: list[float | None] = []
    lows: list[float | None] = []
    highs: list[float | None] = []
    for end in ends:
        count = int(np.searchsorted(rows.days, micros(end)))
        total = float(totals[count - 1]) if count else 0.0
        error = float(sum_error(series[None, :count], block)[0]) if count else math.nan
        width = reach(block, count) * error if error != 0 else 0.0
        values.append(total)
        lows.append(_finite(total - width))
        highs.append(_finite(total + width))
    return Curve(
        policy=name,
        figure="regret",
        at=tuple(ends),
        values=tuple(values),
        low=tuple(lows),
        high=tuple(highs),
    )


def _ends(days: Floats) -> list[datetime]:
    """The ends of the periods in which curves are drawn: weeks, or longer ones for a long past."""
    first, last = int(days[0]), int(days[-1]) + _DAY
    wanted = (last - first) / _MOST
    length = next((one for one in _PERIODS if one / timedelta(microseconds=1) >= wanted), None)
    step = round((length or timedelta(microseconds=wanted)) / timedelta(microseconds=1))
    ends = list(range(first + step, last, step))
    # What is left over at the end is a period of its own if it is half as long as one.
    if ends and last - ends[-1] < step / 2:
        ends.pop()
    return [from_micros(end) for end in [*ends, last]]


def _curves(judged: Rehearsal, rows: Rows, done: Sequence[Done]) -> list[Curve]:
    """Each metric of each policy in each period, with an interval by the period's own days."""
    if not len(rows.days):
        return []
    ends = _ends(rows.days)
    edges = [0, *(int(np.searchsorted(rows.days, micros(end))) for end in ends)]
    found: list[Curve] = []
    for metric in judged.metrics:
        points = np.full((3, len(done), len(ends)), np.nan)
        for place, (low, high) in enumerate(pairwise(edges)):
            begin, end = np.searchsorted(rows.day, [low, high])
            if begin == end:
                continue
            own = slice(int(begin), int(end))
            daily = influence(
                metric,
                rows.truth[own],
                [scores[own] for scores in rows.scores],
                rows.day[own] - low,
                high - low,
            )
            count = high - low
            width = np.full(len(done), np.nan)
            if count >= _LEAST_DAYS:
                width = reach(1.0, count) * sum_error(daily.phi, 1.0)
            points[:, :, place] = daily.values, daily.values - width, daily.values + width
        found += [
            Curve(
                policy=one.plan.name,
                figure=metric,
                at=tuple(ends),
                values=_known(points[0, place]),
                low=_known(points[1, place]),
                high=_known(points[2, place]),
            )
            for place, one in enumerate(done)
        ]
    return found


def _known(values: Floats) -> tuple[float | None, ...]:
    return tuple(_finite(value) for value in values)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _months(
    past: Past,
    truth: Floats,
    done: Sequence[Done],
    values: Callable[[Floats, Floats], dict[str, float | None]],
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
                values={one.plan.name: values(one.scores, rows) for one in done},
            )
        )
    return tuple(months)


def _differences(
    rehearsal: Rehearsal, past: Past, truth: Floats, done: Sequence[Done], seed: int
) -> tuple[Difference, ...]:
    """The first loop against each baseline: never, calendars, versions."""
    first = next((one for one in done if one.plan.kind == "loop"), None)
    if first is None:
        return ()
    return tuple(
        _difference(one, first, metric, past, truth, seed)
        for one in done
        if one.plan.kind in ("never", "calendar", "version")
        for metric in rehearsal.metrics
    )


def _difference(
    against: Done, loop: Done, metric: str, past: Past, truth: Floats, seed: int
) -> Difference:
    comparison = compare_paired(
        metric,
        truth,
        against.scores,
        loop.scores,
        past.at // _DAY,
        alpha=0.025,  # each bound on its own, so that both make a 95 % interval
        draws=_DRAWS,
        seed=seed,
    )
    return Difference(
        against=against.plan.name,
        comparison=comparison,
        verdict=standing(metric, comparison.low, comparison.high),
    )


def standing(metric: str, low: float, high: float) -> Standing:
    """Whether an interval of a difference says better, worse, or nothing.

    >>> standing("auc", 0.01, 0.02), standing("log_loss", 0.01, 0.02), standing("auc", -1, 1)
    ('better', 'worse', 'open')
    """
    better, worse = low > 0, high < 0
    if not get_metric(metric).greater_is_better:
        better, worse = worse, better
    return "better" if better else "worse" if worse else "open"
