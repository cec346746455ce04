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
from upturn.improve.statistics.distributions import t_sf
from upturn.improve.statistics.interval import Interval

FEWEST = 5  # windows before, to tell how much a metric varies between them
ALPHA = 0.001  # of a metric and a window: one false alarm in a thousand of them
_SURE = 1.7  # times a 95 % interval's reach is a 99.8 % one's, of 20 blocks
_MINOR, _MAJOR = 0.01, 0.05  # harm to a metric between 0 and 1
_MINOR_SHARE, _MAJOR_SHARE = 0.05, 0.2  # and to another, as a share of what it was


def performance_symptoms(
    windows: Sequence[tuple[datetime, Performance]],
    *,
    earlier: Sequence[tuple[datetime, Performance]] = (),
    alpha: float = ALPHA,
    least: float = 0.5,
) -> list[Symptom]:
    """'performance/METRIC': whether a metric is worse in the last window than in those before.

    Windows come in the order of time. Those before are `earlier`, where there are five, so that a
    change that goes on for a while does not become what is usual; else those of `windows`. How much
    a metric varies between windows is seen from those before, so that what days have in common
    needs no model: the last one is held against Student's t prediction interval (of W windows: s ·
    √(1 + 1/W)). A warning takes p <= `alpha`, one-sided, and harm that matters: 0.01 of a metric
    between 0 and 1, 5 % of another; from 0.05 or 20 % on it is critical. Windows with labels for
    less than the share `least` of their rows are passed over: the labels that come first are not
    like the others (see maturing.py). Fewer than five windows before say nothing. `began_at` is the
    first of the last windows in a row that are worse by as much.
    """
    usable = [one for one in windows if one[1].completeness >= least]
    baseline = [one for one in earlier if one[1].completeness >= least]
    if len(baseline) < FEWEST:
        baseline = usable[:-1]
    if not usable or len(baseline) < FEWEST:
        return []
    names = [name for name in usable[-1][1].values if _known(name)]
    found = [_worse(name, baseline, usable, alpha) for name in names]
    return [one for one in found if one is not None]


def estimated_symptoms(estimated: Estimated) -> list[Symptom]:
    """'estimated/METRIC': whether a metric is likely to be worse than on the reference.

    A warning where the reference's value is beyond 1.7 times the reach of a 95 % interval of the
    estimate, which chance brings in one case of a thousand, on the better side, by harm that
    matters as in `performance_symptoms`. The sentence says what it can't see.
    """
    made: list[Symptom] = []
    for name, interval in estimated.intervals.items():
        before = estimated.reference.get(name, math.nan)
        seen = _seen(name, interval, before, interval.estimate)
        if seen is None:
            continue
        severity, ends = seen
        change = "likely to be worse" if severity != "fine" else "likely to be as it was"
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

    Both are of the same rows. A realised metric that far outside of the estimate's interval (1.7
    times its reach, see `estimated_symptoms`), on the worse side and by harm that matters, means
    that inputs no longer mean what they did (concept shift), or that the labels that are there are
    not like the others.
    """
    made: list[Symptom] = []
    for name, interval in estimated.intervals.items():
        now = realised.values.get(name, math.nan)
        seen = _seen(name, interval, interval.estimate, now)
        if seen is None:
            continue
        severity, ends = seen
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


def _seen(name: str, interval: Interval, before: float, now: float) -> tuple[Severity, str] | None:
    """How bad it is that a metric went from one value to the other, and the interval in words.

    One of the two is the interval's estimate, the other known: it is fine as long as that is no
    farther out than chance brings in one case of a thousand. None where there is no interval.
    """
    low, value, high = interval.low, interval.estimate, interval.high
    if not math.isfinite(low + high + before + now):
        return None
    apart, reach = abs(now - before), max(high - value, value - low)
    harm = _harm(name, before, now)
    shown = harm > 0 and apart > _SURE * reach
    ends = f"{value:.4g} ({low:.4g} to {high:.4g})"
    return _severity(name, before, harm) if shown else "fine", ends


def _worse(
    name: str,
    baseline: Sequence[tuple[datetime, Performance]],
    windows: Sequence[tuple[datetime, Performance]],
    alpha: float,
) -> Symptom | None:
    known = _finite_values(name, windows)
    before = np.array([value for _, value in _finite_values(name, baseline)])
    if len(before) < FEWEST or not known or known[-1][0] != windows[-1][0]:
        return None
    now, count, middle = known[-1][1], len(before), float(before.mean())
    error = float(before.std(ddof=1)) * math.sqrt(1 + 1 / count)
    harm = _harm(name, middle, now)
    p_value = (1.0 if harm <= 0 else 0.0) if error == 0 else t_sf(harm / error, count - 1)
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
        began_at=_began(name, middle, known) if severity != "fine" else None,
        value=now,
        limit=middle,
        p_value=p_value,
        facts={"metric": name, "windows": count, "harm": harm},
    )


def _finite_values(
    name: str, windows: Sequence[tuple[datetime, Performance]]
) -> list[tuple[datetime, float]]:
    series = [(at, one.values.get(name, math.nan)) for at, one in windows]
    return [(at, value) for at, value in series if math.isfinite(value)]


def _began(name: str, usual: float, known: Sequence[tuple[datetime, float]]) -> datetime:
    """The first of the last windows in a row that are worse by half as much as the last one."""
    halfway = _harm(name, usual, known[-1][1]) / 2
    place = len(known) - 1
    while place > 0 and _harm(name, usual, known[place - 1][1]) >= halfway > 0:
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


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
