"""Log tables: batches of predictions and feedback as Arrow tables, one row a prediction."""

import itertools
import math
from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
from typing import Any

import msgspec
import pyarrow as pa

from upturn.core.log import FEATURE_PREFIX
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
            "answer": pa.string(),  # JSON
            "latency_s": pa.float64(),
            "request": pa.string(),
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
}
# Where a column's values are in a batch: a list with one entry a row, or one value for all rows.
_LISTS = {
    "id": "ids",
    "at": "at",
    "unit": "units",
    "propensity": "propensities",
    "score": "scores",
    "answer": "answers",
    "label": "labels",
    "label_text": "labels",
    "known_at": "known_at",
}
_SHARED = ("received_at", "route", "arm", "version", "shadow", "latency_s", "request")
_TYPES: dict[frozenset[type], pa.DataType] = {
    frozenset(): pa.null(),
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
    frozenset({str}): pa.string(),
}
_chain = itertools.chain.from_iterable
_json = msgspec.json.Encoder(enc_hook=str)


def schema(kind: Kind) -> pa.Schema:
    """The columns that every table of the Log has; features follow as `features.<name>`."""
    return _SCHEMAS[kind]


class LogColumns:
    """Rows of the Log as columns that grow, batch by batch, until they are made a table."""

    def __init__(self, kind: Kind) -> None:
        self._kind: Kind = kind
        self._fixed: dict[str, list[Any]] = {name: [] for name in _SCHEMAS[kind].names}
        self._features: dict[str, list[Any]] = {}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, batches: Sequence[Any]) -> None:
        """Append the batches' rows."""
        sizes = [len(batch.ids) for batch in batches]
        for name, values in self._fixed.items():
            if name in _SHARED:
                shared = map(attrgetter(name), batches)
                values += _chain(map(itertools.repeat, shared, sizes))
            else:
                field = _LISTS[name]
                values += _chain(map(attrgetter(field), batches))
        if self._kind == "predictions":
            for names, group in itertools.groupby(batches, lambda batch: tuple(batch.features)):
                self._add_features(names, list(group))
        else:
            self._rows += sum(sizes)

    def _add_features(self, names: tuple[str, ...], batches: list[Any]) -> None:
        """Append the features of batches that name the same ones in the same order."""
        rows = [tuple(batch.features.values()) for batch in batches]
        for place, name in enumerate(names):
            if name not in self._features:
                self._features[name] = [None] * self._rows
            self._features[name] += _chain(map(itemgetter(place), rows))
        self._rows += sum(len(batch.ids) for batch in batches)
        for name in self._features.keys() - set(names):
            values = self._features[name]
            values += [None] * (self._rows - len(values))

    def table(self, *, pause: Callable[[], None] | None = None) -> pa.Table:
        """The rows as a table, in the order in which they were added.

        A feature that some batches lack is null there. Its type follows from its values: bool,
        int64, float64 (ints and floats mixed, too), string (any other mixture, too), null when it
        has none. `pause` is called between columns.
        """
        columns: dict[str, pa.Array[Any]] = {}
        for name, values in self._fixed.items():
            columns[name] = _fixed_column(name, _SCHEMAS[self._kind].field(name).type, values)
            if pause is not None:
                pause()
        for name, values in self._features.items():
            columns[f"{FEATURE_PREFIX}{name}"] = column(values)
            if pause is not None:
                pause()
        return pa.table(columns)


def column(values: list[Any]) -> "pa.Array[Any]":
    """Python values as an array of the type that they have in common; see `LogColumns.table`."""
    kinds = frozenset(map(type, values)) - {type(None)}
    of_type = _TYPES.get(kinds)
    if of_type is None:
        return pa.array([_as_text(value) for value in values], pa.string())
    try:
        return pa.array(values, of_type)
    except (OverflowError, pa.ArrowInvalid):  # ints beyond 64 bits, or beyond what a float holds
        return pa.array([None if value is None else float(value) for value in values], pa.float64())


def _fixed_column(name: str, of_type: pa.DataType, values: list[Any]) -> "pa.Array[Any]":
    match name:
        case "answer":
            values = list(map(_json_text, values))
        case "label":
            values = list(map(_number, values))
        case "label_text":
            values = list(map(_text, values))
        case _:
            if of_type == _INSTANT:
                return pa.array(values, pa.int64()).view(_INSTANT)
    return pa.array(values, of_type)


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
