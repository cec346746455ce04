"""Placing: what of a run a store lacks, under the groups and numbers that it has there."""

from collections.abc import Iterable
from typing import Any

import msgspec

from upturn.core.errors import Conflict
from upturn.core.ids import version_path
from upturn.core.logged_models import LoggedModel, Trace
from upturn.core.naming import Description
from upturn.core.record import Record
from upturn.core.records import (
    Artifact,
    DatasetUse,
    Edge,
    Group,
    Memo,
    Run,
    Version,
)
from upturn.core.tracking import StoredFile
from upturn.develop.output import output_file
from upturn.develop.transfer.kinds import FIXED
from upturn.develop.transfer.section import Section, digests_of, key_of, same_but
from upturn.model.catalog import naming
from upturn.stores.groups import make_group
from upturn.stores.workspace import Workspace

_AT_ONCE = 500


def check_against(workspace: Workspace, section: Section, *, project: str = "") -> None:
    """Raise Conflict, naming it, for what the store says otherwise of the run already."""
    run = section.run
    there = workspace.meta.find(Run, run.id)
    if there is not None and project and there.project != project:
        raise Conflict(
            f"Run {run.id} is here already, in the project {there.project!r}.",
            hint="Import it without --project: it stays where it is.",
            run=run.id,
        )
    stored = stored_of(workspace, section)
    for record in section.records:
        if type(record) in FIXED:
            known = stored.get(named(record))
            if known is not None and not same_but(record, known, _elsewhere(record)):
                raise _other(run, f"{type(record).table.replace('_', ' ')} {_label(record)}")
    for owner, params in section.params.items():
        known_params = workspace.tracking.params([owner])[owner]
        for name, value in params.items():
            if known_params.get(name, value) != value:
                raise _other(run, f"parameter {name!r}")
    for keeper in section.keepers:
        digests = {file.path: file.digest for file in workspace.tracking.files(keeper)}
        for file in section.files:
            if file.run == keeper and digests.get(file.path, file.digest) != file.digest:
                raise _other(run, f"file {file.path!r}")


Name = tuple[Any, ...]


def named(record: Record) -> Name:
    """A record's table and key."""
    return (type(record).table, *key_of(record))


def stored_of(workspace: Workspace, section: Section) -> dict[Name, Record]:
    """What the store has under the keys of the section's fixed records."""
    found: list[Record] = []
    for kind in FIXED:
        if "run" in kind.key:
            found += workspace.meta.select(kind, run=section.run.id)
        else:
            ids = [id_of(record) for record in section.records if type(record) is kind]
            found += workspace.meta.select(kind, id=sorted(set(ids))) if ids else []
    return {named(record): record for record in found}


def id_of(record: Any) -> str:
    """The record's id."""
    return record.id


def _elsewhere(record: Record) -> tuple[str, ...]:
    """The fields that say where a record is, which each store has its own names for."""
    return ("group", "project") if isinstance(record, Run) else ("group",)


def _other(run: Run, what: str) -> Conflict:
    return Conflict(
        f"Run {run.id} is here already, with another {what}.",
        hint="Nothing was imported. Import the file into another store (UPTURN_HOME).",
        run=run.id,
    )


def _label(record: Record) -> str:
    return "/".join(map(str, key_of(record)))


def group_in(workspace: Workspace, section: Section, *, project: str = "") -> str:
    """The id of the run's group in the store, made when it has none of the name."""
    run = section.run
    there = workspace.meta.find(Run, run.id)
    if there is not None:
        return there.group
    groups = section.of(Group)
    if not groups and not run.group:
        return ""
    name = groups[0].name if groups else run.flow
    return make_group(workspace.meta, project or run.project, name, who=run.who).id


def numbers_in(workspace: Workspace, section: Section) -> dict[str, Version]:
    """The versions as they are in the store, by their paths in the file.

    A version that is there already is that one. Else its number is its own, when that is free.
    """
    found: dict[str, Version] = {}
    for model in sorted({version.model for version in section.of(Version)}):
        here = {one.number: one for one in workspace.meta.select(Version, model=model)}
        own = [version for version in section.of(Version) if version.model == model]
        found |= {version_path(model, old): new for old, new in _numbered(own, here).items()}
    return found


def _numbered(own: list[Version], here: dict[int, Version]) -> dict[int, Version]:
    """Versions of a model by their numbers in the file, beside those that are here by theirs."""
    found: dict[int, Version] = {}
    rest: list[Version] = []
    for version in own:
        known = here.get(version.number)
        if known is not None and same_but(version, known, ()):
            found[version.number] = known
        else:
            rest.append(version)
    taken = {one.number for one in found.values()}
    for version in rest:  # an earlier import may have given it another number
        same = [
            one
            for number, one in here.items()
            if number not in taken and same_but(version, one, ("number",))
        ]
        number = version.number if version.number not in here else max(here) + 1
        placed = same[0] if same else msgspec.structs.replace(version, number=number)
        here[placed.number] = found[version.number] = placed
        taken.add(placed.number)
    return found


