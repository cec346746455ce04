"""Labels: how many have arrived by the age of rows, and whether they come as they used to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import numpy as np
import pyarrow as pa

from upturn.core.time import duration, micros, spell
from upturn.improve.monitor.delays import labelled_by
from upturn.improve.monitor.kinds import FEW, ages_s
from upturn.improve.monitor.performance import instants
from upturn.improve.monitor.shares import share_interval
from upturn.improve.monitor.symptom import Severity, Symptom

_HOURS = (1, 6, 24, 48, 96, 168, 336, 720, 1440, 2160, 4320, 8760)


class AgeBand(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one age: how many there are, and the share of them that has a label, with 95 %."""

    from_s: float
    until_s: float  # infinite of the oldest
    rows: int
    labelled: int
    completeness: float
    low: float
    high: float


def completeness_by_age(
    joined: pa.Table, known_by: datetime, hours: Sequence[float] = _HOURS
) -> tuple[AgeBand, ...]:
    """The share of rows with a label by their age at `known_by`; ages without rows are left out.

    `hours` are the ages between which bands lie. Intervals are Wilson's, which take rows for
    independent.

    >>> from upturn.core.time import instant
    >>> at = pa.array([instant("2013-04-01"), instant("2013-04-03")], pa.timestamp("us", "UTC"))
    >>> bands = completeness_by_age(
    ...     pa.table({"at": at, "label": [1.0, None]}), instant("2013-04-04")
    ... )
    >>> [(band.until_s / 3600, band.completeness) for band in bands]
    [(48.0, 0.0), (96.0, 1.0)]
    """
    age = ages_s(joined, known_by)
    has = np.asarray(joined["label"].combine_chunks().is_valid())
    edges = 3600.0 * np.array(hours)
    place = np.searchsorted(edges, age, side="right")
    starts, ends = np.append(0.0, edges), np.append(edges, math.inf)
    found: list[AgeBand] = []
    for one in np.unique(place).tolist():
        rows, labelled = int((place == one).sum()), int(has[place == one].sum())
        share = share_interval(labelled, rows)
        found.append(
            AgeBand(
                from_s=float(starts[one]),
                until_s=float(ends[one]),
                rows=rows,
                labelled=labelled,
                completeness=labelled / rows,
                low=share.low,
                high=share.high,
            )
        )
    return tuple(found)


def label_symptoms(
    joined: pa.Table, *, known_by: datetime, last: str | float | timedelta = "1d"
) -> list[Symptom]:
    """'labels': whether as many labels arrived lately as by the delays of earlier ones they should.

    `joined` are rows known by `known_by`, from far enough back. What is expected in the time `last`
    is summed over rows by Kaplan and Meier's curve, fitted on what was known before that time. That
    number is taken to vary from day to day by 15 % on top of chance. Fewer than half of what is
    expected is critical, fewer than four fifths a warning, both only where chance gives that in
    less than one case of a thousand.
    """
    span_s = duration(last).total_seconds()
    age = ages_s(joined, known_by)
    known = np.asarray(joined["known_at"].combine_chunks().cast(pa.int64()).fill_null(-1))
    has = np.asarray(joined["label"].combine_chunks().is_valid()) & (known >= 0)
    delay = np.where(has, (known - instants(joined)) / 1e6, np.nan)
    before = age >= span_s
    curve = labelled_by(
        np.where(delay <= age - span_s, delay, np.nan)[before], age[before] - span_s
    )
    lately = int((has & (known > micros(known_by) - 1e6 * span_s)).sum())
    if curve.rows < FEW:
        return [_no_symptom(f"Of {curve.rows:,} earlier labels it can't be said when labels come.")]
    expected = float((curve.at(age) - curve.at(np.maximum(age - span_s, -1.0))).sum())
    error = math.sqrt(expected + (0.15 * expected) ** 2)
    z = (lately + 0.5 - expected) / error if error else 0.0
    p_value = 0.5 * math.erfc(-z / math.sqrt(2))
    severity: Severity = "fine"
    if p_value < 0.001 and lately < 0.8 * expected:
        severity = "critical" if lately < 0.5 * expected else "warning"
    when = f"in the last {spell(timedelta(seconds=span_s))}"
    says = f"{lately:,} labels arrived {when} where {expected:,.0f} were to be expected."
    return [
        Symptom(
            name="labels",
            severity=severity,
            says=says,
            value=lately / expected if expected else None,
            limit=0.8,
            p_value=p_value,
            facts={"arrived": lately, "expected": expected},
        )
    ]


def _no_symptom(says: str) -> Symptom:
    return Symptom(name="labels", severity="fine", says=says)
