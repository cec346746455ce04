"""The store over HTTP: each call that a client's stores make, and what whoever asks may do by it.

A viewer reads. An editor writes what runs say, a deployer what is deployed and decided, an admin
the rest. Tokens, sessions and the audit are no business of this way in, not even to be read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from upturn.api import store_tracking as tracking
from upturn.api.operation import Ask
from upturn.api.store_access import TOLD, Projects, may_see, refuse_below, refuse_narrow
from upturn.api.store_blobs import may_read
from upturn.core.access import Role
from upturn.core.errors import Corrupt, Invalid, NotFound, Unapproved, did_you_mean
from upturn.core.record import Record
from upturn.core.records import Alias, Memo
from upturn.deploy.serve.problems import BadRequest, Forbidden
from upturn.model.aliases import check_approved, is_protected
from upturn.stores.audit import note
from upturn.stores.remote import wire
from upturn.stores.remote import wire_tracking as asks
from upturn.stores.tables import condition, sequence_number, table_of

Q = TypeVar("Q", bound=wire.Asked)
SECRET = frozenset({"token", "session", "audit", "hook", "delivery"})  # tables that never go out
# What MLflow's clients say of runs: an editor may say it by their protocol, too.
_BY_MLFLOW = ("dataset_use", "model_use", "logged_model", "logged_model_state", "trace")
# Who may put records of a kind; of any other kind: an admin.
_DEVELOP = ("run", "run_state", "task", "task_state", "memo", "artifact", "metric", "exhibit")
WRITERS: dict[str, Role] = {
    **dict.fromkeys((*_DEVELOP, "edge", "group", "description", "removal", "pin"), "editor"),
    **dict.fromkeys(_BY_MLFLOW, "editor"),
    **dict.fromkeys(("model", "version", "alias", "endpoint", "route", "decision"), "deployer"),
    **dict.fromkeys(("check", "verdict", "alert", "mute", "approval", "schedule"), "deployer"),
}
_LEASES: tuple[tuple[str, Role], ...] = (("run/", "editor"), ("loop/", "deployer"))
_OF_MODELS = ("model/", "version/")  # paths of what only a deployer describes or removes
_MOST_ID = 128
_RESERVED = frozenset({"self", "kind", "newest_first", "limit", "after"})


def _readable(ask: Ask, name: str) -> type[Record]:
    """The kind of that table, if whoever asks may read it."""
    if name in SECRET:
        raise Forbidden(
            f"Records {name!r} don't go out this way.", hint="Ask for them where the store is."
        )
    kind = wire.kind_of(name)
    if name not in WRITERS:
        refuse_below(ask.asker, "admin" if name not in _OPEN else "viewer", f"read {name} records")
    if name not in TOLD:
        refuse_narrow(ask.asker, f"{name} records")
    return kind


# What everybody may read, and an admin write: rules, and what was said by somebody in person.
_OPEN = frozenset({"collection", "tick", "protection", "proposal", "stage"})


def _seen(ask: Ask, records: Sequence[Record]) -> Sequence[Record]:
    """Those of the records that are whoever asks' to see."""
    if ask.asker.projects is None:
        return records
    projects = Projects(ask)
    return [record for record in records if projects.may_see(record)]


# Records


def _put(ask: Ask, asked: wire.Put) -> list[int | None]:
    if len(asked.once) > _MOST_ID:
        raise Invalid(f"The id of a put has {len(asked.once)} characters.", hint="Make it short.")
    for table, _ in asked.records:
        if table in SECRET:
            raise Forbidden(f"Records {table!r} are not put this way.")
    records = [wire.from_body(body) for body in asked.records]
    for record in records:
        _refuse_put(ask, record)
    if ask.asker.projects is not None:
        projects = Projects(ask)
        projects.hear(records)
        records = [projects.for_them_alone(record) for record in records]
        for record in records:
            projects.refuse_put(record)
    # Another client's id is not this one's, whatever it is.
    once = f"{ask.asker.token}:{ask.asker.name}:{asked.once}" if asked.once else None
    put = ask.workspace.meta.put(*records, once=once)
    for record in put:
        if _writer(record) not in ("viewer", "editor"):  # runs tell their own story
            _note(ask, "store.put", _path(record))
    return [sequence_number(record) for record in put]


def _refuse_put(ask: Ask, record: Record) -> None:
    refuse_below(ask.asker, _writer(record), f"put {type(record).table} records")
    if isinstance(record, Alias):  # whatever the client has looked at
        if record.number:
            check_approved(ask.workspace, record.model, record.name, [record.number])
        elif is_protected(ask.workspace, record.model, record.name):
            raise Unapproved(f"The alias {record.name!r} of {record.model!r} is protected.")


def _writer(record: Record) -> Role:
    table = type(record).table
    path = getattr(record, "path", "")
    if table in ("description", "removal") and str(path).startswith(_OF_MODELS):
        return "deployer"
    return WRITERS.get(table, "admin")


