"""Exporting: runs with everything that they refer to, written into one file as a stream."""

import contextlib
import os
import secrets
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import msgspec
from blake3 import blake3

from upturn.core.errors import NotFound, Unavailable
from upturn.core.keeping import references
from upturn.core.records import Artifact, Exhibit, Run, Task, TaskState, Version
from upturn.core.time import utcnow
from upturn.core.tracking import StoredFile
from upturn.develop.output import output_file
from upturn.develop.tracking.delivery import pick_up
from upturn.develop.transfer import archive
from upturn.develop.transfer.archive import PART, ArchiveWriter
from upturn.develop.transfer.gather import Traces, chosen, gathered, with_what_they_need
from upturn.develop.transfer.metrics import parts_of
from upturn.develop.transfer.section import Section, digests_of, to_lines
from upturn.develop.worker import traceback_file
from upturn.stores.migrate import SCHEMA
from upturn.stores.workspace import Workspace, open_workspace

LARGE = 2**20  # bytes of a value from which on it is left out, without artifacts
_MEDIA = "text/plain"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written into a file."""

    runs: tuple[str, ...]  # those that were asked for, and those that they need
    points: int
    blobs: int
    blob_bytes: int
    missing: int  # blobs that were gone already: gc had removed them


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself first."""

    format: str = archive.FORMAT
    version: int = archive.VERSION
    upturn: str = ""
    schema: int = 0  # of the records
    made_at: str = ""
    project: str = ""
    asked: tuple[str, ...] = ()  # the runs that were meant
    artifacts: bool = True  # whether large ones are in it


