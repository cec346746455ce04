"""Anomalies: hours whose traffic, failures or latency their own past does not let expect.

What an hour should be is the median of the same hours of the weeks before, scaled by how the level
of the last seven days has changed since (with less than three weeks: of the days before). How far
hours may be off is seen from how far past ones were: the robust spread of what is beyond chance in
counts, with the memory from one hour to the next. Each hour so gets a p-value from what came before
it.

Hours are judged once each, when they are over, so that asking more often finds nothing more. Their
p-values become e-values, κ · p^(κ-1) (Vovk & Wang 2021, arXiv 1912.06116), and these an e-CUSUM,
max(1, before) · e (Shin, Ramdas & Rinaldo 2023, "E-detectors", arXiv 2203.03532): a false alarm
comes once in 1/α hours on average at most, as far as the p-values are right. So one hour that is
far off is seen at once, and a little that goes on is seen after a while.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from upturn.core.time import from_micros, micros
from upturn.improve.measures.arrays import Floats
from upturn.improve.monitor.symptom import Severity, Symptom
from upturn.improve.monitor.traffic import Traffic
from upturn.improve.statistics.counts import negative_binomial_cdf, negative_binomial_sf
from upturn.improve.statistics.distributions import t_isf, t_sf

ALPHA = 1 / 8760  # a false alarm a year of hours, of each series
_KAPPA = 0.25
_WEEKS, _DAYS, _LEVEL = 8, 7, 7
_MEMORY = 28  # days, of which hours tell how far they may be off
_LEARN = 3  # days before anything is said
_UNKNOWN = 0.7  # of the log of an hour, while there are fewer than three weeks to compare with
_WIDER = 1.2  # than the moments of failures say: what fails comes in bursts
_SMALL = 50.0  # an expected count, up to which the count's own distribution is used
_DF = 8  # of Student's t: hours have heavier tails than a normal distribution
_MADS = 1.4826  # a standard deviation in median absolute deviations, of a normal distribution


@dataclass(frozen=True, slots=True)
class Watched:
    """A series, what it should have been, and whether that was an alarm: one entry a step.

    `low` and `high` hold 99.9 % of steps one by one; nan where nothing could be expected. `alarm`
    is whether the e-CUSUM was at 1/α, of the side that `worse` names.
    """

    name: str
    starts: NDArray[np.int64]
    values: Floats
    expected: Floats
    low: Floats
    high: Floats
    alarm: NDArray[np.bool_]
    p_values: Floats
    worse: Literal["low", "high"]


def watch_traffic(found: Traffic, *, alpha: float = ALPHA) -> tuple[Watched, Watched]:
    """Requests that are too few, and too many."""
    forecast = _forecast(np.log(found.requests + 0.5), found, counts=True)
    low, high = (
        _watched("traffic", found, found.requests, forecast, worse, alpha)
        for worse in ("low", "high")
    )
    return low, high


def watch_latency(found: Traffic, name: Literal["p50", "p99"], *, alpha: float = ALPHA) -> Watched:
    """A quantile of the latency that is too high; hours with few requests are passed over."""
    values = found.latency_s[name]
    with np.errstate(divide="ignore", invalid="ignore"):
        forecast = _forecast(np.log(values), found, counts=False)
    return _watched(f"latency/{name}", found, values, forecast, "high", alpha)


def watch_failures(found: Traffic, *, alpha: float = ALPHA) -> Watched:
    """Failed answers that are too many for the requests, by the share of the last 28 days."""
    per_day = _per_day(found)
    count = len(found.starts)
    logs, spread = np.full(count, np.nan), np.full(count, np.nan)
    for begin in range(_LEARN * per_day, count, per_day):
        past = slice(max(0, begin - _MEMORY * per_day), begin)
        today = slice(begin, min(begin + per_day, count))
        failed, of = found.failed[past], found.requests[past]
        if not of.sum() > 0:
            continue
        share = (float(failed.sum()) + 0.5) / (float(of.sum()) + 1)
        spread[today] = _WIDER * _spread_of_counts(failed, of * share)
        logs[today] = np.log(share)
    mean = found.requests * np.exp(logs)
    with np.errstate(divide="ignore"):
        forecast = _Forecast(np.where(mean > 0, np.log(mean), np.nan), spread)
    counted = _watched("failures", found, found.failed, forecast, "high", alpha)
    of = np.where(found.requests > 0, found.requests, np.nan)
    return replace(
        counted,
        values=found.failed / of,
        expected=np.exp(logs),
        low=counted.low / of,
        high=counted.high / of,
    )


def anomalies(found: Traffic, since: datetime, *, alpha: float = ALPHA) -> list[Symptom]:
    """'traffic', 'latency/p50', 'latency/p99' and 'failures': whether an alarm is on since then.

    `found` begins some weeks before `since`: nothing is said without three days. An alarm that is
    still on at the end is told with when it began; one that is over is a warning. Traffic of less
    than a fifth of what is expected is critical, and so are latencies of more than twice, and
    failed answers of more than a twentieth.
    """
    low, high = watch_traffic(found, alpha=alpha)
    watched = [
        watch_latency(found, "p50", alpha=alpha),
        watch_latency(found, "p99", alpha=alpha),
        watch_failures(found, alpha=alpha),
    ]
    begin = int(np.searchsorted(found.starts, micros(since)))
    some = low if low.alarm[begin:].any() or not high.alarm[begin:].any() else high
    made = [_symptom(one, found, begin) for one in (some, *watched)]
    return [one for one in made if one is not None]


def alarms(p_values: Floats, alpha: float) -> NDArray[np.bool_]:
    """Whether the e-CUSUM of p-values, in the order of time, is at 1/alpha; nan changes nothing.

    It is cut there, so that an alarm ends soon after what caused it.

    >>> alarms(np.array([0.5, 1e-12, 0.5, 0.5]), 1e-3).tolist()
    [False, True, False, False]
    """
    on = np.zeros(len(p_values), np.bool_)
    limit, level = -math.log(alpha), 0.0
    with np.errstate(divide="ignore"):
        logs = math.log(_KAPPA) + (_KAPPA - 1) * np.log(np.maximum(p_values, 1e-300))
    for place, log in enumerate(logs.tolist()):
        if log == log:
            level = min(limit, max(0.0, level) + log)
            on[place] = level >= limit
    return on


@dataclass(frozen=True, slots=True)
class _Forecast:
    """The log that each step should have, and its standard deviation beyond chance in counts."""

    logs: Floats
    spread: Floats


def _forecast(logs: Floats, found: Traffic, *, counts: bool) -> _Forecast:
    per_day = _per_day(found)
    count = len(logs)
    level = _level(logs, per_day) if counts else np.zeros(count)
    seasonal, weekly = _seasonal(logs - level, per_day)
    guess = seasonal + level
    off = logs - guess
    usable = np.isfinite(off)
    chance = 1 / (np.exp(np.minimum(guess, 700)) + 0.5) if counts else np.zeros(count)
    spread, memory = np.full(count, np.nan), np.zeros(count)
    for begin in range(_LEARN * per_day, count, per_day):
        past = slice(max(0, begin - _MEMORY * per_day), begin)
        known = usable[past]
        if known.sum() < per_day:
            continue
        residual = off[past][known]
        middle = float(np.median(residual))
        robust = (_MADS * float(np.median(np.abs(residual - middle)))) ** 2
        beyond = max(0.0, robust - float(np.median(chance[past][known])))
        today = slice(begin, begin + per_day)
        memory[today] = _memory(off[past], usable[past], math.sqrt(robust))
        spread[today] = math.sqrt(beyond if counts else max(beyond, 1e-6))
    # While weeks are few nobody knows what a weekend does.
    spread = np.where(weekly, spread, np.maximum(spread, _UNKNOWN))
    before = np.concatenate(([0.0], np.where(usable, off, 0.0)[:-1]))
    bound = 2 * np.sqrt(np.nan_to_num(spread) ** 2 + np.nan_to_num(chance))
    carried = memory * np.clip(before, -bound, bound)
    left = np.sqrt(np.maximum(1 - memory**2, 0.1))
    return _Forecast(guess + carried, spread * np.maximum(left, 0.5))


def _level(logs: Floats, per_day: int) -> Floats:
    """The log of the middle daily sum of the seven days before each step; 0 where there is none."""
    values = np.exp(logs)
    summed = np.concatenate(([0.0], np.cumsum(values)))
    count = len(logs)
    ends = np.arange(count)[:, None] - per_day * np.arange(_LEVEL)[None, :]
    whole = ends >= per_day
    sums = summed[np.maximum(ends, 0)] - summed[np.maximum(ends - per_day, 0)]
    days = np.where(whole, sums, np.nan)
    some = whole[:, 0]
    found = np.zeros(count)
    found[some] = np.log(np.maximum(_median(days[some]), 1e-9))
    return found


def _seasonal(logs: Floats, per_day: int) -> tuple[Floats, NDArray[np.bool_]]:
    """The median of the same hour of at most 8 weeks before, or of 7 days while weeks are few.

    And where it was of weeks.
    """
    weeks = _lags(logs, 7 * per_day, _WEEKS)
    days = _lags(logs, per_day, _DAYS)
    by_week = np.isfinite(weeks).sum(axis=1) >= 3
    by_day = ~by_week & (np.isfinite(days).sum(axis=1) >= 3)
    found = np.full(len(logs), np.nan)
    found[by_week] = _median(weeks[by_week])
    found[by_day] = _median(days[by_day])
    return found, by_week


def _lags(values: Floats, lag: int, times: int) -> Floats:
    found = np.full((len(values), times), np.nan)
    for one in range(times):
        back = lag * (one + 1)
        if back < len(values):
            found[back:, one] = values[:-back]
    return np.where(np.isfinite(found), found, np.nan)


def _median(values: Floats) -> Floats:
    """Of each row, nan left out; every row has a value."""
    ordered = np.sort(values, axis=1)  # nan comes last
    some = np.isfinite(values).sum(axis=1)
    rows = np.arange(len(values))
    return (ordered[rows, (some - 1) // 2] + ordered[rows, some // 2]) / 2


def _memory(off: Floats, usable: NDArray[np.bool_], scale: float) -> float:
    """How much of what one hour is off the next one is too: the correlation of cut residuals."""
    cut = np.clip(np.where(usable, off, 0.0), -2 * scale, 2 * scale)
    pairs = usable[1:] & usable[:-1]
    one, other = cut[1:][pairs], cut[:-1][pairs]
    size = float(np.sqrt((one @ one) * (other @ other))) if len(one) else 0.0
    return min(0.95, max(0.0, float(one @ other) / size)) if size > 0 else 0.0


def _watched(
    name: str,
    found: Traffic,
    values: Floats,
    forecast: _Forecast,
    worse: Literal["low", "high"],
    alpha: float,
) -> Watched:
    mean = np.exp(np.minimum(forecast.logs, 700.0))
    counts = name in ("traffic", "failures")
    p_values = np.full(len(values), np.nan)
    sides = [np.full(len(values), np.nan), np.full(len(values), np.nan)]
    reach = t_isf(0.0005, _DF)
    for place in np.flatnonzero(np.isfinite(forecast.spread) & np.isfinite(mean)).tolist():
        expected, spread = float(mean[place]), float(forecast.spread[place])
        error = math.sqrt(spread**2 + (1 / (expected + 0.5) if counts else 0.0))
        sides[0][place] = expected * math.exp(-reach * error)
        sides[1][place] = expected * math.exp(reach * error)
        value = float(values[place])
        if value != value:
            continue
        if counts and expected <= _SMALL:
            p_values[place] = _count_tail(value, expected, spread, worse)
        else:
            log = math.log(value + 0.5) if counts else math.log(max(value, 1e-12))
            z = (log - float(forecast.logs[place])) / error
            p_values[place] = t_sf(-z if worse == "low" else z, _DF)
    return Watched(
        name=name,
        starts=found.starts,
        values=values,
        expected=mean,
        low=sides[0],
        high=sides[1],
        alarm=alarms(p_values, alpha),
        p_values=p_values,
        worse=worse,
    )


def _count_tail(value: float, mean: float, spread: float, worse: str) -> float:
    """P(as few, or as many) of a count with the variance mean + (spread · mean)²."""
    size = 1 / max(spread**2, 1e-6)
    if worse == "low":
        return negative_binomial_cdf(value, mean, size)
    return negative_binomial_sf(math.ceil(value) - 1, mean, size)


def _symptom(one: Watched, found: Traffic, begin: int) -> Symptom | None:
    known = np.flatnonzero(np.isfinite(one.p_values[begin:])) + begin
    if not len(known):
        return None
    last = int(known[-1])
    on = np.flatnonzero(one.alarm[begin:]) + begin
    if not len(on):
        return Symptom(
            name=one.name,
            severity="fine",
            says=f"{_what(one)} as expected: {_of(one, last)}.",
            value=float(one.values[last]),
            limit=_finite(one.expected[last]),
            p_value=float(one.p_values[last]),
        )
    ongoing = bool(one.alarm[last])
    worst = int(on[np.argmin(one.p_values[on])]) if not ongoing else last
    first = int(on[-1])
    while first - 1 in on:
        first -= 1
    severity: Severity = "critical" if ongoing and _grave(one, worst) else "warning"
    step = _spell(found.step)
    when = f"{from_micros(int(one.starts[worst])):%Y-%m-%d %H:%M}"
    says = f"{_what(one)} too {one.worse}: {_of(one, worst)} in the {step} from {when}"
    if one.name == "traffic" and one.values[worst] == 0:
        says = f"No requests in the {step} from {when}, where {one.expected[worst]:,.0f} are usual"
    return Symptom(
        name=one.name,
        severity=severity,
        says=says + ("." if ongoing else "; it is over."),
        began_at=from_micros(int(one.starts[first])),
        value=float(one.values[worst]),
        limit=_finite(one.expected[worst]),
        p_value=float(one.p_values[worst]),
        facts={"ongoing": ongoing, "side": one.worse},
    )


def _grave(one: Watched, place: int) -> bool:
    value, expected = float(one.values[place]), float(one.expected[place])
    if one.name == "traffic":
        return one.worse == "low" and value < 0.2 * expected
    return value > 0.05 if one.name == "failures" else value > 2 * expected


def _what(one: Watched) -> str:
    return {"traffic": "Traffic is", "failures": "Failures are"}.get(
        one.name, f"Latency {one.name.removeprefix('latency/')} is"
    )


def _of(one: Watched, place: int) -> str:
    value, expected = float(one.values[place]), float(one.expected[place])
    if one.name == "traffic":
        return f"{value:,.0f} requests where {expected:,.0f} are usual"
    if one.name == "failures":
        return f"{value:.2%} of answers where {expected:.2%} are usual"
    return f"{1000 * value:.3g} ms where {1000 * expected:.3g} are usual"


def _spell(step: timedelta) -> str:
    return "hour" if step == timedelta(hours=1) else f"{step.total_seconds() / 60:.0f} minutes"


def _per_day(found: Traffic) -> int:
    return round(timedelta(days=1) / found.step)


def _spread_of_counts(counts: Floats, means: Floats) -> float:
    """The standard deviation of counts beyond chance, as a share of their mean (by moments)."""
    some = means > 0
    off = np.square(counts[some] - means[some])
    # What is far out is what is looked for: it does not count as spread.
    usual = off <= np.quantile(off / means[some], 0.99) * means[some] + 1e-9
    beyond = float((off - means[some])[usual].sum())
    squares = float(np.square(means[some])[usual].sum())
    return math.sqrt(max(0.0, beyond / squares)) if squares > 0 else 0.0


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
