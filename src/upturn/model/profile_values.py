"""Values of a column as a profile counts them: numbers as float64, categories as codes of texts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from upturn.model.tables import field_type, floats

_NUMBERS = ("int", "float", "date", "datetime")


def is_number(kind: Any) -> bool:
    """Whether a column of that Arrow type is profiled in bins; dictionaries never are."""
    return field_type(kind) in _NUMBERS and not pt.is_dictionary(kind)


def numbers(column: Any) -> NDArray[np.float64]:
    """The column as float64, nan where missing; text that is no number is missing too.

    Dates are days since 1970, times are seconds. A Log that held numbers and text under one name
    has the numbers as text.

    >>> numbers(pa.array(["1.5", "N", None])).tolist()
    [1.5, nan, nan]
    """
    if pt.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    match field_type(column.type):
        case "bool" | "int" | "float":
            return _floats(column)
        case "date":
            return _floats(column.cast(pa.date32()).cast(pa.int32()))
        case "datetime":
            micros = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
            return _floats(micros) / 1e6
        case _:
            numeric = pc.match_substring_regex(column, r"^-?\d+(\.\d+)?([eE][-+]?\d+)?$")
            return _floats(
                pc.if_else(numeric, column, pa.scalar(None, pa.string())).cast(pa.float64())
            )


def texts(column: Any) -> Any:
    """The column as one array of text: "true" and "false" for booleans."""
    if pt.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    found = column.cast(pa.string())
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def coded(array: Any) -> tuple[NDArray[np.int64], Any]:
    """Each row's place among distinct texts, and those; missing rows have the place after the last.

    Costs of text are paid once a distinct value where the array is a dictionary already.

    >>> codes, values = coded(pa.array(["b", None, "b", "a"]))
    >>> codes.tolist(), values.to_pylist()
    ([0, 2, 0, 1], ['b', 'a'])
    """
    if pt.is_boolean(array.type):
        codes = pc.fill_null(array.cast(pa.uint8()), 2).to_numpy(zero_copy_only=False)
        return codes, pa.array(["false", "true"])
    if not pt.is_dictionary(array.type):
        array = array.cast(pa.string()).dictionary_encode()
    values = array.dictionary.cast(pa.string())
    codes = pc.fill_null(array.indices, len(values)) if array.null_count else array.indices
    places = codes.to_numpy(zero_copy_only=False)
    if values.null_count:  # a dictionary may name null as a value
        empty = ~np.asarray(values.is_valid())
        places = np.where(np.append(empty, False)[places], len(values), places)
    return places, values


def pieces(column: Any) -> list[Any]:
    """The arrays that the column is made of, longest-lived memory first: none is copied."""
    return list(column.chunks) if isinstance(column, pa.ChunkedArray) else [column]


def _floats(column: Any) -> NDArray[np.float64]:
    if column.null_count and field_type(column.type) in ("int", "float"):
        column = pc.fill_null(column.cast(pa.float64(), safe=False), math.nan)
    return np.asarray(floats(column), dtype=np.float64)
