"""Collecting: which blobs and outputs nothing that is kept refers to, and their removal.

It is safe while runs go on. The records are read once, after an instant T; a blob is removed when
they lead to it from nothing that is kept, and when it was not used since well before T, nor since
the oldest run that goes on began. For a blob is stored before the record that refers to it:

- what a run stores or reuses before it is in a record is covered by its lease, which it holds
  before it stores anything: it was used since that run began;
- what begins after T uses its blobs after T;
- what uses blobs without a run (registering a model by hand) does within the margin.

The blob store sees to it that a use and a removal at the same moment can't both win (`sweep`).
"""

import contextlib
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec

from upturn.core.blobstore import USE_MARGIN_S, Entry
from upturn.core.errors import Invalid
from upturn.core.ids import artifact_path, version_path
from upturn.core.keeping import path_of, reachable, references
from upturn.core.records import KINDS, Artifact, Collection, Record, Run, RunState, Task, Version
from upturn.core.time import micros, utcnow
from upturn.core.who import who
from upturn.develop.forgetting import forget, forgettable
from upturn.develop.pins import list_pins
from upturn.develop.runs import top_run
from upturn.develop.tracking.delivery import digests_waiting
from upturn.stores.workspace import Workspace

MARGIN_S = 3600.0  # clocks of machines differ
assert MARGIN_S > 2 * USE_MARGIN_S
NO_RECORD = ""  # in the place of a run: nothing refers to the blob any more, or ever did
_UNFINISHED = ("queued", "running")
_SLEEP = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Loss:
    """What would go of one run, or of no run."""

    run: Run | None
    tasks: int
    blobs: int
    blob_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What may be removed, as it was at one instant; it stays right however long one waits."""

    older_than: timedelta
    keep_runs: int
    unused_since: float
    blobs: dict[str, int]  # digest → bytes
    outputs: dict[Path, int]  # what tasks printed, and folders of what they saved on their way
    losses: list[Loss]  # the biggest first
    too_new: int  # blobs that nothing refers to, but that were used a moment ago
    too_new_bytes: int
    kept_blobs: int
    kept_bytes: int
    forgotten: list[str]  # runs that were removed longer ago: what they said goes
    forgotten_before: int  # microseconds since 1970

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.blobs or self.outputs or self.forgotten)

    @property
    def blob_bytes(self) -> int:
        """How much the blobs take."""
        return sum(self.blobs.values())

    @property
    def output_bytes(self) -> int:
        """How much the outputs take."""
        return sum(self.outputs.values())


def plan_collection(
    workspace: Workspace, *, older_than: timedelta = timedelta(days=30), keep_runs: int = 0
) -> Plan:
    """What nothing refers to that is kept: versions, pins, and the runs that `kept_runs` gives.

    Raises Invalid where a server keeps the store: outputs and what waits to be stored lie there.
    """
    if workspace.is_remote:
        raise Invalid(
            f"What the server {workspace.settings.server} keeps, it removes itself.",
            hint="Ask it to, as an admin: upturn gc",
        )
    began = time.time()
    since = utcnow() - older_than
    live = _live_since(workspace, older_than)
    records = _records(workspace)
    refers = references(records)
    runs = [record for record in records if isinstance(record, Run)]
    states = [record for record in records if isinstance(record, RunState)]
    roots = kept_runs(runs, states, live=set(live), since=since, keep_runs=keep_runs)
    versions = [record for record in records if isinstance(record, Version)]
    roots |= {version_path(version.model, version.number) for version in versions}
    roots |= {pin.path for pin in list_pins(workspace)}
    kept = reachable(roots, refers)
    forgotten = forgettable(workspace, kept, versions, before=micros(since))
    kept |= {artifact_path(digest) for digest in workspace.tracking.kept_files(but=forgotten)}
    kept |= {artifact_path(digest) for digest in digests_waiting(workspace.settings.home)}
    unused_since = min([began, *live.values()]) - MARGIN_S
    saved_before = min(unused_since, began - older_than.total_seconds())
    tally = _tally(workspace.blobs.entries(), kept, unused_since)
    return Plan(
        older_than=older_than,
        keep_runs=keep_runs,
        unused_since=unused_since,
        blobs=tally.gone,
        outputs={
            **dict(_outputs(workspace.output_dir, kept, unused_since)),
            **dict(_abandoned(workspace.settings.home / "checkpoints", saved_before)),
        },
        losses=_losses(records, runs, kept, tally.gone),
        too_new=tally.too_new,
        too_new_bytes=tally.too_new_bytes,
        kept_blobs=tally.kept,
        kept_bytes=tally.kept_bytes,
        forgotten=forgotten,
        forgotten_before=micros(since),
    )


def collect(
    workspace: Workspace,
    plan: Plan,
    *,
    by: str = "",
    within_s: float | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Collection:
    """Remove what the plan names and is still unused; what was removed, as it was recorded.

    `by` is who asked for it. `progress` is called with how many blobs were looked at. When it is
    interrupted, or takes longer than `within_s`, what was removed till then is recorded as stopped,
    and doing it again goes on.
    """
    record = Collection(
        status="began",
        who=by or who(),
        at=utcnow(),
        older_than_s=plan.older_than.total_seconds(),
        keep_runs=plan.keep_runs,
        blobs=len(plan.blobs),
        blob_bytes=plan.blob_bytes,
        outputs=len(plan.outputs),
        output_bytes=plan.output_bytes,
    )
    workspace.meta.put(record)  # first: what is missing later has its explanation
    gone: Counter[str] = Counter()
    status = "stopped"
    end = math.inf if within_s is None else time.monotonic() + within_s
    try:
        forget(workspace, _until(end, plan.forgotten), before=plan.forgotten_before)
        # The records go before what they lead to: a memo without its output is only made again.
        blobs = dict(plan.blobs)
        for digest in workspace.tracking.kept_files() if plan.forgotten else ():
            blobs.pop(digest, None)  # of a run that was restored meanwhile
        swept = workspace.blobs.sweep(_until(end, blobs), unused_since=plan.unused_since)
        for number, (digest, removed) in enumerate(swept, 1):
            if removed:
                gone["blobs"] += 1
                gone["blob_bytes"] += plan.blobs[digest]
            progress(number)
        for path in _until(end, plan.outputs):
            if _remove_output(path):
                gone["outputs"] += 1
                gone["output_bytes"] += plan.outputs[path]
        status = "done" if time.monotonic() < end else "stopped"
    finally:
        ended = msgspec.structs.replace(
            record,
            status=status,
            at=utcnow(),
            **{name: gone[name] for name in ("blobs", "blob_bytes", "outputs", "output_bytes")},
        )
        ended = workspace.meta.add(ended)
    return ended


T = TypeVar("T")


def _until(end: float, things: Iterable[T]) -> Iterator[T]:
    """The things, as long as it is not `end` yet."""
    for thing in things:
        if time.monotonic() >= end:
            return
        yield thing


def missing_from(workspace: Workspace, path: str) -> int:
    """How many blobs that a path leads to are gone. The others are used by this: a `gc` that goes
    on, and began before the path was pinned, leaves them.
    """
    kept = reachable([path], references(_records(workspace)))
    digests = {one.removeprefix("artifact/") for one in kept if one.startswith("artifact/")}
    stored = {artifact.digest for artifact in workspace.meta.select(Artifact)}  # not file contents
    return sum(not workspace.blobs.has(digest) for digest in digests & stored)


def absence(workspace: Workspace, digest: str) -> str:
    """What to say behind a blob's name when it is not there: nothing, or why it is gone."""
    if workspace.blobs.has(digest, use=False):
        return ""
    return " (removed by gc)" if workspace.meta.find(Collection) is not None else " (gone)"


