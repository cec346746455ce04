"""Importing: a file of runs into a store: read through and compared first, written afterwards."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec
from blake3 import blake3

from upturn.core.access import reaches
from upturn.core.errors import Conflict, Corrupt, Invalid, NotFound, Unavailable
from upturn.core.ids import version_path
from upturn.core.record import Record
from upturn.core.records import Run, RunState, Version
from upturn.develop.transfer.archive import (
    END,
    FORMAT,
    MANIFEST,
    PART,
    VERSION,
    ArchiveReader,
    Member,
    damaged,
)
from upturn.develop.transfer.exporting import End, Manifest
from upturn.develop.transfer.metrics import Merger, Part
from upturn.develop.transfer.placing import (
    check_against,
    group_in,
    missing_files,
    numbers_in,
    placed,
    wanted_blobs,
)
from upturn.develop.transfer.section import Section, from_lines
from upturn.stores.remote.failures import Refused
from upturn.stores.workspace import Workspace, open_workspace, role_at

_ROOM_BYTES = 256 * 2**20  # left free on the disk, whatever is imported
_AT_ONCE = 5_000  # records in a transaction, but for the last of a run
_RACES = 10


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import added to a store; nothing, when everything was there."""

    runs: tuple[str, ...]  # all of the file's
    new: tuple[str, ...]  # those of them that were not here
    records: int
    points: int
    blobs: int
    blob_bytes: int
    versions: dict[str, str]  # 'delays:7' in the file → 'delays:9' here, of those that it has

    @property
    def changed(self) -> bool:
        """Whether anything was added."""
        return bool(self.records or self.points or self.blobs)


def import_runs(
    source: str | os.PathLike[str] | IO[bytes],
    *,
    project: str = "",
    workspace: Workspace | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Imported:
    """Bring the runs of a file into a store, with everything that came with them.

    The file is read through first, and compared with the store: nothing is written unless all of it
    is whole and fits. A run appears when everything of it is there. Interrupted, it is done again;
    what is there already is left as it is. Runs keep their ids, and go into `project`, if one is
    named. `told` is called with each run's id.

    Raises Corrupt for a file that is damaged, Invalid for one that is none or is of a newer form,
    Conflict when a run is here already with another content, Refused, and Unavailable.

    >>> from upturn.develop.transfer import import_runs
    >>> import_runs("k3f9.tar.zst", project="churn")  # doctest: +SKIP
    """
    workspace = workspace or open_workspace()
    with _opened(source) as file:
        checked = _Check(workspace, project).read(file)
        return _Import(workspace, project, checked).read(file, told)


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | IO[bytes]) -> Generator[IO[bytes]]:
    """The file, which is read twice; what can't be is copied first."""
    if not isinstance(source, str | os.PathLike):
        if source.seekable():
            yield source
            return
        with tempfile.TemporaryFile(prefix="upturn-") as copy:
            shutil.copyfileobj(source, copy, PART)
            yield copy
        return
    try:
        file = Path(source).open("rb")
    except FileNotFoundError:
        raise NotFound(
            f"There is no file {str(source)!r}.", hint="Export runs with: upturn runs export"
        ) from None
    except OSError as error:
        raise Unavailable(f"{source} can't be read: {error.strerror}.") from None
    with file:
        yield file


@dataclass(slots=True)
class _Checked:
    """What is known of a file that was read through."""

    blobs: dict[str, int] = field(default_factory=dict[str, int])
    wanted: set[str] = field(default_factory=set[str])  # of the blobs
    runs: list[str] = field(default_factory=list[str])
    new: list[str] = field(default_factory=list[str])
    points: int = 0
    origin: str = ""  # the digest of its content


