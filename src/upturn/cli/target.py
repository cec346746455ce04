"""FILE:NAME on the command line, as the object that it names."""

import contextlib
import importlib.util
from pathlib import Path
from typing import TypeVar

from upturn.core.errors import Invalid, NotFound, Problem, UpturnError, did_you_mean
from upturn.develop.frames import problem_of
from upturn.develop.loading import load_file

T = TypeVar("T")


class LoadFailed(UpturnError):
    """The user's file raised while it was loaded."""

    code = "load_failed"
    exit_status = 2

    def __init__(self, file: str, cause: Problem) -> None:
        super().__init__(f"{file} can't be loaded: {cause.message}")
        self._frames = cause.frames

    @property
    def problem(self) -> Problem:
        """With the frames of the user's own code."""
        return Problem(code=self.code, message=self.message, frames=self._frames)


def target_file(text: str, *, root: Path | None = None) -> tuple[Path, str]:
    """The file and the name of FILE:NAME (relative to `root`, else to the working directory).

    Raises Invalid for another form, NotFound when there is no such file.
    """
    file, colon, name = text.rpartition(":")
    if not colon or not file or not name:
        raise Invalid(
            f"{text!r} does not name something in a file.",
            hint="Write FILE:NAME, for example flights.py:delays",
        )
    path = (root or Path.cwd()) / file
    if path.suffix != ".py" and not path.exists():
        with contextlib.suppress(ImportError, ValueError):  # it is no module's name
            spec = importlib.util.find_spec(file)
            if spec is not None and spec.origin:
                path = Path(spec.origin)
    if not path.is_file():
        near = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise NotFound(f"No file {file!r}.", hint=did_you_mean(path.name, near))
    return path.resolve(), name


def load_target(text: str, kind: type[T], *, root: Path | None = None) -> T:
    """The object of that kind that FILE:NAME names.

    Raises NotFound with the nearest name of that kind, Invalid for an object of another kind, and
    LoadFailed with the user's own frames when the file raises.
    """
    path, name = target_file(text, root=root)
    try:
        module = load_file(path)
    except UpturnError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the user's file may raise anything
        raise LoadFailed(path.name, problem_of(error)) from None
    public = [key for key in vars(module) if not key.startswith("_")]
    of_kind = [key for key in public if isinstance(getattr(module, key), kind)]
    found = getattr(module, name, None)
    noun = kind.__name__.lower()
    if found is None:
        hint = did_you_mean(name, of_kind)
        raise NotFound(f"No {noun} {name!r} in {path.name}.", hint=hint)
    if not isinstance(found, kind):
        hint = did_you_mean(name, of_kind)
        raise Invalid(f"{name!r} in {path.name} is no {noun}.", hint=hint)
    return found
