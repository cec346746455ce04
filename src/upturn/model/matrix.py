"""Matrices: rows of numbers as a model takes them, made without a table in between."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from upturn.core.schema import Field, Signature

MakeFrame = Callable[[np.ndarray], Any]


def is_matrix(signature: Signature) -> bool:
    """Whether rows of the signature can be one float64 matrix, nan where null: all are numbers."""
    return all(
        field.type in ("bool", "int", "float") and not field.categorical
        for field in signature.inputs
    )


def matrix_frames(signature: Signature) -> MakeFrame | None:
    """A function from a matrix to the frame that the model takes of the table of the same rows.

    None for a signature that has other than numbers, or for a model that takes Arrow tables: those
    are no quicker made than from the rows themselves.
    """
    if not is_matrix(signature):
        return None
    if signature.frame == "numpy":
        return lambda matrix: matrix
    if signature.frame == "pandas":
        return _pandas_frames(signature.inputs)
    if signature.frame == "polars":
        return _polars_frames(signature.inputs)
    return None


def _pandas_frames(fields: Sequence[Field]) -> MakeFrame:
    import pandas as pd

    names = [field.name for field in fields]
    if all(field.type == "float" for field in fields):
        columns = pd.Index(names)

        # Blocks in the order that Arrow makes, so that a sum over a row adds up in the same one.
        def floats(matrix: np.ndarray) -> Any:
            return pd.DataFrame(np.asfortranarray(matrix), columns=columns, copy=False)

        return floats

    def mixed(matrix: np.ndarray) -> Any:
        return pd.DataFrame(
            {
                field.name: _pandas_column(matrix[:, place], field)
                for place, field in enumerate(fields)
            }
        )

    return mixed


def _pandas_column(values: np.ndarray, field: Field) -> np.ndarray:
    """The values as Arrow gives them to pandas: whole numbers with nulls are floats, booleans with
    nulls objects."""
    if field.type == "float":
        return values
    missing = np.isnan(values)
    if field.type == "int":
        return values if missing.any() else values.astype(np.int64)
    if not missing.any():
        return values.astype(np.bool_)
    objects = np.empty(len(values), dtype=object)
    objects[:] = [
        None if gone else bool(value) for value, gone in zip(values, missing, strict=True)
    ]
    return objects


def _polars_frames(fields: Sequence[Field]) -> MakeFrame:
    import polars as pl

    kinds: dict[str, Any] = {"bool": pl.Boolean(), "int": pl.Int64(), "float": pl.Float64()}
    types = [(field.name, kinds[field.type]) for field in fields]

    def frame(matrix: np.ndarray) -> Any:
        return pl.DataFrame(
            [
                pl.Series(name, matrix[:, place], pl.Float64, nan_to_null=True).cast(kind)
                for place, (name, kind) in enumerate(types)
            ]
        )

    return frame