def placed(
    workspace: Workspace,
    section: Section,
    versions: dict[str, Version],
    *,
    group: str,
    project: str,
    origin: str,
) -> list[Record]:
    """The records that the store lacks, as it is to have them. `origin` names the file."""
    run = section.run
    paths = {old: version_path(new.model, new.number) for old, new in versions.items()}
    found: list[Record] = []
    for record in section.records:
        match record:
            case Group():
                continue
            case Run():
                record = msgspec.structs.replace(
                    record, group=group, project=project or run.project
                )
            case DatasetUse() | LoggedModel():
                record = msgspec.structs.replace(record, group=group)
            case Trace():
                record = _moved(record, group)
            case Version():
                record = versions[version_path(record.model, record.number)]
            case Description():
                record = msgspec.structs.replace(record, path=paths.get(record.path, record.path))
            case Edge():
                source, target = (paths.get(end, end) for end in (record.source, record.target))
                record = msgspec.structs.replace(record, source=source, target=target)
            case _:
                pass
        found.append(record)
    stored = stored_of(workspace, section)
    memos = _remembered(workspace, section)
    found = [
        record
        for record in found
        if named(record) not in stored and not _is_there(workspace, record, memos)
    ]
    for old, new in versions.items():
        if old != paths[old] and new in found:
            source = f"import/{origin[:16]}/{old.removeprefix('version/')}"
            found.append(Edge(source=source, target=paths[old], role="imported"))
    for model in sorted({one.model for one in found if isinstance(one, Version)}):
        at = next(one.at for one in found if isinstance(one, Version) and one.model == model)
        found += naming(
            workspace, model, now=at, who=run.who or None, project=project or run.project
        )
    return _without_known(workspace, found)


def _remembered(workspace: Workspace, section: Section) -> set[str]:
    keys = sorted({memo.memo for memo in section.of(Memo)})
    return {
        memo.memo for some in _split(keys) for memo in workspace.meta.select(Memo, memo=list(some))
    }


def _is_there(workspace: Workspace, record: Record, memos: set[str]) -> bool:
    """Whether the store has it, or something of its own in its place that stays."""
    match record:
        case Memo():  # what the store remembers itself, it has reasons for
            return record.memo in memos or not workspace.blobs.has(record.output)
        case Description():
            return workspace.meta.find(Description, record.path) is not None
        case Trace():
            return workspace.meta.find(Trace, record.id) is not None
        case Version():
            return workspace.meta.find(Version, record.model, record.number) is not None
        case _:
            return False  # artifacts and edges are looked up together


def _without_known(workspace: Workspace, records: list[Record]) -> list[Record]:
    """The records without those artifacts and edges that the store has."""
    known: set[tuple[Any, ...]] = set()
    digests = [one.digest for one in records if isinstance(one, Artifact)]
    targets = sorted({one.target for one in records if isinstance(one, Edge)})
    for some in _split(digests):
        known |= {
            ("artifact", *key_of(one)) for one in workspace.meta.select(Artifact, digest=some)
        }
    for some in _split(targets):
        known |= {("edge", *key_of(one)) for one in workspace.meta.select(Edge, target=some)}
    return [one for one in records if (type(one).table, *key_of(one)) not in known]


def _split(keys: list[str]) -> Iterable[list[str]]:
    return (keys[begin : begin + _AT_ONCE] for begin in range(0, len(keys), _AT_ONCE))


def _moved(trace: Trace, group: str) -> Trace:
    """The trace in another group: what it says of where it is, it says of this one."""
    try:
        info: Any = msgspec.json.decode(trace.info)
    except msgspec.MsgspecError:
        return msgspec.structs.replace(trace, group=group)
    if isinstance(info, dict):
        place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": group}}
        info["trace_location"] = place
        tags: Any = info.get("tags")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if isinstance(tags, dict):
            at = f"mlflow-artifacts:/{trace.group}/traces/"
            for name, value in tags.items():  # pyright: ignore[reportUnknownVariableType]
                if isinstance(value, str) and value.startswith(at):
                    tags[name] = value.replace(at, f"mlflow-artifacts:/{group}/traces/", 1)
    text = msgspec.json.encode(info).decode()
    return msgspec.structs.replace(trace, group=group, info=text)


def missing_files(workspace: Workspace, section: Section) -> list[StoredFile]:
    """The files that the store lacks; what a task printed here is in a file of its own."""
    there = {
        (file.run, file.path)
        for keeper in section.keepers
        for file in workspace.tracking.files(keeper)
    }
    return [
        file
        for file in section.files
        if (file.run, file.path) not in there and not _is_output_here(workspace, file)
    ]


def wanted_blobs(workspace: Workspace, section: Section) -> set[str]:
    """The digests of the blobs that the section refers to; what was printed here is a file here."""
    own = {file.digest for file in section.files if _is_output_here(workspace, file)}
    others = {file.digest for file in section.files if not _is_output_here(workspace, file)}
    return (set(digests_of(section)) - own) | others


def _is_output_here(workspace: Workspace, file: StoredFile) -> bool:
    parts = file.path.split("/")
    if workspace.is_remote or len(parts) != 3 or parts[0] != "output":
        return False
    return output_file(workspace, file.run, parts[1], 0).with_name(parts[2]).is_file()
