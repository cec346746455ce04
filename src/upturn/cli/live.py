"""Live: what happens in a run, drawn at the foot of the terminal while it happens."""

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.live import Live as Region
from rich.text import Text

from upturn.cli.board import Board, live_rows, summary_rows, with_newest
from upturn.cli.progress import left_out_text, short
from upturn.cli.render import seconds_text
from upturn.cli.tail import News, Tail, readable
from upturn.core.errors import Problem
from upturn.core.records import Run

_FRAME_S = 0.12
_MOST_BYTES, _MOST_PRINTED = 1 << 15, 50  # of what a task printed since the last frame
_MOST_FAILURES = 100  # with a line each; the rest is only counted
_CLOSES_WITHIN_S = 5.0
_SHOW_CURSOR = "\x1b[?25h"


class Live:
    """A Reporter that only notes what it hears; a thread of its own draws it, some times a second.

    What stays on the screen, above what is drawn: failures, what tasks print, and at the end what
    became of each step.
    """

    def __init__(self) -> None:
        self.run: Run | None = None
        self._heard: deque[Callable[[], None]] = deque()
        self._progress: dict[tuple[str, int], tuple[int, int | None, str]] = {}
        self._metrics: dict[str, dict[str, float]] = {}
        self._board = Board()
        self._tails: dict[str, Tail] = {}
        self._lines: list[Text] = []
        self._console = Console(stderr=True, highlight=False, emoji=False, markup=False)
        self._closed = threading.Event()
        self._over = False
        self._text = Text()  # what is drawn, by whichever thread prints something above it
        self._thread = threading.Thread(target=self._draw_on, name="upturn-live", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Draw what is left, and leave the terminal as it was."""
        self._closed.set()
        try:
            self._thread.join(_CLOSES_WITHIN_S)
        except BaseException:  # an impatient Ctrl-C
            with contextlib.suppress(OSError, AttributeError):
                sys.__stderr__.write(_SHOW_CURSOR)  # pyright: ignore[reportOptionalMemberAccess]
                sys.__stderr__.flush()  # pyright: ignore[reportOptionalMemberAccess]
            raise

    def __rich__(self) -> Text:
        """What is drawn at present."""
        return self._text

    # Called by the scheduler

    def run_started(self, run: Run) -> None:
        """See Reporter."""
        line = Text.assemble("run ", (run.id, "bold"), f"  {run.flow}")
        if run.parent is not None:
            self._heard.append(partial(self._lines.append, line))
            return
        self.run = run
        with contextlib.suppress(OSError):
            self._console.print(line, soft_wrap=True)  # at once, before what the flow prints

    def run_queued(self, run: Run, behind: Sequence[str]) -> None:
        """See Reporter."""
        more = f" and {len(behind) - 1} more" if len(behind) > 1 else ""
        line = Text(f"  queued behind run {behind[0]}{more}")
        self._heard.append(partial(self._lines.append, line))

    def task_submitted(self, path: str) -> None:
        """See Reporter."""
        self._heard.append(partial(self._board.submitted, path))

    def task_started(self, path: str, attempt: int, output_file: str) -> None:
        """See Reporter."""
        tail = Tail(Path(output_file), most_bytes=_MOST_BYTES, most_lines=_MOST_PRINTED)
        self._heard.append(partial(self._started, path, tail, time.monotonic()))

    def task_logged(self, path: str, metrics: dict[str, float], at_step: int | None) -> None:
        """See Reporter."""
        step = short(path).rpartition("/")[0]
        self._metrics[step] = with_newest(self._metrics.get(step, {}), metrics)

    def task_progress(
        self, path: str, done: int, total: int | None, title: str, level: int
    ) -> None:
        """See Reporter. Only the last word counts, however much is said between two frames."""
        self._progress[path, level] = (done, total, title)

    def task_done(self, path: str, seconds: float, summary: str) -> None:
        """See Reporter."""
        self._heard.append(partial(self._ended, path, time.monotonic(), "done"))

    def task_reused(self, path: str, source: str) -> None:
        """See Reporter."""
        self._heard.append(partial(self._ended, path, time.monotonic(), "reused"))

    def task_failed(self, path: str, problem: Problem, retry_in_s: float | None) -> None:
        """See Reporter."""
        then = "" if retry_in_s is None else f"  (again in {retry_in_s:.1f} s)"
        self._heard.append(
            partial(self._ended, path, time.monotonic(), "ready" if then else "failed")
        )
        self._heard.append(partial(self._failed, path, problem.message, then))

    def task_pruned(self, path: str, problem: Problem) -> None:
        """See Reporter."""
        self._heard.append(partial(self._ended, path, time.monotonic(), "pruned"))

    def noted(self, text: str) -> None:
        """See Reporter."""
        line = Text(f"  {readable(text.encode(errors='replace'))}", style="dim")
        self._heard.append(partial(self._lines.append, line))

    def run_ended(self, run: Run, status: str, seconds: float) -> None:
        """See Reporter."""
        if run.parent is None:
            self._heard.append(partial(self._conclude, run, status, seconds, time.monotonic()))

    # Called by the thread that draws

    def _started(self, path: str, tail: Tail, at: float) -> None:
        self._board.started(path, at)
        self._tails[path] = tail

    def _ended(self, path: str, at: float, status: str) -> None:
        tail = self._tails.pop(path, None)
        if tail is not None:
            self._print(path, tail.news(end=True))
        for level in (0, 1):
            self._progress.pop((path, level), None)
        self._board.ended(path, at, status)

    def _failed(self, path: str, message: str, then: str) -> None:
        self._board.failures += 1
        if self._board.failures <= _MOST_FAILURES:
            said = readable(message.partition("\n")[0].encode(errors="replace"))
            line = Text.assemble(f"  {short(path):<20} ", ("failed ", "red"), f"           {said}")
            self._lines.append(line.append(then))
        elif self._board.failures == _MOST_FAILURES + 1:
            self._lines.append(Text("  … further failures are only counted"))

    def _conclude(self, run: Run, status: str, seconds: float, at: float) -> None:
        for path, tail in self._tails.items():
            self._print(path, tail.news(end=True))
        self._tails.clear()
        self._board.cancelled(at)
        self._lines += summary_rows(self._board, self._metrics, now=at)
        counts = self._board.totals()
        self._lines.append(Text(f"run {run.id}  {status} in {seconds_text(seconds)}  ({counts})"))
        self._over = True

    def _print(self, path: str, news: News) -> None:
        before = (f"  {short(path)} │ ", "dim")
        if news.left_out:
            self._lines.append(Text.assemble(before, left_out_text(path, news.left_out)))
        self._lines += [Text.assemble(before, line) for line in news.lines]

    def _draw_on(self) -> None:
        region = Region(
            self,
            console=self._console,
            auto_refresh=False,
            transient=True,
            # What the flow itself prints goes above, unless it goes somewhere else altogether.
            redirect_stdout=sys.stdout.isatty(),
        )
        with contextlib.suppress(OSError):  # the terminal is gone, which is no reason to stop
            with region:
                while not self._closed.wait(_FRAME_S):
                    self._frame(region)
                self._frame(region)
            return
        self._drain_on()

    def _drain_on(self) -> None:
        """Forget what nobody will see."""
        while not self._closed.wait(_FRAME_S):
            self._heard.clear()
            self._progress.clear()

    def _frame(self, region: Region) -> None:
        while self._heard:
            self._heard.popleft()()
        for path, tail in self._tails.items():
            self._print(path, tail.news())
        self._text = self._drawn()
        if self._lines:
            lines = Text("\n").join(self._lines)
            self._lines.clear()
            self._console.print(lines, soft_wrap=True)  # draws the region below, too
        else:
            region.refresh()

    def _drawn(self) -> Text:
        if self._over:
            return Text()
        width, height = self._console.size
        now = time.monotonic()
        return live_rows(
            self._board, self._progress, self._metrics, now=now, width=width, height=height
        )
