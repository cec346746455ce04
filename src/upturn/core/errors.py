"""Errors as data: a code, a message that states the fact, a hint at the way out, and fields."""

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec


class Frame(msgspec.Struct, frozen=True):
    """One frame of the user's own code in a traceback."""

    file: str
    line: int
    function: str
    text: str


class Problem(msgspec.Struct, frozen=True):
    """An error as it is stored and as CLI, HTTP and UI render it."""

    code: str
    message: str
    hint: str = ""
    fields: dict[str, Any] = {}
    frames: tuple[Frame, ...] = ()


class UpturnError(Exception):
    """What every expected failure raises: `message` states the fact, `hint` the way out."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()

    @property
    def problem(self) -> Problem:
        """This error as a record."""
        return Problem(code=self.code, message=self.message, hint=self.hint, fields=self.fields)


class NotFound(UpturnError):
    """No such thing, under that name."""

    code = "not_found"
    http_status = 404


class Invalid(UpturnError):
    """What was given does not fit: a wrong option, field, type or value."""

    code = "invalid"
    http_status = 422
    exit_status = 2


class Unauthorized(UpturnError):
    """Who asks has to say who they are, or what they said does not hold."""

    code = "unauthorized"
    http_status = 401


class Conflict(UpturnError):
    """The thing exists already, or somebody else changed it first."""

    code = "conflict"
    http_status = 409


class Unapproved(Conflict):
    """A rule asks for somebody else's approval first."""

    code = "unapproved"


class Corrupt(UpturnError):
    """Stored bytes are not what was written."""

    code = "corrupt"


class Unavailable(UpturnError):
    """It can't be had at the moment; trying again later may work."""

    code = "unavailable"
    http_status = 503


class StepFailed(UpturnError):
    """A step raised, exited, was killed or ran out of time or memory."""

    code = "step_failed"

    def __init__(self, problem: Problem, *, path: str) -> None:
        super().__init__(problem.message, hint=problem.hint, **problem.fields)
        self.path = path
        self._problem = problem

    @property
    def problem(self) -> Problem:
        """The step's own problem, with the frames of the user's code."""
        return self._problem


class ModelFailed(UpturnError):
    """A model raised, or answered something else than one prediction a row."""

    code = "model_failed"


class Unfit(ModelFailed):
    """What was sent are values that the model is known to raise on: not the server's failure."""

    code = "unfit"
    http_status = 422


class RunFailed(UpturnError):
    """A run ended without a result."""

    code = "run_failed"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest of the known words, or lists a few of them, or nothing.

    >>> did_you_mean("chrun", ["churn", "delays"])
    "Did you mean 'churn'?"
    >>> did_you_mean("x", ["churn", "delays"])
    "There is: 'churn', 'delays'."
    """
    names = sorted(set(known))
    near = difflib.get_close_matches(word, names, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    if not names:
        return ""
    more = ", …" if len(names) > 8 else ""
    return f"There is: {', '.join(map(repr, names[:8]))}{more}."
