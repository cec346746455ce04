"""Requests: what a prediction's headers say, its body, and how much one may ask for."""

from collections.abc import Iterable
from dataclasses import dataclass

from upturn.deploy.serve.asgi import Receive
from upturn.deploy.serve.problems import BadRequest, TooLarge, shown

JSON, CSV = b"application/json", b"text/csv"
ARROW_STREAM = b"application/vnd.apache.arrow.stream"
ARROW_FILE = b"application/vnd.apache.arrow.file"
_MAX_REQUEST_ID = 128
_DIGITS = 20  # of a length that a number holds; httptools has refused what is none


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may ask for."""

    body_bytes: int = 8 * 2**20
    rows: int = 10_000
    deadline_s: float = 30.0  # by then it is answered or refused, unless it says otherwise


@dataclass(slots=True)
class Head:
    """What a request's headers say of it."""

    kind: bytes = b""  # media type of the body, without parameters
    encoding: bytes = b""  # of the body
    accept: bytes = b""
    accept_encoding: bytes = b""
    arm: str | None = None  # that is to answer
    request: str = ""  # the client's own id of it
    deadline: float = 0.0  # on the clock of perf_counter


def read_head(headers: Iterable[tuple[bytes, bytes]], limits: Limits, started: float) -> Head:
    """The headers, for a request that came at `started` on the clock of perf_counter.

    Raises TooLarge for a body that is said to be that, and BadRequest for a deadline that is none.
    """
    head = Head(deadline=started + limits.deadline_s)
    for name, value in headers:
        match name:
            case b"content-type":
                head.kind = value if value == JSON else _media_type(value)
            case b"content-length":
                if len(value) < _DIGITS and int(value) > limits.body_bytes:
                    raise too_large(limits.body_bytes)
            case b"content-encoding":
                head.encoding = value.strip().lower()
            case b"accept":
                head.accept = value
            case b"accept-encoding":
                head.accept_encoding = value
            case b"x-upturn-arm":
                head.arm = value.decode("latin-1")
            case b"x-request-id":
                head.request = value.decode("latin-1")[:_MAX_REQUEST_ID]
            case b"x-deadline-ms":
                head.deadline = started + _deadline_s(value, limits)
            case _:
                pass
    return head


def check_kind(head: Head, *others: bytes) -> None:
    """Raise BadRequest unless the body is said to be JSON, or one of the other kinds.

    A page in a browser can send forms and plain text to any address without asking, and these kinds
    only with the server's leave, which it does not give.
    """
    if head.kind != JSON and head.kind not in others:
        said = repr(head.kind.decode("latin-1")) if head.kind else "nothing"
        raise BadRequest(
            f"The body is to be JSON, and its Content-Type says {said}.",
            hint="Send the header: Content-Type: application/json",
        )


async def read_body(receive: Receive, limit: int) -> bytes:
    """The request's body. Raises TooLarge, and BadRequest when the client went away."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body = message.get("body", b"")
        if len(body) > limit:
            raise too_large(limit)
        return body
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise BadRequest("The client went away.")
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > limit:
            raise too_large(limit)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


def too_large(limit: int) -> TooLarge:
    """The error for a body of more than `limit` bytes."""
    return TooLarge(
        f"The body is larger than {limit / 2**20:g} MiB.",
        hint="Send fewer rows at a time, or use: upturn score.",
    )


def _media_type(value: bytes) -> bytes:
    return value.partition(b";")[0].strip().lower()


def _deadline_s(value: bytes, limits: Limits) -> float:
    try:
        milliseconds = float(value)
    except ValueError:
        milliseconds = 0.0
    if not milliseconds > 0:
        raise BadRequest(
            f"X-Deadline-Ms is {shown(value.decode('latin-1'))!r}.",
            hint="It takes the milliseconds within which an answer is of use: X-Deadline-Ms: 100",
        )
    return min(milliseconds / 1000, limits.deadline_s)
