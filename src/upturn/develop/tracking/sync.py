"""Sync: runs that were tracked while their server was away are brought there, once."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from upturn.core.errors import NotFound
from upturn.core.naming import Description, Group
from upturn.core.records import Artifact, Exhibit, Record, Run, RunState
from upturn.core.settings import Settings, load_settings
from upturn.develop.runs import is_driven
from upturn.develop.tracking.delivery import pick_up, server_of
from upturn.stores.groups import make_group
from upturn.stores.workspace import Workspace, open_workspace

_ENDED = ("done", "failed", "cancelled", "skipped")
_AT_ONCE = 10_000  # points in a transaction


@dataclass(frozen=True, slots=True)
class Synced:
    """What was brought to a server."""

    runs: tuple[str, ...] = ()
    points: int = 0
    files: int = 0
    going_on: tuple[str, ...] = ()  # of the runs: they are not over, so more will follow
    journals: int = 0  # of processes that are dead


def mark_offline(home: Path, run: str) -> None:
    """Note that a run of this home is to be brought to a server."""
    folder = home / "offline"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / run).touch()


def offline_runs(home: Path) -> list[str]:
    """The runs of this home that are to be brought to a server yet."""
    folder = home / "offline"
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def here(settings: Settings | None = None) -> Workspace:
    """The home's own stores, whatever server there is."""
    return open_workspace(with_server(settings or load_settings(), ""))


def with_server(settings: Settings, url: str) -> Settings:
    """The settings with another server, or with none."""
    if not url and not server_of(settings):
        return settings
    changed: dict[str, Any] = {"server": url}
    return dataclasses.replace(settings, **changed)


def sync(
    source: Workspace, target: Workspace, *, told: Callable[[str], None] = lambda _: None
) -> Synced:
    """Bring the offline runs of a home, and what its dead processes logged, to where they belong.

    Interrupted at any moment, the next one goes on, and nothing is there twice. Raises Unavailable
    when the target is away. `told` is called with each run's id.
    """
    journals = pick_up(source).journals + pick_up(target).journals
    runs: list[str] = []
    going_on: list[str] = []
    points = files = 0
    for run in offline_runs(source.settings.home):
        try:
            goes_on = _goes_on(source, run)  # asked first: what it says later is for another time
            moved = copy_run(source, target, run)
        except NotFound:  # it was removed here, or its first word is in a journal yet
            continue
        told(run)
        runs.append(run)
        points, files = points + moved[0], files + moved[1]
        if goes_on:
            going_on.append(run)
        else:
            (source.settings.home / "offline" / run).unlink(missing_ok=True)
    return Synced(tuple(runs), points, files, tuple(going_on), journals)


def copy_run(source: Workspace, target: Workspace, id: str) -> tuple[int, int]:
    """Bring all that is known of a tracked run into another store, after its parent.

    Returns how many points and files there were that the target did not have. Raises NotFound.
    """
    run = source.meta.get(Run, id)
    points = files = 0
    if run.parent is not None and target.meta.find(Run, run.parent) is None:
        points, files = copy_run(source, target, run.parent)
    _copy_records(source, target, run)
    params = source.tracking.params([id])[id]
    tags: dict[str, str | None] = dict(source.tracking.tags([f"run/{id}"])[f"run/{id}"])
    target.tracking.log(id, params=params, tags=tags)
    points += _copy_points(source, target, id)
    files += _copy_files(source, target, id)
    _copy_states(source, target, id)
    return points, files


def _copy_records(source: Workspace, target: Workspace, run: Run) -> None:
    if target.meta.find(Run, run.id) is None:
        known = source.meta.find(Group, run.group)
        name = known.name if known is not None else run.flow
        group = make_group(target.meta, run.project, name, who=run.who)
        began = RunState(run=run.id, status="running", at=run.started_at)
        target.meta.put(msgspec.structs.replace(run, group=group.id), began)
    path = f"run/{run.id}"
    text = source.meta.find(Description, path)
    if text is not None and target.meta.find(Description, path) is None:
        target.meta.put(msgspec.structs.replace(text, seq=0))
    there = {
        (other.step, other.index, other.at) for other in target.meta.select(Exhibit, run=run.id)
    }
    for exhibit in source.meta.select(Exhibit, run=run.id):
        if (exhibit.step, exhibit.index, exhibit.at) not in there:
            _copy_blob(source, target, exhibit.artifact)
            known_as = source.meta.find(Artifact, exhibit.artifact)
            records: list[Record] = [] if known_as is None else [known_as]
            target.meta.put(*records, msgspec.structs.replace(exhibit, seq=0))


def _copy_states(source: Workspace, target: Workspace, run: str) -> None:
    there = {(state.at, state.status) for state in target.meta.select(RunState, run=run)}
    missing = [
        msgspec.structs.replace(state, seq=0)
        for state in source.meta.select(RunState, run=run)
        if (state.at, state.status) not in there
    ]
    if missing:
        target.meta.put(*missing)


def _copy_points(source: Workspace, target: Workspace, run: str) -> int:
    there = {(one.name, one.scope): one.count for one in target.tracking.series([run])[run]}
    count = 0
    for series in source.tracking.series([run])[run]:
        had = there.get((series.name, series.scope), 0)
        if had == series.count:
            continue
        after = 0
        while points := source.tracking.history(
            run, series.name, scope=series.scope, limit=_AT_ONCE, after=after
        ):
            target.tracking.log(run, points=points, scope=series.scope)
            after += len(points)
        count += max(0, after - had)
    return count


def _copy_files(source: Workspace, target: Workspace, run: str) -> int:
    there = {file.path: file.digest for file in target.tracking.files(run)}
    count = 0
    for file in source.tracking.files(run):
        if there.get(file.path) != file.digest:
            _copy_blob(source, target, file.digest)
            target.tracking.put_file(file)
            count += 1
    return count


def _copy_blob(source: Workspace, target: Workspace, digest: str) -> None:
    if not target.blobs.has(digest):
        target.blobs.put([source.blobs.get(digest)])


def _goes_on(source: Workspace, run: str) -> bool:
    state = source.meta.find(RunState, run)
    if state is not None and state.status in _ENDED:
        return False
    return is_driven(source, source.meta.get(Run, run))
