"""Log tables: batches of predictions and feedback as Arrow tables, one row a prediction."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter, itemgetter
from typing import Any, cast

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upturn.core.log import FEATURE_PREFIX, FeedbackBatch, Gap, Layout, Matrix, PredictionBatch
from upturn.stores.journal import Kind

_INSTANT = pa.timestamp("us", tz="UTC")
_SCHEMAS: dict[Kind, pa.Schema] = {
    "predictions": pa.schema(
        {
            "id": pa.string(),
            "at": _INSTANT,
            "received_at": _INSTANT,
            "route": pa.int32(),
            "arm": pa.string(),
            "version": pa.int32(),
            "shadow": pa.bool_(),
            "unit": pa.string(),
            "propensity": pa.float64(),
            "score": pa.float64(),
            "answer": pa.string(),  # JSON; null where it is the score
            "latency_s": pa.float64(),
            "request": pa.string(),
            "rate": pa.float64(),
            "error": pa.string(),
        }
    ),
    "feedback": pa.schema(
        {
            "id": pa.string(),
            "label": pa.float64(),  # of numbers and bools
            "label_text": pa.string(),  # of strings
            "known_at": _INSTANT,
            "received_at": _INSTANT,
        }
    ),
    "gaps": pa.schema(
        {"began_at": _INSTANT, "ended_at": _INSTANT, "rows": pa.int64(), "why": pa.string()}
    ),
}
# By which column a kind's rows are in order, and by which one their age is told.
TIMES: dict[Kind, tuple[str, str]] = {
    "predictions": ("at", "received_at"),
    "feedback": ("known_at", "received_at"),
    "gaps": ("began_at", "ended_at"),
}
_SHARED = (
    "received_at",
    "route",
    "arm",
    "version",
    "shadow",
    "latency_s",
    "request",
    "rate",
)
_TYPES: dict[frozenset[type], pa.DataType] = {
    frozenset(): pa.null(),
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
    frozenset({str}): pa.string(),
}
_ROWS_A_PART = 16_384
_Shape = Layout | tuple[str, ...]  # what features a batch has, and how they are kept
_chain = itertools.chain.from_iterable
_json = msgspec.json.Encoder(enc_hook=str)


def schema(kind: Kind) -> pa.Schema:
    """The columns that every table of the Log has; features follow as `features.<name>`."""
    return _SCHEMAS[kind]


def table(batches: Iterable[Sequence[Any]], kind: Kind) -> pa.Table:
    """The rows of a journal's frames as a table, in the order in which they were written.

    A feature that some batches lack is null there. Of a matrix its layout says the type; else it
    follows from the values: bool, int64, float64 (ints and floats mixed, too), string (any other
    mixture, too), null when it has none.
    """
    make: Callable[[list[Any]], pa.Table] = _MAKERS[kind]
    parts = [make(some) for some in _parts(_chain(batches))]
    return concatenated(parts) if len(parts) > 1 else parts[0]


def _parts(batches: Iterable[Any]) -> Iterator[list[Any]]:
    """At least one list, and of so many rows that all their small objects are soon gone again."""
    some: list[Any] = []
    rows = 0
    for batch in batches:
        some.append(batch)
        rows += 1 if type(batch) is Gap else len(batch.ids)
        if rows >= _ROWS_A_PART:
            yield some
            some, rows = [], 0
    yield some


def _predictions(batches: list[PredictionBatch]) -> pa.Table:
    """Batches with the same features go together, since arms may come and go row by row."""
    groups: dict[_Shape, list[int]] = {}
    for number, batch in enumerate(batches):
        groups.setdefault(_shape(batch), []).append(number)
    if len(groups) < 2:
        return _of_one_shape(batches, next(iter(groups), ()))
    sizes = np.fromiter((len(batch.ids) for batch in batches), np.int64, len(batches))
    begins = np.cumsum(sizes) - sizes
    parts: list[pa.Table] = []
    places: list[NDArray[np.int64]] = []
    for shape, numbers in groups.items():
        parts.append(_of_one_shape([batches[number] for number in numbers], shape))
        places += [np.arange(begins[n], begins[n] + sizes[n]) for n in numbers]
    return concatenated(parts).take(np.argsort(np.concatenate(places)))


def _shape(batch: PredictionBatch) -> _Shape:
    found = batch.features
    if found is None:
        return ()
    if isinstance(found, Matrix):
        fits = len(found.data) == 8 * len(found.layout.names) * len(batch.ids)
        return found.layout if fits else ()
    return tuple(found)


def _of_one_shape(batches: list[PredictionBatch], shape: _Shape) -> pa.Table:
    of = _SCHEMAS["predictions"]
    spread = _spreader(batches)
    columns: dict[str, pa.Array[Any]] = {
        name: spread(_array(list(map(attrgetter(name), batches)), of.field(name).type))
        for name in _SHARED
    }
    columns |= {
        "id": pa.array(_chain(batch.ids for batch in batches), pa.string()),
        "at": _array(list(_chain(map(_ats, batches))), _INSTANT),
        "propensity": _propensities(batches, spread),
        "unit": pa.array(_chain(_each(batch, batch.units) for batch in batches), pa.string()),
        "score": pa.array(_chain(_each(batch, batch.scores) for batch in batches), pa.float64()),
        "answer": pa.array(list(_chain(map(_answers, batches))), pa.string()),
        "error": spread(pa.array([batch.error or None for batch in batches], pa.string())),
    }
    features = (
        _of_matrices(batches, shape) if isinstance(shape, Layout) else _of_lists(batches, shape)
    )
    named = {f"{FEATURE_PREFIX}{name}": values for name, values in features.items()}
    return pa.table({name: columns[name] for name in of.names} | named)


def _spreader(batches: Sequence[PredictionBatch]) -> "Callable[[pa.Array[Any]], pa.Array[Any]]":
    """What gives each row its batch's value."""
    sizes = np.fromiter((len(batch.ids) for batch in batches), np.int64, len(batches))
    if bool((sizes == 1).all()):
        return lambda values: values
    rows = np.repeat(np.arange(len(batches)), sizes)
    return lambda values: values.take(rows)


