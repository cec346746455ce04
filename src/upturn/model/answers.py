"""Answers: which kind of answer a model gives that does not say so itself, judged by an example."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from upturn.core.schema import OutputKind
from upturn.model.classes import Shares
from upturn.model.estimator import Class, plain_class


@dataclass(frozen=True, slots=True)
class Judged:
    """A kind of answer, and the classes that it is about."""

    output: OutputKind
    classes: tuple[Class, ...] = ()


def judge(raw: Any, classes: Sequence[Class] | None, labels: Sequence[Class] | None) -> Judged:
    """What an answer to some rows is, by its values and the target's distinct ones (`labels`).

    Two columns, or numbers from 0 to 1 for a target of two values, are probabilities; as many
    columns as there are classes are scores; text, booleans, and whole numbers that are values of a
    two-valued target are labels; other numbers are numbers. Everything else is JSON.

    >>> judge(np.array([0.2, 0.7]), None, (False, True)).output
    'probability'
    >>> judge(np.array([0.2, 0.7]), None, None).output
    'number'
    """
    if isinstance(raw, Shares):
        codes = list(raw.classes) == list(range(len(raw.classes)))
        named = codes and labels is not None and len(labels) == len(raw.classes)
        classes = labels if named else raw.classes
    try:
        found = np.asarray(raw)
    except ValueError:  # rows of different lengths
        return Judged("json")
    known = tuple(classes or labels or ())
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim == 2 and found.dtype.kind in "fiu":
        return _by_columns(found, known)
    if found.ndim != 1:
        return Judged("json")
    if found.dtype.kind == "O" and all(isinstance(value, str) for value in found.tolist()):
        return _labels(found, known)
    if found.dtype.kind in "UTb":
        return _labels(found, known)
    if found.dtype.kind in "fiu":
        return _numbers(found, known)
    return Judged("json")


def _by_columns(found: np.ndarray, known: tuple[Class, ...]) -> Judged:
    count = found.shape[1]
    classes = known if len(known) == count else tuple(range(count))
    if found.size and not np.allclose(found.sum(axis=1), 1.0, atol=1e-3):
        return Judged("json")
    return Judged("probability" if count == 2 else "scores", classes)


def _labels(found: np.ndarray, known: tuple[Class, ...]) -> Judged:
    if found.dtype.kind == "b":
        return Judged("label", (False, True))
    seen: set[str] = set(found.tolist())
    texts = {value for value in known if isinstance(value, str)}
    return Judged("label", tuple(sorted(seen | texts)))


def _numbers(found: np.ndarray, known: tuple[Class, ...]) -> Judged:
    if len(known) != 2:
        return Judged("number")
    if found.dtype.kind in "iu":
        values = {plain_class(value) for value in found.tolist()}
        return Judged("label", known) if values <= set(known) else Judged("number")
    finite = found[np.isfinite(found)]
    shares = len(finite) and finite.min() >= 0 and finite.max() <= 1
    return Judged("probability", known) if shares else Judged("number")
