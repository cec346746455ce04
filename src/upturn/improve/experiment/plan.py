"""Plan: how many units and days an experiment takes, from the user's own history."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec

from upturn.core.errors import Invalid
from upturn.improve.experiment.analysis import units_with_clips
from upturn.improve.experiment.bounds import Rule
from upturn.improve.experiment.design import Design
from upturn.improve.experiment.estimate import difference, estimate
from upturn.improve.experiment.metrics import Quantile
from upturn.improve.experiment.quantiles import quantile_estimates
from upturn.improve.experiment.scan import Group, Key, merged, scan
from upturn.improve.experiment.source import Source
from upturn.improve.experiment.units import Layout, Units
from upturn.improve.statistics.distributions import normal_quantile

_WEEKS = 8
_ALL = "all"


class Detectable(msgspec.Struct, frozen=True, kw_only=True):
    """The least relative effect that is found with the planned power after some weeks."""

    weeks: int
    units: int
    anytime: float
    fixed: float


class MetricPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to see an effect on one metric; units are those of all arms together.

    Looking at any time, `anytime_units` is when the power is reached: if the effect is there, most
    experiments may be stopped before.
    """

    metric: str
    value: float
    std: float  # of a unit's influence on the value, before the adjustment
    reduction: float  # the share of the variance that the covariates take away
    effect: float  # relative
    anytime_units: int | None  # None: nothing can be said
    fixed_units: int | None
    anytime_days: float | None = None
    fixed_days: float | None = None
    by_week: tuple[Detectable, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Power and duration of an experiment before its start."""

    experiment: str
    units: int  # in the history
    per_day: float | None
    power: float
    alpha: float  # of one comparison: the experiment's, shared between all (Bonferroni)
    metrics: tuple[MetricPlan, ...]


def plan_source(
    design: Design,
    source: Source,
    *,
    effect: float,
    power: float,
    at: str | None,
    per_day: float | None,
) -> Plan:
    """The plan from a table without arms. Raises Invalid for an effect or power out of range."""
    if not (0 < effect < math.inf and 0 < power < 1):
        raise Invalid(
            f"An effect of {effect!r} with a power of {power!r} can't be planned for.",
            hint="effect=0.02 is two per cent, power=0.8 finds it in 8 of 10 experiments.",
        )
    if per_day is not None and not 0 < per_day < math.inf:
        raise Invalid(f"{per_day!r} units a day is no rate.")
    layout = Layout((_ALL,), None, design.unit, at)
    units = units_with_clips(source, layout, design.linear)
    groups = scan(source, units, design.linear, ["arm"] if at is None else ["arm", "day"])
    whole = merged(groups, [0]).get((_ALL,))
    if whole is None or whole.units < 2:
        raise Invalid("The history has fewer than two units.", hint="Give more of it.")
    rate = per_day or _rate(groups)
    comparisons = len(design.metrics) * len(design.others) if design.correction else 1
    alpha = design.alpha / comparisons
    plans = tuple(
        _metric_plan(design, title, found, (effect, power, alpha), rate)
        for title, found in _influences(design, source, units, whole)
    )
    return Plan(
        experiment=design.name,
        units=whole.units,
        per_day=rate,
        power=power,
        alpha=alpha,
        metrics=plans,
    )


def _influences(
    design: Design, source: Source, units: Units, whole: Group
) -> list[tuple[str, tuple[float, float, float]]]:
    """Each metric's value and the variance of a unit's influence, before and after adjustment."""
    made: list[tuple[str, tuple[float, float, float]]] = []
    for metric in design.asked:
        if isinstance(metric, Quantile):
            found, _ = quantile_estimates(source, units, metric, [_ALL])
            variance = float(found.cov[0, 0] * found.n[0])
            made.append((metric.title, (float(found.value[0]), variance, variance)))
            continue
        moments = whole.moments[design.linear.index(metric)]
        # Two arms alike: the variance of their difference is twice that of one, adjusted.
        pair = estimate(metric, [moments, moments], design.adjustment)
        adjusted = float(difference(pair, 0, 1)[1]) * moments.n / 2
        raw = float(pair.raw_variance[0]) * moments.n
        made.append((metric.title, (float(pair.raw[0]), raw, adjusted)))
    return made


def _metric_plan(
    design: Design,
    title: str,
    found: tuple[float, float, float],
    asked: tuple[float, float, float],
    rate: float | None,
) -> MetricPlan:
    value, raw, adjusted = found
    effect, power, alpha = asked
    shares = [design.arms[design.control], min(design.arms[arm] for arm in design.others)]
    # Var(difference) · all units
    spread = adjusted * sum(1 / share for share in shares)
    known = math.isfinite(spread) and spread > 0 and math.isfinite(value) and value != 0
    rules = [replace(design.rule, method=name, alpha=alpha) for name in ("anytime", "fixed")]
    needed: list[int | None] = [None, None]
    weeks: tuple[Detectable, ...] = ()
    if known:
        pair = sum(shares)
        needed = [units_needed(rule, effect * abs(value), spread, power, pair) for rule in rules]
        if rate is not None:
            weeks = tuple(
                _detectable(rules, week, rate, (abs(value), spread, power, pair))
                for week in range(1, _WEEKS + 1)
            )
    days = [None if n is None or rate is None else n / rate for n in needed]
    return MetricPlan(
        metric=title,
        value=value,
        std=math.sqrt(raw) if raw >= 0 else math.nan,
        reduction=1 - adjusted / raw if raw > 0 else 0.0,
        effect=effect,
        anytime_units=needed[0],
        fixed_units=needed[1],
        anytime_days=days[0],
        fixed_days=days[1],
        by_week=weeks,
    )


def units_needed(rule: Rule, effect: float, spread: float, power: float, pair: float = 1.0) -> int:
    """How many units of all arms it takes until an effect is beyond the bound with that power.

    `spread` is the variance of the difference times the units; `pair` the share of units in the two
    arms compared. It is the least n with effect / se ≥ bound(n) + z(power). By contrast to
    `power.sequence_n` the bound stays tuned as the rule is, and looks before do not count.

    >>> units_needed(Rule("fixed"), 0.1, 4.0, 0.8)
    3140
    """
    z = normal_quantile(power)

    def enough(n: float) -> bool:
        return effect >= (rule.multiplier(n * pair) + z) * math.sqrt(spread / n)

    low, high = 1.0, 2.0
    while not enough(high):
        low, high = high, high * 2
    while high - low > max(0.5, 1e-12 * high):  # numbers so great have no halves
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return math.ceil(high)


def _detectable(
    rules: list[Rule], week: int, rate: float, found: tuple[float, float, float, float]
) -> Detectable:
    value, spread, power, pair = found
    n = 7 * week * rate
    z = normal_quantile(power)
    least = [(one.multiplier(n * pair) + z) * math.sqrt(spread / n) / value for one in rules]
    return Detectable(weeks=week, units=round(n), anytime=least[0], fixed=least[1])


def _rate(groups: dict[Key, Group]) -> float | None:
    days = [key[1] for key in groups if len(key) > 1 and key[1] is not None]
    if not days:
        return None
    total = sum(group.units for group in groups.values())
    return total / ((max(days) - min(days)).days + 1)
