"""Patience: how long clients may take, how much they may send, and what they are told then."""

from dataclasses import dataclass

from upturn.core.errors import UpturnError

MAX_HEADERS = 100


class TooSlow(UpturnError):
    """A request took too long to arrive."""

    code = "too_slow"
    http_status = 408


class HeadersTooLarge(UpturnError):
    """There are more headers than the server takes."""

    code = "headers_too_large"
    http_status = 431


@dataclass(frozen=True, slots=True)
class Patience:
    """How long clients may take, and how much they may send before there is a body."""

    head_s: float = 10.0  # for a request's headers, from its first byte; for a first request too
    body_s: float = 30.0  # for a body, without progress; and on the whole, plus its bytes / rate
    body_rate: float = 500.0  # bytes a second
    idle_s: float = 75.0  # between two requests
    last_s: float = 5.0  # for taking the last answer
    head_bytes: int = 32 * 1024


def too_many(limit: int) -> HeadersTooLarge:
    """The error for more headers than that."""
    return HeadersTooLarge(
        f"The headers are larger than {limit // 1024} KiB, or more than {MAX_HEADERS}.",
        hint="Put what the model is to know into the body.",
    )


def too_slow(what: str) -> TooSlow:
    """The error for a part of a request that does not come."""
    return TooSlow(f"The request's {what} took too long to arrive.")