class _Check:
    """The first reading: everything is checked, and nothing written."""

    def __init__(self, workspace: Workspace, project: str) -> None:
        self._workspace = workspace
        self._project = project
        self._found = _Checked()
        self._owners: dict[str, set[str]] = {}  # of points, by the run that they come before
        self._files: dict[str, str] = {}  # digests of files, and of which run each is
        self._bytes = 0

    def read(self, file: IO[bytes]) -> _Checked:
        """Read all of it. Raises what `import_runs` does."""
        reader = ArchiveReader(file)
        ended = begun = False
        for member in reader:
            if ended:
                raise damaged("something follows its end")
            if not begun and member.name != MANIFEST:
                raise damaged("it does not begin with what it is")
            match member.kind:
                case "json" if member.name == MANIFEST and not begun:
                    begun = True
                    _check_manifest(reader.read(member))
                case "json" if member.name == END:
                    digest = reader.digest_before
                    self._end(_read_json(reader.read(member), End), digest)
                    ended = True
                case "blob":
                    self._blob(member, reader)
                case "metrics":
                    self._points(member, reader)
                case "records":
                    self._section(member, reader)
                case _:
                    raise damaged(f"it has {member.name} twice")
        if not ended:
            raise Corrupt(
                "The file ends in the middle: it was cut short.",
                hint="Copy it again, or export the runs again. Nothing was imported.",
            )
        return self._found

    def _blob(self, member: Member, reader: ArchiveReader) -> None:
        if member.digest in self._found.blobs:
            raise damaged(f"it has {member.name} twice")
        self._bytes += member.size
        free = shutil.disk_usage(_there_is(self._workspace.settings.home)).free
        if self._bytes + _ROOM_BYTES > free:
            raise Unavailable(
                f"There is no room: the file's blobs have {self._bytes:,} bytes or more, and "
                f"{free:,} are free.",
                hint="Make room (upturn gc), or import it elsewhere. Nothing was imported.",
            )
        hasher = blake3()
        for part in reader.parts():
            hasher.update(part)
        if hasher.hexdigest() != member.digest:
            raise damaged(f"{member.name} is not what was written")
        self._found.blobs[member.digest] = member.size

    def _points(self, member: Member, reader: ArchiveReader) -> None:
        part = Part(reader.read(member))
        self._owners.setdefault(member.run, set()).update(part.owners)
        self._found.points += part.rows

    def _section(self, member: Member, reader: ArchiveReader) -> None:
        if member.run in self._found.runs:
            raise damaged(f"it has {member.name} twice")
        section = from_lines(reader.read(member), member.run)
        strange = self._owners.pop(member.run, set()) - set(section.owners)
        if strange:
            raise damaged(f"it has points of {min(strange)[:100]!r}, which is no run of its")
        run = section.run
        if run.parent is not None and run.parent not in self._found.runs:
            if self._workspace.meta.find(Run, run.parent) is None:
                raise damaged(f"run {run.id} is part of one that it does not have")
        check_against(self._workspace, section, project=self._project)
        self._check_role(section)
        self._found.wanted |= wanted_blobs(self._workspace, section)
        self._files |= {one.digest: run.id for one in section.files}
        self._found.runs.append(run.id)
        if self._workspace.meta.find(Run, run.id) is None:
            self._found.new.append(run.id)

    def _check_role(self, section: Section) -> None:
        """Raise Refused for who may not put what is missing, before anything is put."""
        if not self._workspace.is_remote:
            return
        role = role_at(self._workspace.settings)
        versions = numbers_in(self._workspace, section).values()
        wanted = (
            "deployer" if any(not _is_known(self._workspace, v) for v in versions) else "editor"
        )
        if role and not reaches(role, wanted):
            what = "runs that registered models" if wanted == "deployer" else "runs"
            raise Refused(
                f"To import {what} takes the role {wanted}, and the token's is {role}.",
                hint="Ask an admin for a token of that role: upturn tokens",
            )

    def _end(self, end: End, digest: str) -> None:
        found = self._found
        said = (end.digest, end.runs, end.points, end.blobs)
        if said != (digest, len(found.runs), found.points, len(found.blobs)) or self._owners:
            raise damaged("its content is not what its end says")
        for one, run in self._files.items():
            if one in found.blobs or one in end.missing:
                continue
            if not self._workspace.blobs.has(one):
                raise damaged(f"it lacks a file of run {run}")
        found.origin = end.digest


def _is_known(workspace: Workspace, version: Version) -> bool:
    return workspace.meta.find(Version, version.model, version.number) is not None


