"""MonitorReport: traffic, latency, drift and performance of an endpoint over a span of time."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.errors import Invalid
from upturn.core.records import Check, Endpoint, Route, Version
from upturn.improve.log import StoredLog
from upturn.improve.monitor.drift import Drift, drift, observed
from upturn.improve.monitor.performance import Performance, performance, performance_by
from upturn.stores.workspace import Workspace

_QUANTILES = (0.5, 0.9, 0.99)
_BY_MONTH_FROM = timedelta(days=62)  # longer reports show months, shorter ones days


class ArmTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """How much one arm answered, or shadowed, and its latency quantiles in seconds."""

    arm: str
    version: int
    shadow: bool
    rows: int
    share: float  # of what was answered; of a shadow, how much of it it saw; sampling made good
    latency_s: dict[str, float]  # 'p50', 'p90', 'p99'


class MonitorReport(msgspec.Struct, frozen=True, kw_only=True):
    """One answer to: how is this endpoint? It can be computed again from the Log.

    `rows` are answered predictions with `since` <= at < `until`; labels count as far as they were
    known at `known_by`. `drift` compares the rows with the baseline of `version`, the champion now
    (the prediction only on its own rows), most drifted first. `performance` is of the answered
    rows, whichever version answered; `periods` is the same by month or by day.
    """

    endpoint: str
    since: datetime
    until: datetime
    known_by: datetime
    rows: int
    version: str | None
    arms: tuple[ArmTraffic, ...]
    drift: tuple[Drift, ...]
    performance: Performance
    periods: dict[str, Performance]
    unmatched_feedback: int  # ids with feedback received in the span, but no prediction at all


def monitor(
    workspace: Workspace,
    endpoint: str,
    *,
    since: datetime,
    until: datetime,
    now: datetime,
    known_by: datetime | None = None,
) -> MonitorReport:
    """Report on the endpoint's predictions in [since, until), and store the answer as a Check.

    Labels count that were known by `known_by`, which is `until` unless given. Raises NotFound when
    there is no such endpoint, Invalid when the span is empty.
    """
    report = look(
        workspace, StoredLog(workspace, endpoint), since=since, until=until, known_by=known_by
    )
    workspace.meta.add(
        Check(endpoint=endpoint, since=since, until=until, report=as_json(report), at=now)
    )
    return report


def look(
    workspace: Workspace,
    log: StoredLog,
    *,
    since: datetime,
    until: datetime,
    known_by: datetime | None = None,
) -> MonitorReport:
    """The report of `monitor`, not stored: the same Log gives the same report."""
    if not since < until:
        raise Invalid(f"There is no time between {since.isoformat()} and {until.isoformat()}.")
    endpoint = workspace.meta.get(Endpoint, log.endpoint).name
    known_by = known_by or until
    rows = log.joined(since=since, until=until, known_by=known_by, features=True)
    answered = rows.filter(pc.invert(rows["shadow"]))
    version = _champion(workspace, endpoint)
    signature = version.signature if version else None
    period = "month" if until - since >= _BY_MONTH_FROM else "day"
    return MonitorReport(
        endpoint=endpoint,
        since=since,
        until=until,
        known_by=known_by,
        rows=answered.num_rows,
        version=version.name if version else None,
        arms=_traffic(rows),
        drift=_drift(answered, version),
        performance=performance(answered, signature=signature),
        periods=performance_by(answered, period, signature=signature),
        unmatched_feedback=log.unmatched(since=since, until=until),
    )


def as_json(report: MonitorReport) -> dict[str, Any]:
    """The report as JSON values: nan becomes null, instants become text."""
    return msgspec.json.decode(msgspec.json.encode(report))


def _champion(workspace: Workspace, endpoint: str) -> Version | None:
    route = workspace.meta.find(Route, endpoint)
    if route is None:
        return None
    champion = next(arm for arm in route.arms if not arm.shadow)
    return workspace.meta.find(Version, route.model, champion.version)


def _drift(answered: pa.Table, version: Version | None) -> tuple[Drift, ...]:
    if version is None or not answered.num_rows:
        return ()
    own = answered.filter(pc.field("version") == version.number)
    names = version.signature.names
    found = drift(version.profile, observed(answered), names)
    found += drift(version.profile, observed(own), ("prediction",))
    return tuple(sorted(found, key=lambda one: -np.nan_to_num(one.excess)))


def _traffic(rows: pa.Table) -> tuple[ArmTraffic, ...]:
    """One entry for each arm and version, those that answered most first."""
    # A row that was logged at a rate of a tenth stands for ten that were answered.
    weighed = rows.select(["arm", "version", "shadow"]).append_column(
        "weight", pc.divide(pa.scalar(1.0), rows["rate"])
    )
    groups = weighed.group_by(["arm", "version", "shadow"])
    found: list[ArmTraffic] = []
    each = groups.aggregate([([], "count_all"), ("weight", "sum")]).to_pylist()
    answered = sum(group["weight_sum"] for group in each if not group["shadow"])
    for group in each:
        own = pc.field("arm") == group["arm"]
        own &= pc.field("version") == group["version"]
        own &= pc.field("shadow") == group["shadow"]
        found.append(
            ArmTraffic(
                arm=group["arm"],
                version=group["version"],
                shadow=group["shadow"],
                rows=group["count_all"],
                share=group["weight_sum"] / answered if answered else float("nan"),
                latency_s=_quantiles(rows.filter(own)["latency_s"]),
            )
        )
    return tuple(sorted(found, key=lambda arm: (arm.shadow, -arm.rows, arm.arm, arm.version)))


def _quantiles(latency_s: "pa.ChunkedArray[Any]") -> dict[str, float]:
    values = np.asarray(latency_s.drop_null().to_numpy(), np.float64)
    if not len(values):
        return {}
    found = np.quantile(values, _QUANTILES, method="inverted_cdf")
    return {f"p{100 * q:g}": float(value) for q, value in zip(_QUANTILES, found, strict=True)}
