"""Signature and Profile: what a model expects, and what its training data looked like."""

from typing import Any, Literal

import msgspec

FieldType = Literal["bool", "int", "float", "str", "date", "datetime"]
OutputKind = Literal["probability", "number", "label", "scores", "json"]
Answer = Literal["probability", "label", "probabilities"]  # that clients of a classifier want


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One named input: its type, whether it may be null, and the values seen in training.

    A categorical field reaches the model as codes: its categories, as text, are in the order of
    the codes that the model was fitted on, and a value that is none of them is null.
    """

    name: str
    type: FieldType
    nullable: bool = False
    categories: tuple[str, ...] | None = None  # of a str field with few distinct values
    categorical: bool = False
    example: Any = None


class Output(msgspec.Struct, frozen=True):
    """One of several values that a model answers for a row."""

    name: str
    type: Literal["bool", "int", "float", "str", "json"]


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs in the order that the model takes them, and what it answers."""

    inputs: tuple[Field, ...]
    output: OutputKind
    target: str | None = None
    classes: tuple[str | int | bool, ...] = ()  # of a classifier, in the order of its scores
    frame: Literal["pandas", "polars", "pyarrow", "numpy"] = (
        "numpy"  # what predict() is called with
    )
    outputs: tuple[Output, ...] = ()  # of a model that answers several by their names, as "json"
    answer: Answer = "probability"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the inputs, in order."""
        return tuple(field.name for field in self.inputs)


class ColumnSums(msgspec.Struct, frozen=True, kw_only=True):
    """Exact sums of a column's finite values: each is 'MpE', which is M · 2^E, M in hexadecimal."""

    count: int
    total: str
    squares: str


class ColumnProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The distribution of one column: quantile bins for numbers, counts for categories."""

    name: str
    kind: Literal["number", "category"]
    count: int  # rows, missing ones included
    missing: int
    edges: tuple[float, ...] = ()  # inner edges of the bins: bin i holds edges[i-1] < x <= edges[i]
    counts: tuple[int, ...] = ()  # rows in each bin (len(edges) + 1), or in each category
    values: tuple[str, ...] = ()  # the categories, in the order of counts
    other: int = 0  # rows of categories beyond those kept
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    sums: ColumnSums | None = None  # so that moments merge exactly; older profiles have none


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The profiles of a table's columns; the prediction's own column is named `prediction`."""

    rows: int
    columns: tuple[ColumnProfile, ...]

    def column(self, name: str) -> ColumnProfile | None:
        """The profile of the column with that name, if there is one."""
        return next((column for column in self.columns if column.name == name), None)