def _there_is(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    while not path.exists():
        path = path.parent
    return path


def _check_manifest(data: bytes) -> None:
    manifest = _read_json(data, Manifest)
    if manifest.format != FORMAT:
        raise damaged(f"it says that it is {manifest.format[:100]!r}")
    if manifest.version > VERSION:
        raise Invalid(
            f"The file is of form {manifest.version}, and this Upturn reads form {VERSION}.",
            hint="Upgrade upturn. Nothing was imported.",
        )


def _read_json(data: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise damaged(f"what it says of itself can't be read ({error})") from None


class _Import:
    """The second reading: blobs and points as they come, and with its records the run appears."""

    def __init__(self, workspace: Workspace, project: str, checked: _Checked) -> None:
        self._workspace = workspace
        self._project = project
        self._checked = checked
        self._merger = Merger(workspace.tracking)
        self._records = self._blobs = self._blob_bytes = 0
        self._versions: dict[str, str] = {}

    def read(self, file: IO[bytes], told: Callable[[str], None]) -> Imported:
        """Bring in all of it. Raises Corrupt when it is no longer the file that was checked."""
        reader = ArchiveReader(file)
        for member in reader:
            match member.kind:
                case "blob":
                    self._blob(member, reader)
                case "metrics":
                    for key, points in Part(reader.read(member)).metrics():
                        self._merger.add(key, points)
                case "records":
                    told(member.run)
                    self._section(from_lines(reader.read(member), member.run))
                case _:
                    pass
        return Imported(
            runs=tuple(self._checked.runs),
            new=tuple(self._checked.new),
            records=self._records,
            points=self._merger.logged,
            blobs=self._blobs,
            blob_bytes=self._blob_bytes,
            versions=self._versions,
        )

    def _blob(self, member: Member, reader: ArchiveReader) -> None:
        if member.digest not in self._checked.wanted or self._workspace.blobs.has(member.digest):
            return
        writer = self._workspace.blobs.writing()
        try:
            hasher = blake3()
            for part in reader.parts():
                hasher.update(part)
                writer.write(part)
            if hasher.hexdigest() != member.digest:
                raise damaged(f"{member.name} was changed meanwhile")
            writer.finish(sync=True)
        except BaseException:
            writer.abandon()
            raise
        self._blobs += 1
        self._blob_bytes += member.size

    def _section(self, section: Section) -> None:
        """Everything of a run; its own record, by which it is found, comes in the last put."""
        tracking = self._workspace.tracking
        there = tracking.params(section.owners)
        for owner, params in section.params.items():
            if any(name not in there[owner] for name in params):
                tracking.log(owner, params=params)
                self._records += 1
        files = missing_files(self._workspace, section)
        for file in files:
            tracking.put_file(file)
        self._records += len(files)
        versions = self._put(section)
        self._tag(section, versions)
        for old, new in versions.items():
            self._versions[old.removeprefix("version/")] = new.name

    def _put(self, section: Section) -> dict[str, Version]:
        group = group_in(self._workspace, section, project=self._project)
        for _ in range(_RACES):
            versions = numbers_in(self._workspace, section)
            records = placed(
                self._workspace,
                section,
                versions,
                group=group,
                project=self._project,
                origin=self._checked.origin,
            )
            first, last = _in_two(records)
            try:
                for begin in range(0, len(first), _AT_ONCE):
                    self._workspace.meta.put(*first[begin : begin + _AT_ONCE])
                if last:
                    self._workspace.meta.put(*last)
            except Conflict:
                continue  # somebody took a version's number, or imports the same
            self._records += len(records)
            return versions
        raise Conflict(
            f"Run {section.run.id} is being changed by somebody else.", hint="Import it again."
        )

    def _tag(self, section: Section, versions: dict[str, Version]) -> None:
        """Set the tags that the store lacks; those that it has stay."""
        paths = {
            path: version_path(versions[path].model, versions[path].number)
            if path in versions
            else path
            for path in section.tags
        }
        there = self._workspace.tracking.tags(sorted(paths.values()))
        for path, tags in section.tags.items():
            missing = {name: text for name, text in tags.items() if name not in there[paths[path]]}
            if missing:
                self._workspace.tracking.tag(paths[path], missing)
                self._records += 1


def _in_two(records: list[Record]) -> tuple[list[Record], list[Record]]:
    """Those that can come in several puts, and those by which the run is there: in their order."""
    if len(records) <= _AT_ONCE:
        return [], records
    last: list[Record] = [one for one in records if isinstance(one, Run | RunState | Version)]
    kept = {id(one) for one in last}
    return [one for one in records if id(one) not in kept], last
