"""Cards: runs and tasks as HTML for notebooks, with nothing fetched from anywhere."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from typing import Protocol

from upturn.core.errors import Problem
from upturn.core.records import Artifact, Exhibit, Task


class Shown(Protocol):
    """A task, as far as a card tells of it."""

    @property
    def path(self) -> str: ...
    @property
    def step(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def metrics(self) -> dict[str, float]: ...
    @property
    def problem(self) -> Problem | None: ...
    @property
    def artifact(self) -> Artifact | None: ...
    @property
    def record(self) -> Task | None: ...
    @property
    def exhibits(self) -> list[Exhibit]: ...
    def shown(self, exhibit: Exhibit) -> bytes:
        """The bytes of an exhibit."""
        ...


_MOST = 100  # tasks in a table
# Colours that are read on light and dark pages.
_COLOURS = {"done": "#2a9d4a", "reused": "#2a8a9d", "failed": "#d0453c", "lost": "#d0453c"}
_CELL = "text-align:left;padding:2px 12px 2px 0"


def run_card(
    title: str,
    status: str,
    seconds: float | None,
    params: Mapping[str, object],
    problem: Problem | None,
    tasks: Sequence[Shown],
) -> str:
    """A run: what it is, its parameters, why it failed, its tasks."""
    given = ", ".join(f"{name} = {value}" for name, value in params.items())
    why = "" if problem is None else f"<pre>{escape(problem.message)}</pre>"
    took = "" if seconds is None else f" in {seconds:.1f} s"
    return (
        f"<div><b>{escape(title)}</b> {_status(status)}{took}"
        f"<br>{escape(given)}{why}{table_of(tasks)}</div>"
    )


def table_of(tasks: Sequence[Shown]) -> str:
    """Tasks as a table, the first hundred of them."""
    head = "".join(
        f'<th style="{_CELL}">{name}</th>'
        for name in ("task", "status", "took", "output", "metrics")
    )
    rows = "".join(_row(task) for task in tasks[:_MOST])
    more = len(tasks) - _MOST
    rest = f"<p>… and {more} more</p>" if more > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{rest}"


def _row(task: Shown) -> str:
    cells = (
        escape(f"{task.step}/{task.index}"),
        _status(task.status),
        "" if task.seconds is None else f"{task.seconds:.3g} s",
        escape(_what(task)),
        escape(_metrics(task)),
    )
    return "<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells) + "</tr>"


def task_card(task: Shown) -> str:
    """A task: how it went, its inputs by digest, its metrics, and what it showed."""
    record = task.record
    inputs = [item for item in record.inputs if not item.name.endswith(":shape")] if record else []
    named = "".join(
        f"<li>{escape(item.name)}: {escape(item.path or item.made_by or item.digest[:12])}</li>"
        for item in inputs[:_MOST]
    )
    problem = "" if task.problem is None else f"<pre>{escape(task.problem.message)}</pre>"
    shown = "".join(_exhibit(task, exhibit) for exhibit in task.exhibits)
    return (
        f"<div><b>{escape(task.path)}</b> {_status(task.status)} {escape(_what(task))}"
        f"<br>{escape(_metrics(task))}{problem}<ul>{named}</ul>{shown}</div>"
    )


def _what(task: Shown) -> str:
    known = task.artifact
    return "" if known is None else f"{known.type} {known.summary}".strip()


def _metrics(task: Shown) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in task.metrics.items())


def _status(status: str) -> str:
    return f'<span style="color:{_COLOURS.get(status, "inherit")}">{escape(status)}</span>'


def _exhibit(task: Shown, exhibit: Exhibit) -> str:
    data = task.shown(exhibit)
    title = f"<p>{escape(exhibit.title)}</p>"
    if exhibit.media.startswith("image/"):
        # As an image even where it is SVG, so that no script in it runs.
        source = f"data:{exhibit.media};base64,{b64encode(data).decode()}"
        return f'{title}<img alt="{escape(exhibit.title)}" src="{escape(source)}">'
    text = data.decode(errors="replace")
    if exhibit.media == "text/html":
        return f'{title}<iframe sandbox srcdoc="{escape(text)}" width="100%" height="400"></iframe>'
    return f"{title}<pre>{escape(text)}</pre>"
