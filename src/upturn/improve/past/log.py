"""PastLog: a Log of past rows that is never written down, with the semantics of a stored one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.log import FEATURE_PREFIX
from upturn.core.time import micros
from upturn.improve.log_query import PREDICTION_SCHEMA
from upturn.improve.past.rows import Past
from upturn.improve.past.scores import Scores

_AT = pa.timestamp("us", "UTC")


class Answered(NamedTuple):
    """Who answered some rows: all of [low, high), or those at `places`."""

    low: int
    high: int
    places: np.ndarray | None
    route: int
    arm: str
    version: int
    shadow: bool
    propensity: float


class _Asked(NamedTuple):
    low: int
    high: int
    arm: str | None
    version: int | None
    shadow: bool | None


class _Found(NamedTuple):
    """Parts of answers, the places of their rows as the Log has them, and how to bring them there.

    Rows next to each other are a slice, in order already.
    """

    parts: list[Answered]
    places: slice | np.ndarray
    order: np.ndarray | None


class Columns:
    """What is the same in every Log of one past: ids, times, units and inputs by their names."""

    def __init__(self, past: Past) -> None:
        self.ids = ids_of(np.arange(past.rows))
        self.at = pa.array(past.at, pa.int64()).cast(_AT)
        self.known_at = pa.array(past.known_at, pa.int64()).cast(_AT)
        self.units = pa.array(past.units, pa.string())
        names = [f"{FEATURE_PREFIX}{name}" for name in past.inputs.column_names]
        self.features = past.inputs.rename_columns(names)


class PastLog:
    """A LogView of past rows: which arm answered each, and what was known of them when.

    It holds who answered, and nothing else: rows, labels and scores stay where they are, so that
    eight policies over a year cost no more memory than one, and reading a window takes a slice
    where a query takes a join. The id of a row is its place.
    """

    def __init__(self, endpoint: str, past: Past, scores: Scores, columns: Columns) -> None:
        self.endpoint = endpoint
        self._past = past
        self._scores = scores
        self._columns = columns
        self._answered: list[Answered] = []
        self._told = -(2**63)  # until when labels were told, in microseconds

    def answer(self, *answered: Answered) -> None:
        """Add what arms answered; later rows come later."""
        self._answered += answered

    def tell(self, now: datetime) -> None:
        """Tell the labels that were known by then."""
        self._told = micros(now)

    def predictions(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        arm: str | None = None,
        version: int | None = None,
        shadow: bool | None = None,
        features: bool = True,
        errors: bool = False,
        received_by: datetime | None = None,
    ) -> pa.Table:
        """See LogView. No model failed, so `errors` makes no difference."""
        asked = self._asked(since, until, arm, version, shadow, received_by)
        return self._table(self._found(asked), features=features)

    def joined(
        self,
        *,
        known_by: datetime,
        since: datetime | None = None,
        until: datetime | None = None,
        arm: str | None = None,
        version: int | None = None,
        shadow: bool | None = None,
        features: bool = False,
        errors: bool = False,
        received_by: datetime | None = None,
    ) -> pa.Table:
        """See LogView. Labels come when they are known: received_at is known_at."""
        asked = self._asked(since, until, arm, version, shadow, received_by)
        found = self._found(asked)
        table, places = self._table(found, features=features), found.places
        by = min(micros(at) for at in (known_by, received_by) if at is not None)
        known = self._past.known_at[places] <= min(by, self._told)
        unknown = pa.array(~known)
        label = _replaced(_taken(self._past.labels, places), unknown)
        if pa.types.is_string(label.type) and label.null_count == len(label):
            label = label.cast(pa.float64())  # a text only where there is one
        table = table.append_column("label", label)
        known_at = _replaced(_taken(self._columns.known_at, places), unknown)
        return table.append_column("known_at", known_at)

    def _asked(
        self,
        since: datetime | None,
        until: datetime | None,
        arm: str | None,
        version: int | None,
        shadow: bool | None,
        received_by: datetime | None,
    ) -> _Asked:
        at = self._past.at
        low = 0 if since is None else int(np.searchsorted(at, micros(since)))
        high = len(at) if until is None else int(np.searchsorted(at, micros(until)))
        if received_by is not None:
            high = min(high, int(np.searchsorted(at, micros(received_by), side="right")))
        return _Asked(low, max(low, high), arm, version, shadow)

    def _found(self, asked: _Asked) -> _Found:
        """The parts of the answers that are asked for, and the places of their rows."""
        parts = [part for one in self._answered if (part := _within(one, asked)) is not None]
        parts.sort(key=lambda part: part.low)
        if not parts:
            return _Found([], slice(0, 0), None)
        if all(part.places is None for part in parts) and all(
            one.high == two.low for one, two in pairwise(parts)
        ):
            return _Found(parts, slice(parts[0].low, parts[-1].high), None)
        sizes = [_size(part) for part in parts]
        places = np.concatenate([_places(part) for part in parts])
        names = sorted({part.arm for part in parts})
        arms = np.repeat([names.index(part.arm) for part in parts], sizes)
        versions = np.repeat([part.version for part in parts], sizes)
        order = np.lexsort((versions, arms, places))  # places are in the order of at and id
        return _Found(parts, places[order], order)

    def _table(self, found: _Found, *, features: bool) -> pa.Table:
        parts, places = found.parts, found.places
        sizes = [_size(part) for part in parts]
        count = sum(sizes)

        def spread(values: Sequence[Any], kind: Any) -> np.ndarray:
            return _ordered(np.repeat(np.array(values, kind), sizes), found.order)

        columns: dict[str, Any] = {
            "id": _taken(self._columns.ids, places),
            "at": (at := _taken(self._columns.at, places)),
            "received_at": at,
            "route": spread([part.route for part in parts], np.int32),
            "arm": pa.array([part.arm for part in parts], pa.string()).take(
                _indices(spread(range(len(parts)), np.int32))
            ),
            "version": spread([part.version for part in parts], np.int32),
            "shadow": spread([part.shadow for part in parts], np.bool_),
            "unit": _taken(self._columns.units, places),
            "propensity": spread([part.propensity for part in parts], np.float64),
            "score": _ordered(_joined([self._scored(part) for part in parts]), found.order),
            "answer": self._answers(found),
            "latency_s": pa.nulls(count, pa.float64()),
            "request": pa.nulls(count, pa.string()),
            "rate": np.ones(count),
            "error": pa.nulls(count, pa.string()),
        }
        table = pa.table(columns, schema=PREDICTION_SCHEMA)
        if not features:
            return table
        taken = _rows(self._columns.features, places)
        columns = dict(zip(table.column_names, table.columns, strict=True))
        columns |= dict(zip(taken.column_names, taken.columns, strict=True))
        return pa.table(columns)

    def _scored(self, part: Answered) -> np.ndarray:
        scores = self._scores.of(part.version, part.low, part.high)
        return scores if part.places is None else scores[part.places - part.low]

    def _answers(self, found: _Found) -> pa.ChunkedArray[Any]:
        pieces: list[pa.Array[Any]] = []
        for part in found.parts:
            text = self._scores.answers(part.version, part.low, part.high)
            if part.places is not None:
                text = text.take(_indices(part.places - part.low))
            pieces += text.chunks
        answers = pa.chunked_array(pieces, pa.string())
        return answers if found.order is None else answers.take(_indices(found.order))


def ids_of(places: Sequence[int] | np.ndarray) -> pa.Array[Any]:
    """The ids of the rows at these places, in whose order they are."""
    return pc.utf8_lpad(pc.cast(pa.array(places, pa.int64()), pa.string()), 28, "0")


def _within(one: Answered, asked: _Asked) -> Answered | None:
    low, high = max(one.low, asked.low), min(one.high, asked.high)
    if low >= high or not _fits(one, asked):
        return None
    if one.places is None:
        return one._replace(low=low, high=high)
    first, last = np.searchsorted(one.places, [low, high])
    if first == last:
        return None
    return one._replace(low=low, high=high, places=one.places[first:last])


def _fits(one: Answered, asked: _Asked) -> bool:
    return (
        (asked.arm is None or one.arm == asked.arm)
        and (asked.version is None or one.version == asked.version)
        and (asked.shadow is None or one.shadow == asked.shadow)
    )


def _places(part: Answered) -> np.ndarray:
    return np.arange(part.low, part.high) if part.places is None else part.places


def _size(part: Answered) -> int:
    return part.high - part.low if part.places is None else len(part.places)


def _taken(array: pa.Array[Any], places: slice | np.ndarray) -> pa.Array[Any]:
    if isinstance(places, slice):
        return array.slice(places.start, places.stop - places.start)
    return array.take(_indices(places))


def _rows(table: pa.Table, places: slice | np.ndarray) -> pa.Table:
    if isinstance(places, slice):
        return table.slice(places.start, places.stop - places.start)
    return table.take(_indices(places))


def _indices(places: np.ndarray) -> Any:
    return pa.array(places)


def _replaced(array: pa.Array[Any], unknown: pa.Array[Any]) -> pa.Array[Any]:
    return pc.if_else(unknown, pa.scalar(None, array.type), array)


def _ordered(array: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    return array if order is None else array[order]


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0), *parts])
