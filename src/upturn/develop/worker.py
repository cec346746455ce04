"""A worker: one process that runs one task at a time, and says what became of it."""

import contextlib
import ctypes
import gc
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from upturn.core.errors import Problem, UpturnError
from upturn.core.executor import Call, Failed, File, Finished, Started, Stored
from upturn.core.records import Artifact
from upturn.core.settings import Settings
from upturn.develop import carried, context, joined, leavings, wire
from upturn.develop.crossing import argument, function_of, with_way_out
from upturn.develop.environ import running_with
from upturn.develop.frames import kinds_of, problem_of
from upturn.develop.reads import Seen, remembered, watching
from upturn.develop.tracking.task import TaskSink
from upturn.stores.workspace import Workspace, open_workspace, presume_met

_PR_SET_PDEATHSIG = 1


def main(fd: int, setup: dict[str, Any], server: int) -> None:
    """Run the calls that come over the socket until it closes, or the fork server dies."""
    _settle_in(server)
    sock = socket.socket(fileno=fd)
    settings: Settings = setup["settings"]
    workspace = open_workspace(settings)
    if settings.server:
        presume_met(settings)  # the driver has heard of it: when it is away, it comes back
    while True:
        try:
            call, _ = wire.receive(sock)
        except (EOFError, ConnectionError):
            return
        _run(call, sock, workspace)
        gc.collect(0)


def _settle_in(server: int) -> None:
    os.setpgid(0, 0)  # its own group, so that killing it kills what it started
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to answer
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # When the kernel has to choose, a task goes before the driver and before anything else.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("800")
    if os.getppid() != server:  # it died before we could ask to die with it
        os._exit(1)
    random.seed()
    if "numpy" in sys.modules:
        # Forked workers would otherwise all draw the same "random" numbers.
        sys.modules["numpy"].random.seed()


def _run(call: Call, sock: socket.socket, workspace: Workspace) -> None:
    speaking = threading.Lock()  # a step's threads may log too

    def tell(message: object) -> None:
        with speaking:
            wire.send(sock, message)

    tell(Started(call.id, os.getpid()))
    sink = TaskSink(workspace, call, tell)
    context.task.set(context.TaskContext(workspace, call, tell, sink))
    if workspace.settings.system_metrics:
        sink.watch_system()
    began = time.perf_counter()
    left = _Left()
    try:
        _redirect_output(call.output_file)
        if call.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(call.gpus)
        artifact, seen = _outcome(call, workspace, left)
        seconds = time.perf_counter() - began
        message: object = Finished(
            call.id, artifact, seconds, seen.reads, seen.changed, seen.lasting, left.spent
        )
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # the one place that reports it
        seconds = time.perf_counter() - began
        message = Failed(
            call.id,
            _problem(error, call),
            seconds,
            kinds_of(type(error)),
            remembered(workspace),
            left.spent,
        )
    finally:
        context.task.set(None)
        sink.close()
        with contextlib.suppress(OSError, ValueError):  # a full disk; closed by the step
            sys.stdout.flush()
            sys.stderr.flush()
    tell(message)


class _Left:
    """What is left of a task in its process."""

    def __init__(self) -> None:
        self.spent = False

    @contextlib.contextmanager
    def cleared(self) -> Generator[None]:
        """Clear up after what is done in here, and see whether something stays."""
        then, failed = leavings.before(), True
        try:
            yield
            failed = False
        finally:
            self.spent = leavings.clear_up(then, failed=failed)


def _outcome(call: Call, workspace: Workspace, left: _Left) -> tuple[Artifact, Seen]:
    """Run the step; its output, stored, and what it read meanwhile."""
    with (
        joined.with_settings(call.joining),
        running_with(call.environ),
        watching(workspace.settings, call) as reads,
    ):
        function = function_of(call)
        joined.keep()
        args = _value(call.args, call, workspace)
        kwargs = _value(call.kwargs, call, workspace)
        with left.cleared():
            result = function(*args, **kwargs)
        artifact = carried.save(workspace.blobs, result)
    return artifact, reads.finish()


def _problem(error: BaseException, call: Call) -> Problem:
    if isinstance(error, SystemExit):
        return problem_of(RuntimeError(f"The step called sys.exit({error.code!r})."))
    if not isinstance(error, UpturnError):
        import traceback

        # Not into its output, which is on the terminal live: there, the user's own frames do.
        with contextlib.suppress(OSError), traceback_file(call.output_file).open("a") as file:
            traceback.print_exception(error, file=file)
    return with_way_out(problem_of(error), error, call)


def traceback_file(output_file: str | Path) -> Path:
    """Where the whole traceback of a task's failure is."""
    return Path(output_file).with_suffix(".traceback")


def _redirect_output(path: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        fd = os.open(path, flags, 0o644)
    except FileNotFoundError:  # the first of its step
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, flags, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    # What a preloaded module may have put in their place writes elsewhere than to 1 and 2.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)


def _value(part: Any, call: Call, workspace: Workspace) -> Any:
    if isinstance(part, Stored):
        return argument(workspace, call, part.digest)
    if isinstance(part, File):
        return Path(part.path)
    if isinstance(part, dict):
        return {key: _value(item, call, workspace) for key, item in part.items()}
    if isinstance(part, list | tuple):
        return type(part)(_value(item, call, workspace) for item in part)
    return part
