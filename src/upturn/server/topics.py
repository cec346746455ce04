"""Topics: what a client wants to hear of, and what has happened of it since a position."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from upturn.api.operation import Ask
from upturn.api.visible import may_see
from upturn.core.errors import Invalid, did_you_mean
from upturn.core.naming import Description
from upturn.core.record import Record
from upturn.core.records import (
    Alias,
    Decision,
    Endpoint,
    Exhibit,
    Route,
    Run,
    RunState,
    TaskState,
    Version,
)
from upturn.stores.tables import plain

ALL = "*"
_MOST_TOPICS = 100
_BATCH = 500  # records read at a time
_LOG_BYTES = 65_536  # of what a task printed, in one event


@dataclass(frozen=True, slots=True)
class Source:
    """Records of a kind as events: their topic, what thing they are about, and its name."""

    kind: type[Record]
    topic: str  # 'run'
    path: str  # 'run/', before the name
    name: Callable[[Any], str]


SOURCES = (
    Source(Run, "run", "run/", lambda record: record.id),
    Source(RunState, "run", "run/", lambda record: record.run),
    Source(TaskState, "run", "run/", lambda record: record.run),
    Source(Exhibit, "run", "run/", lambda record: record.run),
    Source(Endpoint, "endpoint", "endpoint/", lambda record: record.name),
    Source(Route, "endpoint", "endpoint/", lambda record: record.endpoint),
    Source(Decision, "decision", "endpoint/", lambda record: record.loop),
    Source(Version, "model", "model/", lambda record: record.model),
    Source(Alias, "model", "model/", lambda record: record.model),
    Source(Description, "description", "", lambda record: record.path),
)
_NOUNS = {source.topic for source in SOURCES} | {"metric", "log"}
_LEFT_OUT = {"profile", "signature"}  # of a version: large, and to be had where versions are


@dataclass(slots=True)
class Wanted:
    """What one client wants, and how far it has come: its cursor."""

    records: dict[str, frozenset[str]]  # topic → names, or ALL
    metrics: tuple[str, ...]  # ids of runs
    logs: tuple[str, ...]  # 'RUN/STEP/INDEX'
    positions: dict[str, int] = field(default_factory=dict[str, int])  # by table, and by log
    counts: dict[str, dict[tuple[str, str], int]] = field(
        default_factory=dict[str, dict[tuple[str, str], int]]
    )  # of a run's metrics, as they were last told
    seen: dict[str, bool] = field(default_factory=dict[str, bool])  # by path

    @property
    def sources(self) -> list[Source]:
        """The kinds of records that have to do with it."""
        return [source for source in SOURCES if source.topic in self.records]

    @property
    def cursor(self) -> str:
        """The positions as text: an event's id."""
        return ",".join(f"{name}={at}" for name, at in self.positions.items())


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    kind: str
    topic: str
    data: Any
    cursor: str

    def encode(self) -> bytes:
        """The event as a stream of server-sent events has it."""
        body = msgspec.json.encode({"topic": self.topic, "data": self.data}, enc_hook=plain)
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (
            self.cursor.encode(),
            self.kind.encode(),
            body,
        )


def wanted_of(topics: Sequence[str]) -> Wanted:
    """What the topics mean: 'run:k3f9x2', 'endpoint:*'. Raises Invalid for what is none."""
    if not topics:
        raise Invalid(
            "There is no topic.", hint="Say what you want to hear of: ?topics=run:*,endpoint:delays"
        )
    if len(topics) > _MOST_TOPICS:
        raise Invalid(f"There are more than {_MOST_TOPICS} topics.", hint="Use NOUN:* for all.")
    names: dict[str, set[str]] = {}
    for topic in topics:
        noun, colon, name = topic.partition(":")
        if noun not in _NOUNS:
            raise Invalid(f"{noun[:100]!r} is no topic.", hint=did_you_mean(noun, _NOUNS))
        if not colon or not name:
            raise Invalid(f"{topic[:100]!r} says not which.", hint=f"Write {noun}:NAME.")
        if name == ALL and noun in ("metric", "log"):
            raise Invalid(f"{noun}:* would be too much.", hint=f"Say of which run: {noun}:RUN…")
        if noun == "log" and not _is_task(name):
            raise Invalid(f"{name[:100]!r} is no task.", hint="Write log:RUN/STEP/INDEX.")
        names.setdefault(noun, set()).add(name)
    metrics = tuple(sorted(names.pop("metric", ())))
    logs = tuple(sorted(names.pop("log", ())))
    return Wanted({noun: frozenset(each) for noun, each in names.items()}, metrics, logs)


