"""Channel: a way by which people are told of alerts."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from upturn.core.errors import Unavailable
from upturn.core.findings import Alert

TIMEOUT_S = 10.0  # that a channel gets for one message


class Undelivered(Unavailable):
    """A channel did not take a message; it is tried again at the next look."""

    code = "undelivered"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is told at once: every alert that one look raised, made worse or ended."""

    endpoint: str
    title: str  # 'churn: 2 alerts, 1 of them critical'
    alerts: tuple[Alert, ...]
    look: str  # the command to look further

    def as_json(self) -> dict[str, Any]:
        """What webhooks and commands get."""
        return msgspec.to_builtins(self) | {"text": self.text}

    @property
    def text(self) -> str:
        """The message as lines for people."""
        return "\n".join([self.title, *map(alert_text, self.alerts), self.look])


class Channel(Protocol):
    """A way to tell people, as a value without state. Used by one thread at a time."""

    @property
    def name(self) -> str:
        """What records call it: without secrets, and the same for the same receiver."""
        ...

    def send(self, message: Message) -> None:
        """Tell. Returns when the receiver took it; raises Undelivered when it did not."""
        ...


def alert_text(alert: Alert) -> str:
    """One alert as a line: how bad, what changed, since when, of which version, whose it is.

    >>> from upturn.core.time import instant
    >>> at = instant("2025-05-03")
    >>> print(
    ...     alert_text(
    ...         Alert(
    ...             endpoint="churn",
    ...             name="drift/plan",
    ...             status="raised",
    ...             severity="critical",
    ...             says="plan drifted: PSI 0.41",
    ...             began_at=instant("2025-05-01"),
    ...             version="churn:3",
    ...             owner="ann",
    ...             at=at,
    ...         )
    ...     )
    ... )
    CRITICAL drift/plan: plan drifted: PSI 0.41. Since 2025-05-01 00:00 UTC. Version churn:3.
    Owner: ann.
    """
    if alert.status == "over":
        return f"OVER {alert.name}: {_sentence(alert.says)}"
    parts = [
        f"{alert.severity.upper()} {alert.name}: {_sentence(alert.says)}",
        f"Since {alert.began_at:%Y-%m-%d %H:%M} UTC.",
    ]
    parts += [f"{what.capitalize()}: {', '.join(named)}." for what, named in _named(alert)]
    parts += [f"Version {alert.version}."] if alert.version else []
    parts += [f"Owner: {alert.owner}."] if alert.owner else []
    return " ".join(parts)


def _named(alert: Alert) -> Sequence[tuple[str, list[str]]]:
    """The features and segments that a check named in its facts."""
    found = ((what, alert.facts.get(what)) for what in ("features", "segments"))
    return [(what, [str(one) for one in names][:5]) for what, names in found if names]


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
