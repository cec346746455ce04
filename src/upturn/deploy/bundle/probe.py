"""Probe: a process that loads what a folder serves, as a server would, and says what that took."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from upturn.core.errors import Invalid, Unavailable, UpturnError
from upturn.core.owncode import is_own_file

_LIMIT_S = 600.0
# What Python itself loads at its start, as for a `.pth` file, is no need of the model's.
_SCRIPT = """
import sys
before = [*sys.modules]
from upturn.deploy.bundle.probe import main
main(before)
"""
_CODE = (".py", ".pyc", ".so", ".pyd")


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a process needed that loaded the versions and predicted their example rows."""

    modules: dict[str, str] = {}  # the user's own, by name: their files
    files: tuple[str, ...] = ()  # further files that were read beside these
    distributions: dict[str, str] = {}  # what is installed and was loaded, with its version
    later: dict[str, str] = {}  # what is installed and own modules may import later
    memory_bytes: int = 0
    problem: str = ""  # why nothing can be served


def probe(folder: Path, *paths: Path) -> Seen:
    """Load what the folder serves in a process with the paths first on its path.

    Raises Invalid when that fails, with the reason, and Unavailable when the process dies.
    """
    with tempfile.TemporaryDirectory(prefix="upturn-build-") as home:
        kept = {name: value for name, value in os.environ.items() if name[:7] != "UPTURN_"}
        try:
            done = subprocess.run(
                # -P: the working directory is not on the path, as it is not for a server.
                [sys.executable, "-P", "-c", _SCRIPT, *map(str, paths)],
                cwd=folder,
                env={**kept, "UPTURN_HOME": home},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"The model did not load within {_LIMIT_S:g} s.") from None
    try:
        seen = msgspec.json.decode(done.stdout, type=Seen)
    except msgspec.DecodeError:
        words = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        raise Unavailable(
            f"The process that tried the model ended with {done.returncode}: {' '.join(words)}"
        ) from None
    if seen.problem:
        raise Invalid(seen.problem)
    return seen


def main(before: Iterable[str]) -> None:
    """Load, predict, and write a Seen to stdout as JSON; what the model prints goes to stderr."""
    answer = os.dup(1)
    os.dup2(2, 1)
    sys.path[:0] = sys.argv[1:]
    opened: set[str] = set()

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | os.PathLike):
            opened.add(os.path.abspath(os.fspath(arguments[0])))

    sys.addaudithook(hear)
    try:
        seen = _see(opened, before)
    except UpturnError as error:
        seen = Seen(problem=str(error))
    with open(answer, "wb") as out:
        out.write(msgspec.json.encode(seen))
    os._exit(0)  # nothing of the model's is to run any more


def _see(opened: set[str], before: Iterable[str]) -> Seen:
    from upturn.core.records import Version
    from upturn.deploy.bundle.own import followed, loaded
    from upturn.deploy.serve.loading import load
    from upturn.model.adapters import load_predictor
    from upturn.model.environment import distributions_of, present_environment
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    versions = workspace.meta.select(Version)
    for version in versions:
        load(workspace, version)
    memory = _memory_bytes()
    for version in versions:
        load_predictor(workspace, version)  # where another form is served here, this may be there
    modules, foreign = followed(loaded())
    later: dict[str, str] = {}
    for name in foreign:
        later |= distributions_of(name)
    return Seen(
        modules=dict(sorted(modules.items())),
        files=tuple(sorted(_beside(modules, opened))),
        distributions=present_environment(besides=before).distributions,
        later=dict(sorted(later.items())),
        memory_bytes=memory,
    )


def _beside(modules: dict[str, str], opened: set[str]) -> set[str]:
    """The files read that lie in a folder, or below a package, of the user's own modules."""
    from upturn.deploy.bundle.own import root_of

    roots = {str(root_of(name, file)) for name, file in modules.items()}
    ours = os.path.realpath(os.getcwd()) + os.sep
    return {
        os.path.realpath(path)
        for path in opened
        if not path.endswith(_CODE)
        and is_own_file(path)
        and os.path.isfile(path)
        and not os.path.realpath(path).startswith(ours)
        and any(os.path.realpath(path).startswith(root + os.sep) for root in roots)
        and not _is_hidden(path, roots)
    }


def _is_hidden(path: str, roots: set[str]) -> bool:
    """Whether it lies in a folder such as `.upturn`, below the root that it lies in."""
    root = max((one for one in roots if path.startswith(one + os.sep)), key=len, default="")
    return any(part.startswith(".") for part in Path(path[len(root) :]).parts)


def _memory_bytes() -> int:
    """The most that this process has held in memory."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