def _array(values: list[Any], of_type: pa.DataType) -> "pa.Array[Any]":
    if of_type == _INSTANT:
        return pa.array(values, pa.int64()).view(_INSTANT)
    return pa.array(values, of_type)


def _ats(batch: PredictionBatch) -> list[int]:
    return [batch.at] * len(batch.ids) if isinstance(batch.at, int) else batch.at


def _propensities(
    batches: Sequence[PredictionBatch], spread: "Callable[[pa.Array[Any]], pa.Array[Any]]"
) -> "pa.Array[Any]":
    found = [batch.propensity for batch in batches]
    if not any(isinstance(one, list) for one in found):
        return spread(pa.array(found, pa.float64()))
    each = (
        one if isinstance(one, list) else [one] * len(batch.ids)
        for one, batch in zip(found, batches, strict=True)
    )
    return pa.array(list(_chain(each)), pa.float64())


def _each(batch: PredictionBatch, values: list[Any] | None) -> list[Any]:
    return [None] * len(batch.ids) if values is None else values


def _answers(batch: PredictionBatch) -> list[str | None]:
    if batch.answers is None:
        return [None] * len(batch.ids)
    return list(map(_json_text, batch.answers))


def _of_matrices(batches: list[PredictionBatch], layout: Layout) -> "dict[str, pa.Array[Any]]":
    data = b"".join([cast("Matrix", batch.features).data for batch in batches])
    width = len(layout.names)
    columns = np.frombuffer(data, "<f8").reshape(-1, width).T.copy() if width else ()
    return {
        name: _typed(values, kind)
        for name, kind, values in zip(layout.names, layout.kinds, columns, strict=True)
    }


