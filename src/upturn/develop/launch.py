"""Launch: the command that starts a fork server, with this Python or with an environment's."""

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

_PACKAGE = Path(__file__).resolve().parent.parent
# Not by PYTHONPATH: what a step starts would inherit it, another Python's programs included.
_HERE = "import sys; sys.path[:] = sys.argv[2:]; import upturn.develop.forkserver as f; f.run()"


@dataclass(frozen=True, slots=True)
class Launch:
    """A command, but for the file descriptor that comes between its two halves."""

    before: tuple[str, ...]
    after: tuple[str, ...]

    def command(self, fd: int) -> list[str]:
        """The command for a socket to the driver."""
        return [*self.before, str(fd), *self.after]


def launch_here(folders: Sequence[str]) -> Launch:
    """With this Python and its path, after the folders of the flow's own files."""
    path = [*(folder for folder in folders if folder not in sys.path), *sys.path]
    return Launch((sys.executable, "-P", "-c", _HERE), tuple(path))


def launch_within(env: Path, folders: Sequence[str]) -> Launch:
    """With an environment's Python and its packages, and the Upturn that runs here.

    Nothing that is installed for this Python is on its path. The project's other folders come
    after the environment's packages: what lies there may be meant for this Python.
    """
    own = [path for path in sys.path if path not in folders and _is_projects(path)]
    script = str(Path(__file__).with_name("within.py"))
    first = [*folders, str(_link(env.parent))]
    return Launch(
        (str(env / "bin" / "python"), "-I", script),
        (str(_PACKAGE), str(env), str(len(first)), *first, *own),
    )


def _is_projects(path: str) -> bool:
    import sysconfig

    place = Path(path).resolve()
    if not path or not place.is_dir() or place.name in ("site-packages", "dist-packages"):
        return False
    python = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
    return not any(place.is_relative_to(folder) for folder in python)


def _link(envs: Path) -> Path:
    """A folder with this Upturn alone in it, for the processes that a step starts."""
    folder = envs / f"upturn-{blake3(str(_PACKAGE).encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.symlink(_PACKAGE, folder / "upturn")
    return folder
