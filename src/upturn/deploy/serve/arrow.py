"""Arrow: IPC streams and files of strangers, read without more memory than a limit."""

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from upturn.deploy.serve.request import too_large

_MAGIC = b"ARROW1"
_DICTIONARY, _RECORDS = 2, 3  # kinds of messages
_MAX_MESSAGES = 4096  # a file may name the same one again and again
_MARK = 0xFFFFFFFF  # begins a message, before the length of its metadata


def read_table(body: bytes, *, is_file: bool, limit: int) -> pa.Table:
    """The table of a stream or file, still to be validated.

    Arrow believes the size that a compressed buffer claims to have, so few bytes could ask for
    gigabytes: TooLarge when those claims are more than `limit` together. Raises what Arrow does,
    and ValueError, for a body that is none.
    """
    room = limit
    try:
        for number, (metadata, data) in enumerate(_in_file(body) if is_file else _in_stream(body)):
            if number >= _MAX_MESSAGES:
                raise ValueError("it has too many batches")
            room -= _claimed(metadata, data)
            if room < 0:
                raise too_large(limit)
    except (struct.error, IndexError):
        raise ValueError("its metadata is broken") from None
    opened: Any = pa.ipc.open_file if is_file else pa.ipc.open_stream
    with opened(pa.py_buffer(body)) as reader:
        table = reader.read_all()
    _check_texts(table.schema)
    return table


def _check_texts(schema: pa.Schema) -> None:
    """Raise UnicodeDecodeError, a ValueError, for a name that is no text."""
    for field in schema:
        kind = field.type.value_type if pt.is_dictionary(field.type) else field.type
        _ = (field.name, kind.tz if pt.is_timestamp(kind) else "")


_Message = tuple[memoryview, memoryview]  # its metadata, and its buffers


def _in_stream(body: bytes) -> Iterator[_Message]:
    for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(body)):
        data = message.body
        yield memoryview(message.metadata), memoryview(b"" if data is None else data)


def _in_file(body: bytes) -> Iterator[_Message]:
    """The messages that a file's footer names: what lies between them is nobody's."""
    length = int.from_bytes(body[-10:-6], "little")
    place = len(body) - 10 - length
    if not body.startswith(_MAGIC) or place < len(_MAGIC):
        raise ValueError("it is cut off, or no Arrow file")
    view = memoryview(body)
    footer = view[place:-10]
    root = _follow(footer, 0)
    for number in (2, 3):  # `dictionaries`, `recordBatches`
        if not (blocks := _member(footer, root, number)):
            continue
        blocks = _follow(footer, blocks)
        (count,) = struct.unpack_from("<I", footer, blocks)
        for block in range(count):
            at, before, size = struct.unpack_from("<qi4xq", footer, blocks + 4 + 24 * block)
            if at < 0 or before < 0 or size < 0:
                raise ValueError("its footer is broken")
            (mark,) = struct.unpack_from("<I", view, at)
            start = at + (8 if mark == _MARK else 4)
            yield view[start : at + before], view[at + before : at + before + size]


def _claimed(metadata: memoryview, data: memoryview) -> int:
    """How many bytes a message's compressed buffers say they are; 0 where none is compressed."""
    batch = _record_batch(metadata)
    if not batch or not _member(metadata, batch, 3):  # `compression`
        return 0
    place = _member(metadata, batch, 2)  # `buffers`, each an offset and a length
    if not place:
        return 0
    place = _follow(metadata, place)
    (count,) = struct.unpack_from("<I", metadata, place)
    total = 0
    for number in range(count):
        offset, length = struct.unpack_from("<qq", metadata, place + 4 + 16 * number)
        if length >= 8 and 0 <= offset <= len(data) - 8:
            (size,) = struct.unpack_from("<q", data, offset)
            total += length if size == -1 else abs(size)
    return total


# Metadata is a flatbuffer: a table begins with the way back to the list of where its members are.


def _record_batch(metadata: memoryview) -> int:
    """Where the message's record batch is described; 0 when it has none."""
    message = _follow(metadata, 0)
    kind, header = _member(metadata, message, 1), _member(metadata, message, 2)
    if not kind or not header or metadata[kind] not in (_DICTIONARY, _RECORDS):
        return 0
    table = _follow(metadata, header)
    if metadata[kind] == _RECORDS:
        return table
    data = _member(metadata, table, 1)
    return _follow(metadata, data) if data else 0


def _member(metadata: memoryview, table: int, number: int) -> int:
    """Where a member of the table is; 0 when it is left out."""
    (back,) = struct.unpack_from("<i", metadata, table)
    places = table - back
    (size,) = struct.unpack_from("<H", metadata, places)
    if 4 + 2 * number >= size:
        return 0
    (offset,) = struct.unpack_from("<H", metadata, places + 4 + 2 * number)
    return table + offset if offset else 0


def _follow(metadata: memoryview, place: int) -> int:
    return place + struct.unpack_from("<I", metadata, place)[0]
