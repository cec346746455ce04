"""Rows: what a request asks about, as a matrix of numbers or as tuples, in a signature's order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from upturn.core.schema import Field, Signature
from upturn.deploy.columns import ARROW

Row = tuple[Any, ...]
# A C-contiguous float64 matrix (rows, inputs), nan where null; or tuples of Python values.
Block = np.ndarray | list[Row]
EXACT = 2**53  # whole numbers up to here are floats without loss


class Rows:
    """A request's rows: their values, each one's unit, when they happened, and clients' own ids.

    `units` is None when no row has one; `at` is in microseconds since 1970, one for all or one
    each.
    """

    __slots__ = ("at", "block", "ids", "units")

    def __init__(
        self,
        block: Block,
        units: list[str | None] | None = None,
        at: int | list[int] | None = None,
        ids: list[str] | None = None,
    ) -> None:
        self.block = block
        self.units = units
        self.at = at
        self.ids = ids

    def __len__(self) -> int:
        return len(self.block)

    def tuples(self) -> list[Row]:
        """The values as tuples, whole numbers as floats where they came as a matrix."""
        if isinstance(self.block, np.ndarray):
            return list(map(tuple, self.block.tolist()))
        return self.block


def is_numeric(signature: Signature) -> bool:
    """Whether rows of the signature can be a matrix: every input is a boolean or a number."""
    return all(map(_is_number, signature.inputs))


def take(block: Block, places: Sequence[int]) -> Block:
    """The rows at those places."""
    if isinstance(block, np.ndarray):
        return block[list(places)]
    return [block[place] for place in places]


def together(blocks: Sequence[Block]) -> Block:
    """Blocks of one kind, one after the other."""
    if len(blocks) == 1:
        return blocks[0]
    if isinstance(blocks[0], np.ndarray):
        return np.concatenate(blocks)
    return [row for block in blocks for row in block]


def matrix_table(matrix: np.ndarray, signature: Signature) -> pa.Table:
    """A matrix as the table that a model takes: whole numbers and booleans as such again."""
    columns: list[Any] = []
    for place, field in enumerate(signature.inputs):
        values = matrix[:, place]
        missing = np.isnan(values)
        typed = values
        if field.type != "float":
            typed = np.where(missing, 0, values).astype(bool if field.type == "bool" else np.int64)
        columns.append(pa.array(typed, ARROW[field.type], mask=missing))
    return pa.Table.from_arrays(columns, names=list(signature.names))


def _is_number(field: Field) -> bool:
    return field.type in ("bool", "int", "float") and not field.categorical
