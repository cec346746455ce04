"""Lines: what happens in a run, as lines on the terminal while it happens."""

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import click

from upturn.cli.render import seconds_text
from upturn.cli.tail import News, Tail
from upturn.core.errors import Problem
from upturn.core.records import Run
from upturn.core.settings import wants_plain_lines

_PUMP_S = 0.2
_MOST_BYTES, _MOST_PRINTED = 1 << 18, 2000  # of what a task printed since the last look
_PROGRESS_S = 5.0
_MOST_LINES = 30  # of tasks that ended the same way, before they are only counted


class Lines:
    """A Reporter that prints: one line a task that ended, and what tasks print."""

    def __init__(self, *, progress_every_s: float = _PROGRESS_S) -> None:
        self.run: Run | None = None
        self._colour = False if wants_plain_lines() else None
        self._progress_every_s = progress_every_s
        self._next_progress: dict[str, float] = {}
        self._tails: dict[str, Tail] = {}
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

    def task_submitted(self, path: str) -> None:
        """See Reporter."""

    def task_started(self, path: str, attempt: int, output_file: str) -> None:
        """See Reporter."""
        tail = Tail(Path(output_file), most_bytes=_MOST_BYTES, most_lines=_MOST_PRINTED)
        self._next_progress[path] = time.monotonic() + self._progress_every_s
        with self._lock:
            self._tails[path] = tail

    def task_logged(self, path: str, metrics: dict[str, float], at_step: int | None) -> None:
        """See Reporter."""
        self._metrics.setdefault(path, {}).update(metrics)

    def task_progress(
        self, path: str, done: int, total: int | None, title: str, level: int
    ) -> None:
        """See Reporter."""
        now = time.monotonic()
        if level == 0 and now >= self._next_progress.get(path, now):
            self._next_progress[path] = now + self._progress_every_s
            self._say(click.style(f"  {short(path)} │ ", dim=True) + far(done, total, title))

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

    def task_pruned(self, path: str, problem: Problem) -> None:
        """See Reporter."""
        self._end_of(path)
        self._line("pruned", path, "blue", f"          {problem.message}")

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
            self._say(
                f"  {short(path):<20} {click.style(f'{status:<7}', fg=colour)} {rest}".rstrip()
            )
        elif self._counts[status] == _MOST_LINES + 1:
            self._say(f"  … further tasks that are {status} are only counted")

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads any more, which is no reason to stop
            click.echo(text, err=True, color=self._colour)

    def _end_of(self, path: str) -> None:
        self._next_progress.pop(path, None)
        with self._lock:
            tail = self._tails.pop(path, None)
            if tail is not None:
                self._print(path, tail.news(end=True))

    def _pump_on(self) -> None:
        while not self._closed.wait(_PUMP_S):
            self._pump()

    def _pump(self) -> None:
        with self._lock:
            for path, tail in self._tails.items():
                self._print(path, tail.news())

    def _print(self, path: str, news: News) -> None:
        before = click.style(f"  {short(path)} │ ", dim=True)
        if news.left_out:
            self._say(before + left_out_text(path, news.left_out))
        for line in news.lines:
            self._say(before + line)


def short(path: str) -> str:
    """A task's name within its run.

    >>> short("run/k3f9/train/3")
    'train/3'
    """
    return path.split("/", 2)[2]


def far(done: int, total: int | None, title: str) -> str:
    """How far a task is.

    >>> far(400, 1000, ""), far(7, None, "rows")
    ('40 % (400/1000)', 'rows 7')
    """
    number = f"{done}" if not total else f"{100 * done // total} % ({done}/{total})"
    return f"{title} {number}".lstrip()


def left_out_text(path: str, lines: int) -> str:
    """What stands for lines that are not shown."""
    return f"… {lines:,} line{'s' * (lines != 1)} left out; upturn logs {path.partition('/')[2]}"
