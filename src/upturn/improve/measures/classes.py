"""Metrics of several classes: labels are their places, answers too, or probabilities of all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from upturn.improve.measures.arrays import Floats, ratio
from upturn.improve.measures.rows import CLIP
from upturn.improve.measures.sums import Summed

Places = NDArray[np.intp]


def class_accuracy(classes: int) -> Summed:
    """The share of rows whose class was said; labels and scores are places of classes."""
    return _of_confusion(classes, lambda right, said, was: ratio(right.sum(-1), was.sum(-1)))


def macro_f1(classes: int) -> Summed:
    """The mean F1 of the classes that occur among labels or answers.

    As scikit-learn's `f1_score(average="macro")` without `labels=`: a class that occurs and is
    never right counts 0, one that occurs nowhere does not count.

    >>> round(macro_f1(3).of([0, 1, 1, 2], [0, 1, 2, 2]), 4)
    0.7778
    """
    return _of_confusion(classes, _macro)


def _macro(right: Floats, said: Floats, was: Floats) -> Floats:
    occurs = (said + was) > 0
    each = np.where(occurs, ratio(2 * right, said + was), 0.0)
    return ratio(each.sum(-1), occurs.sum(-1))


def _of_confusion(classes: int, value: Callable[[Floats, Floats, Floats], Floats]) -> Summed:
    def columns(labels: Floats, scores: Floats) -> list[Floats]:
        found = [np.ones(len(labels))]
        for place in range(classes):
            was, said = labels == place, scores == place
            found += [(was & said).astype(float), said.astype(float), was.astype(float)]
        return found

    return Summed(columns, lambda sums: value(sums[..., 1::3], sums[..., 2::3], sums[..., 3::3]))


def own_losses(places: Places, probabilities: Floats) -> Floats:
    """Each row's negative log likelihood in nats: of the probability of the class that it was.

    Probabilities are divided by their sum over classes, then clipped to [1e-15, 1].

    >>> own_losses(np.array([1]), np.array([[0.5, 0.5]])).round(4)
    array([0.6931])
    """
    totals = probabilities.sum(axis=1)
    own = probabilities[np.arange(len(places)), places]
    return -np.log(np.clip(ratio(own, totals), CLIP, 1.0))


def own_squares(places: Places, probabilities: Floats) -> Floats:
    """Each row's sum of squared differences of probabilities and outcome (Brier 1950): 0 to 2.

    >>> own_squares(np.array([1]), np.array([[0.5, 0.5]]))
    array([0.5])
    """
    outcome = np.zeros_like(probabilities)
    outcome[np.arange(len(places)), places] = 1.0
    return np.square(probabilities - outcome).sum(axis=1)
