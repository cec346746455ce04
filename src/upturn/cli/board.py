"""Board: how far a run is, step by step, and the rows that show it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from rich.text import Text

from upturn.cli.progress import far, short
from upturn.cli.render import STATUS_COLOURS, seconds_text

Progress = Mapping[tuple[str, int], tuple[int, int | None, str]]  # by task and level

_BAR = 20
_WIDE_ENOUGH = 60  # for bars
_MOST_RUNNING = 6  # tasks with a row of their own
_MOST_METRICS = 3
_LONGEST_NAME = 30


@dataclass(slots=True)
class StepCounts:
    """What became of a step's tasks."""

    name: str
    submitted: int = 0
    done: int = 0
    reused: int = 0
    failed: int = 0
    pruned: int = 0
    running: int = 0
    began_at: float | None = None
    ended_at: float | None = None

    @property
    def ended(self) -> int:
        """How many tasks are over."""
        return self.done + self.reused + self.failed + self.pruned

    def seconds(self, now: float) -> float | None:
        """From the first task's start to now, or to the last one's end."""
        if self.began_at is None:
            return None
        until = now if self.running or self.ended_at is None else self.ended_at
        return until - self.began_at

    def counts(self, *, of_all: bool = False) -> list[tuple[str, str]]:
        """The numbers that are not zero, as text and colour."""
        numbers = {
            "done": self.done,
            "reused": self.reused,
            "running": self.running,
            "failed": self.failed,
            "pruned": self.pruned,
        }
        said = [
            (f"{n} {what}", STATUS_COLOURS.get(what, "white")) for what, n in numbers.items() if n
        ]
        missing = self.submitted - self.ended - self.running
        if of_all and missing > 0:
            said.append((f"{missing} not run", STATUS_COLOURS["cancelled"]))
        return said


@dataclass(slots=True)
class Board:
    """A run's steps in the order in which the flow called them, and the tasks that run."""

    steps: dict[str, StepCounts] = field(default_factory=dict[str, StepCounts])
    running: dict[str, float] = field(default_factory=dict[str, float])  # path → when it began
    failures: int = 0

    def submitted(self, path: str) -> None:
        """The flow called a step."""
        self._step(path).submitted += 1

    def started(self, path: str, at: float) -> None:
        """An attempt began."""
        step = self._step(path)
        step.running += 1
        step.began_at = at if step.began_at is None else step.began_at
        self.running[path] = at

    def ended(self, path: str, at: float, status: str) -> None:
        """A task is done, reused, failed or pruned; it is 'ready' again where an attempt failed."""
        step = self._step(path)
        if self.running.pop(path, None) is not None:
            step.running -= 1
            step.ended_at = at
        match status:
            case "done":
                step.done += 1
            case "reused":
                step.reused += 1
            case "failed":
                step.failed += 1
            case "pruned":
                step.pruned += 1
            case _:
                pass

    def cancelled(self, at: float) -> None:
        """Nothing runs any more."""
        for path in list(self.running):
            self.ended(path, at, "cancelled")

    def totals(self) -> str:
        """What became of all tasks, in words."""
        numbers = {
            "done": sum(step.done for step in self.steps.values()),
            "reused": sum(step.reused for step in self.steps.values()),
            "failed": sum(step.failed for step in self.steps.values()),
            "pruned": sum(step.pruned for step in self.steps.values()),
        }
        return ", ".join(f"{n} {what}" for what, n in numbers.items() if n) or "no tasks"

    def _step(self, path: str) -> StepCounts:
        name = short(path).rpartition("/")[0]
        found = self.steps.get(name)
        if found is None:
            found = self.steps[name] = StepCounts(name)
        return found


