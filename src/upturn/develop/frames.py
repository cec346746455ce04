"""A step's exception as a problem: the user's own frames, without ours and the libraries'."""

import sys
import traceback
from pathlib import Path

from upturn.core.errors import Frame, Problem, UpturnError

_OWN = str(Path(__file__).resolve().parent.parent)
_LIBRARIES = ("site-packages", "dist-packages", "lib/python", "<frozen ")


def problem_of(error: BaseException, *, code: str = "step_failed") -> Problem:
    """The problem that an exception is, with the frames of the user's own code.

    When it was raised in a library, the last frame is the user's line that called the library.
    """
    if isinstance(error, UpturnError):
        own = error.problem
        fields = {name: _plain(value) for name, value in own.fields.items()}
        return Problem(own.code, own.message, own.hint, fields, _frames(error))
    return Problem(
        code=code,
        message=_text(error),
        fields={"type": type(error).__name__},
        frames=_frames(error),
    )


def kinds_of(error: type[BaseException]) -> tuple[str, ...]:
    """The names of an exception's class and of those that it derives from.

    >>> kinds_of(KeyError)[:2]
    ('builtins.KeyError', 'builtins.LookupError')
    """
    return tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in error.__mro__[:-1])


def _text(error: BaseException) -> str:
    if isinstance(error, SyntaxError):  # its lines of code are a frame
        return f"{type(error).__name__}: {error.msg}"
    # The notes that were added to it come after.
    text = traceback.format_exception_only(error)[0].strip()
    return text.encode(errors="backslashreplace").decode()


def _plain(value: object) -> object:
    """A field of a user's own error may be anything, and is stored as JSON."""
    return value if isinstance(value, str | int | float | None) else str(value)


def _frames(error: BaseException) -> tuple[Frame, ...]:
    found = [
        Frame(summary.filename, summary.lineno or 0, summary.name, summary.line or "")
        for summary in traceback.extract_tb(error.__traceback__)
        if is_users(summary.filename)
    ]
    if isinstance(error, SyntaxError) and error.filename and is_users(error.filename):
        found.append(
            Frame(error.filename, error.lineno or 0, "<module>", (error.text or "").strip())
        )
    return tuple(found)


def is_users(filename: str) -> bool:
    """Whether code of that file is the user's own: not Python's, a library's or Upturn's."""
    if filename.startswith(_OWN):
        return False
    if filename.startswith(sys.base_prefix + "/lib"):
        return False
    return not any(mark in filename for mark in _LIBRARIES)