def begin(ask: Ask, wanted: Wanted, cursor: str) -> None:
    """Put it to where the cursor says, or to now where that says nothing of a kind."""
    said: dict[str, int] = {}
    for part in cursor.split(","):
        name, _, number = part.rpartition("=")
        if name and number.isdecimal() and len(number) < 18:
            said[name] = int(number)
    for source in wanted.sources:
        table = source.kind.table
        last = ask.workspace.meta.position(source.kind)
        wanted.positions[table] = min(said.get(table, last), last)
    for task in wanted.logs:
        wanted.positions[f"log:{task}"] = said.get(f"log:{task}", 0)  # a log is told from its start


def read(ask: Ask, wanted: Wanted) -> tuple[list[Event], bool]:
    """What has happened since its cursor, which moves on; and whether there is more to read."""
    events: list[Event] = []
    more = False
    for source in wanted.sources:
        table = source.kind.table
        found = ask.workspace.meta.read_on(source.kind, wanted.positions[table], limit=_BATCH)
        more = more or len(found) == _BATCH
        names = wanted.records[source.topic]
        for position, record in found:
            wanted.positions[table] = position
            name = source.name(record)
            if (ALL in names or name in names) and _may_see(ask, wanted, source, record, name):
                topic = f"{source.topic}:{name}"
                events.append(Event(table, topic, _told(record), wanted.cursor))
    for run in wanted.metrics:
        events += _metrics(ask, wanted, run)
    for task in wanted.logs:
        part = _printed(ask, wanted, task)
        events += part
        more = more or bool(part)
    return events, more


def _metrics(ask: Ask, wanted: Wanted, run: str) -> list[Event]:
    """The series of a run that have new points, in a few numbers each; all of them at first."""
    if not _is_seen(ask, wanted, f"run/{run}"):
        return []
    known = wanted.counts.setdefault(run, {})
    new: list[Any] = []
    for series in ask.workspace.tracking.series([run])[run]:
        if known.get((series.name, series.scope)) != series.count:
            known[series.name, series.scope] = series.count
            new.append(msgspec.to_builtins(series))
    return [Event("metric", f"metric:{run}", new, wanted.cursor)] if new else []


def _printed(ask: Ask, wanted: Wanted, task: str) -> list[Event]:
    run = task.partition("/")[0]
    if not _is_seen(ask, wanted, f"run/{run}"):
        return []
    key = f"log:{task}"
    begins = wanted.positions[key]
    try:
        with log_file(ask.workspace.output_dir, task).open("rb") as file:
            file.seek(begins)
            data = file.read(_LOG_BYTES)
    except OSError:
        return []
    if not data:
        return []
    if len(data) == _LOG_BYTES and b"\n" in data:  # a character is not cut in two
        data = data[: data.rindex(b"\n") + 1]
    wanted.positions[key] = begins + len(data)
    return [Event("log", key, data.decode("utf-8", "replace"), wanted.cursor)]


def log_file(directory: Path, task: str) -> Path:
    """Where what the task prints lies."""
    return directory.joinpath(*task.split("/")).with_suffix(".log")


def _told(record: Record) -> Any:
    if isinstance(record, Version):
        return {
            name: msgspec.to_builtins(getattr(record, name), enc_hook=plain)
            for name in record.__struct_fields__
            if name not in _LEFT_OUT
        }
    return record


def _may_see(ask: Ask, wanted: Wanted, source: Source, record: Any, name: str) -> bool:
    if ask.asker.projects is None:
        return True
    if isinstance(record, Decision):
        name = record.endpoint or name
    return _is_seen(ask, wanted, f"{source.path}{name}")


def _is_seen(ask: Ask, wanted: Wanted, path: str) -> bool:
    if ask.asker.projects is None:
        return True
    if path not in wanted.seen:
        if len(wanted.seen) > 10_000:
            wanted.seen.clear()
        wanted.seen[path] = may_see(ask, path)
    return wanted.seen[path]


def _is_task(name: str) -> bool:
    parts = name.split("/")
    safe = all(part and part not in (".", "..") and "\\" not in part for part in parts)
    return len(parts) == 3 and safe and "\0" not in name