def kept_runs(
    runs: Iterable[Run],
    states: Iterable[RunState],
    *,
    live: set[str],
    since: datetime,
    keep_runs: int,
) -> set[str]:
    """The paths of runs that stay for their own sake, each with the runs that it is part of.

    They are those that go on (`live`), those that began or changed since then, and the newest
    `keep_runs` of each flow.
    """
    by_id = {run.id: run for run in runs}
    latest = {run.id: run.started_at for run in by_id.values()}
    for state in states:
        latest[state.run] = max(state.at, latest.get(state.run, state.at))
    stay = {run for run, at in latest.items() if at >= since or run in live}
    counted: Counter[str] = Counter()
    for run in sorted(by_id.values(), key=lambda run: run.started_at, reverse=True):
        if run.parent is None:
            counted[run.flow] += 1
            if counted[run.flow] <= keep_runs:
                stay.add(run.id)
    found: set[str] = set()
    for run in stay:
        found.add(f"run/{run}")
        parent = by_id[run].parent if run in by_id else None
        while parent is not None:  # a run keeps its children, and they what they are part of
            found.add(f"run/{parent}")
            parent = by_id[parent].parent if parent in by_id else None
    return found


def _live_since(workspace: Workspace, older_than: timedelta) -> dict[str, float]:
    """The runs that go on, and since when; they count for a while after their lease has ended.

    A driver that was stopped (Ctrl-Z, a laptop's sleep) loses its lease, and may wake up.
    """
    meta = workspace.meta
    alive = {lease.name.removeprefix("run/") for lease in meta.leases("run/")}
    states = {state.run: state for state in meta.last_each(RunState)}
    found: dict[str, float] = {}
    for run in meta.select(Run, id=list(alive - set(states))):  # they were put just now
        found[run.id] = run.started_at.timestamp()
    asleep_since = utcnow() - max(older_than, _SLEEP)
    for state in states.values():
        if state.status in _UNFINISHED and (
            state.at >= asleep_since or _top(workspace, state.run) in alive
        ):
            found[state.run] = state.at.timestamp()
    return found


