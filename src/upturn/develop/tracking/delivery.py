"""Delivery: what journals say is brought into a store, once, however often it is tried."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from upturn.core.errors import Conflict, Corrupt, NotFound, Unavailable, UpturnError
from upturn.core.naming import Description
from upturn.core.records import Artifact, Exhibit, Run, RunState
from upturn.core.settings import Settings
from upturn.core.tracking import NO_STEP, Point, StoredFile
from upturn.develop.tracking.journal import SUFFIX, UNSTEPPED, Batch, Reader
from upturn.stores.groups import make_group
from upturn.stores.workspace import Workspace

_log = logging.getLogger("upturn")


@dataclass(frozen=True, slots=True)
class PickedUp:
    """What was brought in from journals of processes that are dead."""

    journals: int = 0
    points: int = 0
    runs: frozenset[str] = frozenset()


def deliver(workspace: Workspace, about: Mapping[str, Any], batch: Batch) -> None:
    """Bring a part of a journal into a store; what of it is there already changes nothing.

    Raises Unavailable, and is then to be called again. What a store refuses is said and left out.
    """
    run, scope = str(about.get("run", "")), str(about.get("scope", ""))
    for note in batch.notes:
        if "run" in note:
            _tolerant(lambda note=note: _put_run(workspace, note))
    if batch.points:
        _put_points(workspace, run, scope, [_stepped(point, scope) for point in batch.points])
    for note in batch.notes:
        _tolerant(lambda note=note: _put_note(workspace, run, note))


def bring(
    workspace: Workspace, reader: Reader, *, until: int | None = None, living: bool = False
) -> int:
    """Deliver what a journal has, as `Reader.read` gives it; how many points there were."""
    count = 0
    while (batch := reader.read(until=until, living=living)) is not None:
        deliver(workspace, reader.about, batch)
        reader.keep(batch.end)
        count += len(batch.points)
    return count


def pick_up(workspace: Workspace, *, run: str = "") -> PickedUp:
    """Bring in the journals of this home's dead processes, all of them or those of one run.

    Killed half-way, the next one goes on. Raises Unavailable.
    """
    journals = points = 0
    runs: set[str] = set()
    for reader in dead_journals(workspace.settings.home, run=run, store=store_of(workspace)):
        points += bring(workspace, reader)
        reader.remove()
        journals += 1
        runs.add(str(reader.about.get("run", "")))
    return PickedUp(journals, points, frozenset(runs))


def server_of(settings: Settings) -> str:
    """The server that keeps everything; '' for the home itself."""
    return getattr(settings, "server", "")


def store_of(workspace: Workspace) -> str:
    """The server that journals of a workspace are brought to; '' for the home that they are in."""
    return server_of(workspace.settings)


def dead_journals(home: Path, *, run: str = "", store: str = "") -> Iterator[Reader]:
    """The journals for a store whose processes are dead, each locked while it is looked at."""
    for path in journals_of(home, run):
        try:
            reader = Reader(path, locked=True)
        except (FileNotFoundError, BlockingIOError):
            continue  # somebody else has brought it in, or is about to; or its writer lives
        except Corrupt as error:
            _log.warning("%s", error)
            continue
        try:
            if reader.about.get("store", "") == store:
                yield reader
        finally:
            reader.close()


def journals_of(home: Path, stem: str = "") -> list[Path]:
    """The journals in a home that belong to a run or a task, or all of them; the oldest first."""
    found = (home / "journals").glob(f"{stem}+*{SUFFIX}" if stem else f"*{SUFFIX}")
    aged: list[tuple[float, Path]] = []
    for path in found:
        with contextlib.suppress(FileNotFoundError):
            aged.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(aged)]


def digests_waiting(home: Path) -> set[str]:
    """The blobs that journals in a home name, for records that no store has yet."""
    found: set[str] = set()
    for path in journals_of(home):
        with contextlib.suppress(FileNotFoundError, Corrupt):
            reader = Reader(path)
            while (batch := reader.read(living=True)) is not None:
                reader.position = batch.end
                found.update(digest for note in batch.notes if (digest := _digest(note)))
            reader.close()
    return found


def _digest(note: Mapping[str, Any]) -> str | None:
    if "file" in note:
        return note["file"]["digest"]
    return note["exhibit"]["artifact"] if "exhibit" in note else None


def run_note(run: Run, group: str, text: str) -> dict[str, Any]:
    """The note that a run began, in a group of that name, with that description."""
    return {"run": msgspec.to_builtins(run), "group": group, "text": text}


def _put_run(workspace: Workspace, note: Mapping[str, Any]) -> None:
    run = msgspec.convert(note["run"], Run)
    if workspace.meta.find(Run, run.id) is not None:
        return
    group = make_group(workspace.meta, run.project, note["group"], who=run.who)
    began: list[Any] = [
        msgspec.structs.replace(run, group=group.id),
        RunState(run=run.id, status="running", at=run.started_at),
    ]
    if note["text"]:
        began.append(
            Description(path=f"run/{run.id}", text=note["text"], who=run.who, at=run.started_at)
        )
    workspace.meta.put(*began)


def _stepped(point: Point, scope: str) -> Point:
    """A point that was logged without a step: of a task, that is told apart from step 0."""
    if point.step != UNSTEPPED:
        return point
    return Point(point.name, point.value, NO_STEP if scope else 0, point.at)


def _put_points(workspace: Workspace, run: str, scope: str, points: list[Point]) -> None:
    try:
        workspace.tracking.log(run, points=points, scope=scope)
    except Unavailable:
        raise
    except UpturnError:
        if len(points) == 1:
            raise
        for point in points:  # one that no store takes is not to keep the others out
            _tolerant(lambda point=point: _put_points(workspace, run, scope, [point]))


def _put_note(workspace: Workspace, run: str, note: Mapping[str, Any]) -> None:
    meta, tracking = workspace.meta, workspace.tracking
    if "tags" in note:
        tracking.log(run, tags=note["tags"])
    elif "params" in note:
        tracking.log(run, params=note["params"])
    elif "file" in note:
        file = msgspec.convert(note["file"], StoredFile)
        _have_blob(workspace, file.digest)
        tracking.put_file(file)
    elif "exhibit" in note:
        exhibit = msgspec.convert(note["exhibit"], Exhibit)
        _have_blob(workspace, exhibit.artifact)
        place: dict[str, Any] = {"run": exhibit.run, "step": exhibit.step, "index": exhibit.index}
        if all(other.at != exhibit.at for other in meta.select(Exhibit, **place)):
            meta.put(msgspec.convert(note["artifact"], Artifact), exhibit)
    elif "state" in note:
        state = msgspec.convert(note["state"], RunState)
        if all(other.at != state.at for other in meta.select(RunState, run=state.run)):
            meta.put(state)


def _have_blob(workspace: Workspace, digest: str) -> None:
    """Bring a blob from this home's own store to where it belongs, when that was away."""
    if workspace.blobs.has(digest):
        return
    from upturn.stores.disk import DiskBlobStore

    workspace.blobs.put([DiskBlobStore(workspace.settings.home / "blobs").get(digest)])


def _tolerant(work: Callable[[], None]) -> None:
    """Do it; what a store refuses for good is said, so that what comes behind is not held up."""
    try:
        work()
    except Unavailable:
        raise
    except Conflict as error:
        if error.problem.fields.get("kind") != "run":  # somebody else brought it in
            _log.warning("%s", error)
    except (UpturnError, NotFound, msgspec.ValidationError) as error:
        _log.warning("%s", error)


class JournalDuty:
    """What a server does about journals of processes that died in its home; implements Duty."""

    name = "journals"
    every_s = 5.0

    def look(self, workspace: Workspace, now: Any) -> None:
        """Bring them in."""
        pick_up(workspace)
