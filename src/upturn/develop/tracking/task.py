"""What a running task says of itself: into a journal that its driver reads while it runs."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upturn.core.executor import Call, Logged
from upturn.core.records import Artifact
from upturn.develop.judge import finite
from upturn.develop.tracking.delivery import store_of
from upturn.develop.tracking.journal import SUFFIX, number_of
from upturn.develop.tracking.writer import Writer
from upturn.stores.workspace import Workspace

if TYPE_CHECKING:
    from upturn.develop.tracking.system import SystemMetrics


class TaskSink:
    """Takes what a task says; implements Sink. The file is made with the first word."""

    over = False  # its process runs nothing else meanwhile

    def __init__(self, workspace: Workspace, call: Call, send: Callable[[Any], None]) -> None:
        """`send` tells the driver at once: what is shown, and metrics when a judge listens."""
        self._workspace, self._call, self._send = workspace, call, send
        path = Path(call.journal)
        about = {
            "run": call.run,
            "scope": f"{call.step}/{call.index}",
            "store": store_of(workspace),
        }
        stem = path.name.removesuffix(SUFFIX)
        self._writer = Writer(workspace.settings.home, stem, about, path=path)
        self._system: SystemMetrics | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    @property
    def run(self) -> str:
        """The id of the run."""
        return self._call.run

    @property
    def workspace(self) -> Workspace:
        """Where it is kept."""
        return self._workspace

    @property
    def take(self) -> Callable[[Mapping[str, Any], int | None], None]:
        """What takes metrics."""
        return self._both if self._call.judged else self._writer.log

    def note(self, note: Mapping[str, Any]) -> None:
        """Take something else: tags, a file."""
        self._writer.note(note)

    def exhibit(self, title: str, media: str, artifact: Artifact) -> None:
        """Take something for the run's page."""
        self._send(Logged(self._call.id, {}, None, title, media, artifact))

    def watch_system(self) -> None:
        """Record each 10 s, from now to the end, what the task's processes and the machine use."""
        from upturn.develop.tracking.system import SystemMetrics

        self._system = SystemMetrics(lambda: self._writer.log, self._workspace.settings.home)
        self._system()
        self._thread = threading.Thread(target=self._sample, name="upturn-system", daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        assert self._system is not None
        while not self._ended.wait(0.5):
            self._system()

    def close(self) -> None:
        """The task has ended: whoever reads the journal has all of it."""
        if self._system is not None and self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._system(last=True)
        self._writer.close()

    def _both(self, metrics: Mapping[str, Any], step: int | None) -> None:
        self._writer.log(metrics, step)
        numbers = {name: number_of(name, value) for name, value in metrics.items()}
        if numbers:
            heard = {name: finite(number) for name, number in numbers.items()}
            self._send(Logged(self._call.id, heard, step))
