"""Notify: what a monitor noticed becomes alerts, each told once to those whom it concerns.

An alert is *raised* when a symptom shows that showed nothing before, gets *worse* when a warning
becomes critical, and is *over* when the same question is asked again and finds nothing. In between
nobody is told again. It is stored with the channels that are still to be told before any is, and
again afterwards: who is killed in between tells at the next look, so each is told at least once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from upturn.core.findings import Alert
from upturn.improve.alerts.channel import Channel, Message, Undelivered
from upturn.improve.alerts.mutes import muted_names
from upturn.improve.monitor.symptom import Symptom
from upturn.stores.workspace import Workspace

_RANK = {"fine": 0, "warning": 1, "critical": 2}
_DUE = "not told yet"


def notify(
    workspace: Workspace,
    *,
    endpoint: str,
    symptoms: Sequence[Symptom],
    channels: Sequence[Channel],
    owner: str = "",
    version: str | None = None,
    check: int = 0,
    now: datetime,
) -> list[Alert]:
    """Store what changed and tell it to every channel in one message; the alerts told of.

    A muted alert is stored and not told; once the mute has ended it is, if it still goes on. A
    channel that did not take the message is tried again at the next look. Symptoms that were not
    looked at this time change nothing. To be called by one process an endpoint at a time.
    """
    last = {one.name: one for one in workspace.meta.last_each(Alert, endpoint=endpoint)}
    muted = muted_names(workspace, endpoint, now)
    everybody = [channel.name for channel in channels]
    due: list[Alert] = []
    for symptom in symptoms:
        before = last.get(symptom.name)
        alert = _changed(symptom, _open(before), endpoint, now)
        if alert is None:
            continue
        due.append(
            workspace.meta.add(
                msgspec.structs.replace(
                    alert,
                    owner=owner,
                    version=version,
                    check=check,
                    muted=muted(symptom.name) or (alert.status == "over" and _quiet(before)),
                    failed=dict.fromkeys(_concerned(alert, before, everybody), _DUE),
                )
            )
        )
    changed = {alert.name for alert in due}
    due += [
        msgspec.structs.replace(alert, muted=False, at=now)
        for name, alert in last.items()
        if name not in changed and alert.failed and not (alert.status == "over" and alert.muted)
    ]
    return _tell(workspace, [one for one in due if not muted(one.name) and not one.muted], channels)


def open_alerts(workspace: Workspace, endpoint: str | None = None) -> list[Alert]:
    """The alerts that go on, of one endpoint or of all."""
    where: dict[str, Any] = {} if endpoint is None else {"endpoint": endpoint}
    return [alert for alert in workspace.meta.last_each(Alert, **where) if _open(alert)]


def _open(alert: Alert | None) -> Alert | None:
    return None if alert is None or alert.status == "over" else alert


def _quiet(before: Alert | None) -> bool:
    return before is not None and before.muted


def _concerned(alert: Alert, before: Alert | None, everybody: list[str]) -> list[str]:
    """The channels that have to be told: of an end, those that were told of the beginning."""
    if alert.status != "over" or before is None:
        return everybody
    return [name for name in everybody if name in before.told or name in before.failed]


def _changed(symptom: Symptom, before: Alert | None, endpoint: str, now: datetime) -> Alert | None:
    over = symptom.severity == "fine"
    if over and before is None:
        return None
    if not over and before is not None and _RANK[symptom.severity] <= _RANK[before.severity]:
        return None
    return Alert(
        endpoint=endpoint,
        name=symptom.name,
        status="over" if over else "worse" if before else "raised",
        severity=before.severity if over and before else _severity(symptom),
        says=symptom.says,
        began_at=before.began_at if before else symptom.began_at or now,
        facts=symptom.facts,
        at=now,
    )


def _severity(symptom: Symptom) -> Literal["warning", "critical"]:
    return "critical" if symptom.severity == "critical" else "warning"


def _tell(workspace: Workspace, alerts: list[Alert], channels: Sequence[Channel]) -> list[Alert]:
    """Tell each channel what it is still to be told; the alerts as they are stored then."""
    for channel in channels:
        news = [alert for alert in alerts if channel.name in alert.failed]
        if not news:
            continue
        try:
            channel.send(message_of(news[0].endpoint, news))
        except Undelivered as error:
            alerts = [_refused(alert, channel.name, error.message) for alert in alerts]
        else:
            alerts = [_told(alert, channel.name) for alert in alerts]
    return [workspace.meta.add(msgspec.structs.replace(alert, seq=0)) for alert in alerts]


def _refused(alert: Alert, channel: str, why: str) -> Alert:
    if channel not in alert.failed:
        return alert
    return msgspec.structs.replace(alert, failed=alert.failed | {channel: why})


def _told(alert: Alert, channel: str) -> Alert:
    if channel not in alert.failed:
        return alert
    left = {name: why for name, why in alert.failed.items() if name != channel}
    return msgspec.structs.replace(alert, told=(*alert.told, channel), failed=left)


def message_of(endpoint: str, alerts: Sequence[Alert]) -> Message:
    """The message that tells of these alerts, the worst first."""
    ranked = sorted(alerts, key=lambda one: (one.status == "over", -_RANK[one.severity], one.name))
    until = max(alert.at for alert in alerts)
    return Message(
        endpoint=endpoint,
        title=_title(endpoint, ranked),
        alerts=tuple(ranked),
        look=f"Look further: upturn monitor {endpoint} --until {until:%Y-%m-%dT%H:%M:%SZ}",
    )


def test_message(endpoint: str, owner: str, now: datetime) -> Message:
    """A message that tells of nothing, to see whether a channel works."""
    alert = Alert(
        endpoint=endpoint,
        name="test",
        status="raised",
        says="somebody tries out whether this arrives",
        began_at=now,
        owner=owner,
        at=now,
    )
    return msgspec.structs.replace(message_of(endpoint, [alert]), title=f"{endpoint}: a test")


def _title(endpoint: str, alerts: Sequence[Alert]) -> str:
    new = [alert for alert in alerts if alert.status != "over"]
    critical = sum(alert.severity == "critical" for alert in new)
    over = len(alerts) - len(new)
    parts = [f"{len(new)} alert{'' if len(new) == 1 else 's'}"] if new else []
    parts += [f"{critical} of them critical"] if critical and len(new) > 1 else []
    parts += ["critical"] if critical and len(new) == 1 else []
    parts += [f"{over} over"] if over else []
    return f"{endpoint}: {', '.join(parts)}"