def _typed(values: NDArray[np.float64], kind: str) -> "pa.Array[Any]":
    if kind == "f":
        return pa.array(values, pa.float64(), from_pandas=True)
    null = np.isnan(values)
    whole = np.where(null, 0.0, values)
    return pa.array(whole.astype(np.int64 if kind == "i" else np.bool_), mask=null)


def _of_lists(batches: list[PredictionBatch], names: tuple[str, ...]) -> "dict[str, pa.Array[Any]]":
    if not names:
        return {}
    rows = [tuple(cast("dict[str, list[Any]]", batch.features).values()) for batch in batches]
    return {
        name: column(list(_chain(map(itemgetter(place), rows)))) for place, name in enumerate(names)
    }


def _feedback(batches: list[FeedbackBatch]) -> pa.Table:
    labels = list(_chain(batch.labels for batch in batches))
    received = [[batch.received_at] * len(batch.ids) for batch in batches]
    columns: dict[str, pa.Array[Any]] = {
        "id": pa.array(_chain(batch.ids for batch in batches), pa.string()),
        "label": pa.array(list(map(_number, labels)), pa.float64()),
        "label_text": pa.array(list(map(_text, labels)), pa.string()),
        "known_at": _array(list(_chain(batch.known_at for batch in batches)), _INSTANT),
        "received_at": _array(list(_chain(received)), _INSTANT),
    }
    return pa.table(columns)


def _gaps(gaps: list[Gap]) -> pa.Table:
    columns: dict[str, pa.Array[Any]] = {
        field.name: _array(list(map(attrgetter(field.name), gaps)), field.type)
        for field in _SCHEMAS["gaps"]
    }
    return pa.table(columns)


_MAKERS: dict[Kind, Callable[[list[Any]], pa.Table]] = {
    "predictions": _predictions,
    "feedback": _feedback,
    "gaps": _gaps,
}


def column(values: list[Any]) -> "pa.Array[Any]":
    """Python values as an array of the type that they have in common; see `table`."""
    kinds = frozenset(map(type, values)) - {type(None)}
    of_type = _TYPES.get(kinds)
    if of_type is None:
        return pa.array([_as_text(value) for value in values], pa.string())
    try:
        return pa.array(values, of_type)
    except (OverflowError, pa.ArrowInvalid):  # ints beyond 64 bits, or beyond what a float holds
        return pa.array([None if value is None else float(value) for value in values], pa.float64())


def concatenated(parts: Sequence[pa.Table]) -> pa.Table:
    """The tables one after another: columns that one lacks are null there, and types meet as in
    `table`.
    """
    names = dict.fromkeys(_chain(part.column_names for part in parts))
    meant = {
        name: _common([p.schema.field(name).type for p in parts if name in p.column_names])
        for name in names
    }
    return pa.concat_tables(
        [
            pa.table({name: _as(part, name, of_type) for name, of_type in meant.items()})
            for part in parts
        ]
    )


def _common(types: Sequence[pa.DataType]) -> pa.DataType:
    found = set(types) - {pa.null()}
    if len(found) < 2:
        return next(iter(found), pa.null())
    return pa.float64() if found == {pa.int64(), pa.float64()} else pa.string()


def _as(part: pa.Table, name: str, of_type: pa.DataType) -> Any:
    if name not in part.column_names:
        return pa.array([None], of_type).take(np.zeros(part.num_rows, np.int64))
    values = part[name]
    if values.type == of_type:
        return values
    if pa.types.is_string(of_type):
        return pa.array([_as_text(value) for value in values.to_pylist()], of_type)
    return values.cast(of_type, safe=False)


def _json_text(value: object) -> str:
    return _json.encode(value).decode()


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return _json_text(value)


def _number(label: object) -> float | None:
    return float(label) if isinstance(label, int | float) and not _is_null(label) else None


def _is_null(label: float) -> bool:
    return isinstance(label, float) and math.isnan(label)


def _text(label: object) -> str | None:
    return label if isinstance(label, str) else None
