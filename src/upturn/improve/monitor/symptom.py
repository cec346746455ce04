"""Symptom: one thing about an endpoint that a monitor looked at, and how bad it is."""

from datetime import datetime
from typing import Any, Literal

import msgspec

Severity = Literal["fine", "warning", "critical"]


class Symptom(msgspec.Struct, frozen=True, kw_only=True):
    """What a monitor looked at and found. `name` is the same for the same question.

    Names are paths: 'drift/dep_hour', 'quality/carrier/unseen', 'skew/dep_hour', 'performance/auc',
    'estimated/auc', 'latency/p99', 'traffic', 'staleness', 'labels'. Of a segment the path ends in
    '@origin=JFK'.
    """

    name: str
    severity: Severity
    says: str  # one sentence with its numbers: "dep_hour drifted: PSI 0.31 where chance gives 0.01"
    began_at: datetime | None = None  # the first window in which it showed, where that is known
    value: float | None = None  # the number that was judged
    limit: float | None = None  # and what it was judged by
    p_value: float | None = None
    e_value: float | None = None
    facts: dict[str, Any] = {}  # JSON values, for those who look further
