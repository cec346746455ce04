"""Row groups: Parquet files of one part each become one file without being read again.

The bytes of a row group are the same wherever they lie in a file; only the footer says where that
is. So the footer alone is decoded (Thrift's compact protocol), its offsets moved, and written anew:
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md and
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

import struct
from collections.abc import Sequence
from typing import Any, Final

MAGIC: Final = b"PAR1"
_TAIL = 8  # the footer's length and the magic number end a file
_STOP, _TRUE, _FALSE, _BYTE, _STRUCT = 0, 1, 2, 3, 12
# Of parquet.thrift: fields by their numbers.
_ROWS, _GROUPS = 3, 4  # FileMetaData
_COLUMNS, _GROUP_OFFSET, _ORDINAL = 1, 5, 7  # RowGroup
_CHUNK_OFFSETS, _META = (2, 4, 6), 3  # ColumnChunk: itself, its offset index, its column index
_META_OFFSETS = (9, 10, 11, 14)  # ColumnMetaData: pages of data, index, dictionary; bloom filter

Struct = list[tuple[int, int, Any]]  # number, type and value of each field


def split(file: bytes) -> tuple[memoryview, bytes]:
    """A whole file as the bytes of its row groups and its footer."""
    length = int.from_bytes(file[-_TAIL:-4], "little")
    begin = len(file) - _TAIL - length
    return memoryview(file)[len(MAGIC) : begin], file[begin:-_TAIL]


def groups_at(footer: bytes, offset: int) -> list[bytes]:
    """The footer's row groups, encoded, as they are when their bytes begin at `offset`."""
    meta, _ = _struct(footer, 0)
    return [_encoded(_moved(group, offset - len(MAGIC))) for group in _field(meta, _GROUPS)[1]]


def footer_of(footer: bytes, groups: Sequence[bytes], rows: int) -> bytes:
    """The end of a file with the schema of `footer`, and these row groups of so many rows."""
    meta, _ = _struct(footer, 0)
    out = bytearray()
    before = 0
    for number, kind, value in meta:
        before = _put_head(out, number, kind, before)
        if number == _ROWS:
            _put_varint(out, _zigzag(rows))
        elif number == _GROUPS:
            _put_list_head(out, _STRUCT, len(groups))
            out += b"".join(groups)
        else:
            _put(out, kind, value)
    out.append(_STOP)
    return bytes(out) + len(out).to_bytes(4, "little") + MAGIC


def _moved(group: Struct, by: int) -> Struct:
    kind, chunks = _field(group, _COLUMNS)
    moved = [_moved_chunk(chunk, by) for chunk in chunks]
    return [
        (number, was, (kind, moved) if number == _COLUMNS else _shifted(number, value, by))
        for number, was, value in group
        if number != _ORDINAL  # optional, and 16 bits wide
    ]


def _shifted(number: int, value: Any, by: int) -> Any:
    return value + by if number == _GROUP_OFFSET else value


def _moved_chunk(chunk: Struct, by: int) -> Struct:
    return [
        (
            number,
            kind,
            _offsets(value, _META_OFFSETS, by)
            if number == _META
            else value + by
            if number in _CHUNK_OFFSETS and value  # 0: the writer did not say
            else value,
        )
        for number, kind, value in chunk
    ]


def _offsets(meta: Struct, numbers: Sequence[int], by: int) -> Struct:
    return [
        (number, kind, value + by if number in numbers else value) for number, kind, value in meta
    ]


def _field(record: Struct, number: int) -> Any:
    return next(value for found, _, value in record if found == number)


# Thrift's compact protocol


def _encoded(record: Struct) -> bytes:
    out = bytearray()
    _put(out, _STRUCT, record)
    return bytes(out)


def _struct(data: bytes, at: int) -> tuple[Struct, int]:
    found: Struct = []
    number = 0
    while (head := data[at]) != _STOP:
        at += 1
        kind = head & 15
        if head >> 4:
            number += head >> 4
        else:
            raw, at = _varint(data, at)
            number = _unzigzag(raw)
        value, at = (kind == _TRUE, at) if kind in (_TRUE, _FALSE) else _get(data, at, kind)
        found.append((number, kind, value))
    return found, at + 1


def _get(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    match kind:
        case 3 | 1 | 2:  # a boolean in a list is a byte
            return data[at], at + 1
        case 4 | 5 | 6:
            raw, at = _varint(data, at)
            return _unzigzag(raw), at
        case 7:
            return struct.unpack_from("<d", data, at)[0], at + 8
        case 8:
            size, at = _varint(data, at)
            return data[at : at + size], at + size
        case 9 | 10:
            return _list(data, at)
        case 12:
            return _struct(data, at)
        case _:  # maps and UUIDs: Parquet's footer has none
            raise ValueError(f"A footer has a value of Thrift's type {kind}.")


def _list(data: bytes, at: int) -> tuple[Any, int]:
    kind, size = data[at] & 15, data[at] >> 4
    at += 1
    if size == 15:
        size, at = _varint(data, at)
    items: list[Any] = []
    for _ in range(size):
        item, at = _get(data, at, kind)
        items.append(item)
    return (kind, items), at


def _put(out: bytearray, kind: int, value: Any) -> None:
    match kind:
        case 3:
            out.append(value)
        case 4 | 5 | 6:
            _put_varint(out, _zigzag(value))
        case 7:
            out += struct.pack("<d", value)
        case 8:
            _put_varint(out, len(value))
            out += value
        case 9 | 10:
            item_kind, items = value
            _put_list_head(out, item_kind, len(items))
            for item in items:
                _put(out, _BYTE if item_kind in (_TRUE, _FALSE) else item_kind, item)
        case 12:
            before = 0
            for number, field_kind, field in value:
                before = _put_head(out, number, field_kind, before)
                _put(out, field_kind, field)
            out.append(_STOP)
        case _:
            assert kind in (_TRUE, _FALSE)  # its type says it all


def _put_head(out: bytearray, number: int, kind: int, before: int) -> int:
    step = number - before
    if 0 < step < 16:
        out.append(step << 4 | kind)
    else:
        out.append(kind)
        _put_varint(out, _zigzag(number))
    return number


def _put_list_head(out: bytearray, kind: int, size: int) -> None:
    if size < 15:
        out.append(size << 4 | kind)
    else:
        out.append(0xF0 | kind)
        _put_varint(out, size)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _put_varint(out: bytearray, value: int) -> None:
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _unzigzag(value: int) -> int:
    return value >> 1 if not value & 1 else -(value >> 1) - 1
