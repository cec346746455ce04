"""Failures: what a server refuses as the errors that they are here, and what it can't be asked."""

import threading
from http import HTTPStatus

import msgspec

from upturn.core.errors import Invalid, NotFound, Problem, Unavailable, UpturnError
from upturn.stores.migrate import SCHEMA
from upturn.stores.remote.wire import unpack_problem


class Refused(UpturnError):
    """The server does not let this client do it; what it said is the message."""

    code = "refused"


class _Told(msgspec.Struct):
    detail: str
    code: str = ""
    hint: str = ""


def failure(url: str, status: int, kind: str, body: bytes) -> UpturnError:
    """The error that an answer other than success stands for."""
    problem = unpack_problem(body) if kind.startswith("application/msgpack") else _told(body)
    if problem is None:
        return _foreign(url, status)
    known = _by_code().get(problem.code)
    if known is None:
        known = Unavailable if status == HTTPStatus.SERVICE_UNAVAILABLE else Refused
    error = known.__new__(known)
    # As it was raised there: some errors make their message of something else.
    UpturnError.__init__(error, problem.message, hint=problem.hint, **problem.fields)
    return error


def away(url: str, error: BaseException) -> Unavailable:
    """The error for a server that can't be reached."""
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Unavailable(
        f"The server {url} can't be reached: {why}.",
        hint="See that it runs (there: upturn status), and that UPTURN_SERVER names it.",
        server=url,
    )


def other_schema(schema: int, version: str) -> Invalid:
    """The error for a server whose store is of another schema."""
    which = "Upgrade upturn here." if schema > SCHEMA else "Upgrade the server."
    return Invalid(
        f"The server runs Upturn {version} and keeps schema {schema}; here it is {SCHEMA}.",
        hint=which,
    )


def _told(body: bytes) -> Problem | None:
    """The problem of an answer in JSON, as all of Upturn's other answers are."""
    try:
        told = msgspec.json.decode(body, type=_Told)
    except msgspec.MsgspecError:
        return None
    return Problem(code=told.code, message=told.detail, hint=told.hint)


def _foreign(url: str, status: int) -> UpturnError:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Refused(
            f"The server {url} does not let this client in (status {status}).",
            hint="Set UPTURN_TOKEN to a token of that server; see: upturn tokens",
        )
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(
            f"There is no store at {url}.",
            hint="UPTURN_SERVER names a server of Upturn, of this version or a later one.",
        )
    return Unavailable(
        f"The server {url} answered with status {status}, and nothing that is understood.",
        hint="Is there something between, as a proxy, that answers for it?",
    )


def _by_code() -> dict[str, type[UpturnError]]:
    """The errors that this process knows, by their codes."""
    with _lock:
        found: dict[str, type[UpturnError]] = {}
        waiting: list[type[UpturnError]] = [UpturnError]
        for kind in waiting:
            found.setdefault(kind.code, kind)
            waiting.extend(kind.__subclasses__())
        return found


_lock = threading.Lock()
