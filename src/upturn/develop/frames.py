"""A step's exception as a problem: the user's own frames, without ours and the libraries'."""

import sys
import traceback
from pathlib import Path
from types import TracebackType

from upturn.core.errors import Frame, Problem, UpturnError

_OWN = str(Path(__file__).resolve().parent.parent)
_LIBRARIES = ("site-packages", "dist-packages", "lib/python", "<frozen ")


def problem_of(error: BaseException, *, code: str = "step_failed") -> Problem:
    """The problem that an exception is, with the frames of the user's own code.

    When it was raised in a library, the last frame is the user's line that called the library.
    """
    if isinstance(error, UpturnError):
        own = error.problem
        return Problem(own.code, own.message, own.hint, own.fields, _frames(error.__traceback__))
    text = "".join(traceback.format_exception_only(error)).strip()
    return Problem(
        code=code,
        message=text.splitlines()[-1] if text else type(error).__name__,
        fields={"type": type(error).__name__},
        frames=_frames(error.__traceback__),
    )


def _frames(trace: TracebackType | None) -> tuple[Frame, ...]:
    found = [
        Frame(summary.filename, summary.lineno or 0, summary.name, summary.line or "")
        for summary in traceback.extract_tb(trace)
        if is_users(summary.filename)
    ]
    return tuple(found)


def is_users(filename: str) -> bool:
    """Whether code of that file is the user's own: not Python's, a library's or Upturn's."""
    if filename.startswith(_OWN):
        return False
    if filename.startswith(sys.base_prefix + "/lib"):
        return False
    return not any(mark in filename for mark in _LIBRARIES)
