"""The wire: what clients and servers of a store say to each other, and in which form.

A call is a POST to PREFIX/NAME whose body is the call's request in MessagePack; so is its answer.
Records lie in it as tables keep them. Blobs are bodies of their own.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from upturn.core.access import Role
from upturn.core.errors import Invalid, Problem, UpturnError, did_you_mean
from upturn.core.records import KINDS, Record
from upturn.stores.tables import bound, table_of

PREFIX = "/api/v1/store"
PACKED = "application/msgpack"
BYTES = "application/octet-stream"
SCHEMA_HEADER = "x-upturn-schema"
SYNC_HEADER = "x-upturn-sync"

Scalar = str | int | float | bool | None
Body = tuple[str, bytes]  # a record: its table, and itself


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a call asks."""


class Greeting(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself first."""

    schema: int
    version: str
    name: str = "upturn"
    role: Role | None = None  # of whoever asks


class Put(Asked, frozen=True, kw_only=True):
    """Records to put, and the id under which this counts once."""

    records: list[Body]
    once: str = ""


class Find(Asked, frozen=True, kw_only=True):
    """A record by its key; `must` when its absence is an error."""

    kind: str
    key: list[Scalar]
    must: bool = False


class Select(Asked, frozen=True, kw_only=True):
    """Records of a kind."""

    kind: str
    where: dict[str, Scalar | list[Scalar]] = {}
    newest_first: bool = False
    limit: int | None = None
    after: int | None = None


class LastEach(Asked, frozen=True, kw_only=True):
    """The last records of sequences."""

    kind: str
    where: dict[str, Scalar | list[Scalar]] = {}


class ReadOn(Asked, frozen=True, kw_only=True):
    """Records after a position."""

    kind: str
    position: int = 0
    limit: int = 1000


class Claim(Asked, frozen=True, kw_only=True):
    """A lease to take or to renew."""

    name: str
    owner: str
    ttl_s: float
    payload: dict[str, Any] = {}


class Release(Asked, frozen=True, kw_only=True):
    """A lease to give back."""

    name: str
    owner: str


class Name(Asked, frozen=True, kw_only=True):
    """A lease's name, or how names begin."""

    name: str


class Nothing(Asked, frozen=True, kw_only=True):
    """A call without arguments."""


class Blob(Asked, frozen=True, kw_only=True):
    """A blob; whether asking for it is a use of it."""

    digest: str
    use: bool = True


pack = msgspec.msgpack.Encoder(enc_hook=str).encode


def kind_of(name: str) -> type[Record]:
    """The kind of record that has that table. Raises Invalid for one that is not known."""
    kind = _KINDS.get(name)
    if kind is None:
        raise Invalid(f"There are no records {name[:100]!r}.", hint=did_you_mean(name, _KINDS))
    return kind


def to_body(record: Record) -> Body:
    """The record as it travels. Raises Invalid when it can't be stored."""
    return type(record).table, column_bytes(table_of(type(record)).encode(record))


def column_bytes(column: str | bytes) -> bytes:
    """A record as a column holds it, as it travels: JSON begins with a brace, MessagePack never."""
    return column.encode() if isinstance(column, str) else column


def column_of(body: bytes) -> str | bytes:
    """What `column_bytes` was given. Raises Invalid for text that is none."""
    try:
        return body.decode() if body[:1] == b"{" else body
    except UnicodeDecodeError:
        raise Invalid("A record is not UTF-8.") from None


def from_body(body: Body) -> Record:
    """The record that came. Raises Invalid for one that is not understood to its last field."""
    kind = kind_of(body[0])
    table, given = table_of(kind), column_of(body[1])
    try:
        record = table.decode(given)
        if table.encode(record) != given:  # the usual case needs no closer look
            text = isinstance(given, str)
            raw = msgspec.json.decode(given) if text else msgspec.msgpack.decode(given)
            _refuse_unknown(raw, msgspec.to_builtins(record))
    except (UpturnError, msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"This {kind.table} is not understood: {error}") from None
    return record


def _refuse_unknown(given: Any, known: Any) -> None:
    """Raise Invalid for a field that the record does not have, at any depth."""
    if isinstance(given, dict) and isinstance(known, dict):
        for field in given:  # pyright: ignore[reportUnknownVariableType]
            if field not in known:
                raise Invalid(f"It has a field {str(field)[:100]!r}, which is unknown here.")  # pyright: ignore[reportUnknownArgumentType]
            _refuse_unknown(given[field], known[field])
    elif isinstance(given, list) and isinstance(known, list | tuple):
        for one, other in zip(given, known, strict=False):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            _refuse_unknown(one, other)


def scalars(where: Mapping[str, object]) -> dict[str, Scalar | list[Scalar]]:
    """What is searched for, as it travels. Raises Invalid for what no column can hold."""
    return {name: _scalars(value) for name, value in where.items()}


def _scalars(value: object) -> Any:
    if isinstance(value, list | tuple | set | frozenset):
        return [bound(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return bound(value)


def pack_problem(error: UpturnError) -> bytes:
    """The error as an answer's body."""
    problem = error.problem
    return pack(
        [problem.code, error.message, error.hint, _plain_fields(problem.fields)],
    )


def _plain_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in fields.items()
        if isinstance(value, str | int | float | bool | None)
    }


def unpack_problem(body: bytes) -> Problem | None:
    """The error that an answer's body tells; None when it is no such body."""
    try:
        code, message, hint, fields = _problem.decode(body)
    except msgspec.MsgspecError:
        return None
    return Problem(code=code, message=message, hint=hint, fields=fields)


_KINDS = {kind.table: kind for kind in KINDS}
_problem = msgspec.msgpack.Decoder(tuple[str, str, str, dict[str, Any]])
