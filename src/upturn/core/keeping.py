"""Keeping as a pure function of records: from what must stay to every task and blob that it needs.

Things are named by paths: `run/k3f9`, `run/k3f9/train/3`, `artifact/DIGEST`, `version/delays:7`. A
thing that is kept keeps what it refers to:

- a version: its model, its files, its training data, and the task that registered it;
- a run: its tasks, its child runs, what it returned;
- a task: its code, its inputs and the tasks that made them, its output, what it showed, and the
  task whose output it reused.

Memos keep nothing: an output that is only remembered is made again when it is needed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from upturn.core.ids import artifact_path, task_path, version_path
from upturn.core.records import Record, Run, Task, TaskState, Version

References = Mapping[str, Iterable[str]]


def references(records: Iterable[Record]) -> dict[str, set[str]]:
    """What each thing that the records tell of refers to, by their paths."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for record in records:
        path = path_of(record)
        if path is None:
            continue
        found[path].update(_named(record))
        match record:
            case Run(parent=str(parent)):
                found[f"run/{parent}"].add(path)
            case Task() | TaskState():
                found[f"run/{record.run}"].add(f"run/{record.run}/{record.step}")
                found[f"run/{record.run}/{record.step}"].add(path)
            case _:
                pass
    return dict(found)


def reachable(roots: Iterable[str], refers: References) -> set[str]:
    """The roots and everything that they lead to."""
    found = set(roots)
    todo = list(found)
    while todo:
        for path in refers.get(todo.pop(), ()):
            if path not in found:
                found.add(path)
                todo.append(path)
    return found


def path_of(record: Record) -> str | None:
    """The thing that a record tells of: its run, its task or its version, else None."""
    if isinstance(record, Version):
        return version_path(record.model, record.number)
    if isinstance(record, Run):
        return f"run/{record.id}"
    fields: Any = record
    if record.key[:3] == ("run", "step", "index"):
        return task_path(fields.run, fields.step, fields.index)
    if record.key[:1] == ("run",):
        return f"run/{fields.run}"
    return None


def _named(record: Record) -> Iterable[str]:
    for field in record.digests:
        digest = getattr(record, field)
        if digest:
            yield artifact_path(digest)
    match record:
        case Task(inputs=inputs):
            for item in inputs:
                yield artifact_path(item.digest)
                if item.made_by is not None:
                    yield item.made_by
        case TaskState(reused_from=str(source)):
            yield source
        case Version():
            for one in record.files:
                yield artifact_path(one.digest)
            if record.task is not None:
                yield record.task
        case _:
            pass
