"""Frames: rows as a signature types them, and what a model is called with of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.schema import Field, Signature
from upturn.model.tables import ARROW, floats, from_arrow


class Frames:
    """Makes frames of one signature's rows. Pure, so safe to share between threads."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._schema = schema_of(signature.inputs)
        self._categories = {
            place: typed_categories(field)
            for place, field in enumerate(signature.inputs)
            if field.categorical
        }

    def typed(self, rows: pa.Table) -> pa.Table:
        """The signature's columns of the rows, in its order and types.

        Raises Invalid, naming the column, when one is missing or can't be cast.
        """
        if rows.schema.equals(self._schema):
            return rows
        columns = [_typed(rows, field) for field in self._signature.inputs]
        return pa.Table.from_arrays(columns, schema=self._schema)

    def frame(self, rows: pa.Table) -> Any:
        """Typed rows as what the model's predict() takes."""
        kind = self._signature.frame
        if kind == "numpy":
            return self._matrix(rows)
        for place, known in self._categories.items():
            coded = _coded(rows.column(place), known)
            rows = rows.set_column(place, rows.field(place).name, coded)
        frame = from_arrow(rows, kind)
        return self._with_enums(frame) if kind == "polars" and self._categories else frame

    def codes(self, rows: pa.Table) -> np.ndarray:
        """Typed rows as float64 of (rows, inputs): categories by their code, nan where null.

        Only for a signature without dates, times and text that is not categorical.
        """
        matrix = np.empty(rows.shape, dtype=np.float64)
        for place, column in enumerate(rows.itercolumns()):
            known = self._categories.get(place)
            matrix[:, place] = floats(
                column if known is None else pc.index_in(column, value_set=known)
            )
        return matrix

    @property
    def are_codes(self) -> bool:
        """Whether `codes` can be had."""
        return all(
            field.categorical or field.type in ("bool", "int", "float")
            for field in self._signature.inputs
        )

    def _matrix(self, rows: pa.Table) -> Any:
        return self.codes(rows) if self.are_codes else from_arrow(rows, "numpy")

    def _with_enums(self, frame: Any) -> Any:
        import polars as pl

        return frame.with_columns(
            pl.col(field.name).cast(pl.Enum(field.categories))
            for field in self._signature.inputs
            if field.categorical and field.categories and field.type == "str"
        )


def schema_of(inputs: Sequence[Field]) -> pa.Schema:
    """The Arrow schema of rows as a signature types them."""
    return pa.schema([(field.name, ARROW[field.type]) for field in inputs])


def typed_categories(field: Field) -> "pa.Array[Any]":
    """A categorical field's categories in the field's own type, in the order of their codes."""
    return pa.array(field.categories or (), pa.string()).cast(ARROW[field.type])


def _coded(column: Any, known: "pa.Array[Any]") -> Any:
    codes = pc.index_in(column, value_set=known)
    if isinstance(codes, pa.ChunkedArray):
        codes = codes.combine_chunks()
    return pa.DictionaryArray.from_arrays(codes, known)


def _typed(rows: pa.Table, field: Field) -> Any:
    places = rows.schema.get_all_field_indices(field.name)
    if len(places) != 1:
        raise Invalid(
            f"The rows have no column {field.name!r}."
            if not places
            else f"The rows have more than one column {field.name!r}.",
            hint=did_you_mean(field.name, rows.column_names) if not places else "",
            field=field.name,
        )
    column = rows.column(places[0])
    try:
        return typed_column(column, ARROW[field.type])
    except pa.ArrowException as error:
        text = str(error).splitlines()[0].rstrip(".")
        raise Invalid(
            f"Column {field.name!r} is {column.type} and can't be {field.type}: {text}.",
            field=field.name,
        ) from None


def typed_column(column: Any, kind: pa.DataType) -> Any:
    """The column cast to a field's Arrow type. Raises an ArrowException when a value is lost."""
    if column.type == kind:
        return column
    if pt.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pt.is_integer(kind) and pt.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    # Instants are kept in microseconds; what is finer than that is dropped. Whole numbers beyond
    # 2^53 become the nearest float.
    lossy = pt.is_timestamp(kind) or (pt.is_floating(kind) and not pt.is_string(column.type))
    return column.cast(kind, safe=not lossy)
