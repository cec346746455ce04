"""Problems: errors as HTTP answers in one form (RFC 9457, application/problem+json)."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from upturn.core.errors import Invalid, NotFound, Unavailable, UpturnError, did_you_mean
from upturn.deploy.serve.asgi import Send

MAX_ERRORS = 20  # how many errors one answer names
_MAX_TEXT = 100  # a value is told back up to this length


class BadRequest(UpturnError):
    """What was sent can't be read at all."""

    code = "bad_request"
    http_status = 400


class Forbidden(UpturnError):
    """It was asked for in a way that is not allowed."""

    code = "forbidden"
    http_status = 403


class NoSuchMethod(UpturnError):
    """The address exists, but not for this method; the field `allow` says for which."""

    code = "method_not_allowed"
    http_status = 405


class TooLarge(UpturnError):
    """The body is larger than the server takes."""

    code = "too_large"
    http_status = 413


class Overloaded(Unavailable):
    """More was asked for than can be answered soon; `retry_after_s` says when to ask again."""

    code = "overloaded"


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that does not fit: in which row, which field, what it was, what would fit."""

    row: int | None
    field: str
    value: Any
    expected: str
    hint: str = ""


class Misfit(Invalid):
    """Something that was sent does not fit; `errors` says what and where."""

    def __init__(self, errors: list[FieldError]) -> None:
        first = errors[0]
        where = [] if first.row is None else [f"row {first.row}"]
        where += [f"field {first.field!r}"] if first.field else []
        more = f" ({len(errors)} errors)" if len(errors) > 1 else ""
        where_text = ", ".join(where)
        message = f"{where_text[:1].upper()}{where_text[1:]}: expected {first.expected}.{more}"
        super().__init__(message, hint=first.hint, errors=errors[:MAX_ERRORS])


class _Body(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    errors: list[FieldError]
    version: str = ""  # that wants something else


def problem_body(error: UpturnError) -> bytes:
    """The answer's body; its status is the error's `http_status`."""
    status = error.http_status
    return msgspec.json.encode(
        _Body(
            type=f"urn:upturn:problem:{error.code}",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=error.message,
            code=error.code,
            hint=error.hint,
            errors=error.fields.get("errors", []),
            version=error.fields.get("version", ""),
        )
    )


def problem_headers(error: UpturnError) -> dict[str, str]:
    """The answer's headers: what the error's status asks for."""
    headers = {"content-type": "application/problem+json"}
    if (seconds := error.fields.get("retry_after_s")) is not None:
        headers["retry-after"] = str(seconds)
    if (allow := error.fields.get("allow")) is not None:
        headers["allow"] = allow
    return headers


def encode_headers(headers: Mapping[str, str], body: bytes) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI wants them, with the body's length."""
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return [*pairs, (b"content-length", str(len(body)).encode())]


async def send_problem(send: Send, error: UpturnError) -> None:
    """Answer with the error."""
    body = problem_body(error)
    headers = encode_headers(problem_headers(error), body)
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def shown(value: Any) -> Any:
    """A client's value as an error tells it back: never long, always JSON.

    >>> shown([1, 2])
    '[1,2]'
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"


def reason(error: BaseException) -> str:
    """Why something failed, in one line: the first one of the message, and its kind."""
    if isinstance(error, UpturnError):
        return str(error)
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def no_endpoint(name: str, known: Iterable[str]) -> NotFound:
    """The error for an endpoint that this server does not know."""
    return NotFound(f"No endpoint {name[:100]!r}.", hint=did_you_mean(name, known))


def internal_problem() -> UpturnError:
    """What a client is told when the server itself is wrong: nothing of its insides."""
    return UpturnError("The server failed to answer.", hint="Its log says why.")
