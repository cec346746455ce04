"""Checked rows: columns and matrices that came as numbers already, against a signature's fields."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from upturn.core.schema import Field, Signature
from upturn.deploy.fields import convert, expected
from upturn.deploy.serve.problems import MAX_ERRORS, FieldError, Misfit, shown
from upturn.deploy.serve.rows import EXACT, Row


def check_matrix(matrix: np.ndarray, signature: Signature) -> np.ndarray:
    """The float64 matrix (rows, inputs), where each value fits its field.

    Raises Misfit that names rows and fields: nan where null may not be, infinities, halves of whole
    numbers, booleans that are neither 0 nor 1.
    """
    # One pass over all of it says yes nearly always: inf - inf and nan - nan are both nan.
    with np.errstate(over="ignore", invalid="ignore"):
        total = matrix.sum()
    if not np.isfinite(total) or not _only_floats(signature):
        errors: list[FieldError] = []
        for place, field in enumerate(signature.inputs):
            column = matrix[:, place]
            wrong = np.flatnonzero(_misfits(column, field))[: MAX_ERRORS - len(errors)].tolist()
            errors += [_error(row, field, column[row].item()) for row in wrong]
        if errors:
            raise Misfit(errors)
    return matrix


def check_columns_of(columns: Sequence[Sequence[Any]], signature: Signature) -> list[Row]:
    """Columns of Python values as rows of the fields' own values. Raises Misfit, as above."""
    errors: list[FieldError] = []
    found: list[list[Any]] = []
    for field, values in zip(signature.inputs, columns, strict=True):
        fitting: list[Any] = []
        for row, value in enumerate(values):
            missing = isinstance(value, float) and value != value
            try:
                fitting.append(_finite(convert(None if missing else value, field)))
            except ValueError:
                if len(errors) < MAX_ERRORS:
                    errors.append(_error(row, field, value))
        found.append(fitting)
    if errors:
        raise Misfit(sorted(errors, key=lambda error: error.row or 0))
    return list(zip(*found, strict=True))


def _only_floats(signature: Signature) -> bool:
    return all(field.type == "float" for field in signature.inputs)


def _misfits(column: np.ndarray, field: Field) -> np.ndarray:
    missing = np.isnan(column)
    wrong = np.isinf(column)
    if not field.nullable:
        wrong |= missing
    if field.type == "int":
        wrong |= ~missing & ((np.trunc(column) != column) | (np.abs(column) > EXACT))
    elif field.type == "bool":
        wrong |= ~missing & (column != 0) & (column != 1)
    return wrong


def _finite(value: Any) -> Any:
    """Raises ValueError for an infinity: JSON can't say it, and models raise on it."""
    if isinstance(value, float) and abs(value) == float("inf"):
        raise ValueError
    return value


def _error(row: int, field: Field, value: Any) -> FieldError:
    if isinstance(value, float) and not np.isfinite(value):
        value = str(value)  # JSON has no word for it
    return FieldError(row, field.name, shown(value), expected(field))
