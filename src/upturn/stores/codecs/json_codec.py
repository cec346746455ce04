"""JsonCodec: plain Python values as JSON text; what JSON lacks is marked by a '$' object."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import PosixPath
from types import NoneType
from typing import Any
from uuid import UUID

import msgspec

from upturn.core.blobstore import Buffer
from upturn.core.codec import Encoded

_DEPTH = 64  # what nests deeper is left to pickle, cycles included
_AS_THEY_ARE = frozenset((NoneType, bool, str))
_LEAVES = frozenset((NoneType, bool, int, float, bytes))
# Types that are written as {"$": name, "v": text}: name, how it is written, how it is read.
_MARKED: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    datetime: ("datetime", datetime.isoformat, datetime.fromisoformat),
    date: ("date", date.isoformat, date.fromisoformat),
    timedelta: (
        "timedelta",
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda stored: timedelta(*stored),
    ),
    Decimal: ("decimal", str, Decimal),
    UUID: ("uuid", str, UUID),
    PosixPath: ("path", str, PosixPath),
}
_READERS = {name: read for name, _, read in _MARKED.values()}


class JsonCodec:
    """None, bool, int, float, str, bytes, datetime, date, timedelta, Decimal, UUID and Path, and
    lists, tuples, sets and dicts of them; each comes back as the type that it was.

    A dict keeps its order, so two that differ in it alone are equal but differ in their bytes. A
    set has none, and is written sorted. Subclasses (an Enum, a named tuple) are left to pickle.
    """

    name = "json"

    def accepts(self, value: object) -> bool:
        """Whether the value is made of such types, all the way down."""
        return _plain(value, 0)

    def encode(self, value: Any) -> Encoded:
        """The JSON text, followed by the bytes objects in it, as they are."""
        buffers: list[Buffer] = []
        text = msgspec.json.encode(_tree(value, buffers))
        return Encoded(buffers=[text, *buffers], summary=_summary(value))

    def decode(self, meta: dict[str, Any], buffers: Sequence[memoryview]) -> Any:
        """The value again."""
        return _value(msgspec.json.decode(buffers[0]), buffers[1:])


def _plain(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind in _LEAVES:
        return True
    if kind is str:
        return value.isascii() or _is_unicode(value)
    if kind is datetime:
        return value.tzinfo in (None, UTC) and not value.fold
    if kind in _MARKED:
        return True
    if depth == _DEPTH:
        return False
    if kind is dict:
        return all(_plain(key, depth + 1) and _plain(value[key], depth + 1) for key in value)
    if kind in (list, tuple, set, frozenset):
        kinds = set(map(type, value))
        return kinds <= _LEAVES or all(_plain(item, depth + 1) for item in value)
    return False


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _tree(value: Any, buffers: list[Buffer]) -> Any:
    """The value with marks for what JSON lacks."""
    kind = type(value)
    if kind is list:
        return _items(value, buffers)
    if kind is dict:
        if all(type(key) is str for key in value) and "$" not in value:
            return {key: _tree(item, buffers) for key, item in value.items()}
        pairs = [[_tree(key, buffers), _tree(item, buffers)] for key, item in value.items()]
        return _mark("dict", pairs)
    if kind is tuple:
        return _mark("tuple", _items(value, buffers))
    if kind is set or kind is frozenset:
        return _mark(kind.__name__, _items(sorted(value, key=_rank), buffers))
    if kind is bytes:
        buffers.append(value)
        return _mark("bytes", len(buffers) - 1)
    return _leaf(value, kind)


def _leaf(value: Any, kind: type) -> Any:
    if kind in _AS_THEY_ARE:
        return value
    if kind is int:
        # Hexadecimal: Python limits the digits of decimal conversions.
        return value if -(2**63) <= value < 2**63 else _mark("int", format(value, "x"))
    if kind is float:
        return value if math.isfinite(value) else _mark("float", repr(value))
    name, write, _ = _MARKED[kind]
    return _mark(name, write(value))


def _rank(item: Any) -> tuple[bytes, list[bytes]]:
    """What a set's items are sorted by: the same whatever the order in which they come."""
    buffers: list[Buffer] = []
    text = msgspec.json.encode(_tree(item, buffers))
    return text, [bytes(buffer) for buffer in buffers]


def _mark(name: str, stored: object) -> dict[str, object]:
    return {"$": name, "v": stored}


def _items(value: Sequence[Any], buffers: list[Buffer]) -> list[Any]:
    kinds = set(map(type, value))
    if kinds <= _AS_THEY_ARE or (kinds == {float} and all(map(math.isfinite, value))):
        return list(value)
    return [_tree(item, buffers) for item in value]


def _value(tree: Any, buffers: Sequence[memoryview]) -> Any:
    if type(tree) is list:
        if {list, dict}.isdisjoint(map(type, tree)):
            return tree
        return [_value(item, buffers) for item in tree]
    if type(tree) is not dict:
        return tree
    if "$" not in tree:
        return {key: _value(item, buffers) for key, item in tree.items()}
    return _marked(tree["$"], tree["v"], buffers)


def _marked(name: str, stored: Any, buffers: Sequence[memoryview]) -> Any:
    match name:
        case "int":
            return int(stored, 16)
        case "float":
            return float(stored)
        case "bytes":
            return bytes(buffers[stored])
        case "tuple":
            return tuple(_value(stored, buffers))
        case "set":
            return set(_value(stored, buffers))
        case "frozenset":
            return frozenset(_value(stored, buffers))
        case "dict":
            return {_value(key, buffers): _value(item, buffers) for key, item in stored}
        case _:
            return _READERS[name](stored)


def _summary(value: Any) -> str:
    if type(value) is bytes:
        return f"{len(value)} bytes"
    if type(value) in (list, tuple, set, frozenset, dict):
        return f"{len(value)} item{'' if len(value) == 1 else 's'}"
    text = repr(value) if type(value) is not int or value.bit_length() < 256 else "a large integer"
    return text if len(text) <= 60 else text[:59] + "…"
