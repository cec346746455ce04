"""Projection: what the last records say of runs and groups, in tables that searches can use.

A record never changes, so how a run stands now is spread over several. These statements are carried
out in the transaction that puts the record: what is found is never older than what is stored.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from upturn.core.naming import Group, Removal
from upturn.core.record import Record
from upturn.core.records import Run, RunState
from upturn.core.time import micros
from upturn.stores.registry_projection import of_registry
from upturn.stores.tables import plain

Statement = tuple[str, tuple[Any, ...]]
_ENDED = ("done", "failed", "cancelled", "skipped")


def projected(record: Record) -> list[Statement]:
    """The statements that keep the tables in step with a record that is put."""
    project = _BY_KIND.get(type(record))
    return [*([] if project is None else project(record)), *of_registry(record)]


def number_of(text: str) -> float | None:
    """The number that a parameter or a tag stands for, if it does.

    >>> number_of("0.1"), number_of("adam"), number_of("nan")
    (0.1, None, None)
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number - number == 0 else None  # neither NaN nor infinite


def param_text(value: Any) -> str:
    """A parameter's value as it is searched for: text as it is, the rest as JSON.

    >>> param_text("adam"), param_text([3, 6]), param_text(True)
    ('adam', '[3,6]', 'true')
    """
    return value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=plain).decode()


def _run(record: Any) -> list[Statement]:
    run: Run = record
    row = (
        run.id,
        run.name,
        run.flow,
        run.group,
        run.project,
        run.who,
        run.source,
        run.parent,
        "running",
        micros(run.started_at),
    )
    params = [
        (
            "INSERT OR IGNORE INTO param (run, name, value, number) VALUES (?, ?, ?, ?)",
            (run.id, name, text := param_text(value), number_of(text)),
        )
        for name, value in run.params.items()
    ]
    return [
        (
            'INSERT INTO run_now (run, name, flow, "group", project, who, source, parent, status, '
            "started_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        ),
        *params,
    ]


def _run_state(record: Any) -> list[Statement]:
    state: RunState = record
    ended = micros(state.at) if state.status in _ENDED else None
    named = (state.name, state.run) if state.name is not None else None
    statements: list[Statement] = [
        (
            "UPDATE run_now SET status = ?, ended_at = ? WHERE run = ?",
            (state.status, ended, state.run),
        )
    ]
    if named is not None:
        statements.append(("UPDATE run_now SET name = ? WHERE run = ?", named))
    return statements


def _group(record: Any) -> list[Statement]:
    group: Group = record
    return [
        (
            "INSERT INTO group_now (id, name, project) VALUES (?1, ?2, ?3) "
            "ON CONFLICT (id) DO UPDATE SET name = ?2, project = ?3",
            (group.id, group.name, group.project),
        )
    ]


def _removal(record: Any) -> list[Statement]:
    removal: Removal = record
    kind, _, name = removal.path.partition("/")
    if kind != "run":
        return []
    at = micros(removal.at) if removal.removed else None
    return [("UPDATE run_now SET removed_at = ? WHERE run = ?", (at, name))]


_BY_KIND: dict[type[Record], Callable[[Record], list[Statement]]] = {
    Run: _run,
    RunState: _run_state,
    Group: _group,
    Removal: _removal,
}