def _top(workspace: Workspace, run: str) -> str:
    known = workspace.meta.find(Run, run)
    return top_run(workspace, known).id if known is not None else run


def _records(workspace: Workspace) -> list[Record]:
    """All records that refer to blobs, and the runs that they belong to."""
    kinds = [kind for kind in KINDS if kind is Run or kind.digests]
    return [record for kind in kinds for record in workspace.meta.select(kind)]


@dataclass(slots=True)
class _Tally:
    gone: dict[str, int] = field(default_factory=dict[str, int])
    too_new: int = 0
    too_new_bytes: int = 0
    kept: int = 0
    kept_bytes: int = 0


def _tally(entries: Iterable[Entry], kept: set[str], unused_since: float) -> _Tally:
    tally = _Tally()
    for entry in entries:
        if artifact_path(entry.digest) in kept:
            tally.kept += 1
            tally.kept_bytes += entry.size_bytes
        elif entry.used_at >= unused_since:
            tally.too_new += 1
            tally.too_new_bytes += entry.size_bytes
        else:
            tally.gone[entry.digest] = entry.size_bytes
    return tally


def _losses(
    records: Iterable[Record], runs: Iterable[Run], kept: set[str], gone: dict[str, int]
) -> list[Loss]:
    """The blobs by the run that referred to them first, the biggest part first."""
    owner: dict[str, str] = {}
    tasks: dict[str, set[str]] = {}
    for record in records:
        run = record.id if isinstance(record, Run) else str(getattr(record, "run", NO_RECORD))
        path = path_of(record)
        if isinstance(record, Task) and path not in kept:
            tasks.setdefault(run, set()).add(str(path))
        for digest in _digests(record):
            if digest in gone:
                owner.setdefault(digest, run)
    blobs: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for digest, size in gone.items():
        run = owner.get(digest, NO_RECORD)
        blobs[run] += 1
        sizes[run] += size
    by_id = {run.id: run for run in runs}
    found = [
        Loss(by_id.get(run), len(tasks.get(run, ())), number, sizes[run])
        for run, number in blobs.items()
    ]
    return sorted(found, key=lambda loss: (-loss.blob_bytes, -loss.blobs))


def _digests(record: Record) -> Iterator[str]:
    for name in record.digests:
        digest = getattr(record, name)
        if digest:
            yield digest
    if isinstance(record, Task):
        for item in record.inputs:
            yield item.digest
    if isinstance(record, Version):
        for one in record.files:
            yield one.digest


def _outputs(directory: Path, kept: set[str], unused_since: float) -> Iterator[tuple[Path, int]]:
    """The files RUN/STEP/INDEX.log (and .traceback) of tasks that are not kept."""
    for folder, _, names in os.walk(directory):
        parts = Path(folder).relative_to(directory).parts
        if len(parts) != 2:
            continue
        for name in names:
            path = Path(folder, name)
            index = name.partition(".")[0]  # of 3.log and of 3.traceback
            if f"run/{parts[0]}/{parts[1]}/{index}" in kept:
                continue
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                if stat.st_mtime < unused_since:
                    yield path, stat.st_size


def _abandoned(directory: Path, before: float) -> Iterator[tuple[Path, int]]:
    """The folders of checkpoints to which no attempt came back."""
    for folder in directory.iterdir() if directory.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # its task is done just now
            stats = [path.stat() for path in (folder, *folder.rglob("*"))]
            if max(stat.st_mtime for stat in stats) < before:
                yield folder, sum(stat.st_size for stat in stats)


def _remove_output(path: Path) -> bool:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return True
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    for folder in list(path.parents)[:2]:  # of the step, of the run
        try:
            folder.rmdir()
        except OSError:  # it has other files
            break
    return True
