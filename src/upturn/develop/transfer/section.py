"""Section: one run with everything that is said of it, as lines of JSON, checked when read."""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, TypeVar

import msgspec

from upturn.core.errors import Invalid, UpturnError
from upturn.core.ids import version_path
from upturn.core.logged_models import LoggedModel, Trace
from upturn.core.record import Record
from upturn.core.records import Group, Memo, Run, Version
from upturn.core.tracking import StoredFile
from upturn.develop.transfer.kinds import BY_TABLE, GO, UNNUMBERED
from upturn.stores.remote import wire
from upturn.stores.tables import table_of

R = TypeVar("R", bound=Record)
_LEN_NAME = 1000


class _Line(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One line: a record by its table, or a param, a tag or a file; `packed` where JSON can't."""

    kind: str
    value: msgspec.Raw = msgspec.Raw(b"")
    packed: str = ""


class _Param(msgspec.Struct, forbid_unknown_fields=True):
    run: str
    name: str
    value: str


class _Tag(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    name: str
    value: str


@dataclass(slots=True)
class Section:
    """A run, and what is said of it, of its logged models and versions, and of its traces."""

    records: list[Record] = field(default_factory=list[Record])
    params: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    tags: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    files: list[StoredFile] = field(default_factory=list[StoredFile])

    def of(self, kind: type[R]) -> list[R]:
        """The records of a kind."""
        return [record for record in self.records if isinstance(record, kind)]

    @property
    def run(self) -> Run:
        """The run."""
        return self.of(Run)[0]

    @property
    def owners(self) -> list[str]:
        """Whose points, parameters and files there may be."""
        return [self.run.id, *(one.id for one in self.of(LoggedModel))]

    @property
    def keepers(self) -> set[str]:
        """Whose files there may be."""
        return {*self.owners, *(one.id for one in self.of(Trace))}

    @property
    def paths(self) -> set[str]:
        """The paths of the things that are described and tagged here."""
        models = {f"logged/{one.id}" for one in self.of(LoggedModel)}
        versions = {version_path(one.model, one.number) for one in self.of(Version)}
        return {f"run/{self.run.id}", *models, *versions}


def to_lines(section: Section) -> bytes:
    """The section as lines of JSON, the same for the same content."""
    lines = [_record_line(record) for kind in GO for record in section.of(kind)]
    lines += [
        _line("param", _Param(run, name, value))
        for run in sorted(section.params)
        for name, value in sorted(section.params[run].items())
    ]
    lines += [
        _line("tag", _Tag(path, name, value))
        for path in sorted(section.tags)
        for name, value in sorted(section.tags[path].items())
    ]
    lines += [_line("file", file) for file in section.files]
    return b"\n".join(lines) + b"\n"


def from_lines(data: bytes, run: str) -> Section:
    """The section of a run. Raises Invalid for what isn't understood, or is not of the run."""
    section = Section()
    for number, text in enumerate(data.split(b"\n"), 1):
        if text:
            try:
                _read_line(section, _decode(text, _Line))
            except UpturnError as error:
                raise Invalid(
                    f"Line {number} of runs/{run}/records.jsonl is not understood: {error.message}",
                    hint="Made by a newer Upturn, it is read by that: upgrade upturn.",
                ) from None
    _check(section, run)
    return section


def _record_line(record: Record) -> bytes:
    table, body = wire.to_body(record)
    if body[:1] == b"{":
        return msgspec.json.encode(_Line(table, msgspec.Raw(body)))
    return msgspec.json.encode({"kind": table, "packed": base64.b64encode(body).decode()})


def _line(kind: str, value: Any) -> bytes:
    return msgspec.json.encode(_Line(kind, msgspec.Raw(msgspec.json.encode(value))))


T = TypeVar("T")


def _decode(data: bytes | msgspec.Raw, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Invalid(f"{error}.") from None


def _read_line(section: Section, line: _Line) -> None:
    match line.kind:
        case "param":
            param = _decode(line.value, _Param)
            section.params.setdefault(param.run, {})[param.name] = param.value
        case "tag":
            tag = _decode(line.value, _Tag)
            section.tags.setdefault(tag.path, {})[tag.name] = tag.value
        case "file":
            section.files.append(_decode(line.value, StoredFile))
        case table if table in BY_TABLE:
            section.records.append(wire.from_body((table, _body(line))))
        case other:
            raise Invalid(f"A run has no {other[:100]!r}.")


def _body(line: _Line) -> bytes:
    if not line.packed:
        return bytes(line.value)
    try:
        return base64.b64decode(line.packed, validate=True)
    except ValueError:
        raise Invalid("It is no base64.") from None


def _check(section: Section, run: str) -> None:
    """Raise Invalid unless everything is of this run: nothing else may be written by its name."""
    if [one.id for one in section.of(Run)] != [run] or len(section.of(Group)) > 1:
        raise Invalid(f"runs/{run}/records.jsonl does not hold the run {run} alone.")
    paths, owners, keepers = section.paths, section.owners, section.keepers
    strange = [
        *(type(record).table for record in section.records if not _is_of(record, run, paths)),
        *(f"param of {owner}" for owner in section.params if owner not in owners),
        *(f"tag of {path}" for path in section.tags if path not in paths),
        *(f"file of {file.run}" for file in section.files if file.run not in keepers),
    ]
    if strange:
        raise Invalid(f"runs/{run}/records.jsonl has a {strange[0][:200]} that is not its own.")
    for file in section.files:
        check_path(file.path)
        if not _is_digest(file.digest) or file.size_bytes < 0:
            raise Invalid(f"The file {file.path[:200]!r} of run {run} has no digest.")
    seen: set[tuple[object, ...]] = set()
    for record in section.records:
        sequence = type(record).sequence
        if sequence and type(record) not in UNNUMBERED and getattr(record, sequence) < 1:
            raise Invalid(f"A {type(record).table} of run {run} has no number.")
        key = (type(record).table, *key_of(record))
        if key in seen and key_of(record)[-1:] != (0,):
            raise Invalid(f"runs/{run}/records.jsonl says {key[0]} {key[1:]!r} twice.")
        seen.add(key)


def key_of(record: Record) -> tuple[Any, ...]:
    """What identifies a record among those of its kind."""
    return tuple(getattr(record, name) for name in type(record).key)


def _is_of(record: Record, run: str, paths: set[str]) -> bool:
    kind = type(record)
    fields: Any = record
    match kind.table:
        case "run" | "group" | "artifact" | "trace":
            return True
        case "logged_model_state":
            return f"logged/{fields.id}" in paths
        case "memo":
            return fields.task.startswith(f"run/{run}/")
        case "description":
            return fields.path in paths
        case "edge":
            return _touches(fields, run, paths)
        case "logged_model":
            return fields.run in (run, None)
        case _:
            return fields.run == run


def _touches(edge: Any, run: str, paths: set[str]) -> bool:
    ends = (edge.source, edge.target)
    return any(end in paths or end.startswith(f"run/{run}/") for end in ends)


def check_path(path: str) -> None:
    """Raise Invalid for a file's path that leads out of its run's files."""
    parts = path.split("/")
    wrong = PurePosixPath(path).is_absolute() or any(part in ("", ".", "..") for part in parts)
    if not path or wrong or "\0" in path or "\\" in path or len(path) > _LEN_NAME:
        raise Invalid(f"{path[:200]!r} is no name of a run's file.")


def _is_digest(text: str) -> bool:
    return len(text) == 64 and not text.strip("0123456789abcdef")


def digests_of(section: Section) -> Iterator[str]:
    """Every digest that the section refers to, blobs or not, each as often as it does."""
    from upturn.core.keeping import references

    refers = references(section.records)
    for paths in refers.values():
        for path in paths:
            if path.startswith("artifact/"):
                yield path.removeprefix("artifact/")
    yield from (file.digest for file in section.files)
    yield from (memo.output for memo in section.of(Memo))


def same_but(record: Record, other: Record, names: Iterable[str]) -> bool:
    """Whether two records say the same, these fields aside."""
    changed: Mapping[str, Any] = {
        name: getattr(other, name) for name in names if hasattr(other, name)
    }
    encode = table_of(type(record)).encode
    return type(record) is type(other) and encode(
        msgspec.structs.replace(record, **changed)
    ) == encode(other)
