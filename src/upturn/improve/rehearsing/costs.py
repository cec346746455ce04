"""Costs of a policy: how long the steps of its trainings took, and how many rows they used."""

from __future__ import annotations

from collections.abc import Iterable

from upturn.core.metastore import MetaStore
from upturn.core.records import TaskState
from upturn.improve.evidence import Trained
from upturn.improve.rehearsing.shared import Done, Shared


def training_seconds(meta: MetaStore, runs: Iterable[str]) -> float:
    """How long the steps of these runs took when they ran, each counted once.

    A task that was reused took what the task took whose output it is, however long ago: what a
    policy costs does not depend on which others were rehearsed before.
    """
    took: dict[str, float] = {}
    for run in runs:
        for state in meta.last_each(TaskState, run=run):
            path, seconds = _origin(meta, state)
            took[path] = seconds
    return sum(took.values())


def _origin(meta: MetaStore, state: TaskState) -> tuple[str, float]:
    """The task that really ran, and its seconds."""
    for _ in range(100):  # a chain of reuse has an end; a damaged store must not keep us
        if state.reused_from is None:
            break
        parts = state.reused_from.split("/")
        if len(parts) != 4 or not parts[3].isdigit():
            break
        found = meta.last_each(TaskState, run=parts[1], step=parts[2], index=int(parts[3]))
        if not found:
            break
        state = found[-1]
    return f"run/{state.run}/{state.step}/{state.index}", state.seconds or 0.0


def costs(shared: Shared, done: Done) -> tuple[float, int]:
    """The seconds and the labelled rows of a policy's trainings, those without a version left out.

    Rows are those of the training data, each as often as it was used.
    """
    made = [one for _, one in done.made if isinstance(one, Trained)]
    runs = list(dict.fromkeys(one.run for one in made if one.run is not None))
    rows = sum(shared.find(one.version).profile.rows for one in made)
    return training_seconds(shared.workspace.meta, runs), rows