def _path(record: Record) -> str:
    kind = type(record)
    return "/".join([kind.table, *(str(getattr(record, name)) for name in kind.key)])


def _note(ask: Ask, action: str, path: str) -> None:
    asker = ask.asker
    note(
        ask.workspace.meta,
        who=asker.name,
        token=asker.token,
        role=asker.role,
        via="http",
        action=action,
        path=path,
        status=200,
    )


def note_sweep(ask: Ask) -> None:
    """Write down that whoever asks removes blobs."""
    _note(ask, "store.sweep", "")


def _find(ask: Ask, asked: wire.Find) -> bytes | None:
    kind = _readable(ask, asked.kind)
    meta = ask.workspace.meta
    found = meta.find(kind, *asked.key)
    if found is not None and not _seen(ask, [found]):
        # What others remember under the same key hides nothing.
        older = (
            meta.select(Memo, memo=found.memo, newest_first=True) if isinstance(found, Memo) else []
        )
        found = next(iter(_seen(ask, older)), None)
    if found is None and asked.must:
        if ask.asker.projects is None:
            meta.get(kind, *asked.key)  # raises, with a hint at what there is
        raise NotFound(f"No {asked.kind.replace('_', ' ')} {'/'.join(map(str, asked.key))!r}.")
    return None if found is None else wire.column_bytes(table_of(kind).encode(found))


def _select(ask: Ask, asked: wire.Select) -> list[bytes]:
    kind = _readable(ask, asked.kind)
    _check_fields(kind, asked.where)
    narrow = ask.asker.projects is not None
    records = ask.workspace.meta.select(
        kind,
        newest_first=asked.newest_first,
        limit=None if narrow else asked.limit,
        after=asked.after,
        **asked.where,
    )
    encode = table_of(kind).encode
    return [wire.column_bytes(encode(record)) for record in _seen(ask, records)[: asked.limit]]


def _last_each(ask: Ask, asked: wire.LastEach) -> list[bytes]:
    kind = _readable(ask, asked.kind)
    _check_fields(kind, asked.where)
    records = ask.workspace.meta.last_each(kind, **asked.where)
    encode = table_of(kind).encode
    return [wire.column_bytes(encode(record)) for record in _seen(ask, records)]


def _read_on(ask: Ask, asked: wire.ReadOn) -> list[tuple[int, bytes]]:
    kind = _readable(ask, asked.kind)
    refuse_narrow(ask.asker, "what was put")
    limit = max(1, min(asked.limit, 10_000))
    encode = table_of(kind).encode
    found = ask.workspace.meta.read_on(kind, asked.position, limit=limit)
    return [(at, wire.column_bytes(encode(record))) for at, record in found]


def _position(ask: Ask, asked: wire.ReadOn) -> int:
    return ask.workspace.meta.position(_readable(ask, asked.kind))


def _check_fields(kind: type[Record], where: Mapping[str, object]) -> None:
    """Raise Invalid for a field that would be taken for an argument of the store's."""
    if _RESERVED & where.keys():
        condition(table_of(kind), where)


# Leases


def _claim(ask: Ask, asked: wire.Claim) -> bool:
    _refuse_lease(ask, asked.name)
    if not -1.0 <= asked.ttl_s <= 86_400.0:
        raise Invalid(f"A lease of {asked.ttl_s:g} s is not given.", hint="A day is the longest.")
    return ask.workspace.meta.claim(
        asked.name, asked.owner, ttl_s=asked.ttl_s, payload=asked.payload
    )


def _release(ask: Ask, asked: wire.Release) -> None:
    _refuse_lease(ask, asked.name)
    ask.workspace.meta.release(asked.name, asked.owner)


def _refuse_lease(ask: Ask, name: str) -> None:
    roles: list[Role] = [role for prefix, role in _LEASES if name.startswith(prefix)]
    role = roles[0] if roles else "admin"
    refuse_below(ask.asker, role, f"hold {name[:100]!r}")
    if ask.asker.projects is not None:
        project = Projects(ask).of_run(name.removeprefix("run/"))
        if not name.startswith("run/") or not (project is None or ask.asker.may_see(project)):
            refuse_narrow(ask.asker, "leases")


def _lease(ask: Ask, asked: wire.Name) -> Any:
    return ask.workspace.meta.lease(asked.name) if _may_hear(ask, asked.name) else None


def _leases(ask: Ask, asked: wire.Name) -> Any:
    found = ask.workspace.meta.leases(asked.name)
    return [lease for lease in found if _may_hear(ask, lease.name)]


def _may_hear(ask: Ask, name: str) -> bool:
    """Who serves the store is no secret; else, a lease is of its run's project."""
    if ask.asker.projects is None or name == "server":
        return True
    return name.startswith("run/") and may_see(ask, Projects(ask).of_run(name.removeprefix("run/")))


