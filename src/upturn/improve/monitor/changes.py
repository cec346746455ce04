"""Changes: metrics that are worse than they were, or than the inputs alone explain, as symptoms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

import numpy as np

from upturn.improve.metrics import METRICS, get_metric
from upturn.improve.monitor.estimated import Estimated
from upturn.improve.monitor.performance import Performance
from upturn.improve.monitor.symptom import Severity, Symptom
from upturn.improve.student import t_cdf

FEWEST = 5  # windows before, to tell how much a metric varies between them
ALPHA = 0.001  # of a metric and a window: one false alarm in a thousand of them
_MINOR, _MAJOR = 0.01, 0.05  # harm to a metric between 0 and 1
_MINOR_SHARE, _MAJOR_SHARE = 0.05, 0.2  # and to another, as a share of what it was


def performance_symptoms(
    windows: Sequence[tuple[datetime, Performance]],
    *,
    alpha: float = ALPHA,
    least: float = 0.5,
) -> list[Symptom]:
    """'performance/METRIC': whether a metric is worse in the last window than in those before.

    Windows come in the order of time. How much a metric varies between windows is seen from those
    before, so that what days have in common needs no model: the last one is held against Student's
    t prediction interval (of W windows: s · √(1 + 1/W)). A warning takes p <= `alpha`, one-sided,
    and harm that matters: 0.01 of a metric between 0 and 1, 5 % of another; from 0.05 or 20 % on it
    is critical. Windows with labels for less than the share `least` of their rows are passed over:
    the labels that come first are not like the others (see maturing.py). Fewer than five windows
    before say nothing. `began_at` is the first of the last windows in a row that are worse by as
    much.
    """
    usable = [one for one in windows if one[1].completeness >= least]
    if len(usable) < FEWEST + 1:
        return []
    names = [name for name in usable[-1][1].values if _known(name)]
    found = [_worse(name, usable, alpha) for name in names]
    return [one for one in found if one is not None]


def estimated_symptoms(estimated: Estimated) -> list[Symptom]:
    """'estimated/METRIC': whether a metric is likely to be worse than on the reference.

    A warning where the interval of the estimate leaves the reference's value out on the worse side,
    by harm that matters as in `performance_symptoms`. The sentence says what it can't see.
    """
    made: list[Symptom] = []
    for name, interval in estimated.intervals.items():
        before = estimated.reference.get(name, math.nan)
        if not math.isfinite(interval.low + interval.high + before):
            continue
        harm = _harm(name, before, interval.estimate)
        shown = interval.excludes(before) and harm > 0
        severity = _severity(name, before, harm) if shown else "fine"
        change = "likely to be worse" if severity != "fine" else "likely to be as it was"
        ends = _ends(interval.estimate, interval.low, interval.high)
        says = f"{name} is {change}: {ends} by estimate, without labels; it was {before:.4g}."
        if severity != "fine":
            says += " A change of what inputs mean would not show in this."
        made.append(
            Symptom(
                name=f"estimated/{name}",
                severity=severity,
                says=says,
                value=interval.estimate,
                limit=before,
                facts={"metric": name, "method": estimated.method, "assumes": estimated.assumes},
            )
        )
    return made


def surprises(estimated: Estimated, realised: Performance) -> list[Symptom]:
    """'concept/METRIC': whether labels say otherwise than inputs and scores let expect.

    Both are of the same rows. A realised metric outside of the estimate's interval, on the worse
    side and by harm that matters, means that inputs no longer mean what they did (concept shift),
    or that the labels that are there are not like the others.
    """
    made: list[Symptom] = []
    for name, interval in estimated.intervals.items():
        now = realised.values.get(name, math.nan)
        if not math.isfinite(interval.low + interval.high + now):
            continue
        harm = _harm(name, interval.estimate, now)
        shown = interval.excludes(now) and harm > 0
        severity = _severity(name, interval.estimate, harm) if shown else "fine"
        ends = _ends(interval.estimate, interval.low, interval.high)
        says = f"{name} is {now:.4g} by its labels, where inputs and scores let expect {ends}"
        if severity != "fine":
            says += ": what inputs mean has changed, or early labels are unlike the others"
        made.append(
            Symptom(
                name=f"concept/{name}",
                severity=severity,
                says=says + ".",
                value=now,
                limit=interval.estimate,
                facts={"metric": name, "completeness": _finite(realised.completeness)},
            )
        )
    return made


def _worse(
    name: str, windows: Sequence[tuple[datetime, Performance]], alpha: float
) -> Symptom | None:
    series = [(at, one.values.get(name, math.nan)) for at, one in windows]
    known = [(at, value) for at, value in series if math.isfinite(value)]
    if len(known) < FEWEST + 1 or known[-1][0] != series[-1][0]:
        return None
    before = np.array([value for _, value in known[:-1]])
    now, count, middle = known[-1][1], len(before), float(before.mean())
    error = float(before.std(ddof=1)) * math.sqrt(1 + 1 / count)
    harm = _harm(name, middle, now)
    p_value = (
        (1.0 if harm <= 0 else 0.0) if error == 0 else max(0.0, t_cdf(-harm / error, count - 1))
    )
    severity = _severity(name, middle, harm) if p_value <= alpha and error > 0 else "fine"
    change = "is worse" if severity != "fine" else "is as it was"
    says = (
        f"{name} {change}: {now:.4g} in the last window, {middle:.4g} ± {before.std(ddof=1):.2g} "
        f"in the {count} before."
    )
    return Symptom(
        name=f"performance/{name}",
        severity=severity,
        says=says,
        began_at=_began(name, known) if severity != "fine" else None,
        value=now,
        limit=middle,
        p_value=p_value,
        facts={"metric": name, "windows": count, "harm": harm},
    )


def _began(name: str, known: Sequence[tuple[datetime, float]]) -> datetime:
    """The first of the last windows in a row that are nearer to the last one than to the others."""
    values = [value for _, value in known]
    usual = float(np.median(values[: max(FEWEST, len(values) // 2)]))
    halfway = _harm(name, usual, values[-1]) / 2
    place = len(values) - 1
    while place > 0 and _harm(name, usual, values[place - 1]) >= halfway > 0:
        place -= 1
    return known[place][0]


def _harm(name: str, before: float, now: float) -> float:
    return before - now if get_metric(name).greater_is_better else now - before


def _severity(name: str, before: float, harm: float) -> Severity:
    unit = math.isfinite(get_metric(name).span[1] - get_metric(name).span[0])
    minor, major = (_MINOR, _MAJOR) if unit else (_MINOR_SHARE, _MAJOR_SHARE)
    part = harm if unit else harm / max(abs(before), 1e-300)
    if part >= major:
        return "critical"
    return "warning" if part >= minor else "fine"


def _known(name: str) -> bool:
    return name.partition("@")[0] in METRICS


def _ends(value: float, low: float, high: float) -> str:
    return f"{value:.4g} ({low:.4g} to {high:.4g})"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
