"""Monitor: what a person writes down once, so that an endpoint is looked at without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from upturn.core.errors import Invalid
from upturn.core.records import Check, Endpoint, Version
from upturn.core.time import duration
from upturn.improve.log import StoredLog
from upturn.improve.monitor.report import MonitorReport, keep, look, version_named
from upturn.stores.workspace import Workspace

Duration = str | float | timedelta


@dataclass(frozen=True, slots=True, init=False)
class Monitor:
    """What looks at an endpoint every so often, and whom it tells.

    - `every`: how often; `window`: how far back each look goes.
    - `by`: how long the windows are within: '1d', '7d' or 'month'.
    - `segments`: features whose values are looked at one by one.
    - `baseline`: the version whose training data the rows are held against, as 'delays:3'; the
      champion at the time, if it is None.
    - `owner`: who answers for the endpoint; `alerts`: the channels that are told.

    >>> import upturn as up
    >>> up.Monitor("delays", window="14d", segments=["origin"]).window.days
    14
    """

    endpoint: str
    every: timedelta
    window: timedelta
    by: str | None
    segments: tuple[str, ...]
    baseline: str | None
    owner: str
    alerts: tuple[Any, ...]
    name: str

    def __init__(
        self,
        endpoint: Endpoint | str,
        *,
        every: Duration = "1d",
        window: Duration = "7d",
        by: str | None = None,
        segments: Iterable[str] = (),
        baseline: Version | str | None = None,
        owner: str = "",
        alerts: Iterable[Any] = (),
        name: str | None = None,
    ) -> None:
        """Raises Invalid for what can't be a monitor."""
        if isinstance(segments, str):
            raise Invalid(
                f"segments={segments!r} is one text, not several names.",
                hint=f"Write segments=[{segments!r}].",
            )
        one = callable(getattr(alerts, "send", None))
        channels: tuple[Any, ...] = (alerts,) if one else tuple(alerts)
        for channel in channels:
            if not callable(getattr(channel, "send", None)):
                raise Invalid(
                    f"{channel!r} is not a channel that can be told.",
                    hint="There is up.Webhook, up.Slack, up.Command and up.Email.",
                )
        called = endpoint.name if isinstance(endpoint, Endpoint) else endpoint
        values: dict[str, Any] = {
            "endpoint": called,
            "every": _positive("every", every),
            "window": _positive("window", window),
            "by": by,
            "segments": tuple(segments),
            "baseline": baseline.name if isinstance(baseline, Version) else baseline,
            "owner": owner,
            "alerts": channels,
            "name": name or called,
        }
        for field, value in values.items():
            object.__setattr__(self, field, value)


# Tells whoever is to know of a report; of a monitor, so that what is told does not depend on how.
Tell = Callable[[Monitor, MonitorReport, Check], object]


def check(
    workspace: Workspace,
    monitor: Monitor,
    now: datetime,
    *,
    tell: Tell | None = None,
) -> MonitorReport:
    """Look once as of `now`, keep the report as a Check, and tell.

    Raises NotFound when the endpoint, the baseline or a segment is not there.
    """
    baseline = version_named(workspace, monitor.baseline) if monitor.baseline else None
    report = look(
        workspace,
        StoredLog(workspace, monitor.endpoint),
        since=now - monitor.window,
        until=now,
        every=monitor.by,
        segments=monitor.segments,
        baseline=baseline,
    )
    kept = keep(workspace, report, now)
    if tell is not None:
        tell(monitor, report, kept)
    return report


def _positive(name: str, value: Duration) -> timedelta:
    length = duration(value)
    if length <= timedelta(0):
        raise Invalid(f"{name}={value!r}: a monitor's {name} has a length.", hint="Write '7d'.")
    return length