class End(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself last."""

    runs: int
    points: int
    blobs: int
    blob_bytes: int
    missing: tuple[str, ...]  # digests of blobs that its runs refer to, and that are not in it
    digest: str  # blake3 of all bytes of the tar before this member


def export_runs(
    runs: Sequence[str] = (),
    to: str | os.PathLike[str] | IO[bytes] = "runs.tar.zst",
    *,
    where: str = "",
    group: str = "",
    children: bool = True,
    artifacts: bool = True,
    workspace: Workspace | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write runs, with everything that they refer to, into one file; what was written.

    Runs are named by ids or their beginnings, by a condition of docs/runs.md, or by their group.
    Those that they can't be read without come with them: what they are part of, whose outputs they
    reused or ran again, and their `children`. Without `artifacts`, values of tasks from 1 MiB on
    stay behind. The file appears when it is whole. `told` is called with each run's id.

    Raises NotFound, Invalid, Conflict when one of the runs goes on, and Unavailable.

    >>> from upturn.develop.transfer import export_runs
    >>> export_runs(["k3f9"], "k3f9.tar.zst")  # doctest: +SKIP
    """
    workspace = workspace or open_workspace()
    pick_up(workspace)
    asked = chosen(workspace, runs, where=where, group=group)
    whole = with_what_they_need(workspace, asked, children=children)
    manifest = Manifest(
        upturn=version("upturn"),
        schema=SCHEMA,
        made_at=utcnow().isoformat(),
        project=workspace.settings.project,
        asked=tuple(asked),
        artifacts=artifacts,
    )
    if isinstance(to, str | os.PathLike):
        with _appearing(Path(to)) as file:
            return _Export(workspace, file, artifacts).write(manifest, whole, told)
    return _Export(workspace, to, artifacts).write(manifest, whole, told)


@contextlib.contextmanager
def _appearing(path: Path) -> Generator[IO[bytes]]:
    """A file beside `path` that takes its place when all went well, and is gone otherwise."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with fresh.open("wb") as file:
            yield file
        fresh.replace(path)
    except OSError as error:
        raise Unavailable(
            f"{path} can't be written: {error.strerror or error}.",
            hint="Name a file in a folder that there is, with room for it.",
        ) from None
    finally:
        fresh.unlink(missing_ok=True)


class _Export:
    """One export under way."""

    def __init__(self, workspace: Workspace, file: IO[bytes], artifacts: bool) -> None:
        self._workspace = workspace
        self._file = file
        self._artifacts = artifacts
        self._blobs: set[str] = set()
        self._missing: set[str] = set()
        self._points = 0
        self._blob_bytes = 0

    def write(
        self, manifest: Manifest, runs: Iterable[Run], told: Callable[[str], None]
    ) -> Exported:
        self._out = ArchiveWriter(self._file)
        try:
            done = self._write(manifest, runs, told)
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong first is what is raised
                self._out.close(whole=False)
            raise
        self._out.close(whole=True)
        return done

    def _write(
        self, manifest: Manifest, runs: Iterable[Run], told: Callable[[str], None]
    ) -> Exported:
        self._out.add(archive.MANIFEST, _json(manifest))
        traces = Traces(self._workspace)
        seen: set[str] = set()
        done: list[str] = []
        for run in runs:
            told(run.id)
            self._section(gathered(self._workspace, run, traces, seen=seen))
            done.append(run.id)
        end = End(
            runs=len(done),
            points=self._points,
            blobs=len(self._blobs),
            blob_bytes=self._blob_bytes,
            missing=tuple(sorted(self._missing)),
            digest=self._out.digest(),
        )
        self._out.add(archive.END, _json(end))
        return Exported(
            tuple(done), self._points, len(self._blobs), self._blob_bytes, len(self._missing)
        )

    def _section(self, section: Section) -> None:
        run = section.run.id
        self._outputs(section)
        perhaps = _perhaps(section)
        for digest in _needed(section, artifacts=self._artifacts):
            self._blob(digest, must=digest not in perhaps)
        parts = parts_of(self._workspace.tracking, section.owners)
        for number, (rows, part) in enumerate(parts):
            self._points += rows
            self._out.add(f"runs/{run}/metrics-{number:05}.parquet", part)
        self._out.add(f"runs/{run}/records.jsonl", to_lines(section))

    def _blob(self, digest: str, *, must: bool) -> None:
        if digest in self._blobs or digest in self._missing:
            return
        try:
            self._workspace.blobs.has(digest)  # which is a use of it: gc leaves it meanwhile
            reader = self._workspace.blobs.reading(digest)
        except NotFound:
            if must:
                self._missing.add(digest)
            return
        with contextlib.closing(reader):
            self._out.begin(archive.blob_name(digest), reader.size_bytes)
            while part := reader.read(PART):
                self._out.write(part)
            self._blobs.add(digest)
            self._blob_bytes += reader.size_bytes

    def _outputs(self, section: Section) -> None:
        """What tasks printed on this machine, as the files of the run that servers make of it."""
        run = section.run.id
        have = {file.path for file in section.files}
        tasks = {(one.step, one.index) for one in section.of(TaskState)}
        for step, index in sorted(tasks):
            file = output_file(self._workspace, run, step, index)
            for each in (file, traceback_file(file)):
                path = f"output/{step}/{each.name}"
                if path not in have:
                    with contextlib.suppress(FileNotFoundError), each.open("rb") as source:
                        section.files.append(self._output(run, path, source))
        section.files.sort(key=lambda one: (one.run, one.path))

    def _output(self, run: str, path: str, source: IO[bytes]) -> StoredFile:
        stat = os.fstat(source.fileno())
        hasher, left = blake3(), stat.st_size
        while part := source.read(min(PART, left)):
            hasher.update(part)
            left -= len(part)
        digest, size = hasher.hexdigest(), source.tell()
        if digest not in self._blobs:
            source.seek(0)
            self._out.begin(archive.blob_name(digest), size)
            for begin in range(0, size, PART):
                self._out.write(source.read(min(PART, size - begin)))
            self._blobs.add(digest)
            self._blob_bytes += size
        at = stat.st_mtime_ns // 1000
        return StoredFile(run=run, path=path, digest=digest, size_bytes=size, media=_MEDIA, at=at)


def _needed(section: Section, *, artifacts: bool) -> list[str]:
    """The digests of the blobs that go with a run, in an order of their own."""
    every = {digest for digest in digests_of(section) if digest}
    if artifacts:
        return sorted(every)
    sizes = {one.digest: one.size_bytes for one in section.of(Artifact)}
    always = {file.digest for file in section.files}
    always |= {one.artifact for one in section.of(Exhibit)}
    always |= {one.code for one in section.of(Task)}
    for paths in references(section.of(Version)).values():
        always |= {path.removeprefix("artifact/") for path in paths}
    small = {digest for digest in every if sizes.get(digest, 0) < LARGE}
    return sorted(small | (every & always))


def _perhaps(section: Section) -> set[str]:
    """Digests of inputs that need be no blobs: of files that tasks read, of declared variables."""
    inputs = [item for task in section.of(Task) for item in task.inputs]
    named = {item.digest for item in inputs if item.path is not None or item.name[:1] == "$"}
    shapes = {item.digest for item in inputs if item.name.endswith(":shape")}
    return named | shapes


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2)