def live_rows(
    board: Board,
    progress: Progress,
    metrics: Mapping[str, Mapping[str, float]],
    *,
    now: float,
    width: int,
    height: int,
) -> Text:
    """A row for each step and for a few of the tasks that run, to fit a terminal of this size."""
    room = max(2, height - 2)
    running = list(islice(board.running.items(), min(_MOST_RUNNING, room // 2)))
    steps = _most_telling(board, room - len(running) - 1)
    rows = [_step_row(step, metrics, now, width) for step in steps]
    if len(steps) < len(board.steps):
        rows.append(Text(f"  … {len(board.steps) - len(steps)} more steps", style="dim"))
    rows += [_task_row(path, now - began, progress, width) for path, began in running]
    if len(running) < len(board.running):
        more = len(board.running) - len(running)
        rows[-1].append(f"  … and {more} more", style="dim")
    return _joined(rows, width)


def summary_rows(
    board: Board, metrics: Mapping[str, Mapping[str, float]], *, now: float
) -> list[Text]:
    """A row for each step, when the run is over."""
    rows: list[Text] = []
    for step in board.steps.values():
        row = Text(f"  {step.name:<20} ")
        _add_counts(row, step.counts(of_all=True))
        row.append(" " * max(1, 44 - row.cell_len))
        row.append(f"{seconds_text(step.seconds(now)):>8}{_metrics_text(metrics, step.name)}")
        row.rstrip()
        rows.append(row)
    return rows


def with_newest(old: Mapping[str, float], new: Mapping[str, float]) -> dict[str, float]:
    """The few metrics that were logged last."""
    merged = {**{k: v for k, v in old.items() if k not in new}, **new}
    return dict(list(merged.items())[-_MOST_METRICS:])


def _most_telling(board: Board, room: int) -> list[StepCounts]:
    """As many steps as there is room for: what is over goes first."""
    steps = list(board.steps.values())
    if len(steps) <= room:
        return steps
    waiting = [step for step in steps if step.running or step.ended < step.submitted]
    over = [step for step in steps if not step.running and step.ended >= step.submitted]
    chosen = {id(step) for step in [*waiting, *reversed(over)][: max(1, room - 1)]}
    return [step for step in steps if id(step) in chosen]


def _step_row(
    step: StepCounts, metrics: Mapping[str, Mapping[str, float]], now: float, width: int
) -> Text:
    row = Text(f"  {_cut(step.name):<{min(20, max(8, width // 4))}} ")
    if width >= _WIDE_ENOUGH:
        _add_bar(row, step.ended, step.submitted)
    row.append(f" {step.ended}/{step.submitted}  ")
    _add_counts(row, step.counts())
    row.append(f"  {seconds_text(step.seconds(now))}{_metrics_text(metrics, step.name)}")
    return row


def _task_row(path: str, seconds: float, progress: Progress, width: int) -> Text:
    row = Text(f"    {_cut(short(path))}  ")
    outer = progress.get((path, 0))
    if outer is not None:
        done, total, title = outer
        if total and width >= _WIDE_ENOUGH:
            _add_bar(row, done, total)
            row.append(" ")
        row.append(far(done, total, _plain(title)))
        inner = progress.get((path, 1))
        if inner is not None:
            row.append(f" › {far(inner[0], inner[1], _plain(inner[2]))}", style="dim")
        row.append("  ")
    row.append(seconds_text(seconds), style="dim")
    return row


def _add_bar(row: Text, done: int, total: int) -> None:
    full = min(_BAR, _BAR * done // max(1, total))
    row.append("━" * full, style="green")
    row.append("─" * (_BAR - full), style="dim")


def _add_counts(row: Text, counts: Iterable[tuple[str, str]]) -> None:
    for number, (text, colour) in enumerate(counts):
        row.append(", " if number else "")
        row.append(text, style=colour)


def _metrics_text(metrics: Mapping[str, Mapping[str, float]], step: str) -> str:
    return "".join(f"  {_plain(k)} {v:.4g}" for k, v in metrics.get(step, {}).items())


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:200])


def _joined(rows: list[Text], width: int) -> Text:
    for row in rows:
        row.truncate(max(1, width - 1), overflow="ellipsis")
    made = Text("\n", no_wrap=True, overflow="crop").join(rows)
    made.no_wrap, made.overflow = True, "crop"
    return made