# The store itself, and blobs


def _stamp(ask: Ask, _: wire.Nothing) -> int:
    return ask.workspace.meta.stamp()


def _counts(ask: Ask, _: wire.Nothing) -> dict[str, int]:
    refuse_narrow(ask.asker, "counts")
    counts = ask.workspace.meta.counts()
    return {name: number for name, number in counts.items() if name not in SECRET}


def _blob_has(ask: Ask, asked: wire.Blob) -> bool:
    return may_read(ask, asked.digest) and ask.workspace.blobs.has(asked.digest, use=asked.use)


def _blob_delete(ask: Ask, asked: wire.Blob) -> None:
    blobs = ask.workspace.blobs
    if not may_read(ask, asked.digest):
        return
    if ask.asker.role != "admin" or ask.asker.projects is not None:
        try:
            blobs.get(asked.digest)
        except NotFound:
            return
        except Corrupt:
            pass
        else:
            return  # it is whole: what was damaged was on its way, or the client's own copy
    blobs.delete(asked.digest)
    _note(ask, "store.delete", f"artifact/{asked.digest}")


def _blob_size(ask: Ask, _: wire.Nothing) -> int:
    refuse_narrow(ask.asker, "artifacts")
    return ask.workspace.blobs.size_bytes()


def _blob_entries(ask: Ask, _: wire.Nothing) -> list[tuple[str, int, float]]:
    refuse_narrow(ask.asker, "artifacts")
    return [
        (entry.digest, entry.size_bytes, entry.used_at) for entry in ask.workspace.blobs.entries()
    ]


# The table of calls


@dataclass(frozen=True, slots=True)
class Call:
    """One call: what it asks, what does it, and which role it takes at least."""

    asks: type[wire.Asked]
    do: Callable[[Ask, Any], Any]
    role: Role


def _call(asks: type[Q], do: Callable[[Ask, Q], Any], role: Role = "viewer") -> Call:
    return Call(asks, do, role)


CALLS: dict[str, Call] = {
    "put": _call(wire.Put, _put, "editor"),
    "find": _call(wire.Find, _find),
    "select": _call(wire.Select, _select),
    "last_each": _call(wire.LastEach, _last_each),
    "read_on": _call(wire.ReadOn, _read_on),
    "position": _call(wire.ReadOn, _position),
    "claim": _call(wire.Claim, _claim, "editor"),
    "release": _call(wire.Release, _release, "editor"),
    "lease": _call(wire.Name, _lease),
    "leases": _call(wire.Name, _leases),
    "stamp": _call(wire.Nothing, _stamp),
    "counts": _call(wire.Nothing, _counts),
    "blobs.has": _call(wire.Blob, _blob_has),
    "blobs.delete": _call(wire.Blob, _blob_delete, "editor"),
    "blobs.size": _call(wire.Nothing, _blob_size),
    "blobs.entries": _call(wire.Nothing, _blob_entries, "admin"),
    "tracking.log": _call(asks.Log, tracking.log, "editor"),
    "tracking.tag": _call(asks.Tag, tracking.tag, "editor"),
    "tracking.params": _call(asks.Names, tracking.params),
    "tracking.tags": _call(asks.Names, tracking.tags),
    "tracking.series": _call(asks.Names, tracking.series),
    "tracking.history": _call(asks.History, tracking.history),
    "tracking.curve": _call(asks.CurveOf, tracking.curve),
    "tracking.search": _call(asks.Search, tracking.search),
    "tracking.rows": _call(asks.Names, tracking.rows),
    "tracking.put_file": _call(asks.PutFile, tracking.put_file, "editor"),
    "tracking.files": _call(asks.Files, tracking.files),
    "tracking.remove_files": _call(asks.Files, tracking.remove_files, "editor"),
    "tracking.runs_with": _call(wire.Blob, tracking.runs_with),
    "tracking.find_models": _call(asks.Catalog, tracking.find_models),
    "tracking.find_versions": _call(asks.Catalog, tracking.find_versions),
    "tracking.find_latest": _call(asks.Names, tracking.find_latest),
    "tracking.kept_files": _call(asks.Names, tracking.kept_files),
    "tracking.forget": _call(asks.Forget, tracking.forget, "admin"),
    "tracking.forgetting": _call(wire.Nothing, tracking.forgetting),
}


def call(ask: Ask, name: str, body: bytes) -> bytes:
    """Do the call, and return the answer's body. Raises UpturnError for whatever is wrong."""
    known = CALLS.get(name)
    if known is None:
        raise NotFound(f"The store has no call {name[:100]!r}.", hint=did_you_mean(name, CALLS))
    refuse_below(ask.asker, known.role, f"use the call {name!r}")
    try:
        asked = msgspec.msgpack.decode(body, type=known.asks)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The call {name!r} is not understood: {error}.") from None
    return wire.pack(known.do(ask, asked))
