"""Rows' losses: what each row adds to a metric that is a mean over rows."""

from __future__ import annotations

import numpy as np

from upturn.improve.measures.arrays import Floats

CLIP = 1e-15  # a certain prediction that is wrong costs 34.5 nats, not infinity


def log_losses(labels: Floats, scores: Floats) -> Floats:
    """Each row's negative log likelihood."""
    scores = np.clip(scores, CLIP, 1 - CLIP)
    return -np.log(np.where(labels > 0.5, scores, 1 - scores))


def squared_errors(labels: Floats, scores: Floats) -> Floats:
    """Each row's squared error."""
    return np.square(scores - labels)


def absolute_errors(labels: Floats, scores: Floats) -> Floats:
    """Each row's absolute error."""
    return np.abs(scores - labels)


def hits(labels: Floats, scores: Floats) -> Floats:
    """1 where the score is on the label's side of one half, else 0; nan where the score is."""
    return np.where(np.isnan(scores), np.nan, (scores >= 0.5) == (labels > 0.5))


def symmetric_errors(labels: Floats, scores: Floats) -> Floats:
    """Each row's absolute error over the mean of both sizes; 0 where both are 0."""
    size = np.abs(labels) + np.abs(scores)
    return np.divide(2 * np.abs(scores - labels), size, out=np.zeros(len(labels)), where=size > 0)


def pinball_losses(labels: Floats, scores: Floats, quantile: float) -> Floats:
    """Each row's pinball loss: q · (y - s), or (1 - q) · (s - y) (Koenker & Bassett 1978)."""
    short = labels - scores
    return np.maximum(quantile * short, (quantile - 1) * short)
