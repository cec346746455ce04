"""Staleness: how old what the champion learned from is, against how often it is learned anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from upturn.core.time import duration, spell
from upturn.improve.monitor.symptom import Severity, Symptom

_HABIT = 3  # retrainings before, from which there is a habit
_LATE, _VERY_LATE = 2.0, 4.0


def staleness(
    trained_until: datetime | None,
    now: datetime,
    *,
    earlier: Sequence[datetime] = (),
    limit: str | float | timedelta | None = None,
) -> list[Symptom]:
    """'staleness': the age of the training data, which end at `trained_until`.

    With a `limit` it is a warning from that age on, critical from twice that. Otherwise it is held
    against the habit, the (upper) median time between the ends of the training data of `earlier`
    versions and this one: a warning at twice the habit, critical at four times. With fewer than
    three intervals there is no habit, and without `trained_until` nothing to say.

    >>> from upturn.core.time import instant
    >>> days = [instant(f"2013-0{month}-01") for month in (1, 2, 3, 4)]
    >>> staleness(days[-1], instant("2013-07-01"), earlier=days[:-1])[0].severity
    'warning'
    """
    if trained_until is None:
        return []
    age = max(now - trained_until, timedelta())
    ends = sorted({*(end for end in earlier if end < trained_until), trained_until})
    gaps = [later - sooner for sooner, later in pairwise(ends)]
    usual, of = None, ""
    late, very_late = 1.0, _LATE
    if limit is not None:
        usual, of = duration(limit), "where the limit is"
    elif len(gaps) >= _HABIT:
        usual, of = sorted(gaps)[len(gaps) // 2], "where a new model is made every"
        late, very_late = _LATE, _VERY_LATE
    severity: Severity = "fine"
    days = age.total_seconds() / 86400
    if usual is None:
        return [
            Symptom(
                name="staleness",
                severity="fine",
                says=f"The training data ends {_days(age)} ago.",
                value=days,
            )
        ]
    if age >= late * usual:
        severity = "critical" if age >= very_late * usual else "warning"
    return [
        Symptom(
            name="staleness",
            severity=severity,
            says=f"The training data ends {_days(age)} ago, {of} {_days(usual)}.",
            began_at=trained_until + late * usual if severity != "fine" else None,
            value=days,
            limit=late * usual.total_seconds() / 86400,
            facts={"retrainings": len(gaps)},
        )
    ]


def _days(span: timedelta) -> str:
    if span < timedelta(days=1):
        return spell(timedelta(hours=round(span.total_seconds() / 3600)))
    days = span.total_seconds() / 86400
    return f"{days:.0f} days" if days >= 1.5 else "1 day"
