"""Email: alerts as plain-text mail through a server that one names."""

from __future__ import annotations

import msgspec

from upturn.core.errors import Invalid
from upturn.improve.alerts.channel import TIMEOUT_S, Message, Undelivered


class Email(msgspec.Struct, frozen=True, kw_only=True):
    """Sends each message as one mail by SMTP.

    `server` is 'host' or 'host:port', port 587 unless given. `security` is "starttls" (the
    default), "tls" for a port that speaks TLS from the start, or "none". Give `user` and `password`
    where the server wants a login.

    >>> Email(to=("ann@example.org",), sender="upturn@example.org", server="mail.example.org").name
    'email ann@example.org'
    """

    to: tuple[str, ...]
    sender: str
    server: str
    user: str = ""
    password: str = ""
    security: str = "starttls"

    def __post_init__(self) -> None:
        """Raises Invalid for what can't be an address, a server or a kind of security."""
        if isinstance(self.to, str) or not self.to:
            raise Invalid(f"to={self.to!r}: a mail has receivers.", hint='to=("ann@example.org",)')
        for address in (*self.to, self.sender):
            if "@" not in address or any(mark in address for mark in "\r\n"):
                raise Invalid(f"{address!r} is not a mail address.")
        if self.security not in ("starttls", "tls", "none"):
            raise Invalid(
                f"security={self.security!r}: there is no such kind.",
                hint='There is "starttls", "tls" and "none".',
            )
        _address(self.server)

    @property
    def name(self) -> str:
        """See Channel."""
        return f"email {', '.join(self.to)}"

    def send(self, message: Message) -> None:
        """See Channel."""
        import smtplib
        from email.message import EmailMessage

        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = message.title, self.sender, ", ".join(self.to)
        mail.set_content(message.text + "\n")
        host, port = _address(self.server)
        made = smtplib.SMTP_SSL if self.security == "tls" else smtplib.SMTP
        try:
            with made(host, port, timeout=TIMEOUT_S) as server:
                if self.security == "starttls":
                    server.starttls()
                if self.user:
                    server.login(self.user, self.password)
                refused = server.send_message(mail)
        except (OSError, smtplib.SMTPException) as error:
            raise Undelivered(f"{host} did not take the mail: {error}.") from None
        if refused:
            raise Undelivered(f"{host} refused {', '.join(refused)}.")


def _address(server: str) -> tuple[str, int]:
    host, _, port = server.partition(":")
    if not host or (port and not port.isdecimal()):
        raise Invalid(f"server={server!r} is no mail server.", hint="Write mail.example.org:587.")
    return host, int(port or 587)
