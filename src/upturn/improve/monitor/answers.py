"""Answers and labels of several classes: read from the Log as places of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.core.schema import Signature
from upturn.improve.metrics import Floats
from upturn.model.adapters import class_name

UNKNOWN = -1
Key = float | str


def key(value: str | float | bool) -> Key:
    """A class or a label as what it is compared by: '1', 1, 1.0 and true are the same.

    >>> key("True"), key("late")
    (1.0, 'late')
    """
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return float(value.lower() == "true")
    try:
        return float(value)
    except ValueError:
        return str(value)


def class_places(joined: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Labels and answers as places of the classes that occur, -1 where there is none.

    An answer that is neither text nor number nor true or false, as a list, equals no label. Returns
    the number of classes too.

    >>> class_places(pa.table({"label": ["a", "b", None], "answer": ['"a"', '"c"', '"c"']}))
    (array([ 0,  1, -1]), array([0, 2, 2]), 3)
    """
    known: dict[Key, int] = {}
    labels = _places(joined["label"], known, decode=False)
    answers = _places(joined["answer"], known, decode=True)
    return labels, answers, max(1, len(known))


def class_shares(joined: pa.Table, signature: Signature) -> tuple[NDArray[np.int64], Floats]:
    """The place of each label among the signature's classes, and the probabilities of all of them.

    -1 of a label that is none of them, nan where an answer does not give a number for each class.

    >>> signature = Signature(inputs=(), output="scores", classes=("a", "b"))
    >>> rows = pa.table({"label": ["b"], "answer": ['{"a": 0.25, "b": 0.75}']})
    >>> class_shares(rows, signature)
    (array([1]), array([[0.25, 0.75]]))
    """
    known = {key(value): place for place, value in enumerate(signature.classes)}
    labels = _places(joined["label"], known, decode=False, grow=False)
    names = [class_name(value) for value in signature.classes]
    missing = [float("nan")] * len(names)
    rows = [_shares(text, names) or missing for text in joined["answer"].to_pylist()]
    return labels, np.array(rows, np.float64).reshape(len(rows), len(names))


def _shares(text: str | None, names: Sequence[str]) -> list[float] | None:
    try:
        found = None if text is None else msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    if not isinstance(found, dict):
        return None
    values = [found.get(name) for name in names]
    return (
        [float(value) for value in values if isinstance(value, int | float)]
        if all(isinstance(value, int | float) for value in values)
        else None
    )


def _places(
    column: pa.ChunkedArray[Any], known: dict[Key, int], *, decode: bool, grow: bool = True
) -> NDArray[np.int64]:
    """Each value by its class; what is distinct is read once. `grow` gives new classes a place."""
    values = column.combine_chunks()
    distinct = pc.unique(values)
    places: list[int] = []
    for value in distinct.to_pylist():
        found = _class_of(value, decode=decode)
        if found is None:
            places.append(UNKNOWN)
        elif grow:
            places.append(known.setdefault(found, len(known)))
        else:
            places.append(known.get(found, UNKNOWN))
    index = pc.index_in(values, distinct).to_numpy(zero_copy_only=False)
    return np.array([*places, UNKNOWN], np.int64)[np.asarray(index, np.int64)]


def _class_of(value: Any, *, decode: bool) -> Key | None:
    if value is None:
        return None
    if decode:
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return str(value)
        if value is None:
            return None
    found = key(value) if isinstance(value, str | int | float) else str(value)
    return None if found != found else found


def arrow_rows(rows: NDArray[Any]) -> Any:
    """Numbers of rows as Arrow takes them."""
    return pa.array(rows)
