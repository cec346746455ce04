"""Tensors: the protocol's data types, as JSON and as the bytes of its binary extension.

The types and their encodings are those of the Open Inference Protocol's REST specification and of
its binary tensor data extension: little-endian, row-major; an element of BYTES is its length in
four bytes and then itself.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from upturn.deploy.serve.problems import BadRequest, shown

TYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
BYTES = "BYTES"
_MAX_ELEMENTS = 2**31
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor, flat. `values` is an array; a list of texts for BYTES, or where some are null."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: np.ndarray | list[Any]

    def matrix(self) -> np.ndarray:
        """Numbers as float64, in the tensor's own shape; null is nan."""
        return np.asarray(self.values, dtype=np.float64).reshape(self.shape)

    def column(self) -> list[Any]:
        """The values as Python's own."""
        return self.values.tolist() if isinstance(self.values, np.ndarray) else self.values


def check_head(name: Any, datatype: Any, shape: Any) -> tuple[int, ...]:
    """The shape, when a tensor's name, type and shape are such. Raises BadRequest."""
    if not isinstance(name, str) or not name:
        raise BadRequest("An input has no name.", hint='Give each a "name".')
    if not isinstance(datatype, str) or datatype not in (*TYPES, BYTES):
        known = ", ".join((*TYPES, BYTES))
        raise BadRequest(
            f"Input {shown(name)!r} has the datatype {shown(datatype)!r}.",
            hint=f"It is one of {known}.",
        )
    sizes = cast("list[Any]", shape) if isinstance(shape, list) else None
    if sizes is None or not all(type(size) is int and size >= 0 for size in sizes):
        raise BadRequest(
            f"Input {shown(name)!r} has the shape {shown(shape)}.", hint="[rows], say."
        )
    if math.prod(sizes) > _MAX_ELEMENTS:
        raise BadRequest(f"Input {shown(name)!r} has the shape {shown(shape)}: that is too much.")
    return tuple(sizes)


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Tensor:
    """A tensor of JSON values, flat or nested. Raises BadRequest where they are no such tensor."""
    flat = _flat(data)
    if flat is None:
        raise BadRequest(f"Input {shown(name)!r} has no data.", hint='Give "data", a list.')
    _check_count(name, shape, len(flat))
    kinds = set(map(type, flat))
    allowed = _kinds(datatype) | {type(None)}
    if not kinds <= allowed:
        place = next(i for i, value in enumerate(flat) if type(value) not in allowed)
        raise BadRequest(
            f"Input {shown(name)!r} is {datatype}; its element {place} is {shown(flat[place])!r}."
        )
    if datatype == BYTES or type(None) in kinds:
        return Tensor(name, datatype, shape, flat)
    try:
        return Tensor(name, datatype, shape, np.array(flat, dtype=TYPES[datatype]))
    except (OverflowError, ValueError):
        raise BadRequest(
            f"Input {shown(name)!r} has a number that {datatype} can't hold."
        ) from None


def from_bytes(name: str, datatype: str, shape: tuple[int, ...], data: memoryview) -> Tensor:
    """A tensor of the binary extension. Raises BadRequest where the bytes are no such tensor."""
    if datatype == BYTES:
        texts = _texts(name, data)
        _check_count(name, shape, len(texts))
        return Tensor(name, datatype, shape, texts)
    kind = TYPES[datatype]
    count = math.prod(shape)
    if len(data) != count * kind.itemsize:
        raise BadRequest(
            f"Input {shown(name)!r} of shape {list(shape)} and {datatype} takes "
            f"{count * kind.itemsize} bytes, and {len(data)} came."
        )
    values = np.frombuffer(data, np.uint8 if datatype == "BOOL" else kind)
    if datatype == "BOOL":  # any byte but 0 and 1 is no boolean, and numpy would trust it
        if len(values) and values.max() > 1:
            raise BadRequest(f"Input {shown(name)!r} is BOOL and has bytes other than 0 and 1.")
        values = values.astype(bool)
    return Tensor(name, datatype, shape, values)


def to_bytes(values: np.ndarray | Sequence[str]) -> bytes:
    """An array, or texts, as the binary extension has them."""
    if isinstance(values, np.ndarray):
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    encoded = [text.encode() for text in values]
    return b"".join([part for text in encoded for part in (_LENGTH.pack(len(text)), text)])


def _kinds(datatype: str) -> set[type]:
    match datatype:
        case "BOOL":
            return {bool}
        case "BYTES":
            return {str}
        case "FP16" | "FP32" | "FP64":
            return {int, float}
        case _:
            return {int}


def _flat(data: Any) -> list[Any] | None:
    if not isinstance(data, list):
        return None
    flat = cast("list[Any]", data)
    while flat and isinstance(flat[0], list):
        if not all(isinstance(part, list) for part in flat):
            return None
        flat = [value for part in flat for value in part]
    return flat


def _check_count(name: str, shape: tuple[int, ...], count: int) -> None:
    wanted = math.prod(shape)
    if count != wanted:
        raise BadRequest(
            f"Input {shown(name)!r} of shape {list(shape)} has {wanted} elements, and {count} came."
        )


def _texts(name: str, data: memoryview) -> list[str]:
    texts: list[str] = []
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise BadRequest(f"Input {shown(name)!r} is cut off within an element's length.")
        (length,) = _LENGTH.unpack_from(data, at)
        at += 4
        if at + length > len(data):
            raise BadRequest(f"Input {shown(name)!r} is cut off within an element.")
        try:
            texts.append(str(data[at : at + length], "utf-8"))
        except UnicodeDecodeError:
            raise BadRequest(
                f"Input {shown(name)!r} has an element that is no UTF-8 text."
            ) from None
        at += length
    return texts
