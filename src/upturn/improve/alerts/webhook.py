"""Webhooks: alerts as JSON to a URL, signed on request, and as text to Slack and its like."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

import msgspec

from upturn.core import posting
from upturn.core.errors import Invalid
from upturn.improve.alerts.channel import TIMEOUT_S, Message, Undelivered

SIGNATURE = "X-Upturn-Signature"


class Webhook(msgspec.Struct, frozen=True):
    """Posts each message as JSON: endpoint, title, text, look, and the alerts as records.

    With a `secret`, the header X-Upturn-Signature is `sha256=` and the HMAC-SHA256 of the body in
    hexadecimal digits. Any answer but a 2xx counts as not delivered; redirects are not followed.

    >>> Webhook("https://hooks.example.org/upturn?token=3f9").name
    'webhook hooks.example.org'
    """

    url: str
    secret: str = ""

    def __post_init__(self) -> None:
        """Raises Invalid unless it is an address that can be posted to."""
        check_url(self.url)
        if not isinstance(self.secret, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid("A webhook's secret is a text.", hint='Write secret="…".')

    @property
    def name(self) -> str:
        """See Channel."""
        return f"webhook {urlsplit(self.url).hostname}"

    def send(self, message: Message) -> None:
        """See Channel."""
        body = msgspec.json.encode(message.as_json())
        headers = {}
        if self.secret:
            digest = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
            headers[SIGNATURE] = f"sha256={digest}"
        post(self.url, body, headers)


class Slack(msgspec.Struct, frozen=True):
    """Posts each message as text to an incoming webhook of Slack, Mattermost, Rocket.Chat, ….

    >>> Slack("https://hooks.slack.example/services/T0/B0/xyz").name
    'slack hooks.slack.example'
    """

    url: str

    def __post_init__(self) -> None:
        """Raises Invalid unless it is an address that can be posted to."""
        check_url(self.url)

    @property
    def name(self) -> str:
        """See Channel."""
        return f"slack {urlsplit(self.url).hostname}"

    def send(self, message: Message) -> None:
        """See Channel."""
        # The three characters that Slack's markup gives a meaning.
        text = message.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        post(self.url, msgspec.json.encode({"text": text}), {})


def check_url(url: str) -> None:
    """Raise Invalid unless the text is an address that can be posted to."""
    posting.check_url(url, what="alerts", example="https://hooks.example.org/upturn")


def post(url: str, body: bytes, headers: dict[str, str]) -> None:
    """Post JSON. Raises Undelivered unless the answer is a 2xx."""
    try:
        answer = posting.post(url, body, headers, timeout_s=TIMEOUT_S)
    except posting.Unreached as error:
        raise Undelivered(error.message) from None
    if not answer.taken:
        said = f"{posting.host_of(url)} answered {answer.status} {answer.said}"
        raise Undelivered(f"{said.rstrip()}.")
