"""Lines: what happens in a run, as lines on the terminal while it happens."""

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path

import click

from upturn.cli.render import seconds_text
from upturn.core.errors import Problem
from upturn.core.records import Run

_PUMP_S = 0.2
_MOST_LINES = 30  # of tasks that ended the same way, before they are only counted


class Lines:
    """A Reporter that prints: one line a task that ended, and what tasks print."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self._files: dict[str, tuple[Path, int]] = {}
        self._metrics: dict[str, dict[str, float]] = {}
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._pump_thread = threading.Thread(target=self._pump_on, daemon=True)
        self._pump_thread.start()

    def close(self) -> None:
        """Print what is left, and stop."""
        if not self._closed.is_set():
            self._closed.set()
            self._pump_thread.join()
            self._pump()

    def run_started(self, run: Run) -> None:
        """See Reporter."""
        self.run = run
        self._say(f"run {click.style(run.id, bold=True)}  {run.flow}")

    def run_queued(self, run: Run, behind: Sequence[str]) -> None:
        """See Reporter."""
        more = f" and {len(behind) - 1} more" if len(behind) > 1 else ""
        self._say(f"  queued behind run {behind[0]}{more}")

    def task_started(self, path: str, attempt: int, output_file: str) -> None:
        """See Reporter."""
        file = Path(output_file)
        with self._lock:
            self._files[path] = (file, file.stat().st_size if file.exists() else 0)

    def task_logged(self, path: str, metrics: dict[str, float], at_step: int | None) -> None:
        """See Reporter."""
        self._metrics.setdefault(path, {}).update(metrics)

    def task_done(self, path: str, seconds: float, summary: str) -> None:
        """See Reporter."""
        self._end_of(path)
        metrics = "".join(f"  {k} {v:.4g}" for k, v in self._metrics.get(path, {}).items())
        self._line("done", path, "green", f"{seconds_text(seconds):>8}  {summary}{metrics}")

    def task_reused(self, path: str, source: str) -> None:
        """See Reporter."""
        where = "" if source == path else f"          from {source}"
        self._line("reused", path, "cyan", where)

    def task_failed(self, path: str, problem: Problem, retry_in_s: float | None) -> None:
        """See Reporter."""
        self._end_of(path)
        then = "" if retry_in_s is None else f"  (again in {retry_in_s:.1f} s)"
        self._line("failed", path, "red", f"          {problem.message}{then}")

    def noted(self, text: str) -> None:
        """See Reporter."""
        self._say(f"  {text}")

    def run_ended(self, run: Run, status: str, seconds: float) -> None:
        """See Reporter."""
        if run.parent is not None:
            return
        self._pump()
        counts = ", ".join(f"{number} {what}" for what, number in self._counts.items())
        self._say(f"run {run.id}  {status} in {seconds_text(seconds)}  ({counts or 'no tasks'})")

    def _line(self, status: str, path: str, colour: str, rest: str) -> None:
        self._counts[status] = self._counts.get(status, 0) + 1
        if self._counts[status] <= _MOST_LINES or status == "failed":
            name = path.split("/", 2)[2]
            self._say(f"  {name:<20} {click.style(f'{status:<7}', fg=colour)} {rest}".rstrip())
        elif self._counts[status] == _MOST_LINES + 1:
            self._say(f"  … further tasks that are {status} are only counted")

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads any more, which is no reason to stop
            click.echo(text, err=True)

    def _end_of(self, path: str) -> None:
        self._pump()
        with self._lock:
            file, at = self._files.pop(path, (None, 0))
            if file is not None:
                self._print(path, _rest(file, at))  # a last line without an end

    def _pump_on(self) -> None:
        while not self._closed.wait(_PUMP_S):
            self._pump()

    def _pump(self) -> None:
        with self._lock:
            for path, (file, at) in list(self._files.items()):
                text, at = _new_lines(file, at)
                self._files[path] = (file, at)
                self._print(path, text)

    def _print(self, path: str, lines: list[str]) -> None:
        name = path.split("/", 2)[2]
        for line in lines:
            self._say(click.style(f"  {name} │ ", dim=True) + line)


def _new_lines(file: Path, at: int) -> tuple[list[str], int]:
    data = _read(file, at)
    end = data.rfind(b"\n") + 1
    return data[:end].decode(errors="replace").splitlines(), at + end


def _rest(file: Path, at: int) -> list[str]:
    return _read(file, at).decode(errors="replace").splitlines()


def _read(file: Path, at: int) -> bytes:
    try:
        with file.open("rb") as stream:
            stream.seek(at)
            return stream.read()
    except OSError:
        return b""
