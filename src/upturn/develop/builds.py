"""Builds: environments as folders in the home, each built once from its lock."""

import contextlib
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

from upturn.core.errors import Problem, Unavailable, UpturnError
from upturn.core.executor import InEnv
from upturn.core.settings import Settings
from upturn.develop.uv import Cancelled, Job
from upturn.stores.workspace import open_workspace

_READY = ".ready"
_LOOK_S = 0.1


def folder_of(settings: Settings, env: InEnv) -> Path:
    """Where the environment is, or will be."""
    return settings.home / "envs" / env.digest[:20]


def python_of(folder: Path) -> Path:
    """The Python of an environment."""
    return folder / "bin" / "python"


def is_built(folder: Path) -> bool:
    """Whether the environment is there in whole, and where it was built: it can't be moved."""
    try:
        return (folder / _READY).read_text() == str(folder) and python_of(folder).exists()
    except OSError:
        return False


class Build:
    """One environment being built, in a thread of its own."""

    def __init__(
        self, settings: Settings, env: InEnv, tell: Callable[[str], None], done: Callable[[], None]
    ) -> None:
        self.problem: Problem | None = Problem(
            code="unavailable", message=f"The environment {env.label} was not built."
        )
        self._settings = settings
        self._env = env
        self._done = done
        self._job = Job(tell)
        self._thread = threading.Thread(target=self._work, name="upturn-build", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether it ended; `problem` says whether well."""
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """End it, and have nothing half-made left."""
        self._job.cancel()
        self._thread.join()

    def _work(self) -> None:
        try:
            build(self._settings, self._env, self._job)
            self.problem = None
        except Cancelled:
            pass
        except UpturnError as error:
            self.problem = error.problem
        except OSError as error:
            self.problem = Problem(
                code="unavailable",
                message=f"The environment {self._env.label} can't be built: {error}.",
                hint="See that the disk has room, and that the home may be written.",
            )
        finally:
            self._done()


def build(settings: Settings, env: InEnv, job: Job) -> None:
    """Build the environment from its lock, unless it is there. Raises Unavailable, and Cancelled.

    One process builds at a time. A build that was killed leaves no mark that it is ready, and is
    done again.
    """
    folder = folder_of(settings, env)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_suffix(".lock"), job) as hold:
        if is_built(folder):
            return
        job.say(f"building environment {env.label} …")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _install(settings, env, folder, job, hold)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        (folder / _READY).write_text(str(folder))


def _install(settings: Settings, env: InEnv, folder: Path, job: Job, hold: int) -> None:
    from upturn.develop.locks import load_lock, make_empty

    workspace = open_workspace(settings)
    try:
        lock = load_lock(workspace, env.digest)
    finally:
        workspace.close()
    # uv holds the lock too: should we be killed, nobody else begins before it has ended.
    make_empty(job, lock.python, folder, hold=hold)
    try:
        requirements = folder / "requirements.txt"
        requirements.write_text(lock.text)
        python = python_of(folder)
        job.run("pip", "sync", "--require-hashes", "--python", python, requirements, hold=hold)
    except Unavailable as error:
        if error.hint:
            raise
        raise Unavailable(
            f"The environment {env.label} can't be built:\n{error.message}",
            hint="Try again when the package index can be reached, or change up.env(…).",
        ) from None


@contextlib.contextmanager
def _alone(path: Path, job: Job) -> Generator[int]:
    """Hold a lock of the operating system, which ends with the processes that hold it."""
    hold = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    waiting = False
    try:
        while True:
            if job.cancelled:
                raise Cancelled
            try:
                fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    job.say("waiting for the environment, which another process builds …")
                waiting = True
                time.sleep(_LOOK_S)
        yield hold
    finally:
        os.close(hold)
