"""Tables: how a kind of record lies in a relational store, as pure functions of its declaration."""

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from upturn.core.errors import Corrupt, Invalid, did_you_mean
from upturn.core.records import Record
from upturn.core.time import micros

R = TypeVar("R", bound=Record)
ColumnType = Literal["TEXT", "INTEGER", "REAL"]
ORDER = "put_order"  # the row number: the order in which records were put
_TYPES: dict[object, ColumnType] = {
    str: "TEXT",
    int: "INTEGER",
    bool: "INTEGER",
    datetime: "INTEGER",  # microseconds since 1970 in UTC
    float: "REAL",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A field that a store can search by."""

    name: str
    type: ColumnType
    nullable: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A kind of record as a table: columns to search by, and the whole as a body."""

    kind: type[Record]
    columns: tuple[Column, ...]
    names: frozenset[str]
    scope: tuple[str, ...]  # the key without the sequence
    insert: str
    last_number: str  # the greatest sequence number within a scope, or ''
    encode: Callable[[Record], str | bytes]
    decode: Callable[[str | bytes], Any]

    def row(self, record: Record) -> list[Any]:
        """The record as the parameters of `insert`."""
        values: list[Any] = [bound(getattr(record, column.name)) for column in self.columns]
        values.append(self.encode(record))
        return values


@cache
def table_of(kind: type[Record]) -> Table:
    """The table of a kind of record."""
    hints = get_type_hints(kind)
    fields = tuple(dict.fromkeys((*kind.key, *kind.indexed)))
    columns = tuple(_column(name, hints[name]) for name in fields)
    scope = tuple(name for name in kind.key if name != kind.sequence)
    names = ", ".join(f'"{name}"' for name in (*fields, "body"))
    marks = ", ".join("?" * (len(fields) + 1))
    where = " AND ".join(f'"{name}" = ?' for name in scope) or "1"
    return Table(
        kind=kind,
        columns=columns,
        names=frozenset(fields),
        scope=scope,
        insert=f'INSERT INTO "{kind.table}" ({names}) VALUES ({marks})',
        last_number=f'SELECT max("{kind.sequence}") FROM "{kind.table}" WHERE {where}'
        if kind.sequence
        else "",
        encode=_encoder(kind),
        decode=_decoder(kind),
    )


def create(kind: type[Record]) -> list[str]:
    """The statements that make the table of a kind: what migrations must add up to."""
    table = table_of(kind)
    lines = [f"    {ORDER} INTEGER PRIMARY KEY"]
    lines += [
        f'    "{column.name}" {column.type}{"" if column.nullable else " NOT NULL"}'
        for column in table.columns
    ]
    lines.append("    body TEXT NOT NULL")
    key = ", ".join(f'"{name}"' for name in kind.key)
    lines.append(f"    UNIQUE ({key})")
    made = [f'CREATE TABLE "{kind.table}" (\n' + ",\n".join(lines) + "\n);"]
    made += [
        f'CREATE INDEX {kind.table}_{name} ON "{kind.table}" ("{name}");' for name in kind.indexed
    ]
    return made


def bound(value: object) -> object:
    """A field's value as a parameter of a statement. Raises Invalid for what no column can hold."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, datetime):
        return micros(value)
    raise Invalid(f"{value!r} can't be searched for: it is a {type(value).__name__}.")


def sequence_number(record: Record) -> int | None:
    """The record's number in its sequence; None when its kind has none."""
    sequence = type(record).sequence
    return None if sequence is None else getattr(record, sequence)


def numbered(record: R, number: int | None) -> R:
    """The record with this number in its sequence."""
    sequence = type(record).sequence
    if sequence is None or number is None or getattr(record, sequence) == number:
        return record
    return msgspec.structs.replace(record, **{sequence: number})


def condition(table: Table, where: Mapping[str, object]) -> tuple[str, list[object]]:
    """The WHERE clause that `where` means, and its parameters.

    Raises Invalid for a field that the table has no column for.
    """
    terms = ["1"]
    parameters: list[object] = []
    for name, value in where.items():
        if name not in table.names:
            raise Invalid(
                f"A {table.kind.table} can't be searched by {name!r}.",
                hint=did_you_mean(name, table.names),
            )
        term, bind = _term(name, value)
        terms.append(term)
        parameters += bind
    return " AND ".join(terms), parameters


def _term(name: str, value: object) -> tuple[str, list[object]]:
    if value is None:
        return f'"{name}" IS NULL', []
    if not isinstance(value, list | tuple | set | frozenset):
        return f'"{name}" = ?', [bound(value)]
    values = [bound(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    known = [item for item in values if item is not None]
    # One parameter for any number of values: no limit to reach, and one statement to keep prepared.
    term = f'"{name}" IN (SELECT value FROM json_each(?))'
    if len(known) < len(values):
        term = f'({term} OR "{name}" IS NULL)'
    return term, [msgspec.json.encode(known).decode()]


def _column(name: str, hint: object) -> Column:
    options: Sequence[object] = (
        get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    )
    kinds = [option for option in options if option is not type(None)]
    if len(kinds) != 1 or kinds[0] not in _TYPES:
        raise TypeError(f"{name}: {hint} can't be a column")
    return Column(name=name, type=_TYPES[kinds[0]], nullable=len(kinds) < len(options))


def _encoder(kind: type[Record]) -> Callable[[Record], str | bytes]:
    json = msgspec.json.Encoder(enc_hook=plain)
    packed = msgspec.msgpack.Encoder(enc_hook=plain)
    decode = msgspec.json.Decoder(kind).decode

    def encode(record: Record) -> str | bytes:
        try:
            body = json.encode(record)
            # JSON has no NaN and no infinity (they become null): what has them is kept as msgpack.
            if b"null" in body and not _same(decode, body, record):
                return packed.encode(record)
            return body.decode()
        except (TypeError, OverflowError, ValueError) as error:
            raise Invalid(
                f"This {kind.table} can't be stored: {error}.",
                hint="Parameters, metrics and evidence hold JSON values.",
            ) from None

    return encode


def _same(decode: Callable[[bytes], Record], body: bytes, record: Record) -> bool:
    try:
        return decode(body) == record
    except msgspec.ValidationError:
        return False


def _decoder(kind: type[Record]) -> Callable[[str | bytes], Any]:
    json = msgspec.json.Decoder(kind)
    packed = msgspec.msgpack.Decoder(kind)

    def decode(body: str | bytes) -> Any:
        try:
            return json.decode(body) if isinstance(body, str) else packed.decode(body)
        except msgspec.DecodeError as error:
            raise Corrupt(f"A stored {kind.table} can't be read: {error}.") from None

    return decode


def plain(value: object) -> object:
    """A numpy scalar as the Python number that it stands for, without importing numpy."""
    item = getattr(value, "item", None)
    if type(value).__module__ == "numpy" and callable(item):
        return item()
    raise TypeError(f"{type(value).__name__} is not a JSON value")
