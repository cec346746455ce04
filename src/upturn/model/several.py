"""Several answers a row, and answers of any shape, as values that JSON can hold."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from upturn.core.errors import ModelFailed
from upturn.core.schema import Output, Signature


def columns_of(raw: Any) -> dict[str, Any] | None:
    """The columns of a dict of arrays or of a data frame, by their names; None for others."""
    if isinstance(raw, Mapping):
        return {str(name): raw[name] for name in raw}
    if type(raw).__module__.partition(".")[0] not in ("pandas", "polars", "pyarrow"):
        return None
    names: Any = getattr(raw, "column_names", None)  # of an Arrow table
    if names is None:
        names = getattr(raw, "columns", None)
    if names is None or getattr(raw, "ndim", 2) != 2:
        return None
    return {str(name): raw[name] for name in names}


def outputs_of(raw: Any, names: Sequence[str]) -> tuple[Output, ...]:
    """What several answers are called and which types they have; none for a single one.

    `names` are those of the targets, for a matrix, which has none of its own.
    """
    columns = columns_of(raw)
    if columns is None:
        matrix: np.ndarray = np.asarray(raw if names else ())
        if matrix.ndim != 2 or matrix.shape[1] != len(names):
            return ()
        columns = dict(zip(names, matrix.T, strict=True))
    return tuple(Output(name, _type(_listed(name, values))) for name, values in columns.items())


def _type(values: list[Any]) -> Any:
    kinds: set[type] = {type(value) for value in values if value is not None}
    for kind in (bool, int, float, str):
        if kinds == {kind}:
            return kind.__name__
    return "float" if kinds == {int, float} else "json"


def named_answers(raw: Any, rows: int, signature: Signature) -> list[Any]:
    """An object a row, of the values that the signature names.

    Raises ModelFailed when one is missing, or has not one value a row.
    """
    names = [output.name for output in signature.outputs]
    columns = columns_of(raw)
    if columns is None:
        matrix = np.asarray(raw)
        if matrix.ndim == 1 and len(names) == len(matrix) and rows == 1:
            matrix = matrix[np.newaxis]
        if matrix.ndim != 2 or matrix.shape[1] != len(names):
            raise ModelFailed(
                f"The model answered an array of shape {matrix.shape}, "
                f"where {len(names)} values a row were expected."
            )
        found = plain(matrix.tolist())
        return [dict(zip(names, row, strict=True)) for row in found]
    missing = [name for name in names if name not in columns]
    if missing:
        raise ModelFailed(f"The model did not answer {missing[0]!r}.")
    lists = [plain(_listed(name, columns[name])) for name in names]
    for name, values in zip(names, lists, strict=True):
        if len(values) != rows:
            raise ModelFailed(f"The model answered {len(values)} of {name!r} for {rows} rows.")
    return [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]


def _listed(name: str, values: Any) -> list[Any]:
    for method in ("tolist", "to_list", "to_pylist"):
        convert = getattr(values, method, None)
        if callable(convert):
            values = convert()
            break
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
        raise ModelFailed(f"The model answered no list of {name!r}.")
    return list(values)


def plain_answers(raw: Any) -> list[Any]:
    """One answer a row, whatever it is. Raises ModelFailed for what is no list of answers."""
    for method in ("tolist", "to_list", "to_pylist"):  # numpy and pandas, polars, Arrow
        convert = getattr(raw, method, None)
        if callable(convert):
            raw = convert()
            break
    if isinstance(raw, str | bytes | Mapping) or not hasattr(raw, "__len__"):
        raise ModelFailed(
            f"The model answered a {type(raw).__name__}, where one prediction a row was expected."
        )
    return plain(list(raw))


def plain(values: list[Any]) -> list[Any]:
    """The values as JSON holds them: those of numpy as Python's own, times as text.

    >>> plain([np.float32(0.5), {"a": np.arange(2)}])
    [0.5, {'a': [0, 1]}]

    Raises ModelFailed, naming the type, for what JSON can't hold.
    """
    try:
        return msgspec.to_builtins(values, enc_hook=_builtin, str_keys=True)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ModelFailed(f"The model answered what JSON can't hold: {error}") from None


def _builtin(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufOUSM":
        found = value.tolist()
        if type(found) is not type(value):
            return found
    raise TypeError(f"a {type(value).__name__}")
