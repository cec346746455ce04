"""Proof: whether a form answers as the model does, on training rows and on rows made of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.schema import Field, Signature
from upturn.model.adapters import Predictions
from upturn.model.frames import typed_categories
from upturn.model.native import probe_rows

TOLERANCE = 1e-5  # absolute for probabilities, relative for numbers; labels must be the same
MOST_ROWS = 20_000
_MADE_UP = 2_000
_NULLS = 0.1
UNSEEN = "\x01no such text"

Predict = Callable[[pa.Table], Predictions]


@dataclass(slots=True)
class Compared:
    """How far a form's answers are from the model's."""

    rows: int = 0
    differ: int = 0
    largest: float = 0.0
    notes: list[str] = field(default_factory=list[str])

    @property
    def equal(self) -> bool:
        """Whether no row differs by more than the tolerance."""
        return self.rows > 0 and self.differ == 0


def sample_of(table: pa.Table, most: int = MOST_ROWS) -> pa.Table:
    """At most so many of the rows, evenly spread."""
    step = -(-table.num_rows // most)
    return table.take(np.arange(0, table.num_rows, step)) if step > 1 else table


def compare(plain: Predictions, form: Predictions, signature: Signature) -> Compared:
    """The two models' answers to the same rows.

    >>> number = Signature(inputs=(), output="number")
    >>> a, b = np.array([1.0, 200.0]), np.array([1.0, 200.1])
    >>> found = compare(Predictions(a, a.tolist()), Predictions(b, b.tolist()), number)
    >>> found.differ, round(found.largest, 6)
    (1, 0.0005)
    """
    rows = len(plain.answers)
    if len(form.answers) != rows:
        return Compared(rows, rows, np.inf)
    if signature.output == "label":
        pairs = zip(plain.answers, form.answers, strict=True)
        wrong = sum(type(a) is not type(b) or a != b for a, b in pairs)
        return Compared(rows, wrong, 1.0 if wrong else 0.0)
    a, b = _numbers(plain), _numbers(form)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.abs(a - b)
        if signature.output == "number":
            finite = np.abs(a[np.isfinite(a)])
            # A sum that is nearly nothing is no more exact than what was added up.
            least = 0.1 * finite.mean() if finite.size else 0.0
            apart = apart / np.maximum(np.maximum(np.abs(a), least), np.finfo(float).tiny)
    apart[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    apart = np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(axis=1, initial=0.0)
    return Compared(rows, int((apart > TOLERANCE).sum()), float(apart.max(initial=0.0)))


def _numbers(found: Predictions) -> np.ndarray:
    if found.scores is not None:
        return found.scores[:, np.newaxis]
    return np.array([list(answer.values()) for answer in found.answers], np.float64)


def prove(plain: Predict, form: Predict, sample: pa.Table, signature: Signature) -> Compared:
    """Compare the two on the typed rows of the sample and on rows made up around them.

    Rows that the model itself raises on are left out, which a note says.
    """
    found = compare(plain(sample), form(sample), signature)
    if not found.equal:
        return found
    for rows in (made_up_rows(sample, signature), probe_rows(signature)):
        try:
            wanted = plain(rows)
        except Exception as error:  # noqa: BLE001 (a model may raise anything on what it never saw)
            found.notes.append(f"rows made up are left out: {error}".rstrip("."))
            continue
        more = compare(wanted, form(rows), signature)
        found.rows += more.rows
        found.differ += more.differ
        found.largest = max(found.largest, more.largest)
    return found


def made_up_rows(sample: pa.Table, signature: Signature) -> pa.Table:
    """Rows around the sample's: values of other rows, moved a little or by the last bit, nulls."""
    random = np.random.default_rng(0)
    count = min(sample.num_rows, _MADE_UP)
    columns = [
        _made_up(sample.column(place), field, count, random)
        for place, field in enumerate(signature.inputs)
    ]
    return pa.Table.from_arrays(columns, schema=sample.schema)


def _made_up(column: Any, field: Field, count: int, random: np.random.Generator) -> Any:
    drawn = column.take(random.integers(0, len(column), count))
    if isinstance(drawn, pa.ChunkedArray):
        drawn = drawn.combine_chunks()
    nulls = random.random(count) < (_NULLS if field.nullable else 0.0)
    if field.categorical:
        known = typed_categories(field)
        drawn = known.take(random.integers(0, len(known), count)) if len(known) else drawn
    elif field.type == "float":
        values = drawn.to_numpy(zero_copy_only=False)
        way = random.integers(0, 5, count)
        moved = [
            values,
            np.nextafter(values, -np.inf),
            np.nextafter(values, np.inf),
            values.astype(np.float32).astype(np.float64),
            values * random.normal(1, 0.3, count),
        ]
        values = np.choose(way, moved)
        return pa.array(values, mask=nulls | np.isnan(values))
    elif field.type == "int":
        moved = pa.array(random.integers(-1, 2, count))
        drawn = pc.add(drawn, moved)
    mask = pa.array(nulls)
    return pc.if_else(mask, pa.scalar(None, drawn.type), drawn)


# What the model raises on


def raises_beyond(predict: Predict, sample: pa.Table, signature: Signature) -> float | None:
    """The greatest number that the model takes, if it raises on infinite ones; None if it doesn't.

    That is the greatest float32 for models that look at their inputs as such.
    """
    for limit, tried in ((float(np.finfo(np.float32).max), 1e300), (1.7e308, np.inf)):
        for place, one in enumerate(signature.inputs):
            if one.type != "float":
                continue
            rows = sample.slice(0, 1)
            rows = rows.set_column(place, rows.field(place), pa.array([tried], pa.float64()))
            try:
                predict(rows)
            except Exception:  # noqa: BLE001 (that it raises is the answer)
                return limit
    return None


def raises_on_new_text(predict: Predict, sample: pa.Table, signature: Signature) -> bool:
    """Whether the model raises on a text that it has not seen."""
    for place, one in enumerate(signature.inputs):
        if one.type != "str" or one.categorical:
            continue
        rows = sample.slice(0, 1)
        rows = rows.set_column(place, rows.field(place), pa.array([UNSEEN], pa.string()))
        try:
            predict(rows)
        except Exception:  # noqa: BLE001 (that it raises is the answer)
            return True
    return False


def new_text_rows(sample: pa.Table, signature: Signature) -> pa.Table:
    """Some of the sample's rows, each text one that was not seen."""
    rows = sample.slice(0, 8)
    for place, one in enumerate(signature.inputs):
        if one.type == "str" and not one.categorical:
            texts = pa.array([UNSEEN] * rows.num_rows, pa.string())
            rows = rows.set_column(place, rows.field(place), texts)
    return rows
