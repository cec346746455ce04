"""The Log's rows: predictions and feedback, in the columnar batches in which they are written."""

from typing import Any

import msgspec


class PredictionBatch(msgspec.Struct, frozen=True, array_like=True):
    """Rows that one arm answered (or shadowed) together. Every list has one entry a row.

    Times are microseconds since 1970 in UTC. A shadow's row has the id of the row that it shadows.
    """

    ids: list[str]
    at: list[int]  # when the thing happened, by the client's word or else the server's clock
    received_at: int
    route: int
    arm: str
    version: int
    shadow: bool
    units: list[str | None]
    propensities: list[float]
    features: dict[str, list[Any]]
    scores: list[float | None]  # probability of the positive class, or the number predicted
    answers: list[Any]  # what the client was told
    latency_s: float
    request: str = ""


class FeedbackBatch(msgspec.Struct, frozen=True, array_like=True):
    """What later turned out to be true, by prediction id."""

    ids: list[str]
    labels: list[bool | int | float | str | None]
    known_at: list[int]
    received_at: int


# Columns of the Log's tables, in order; features follow as `features.<name>`.
PREDICTION_COLUMNS = (
    "id",
    "at",
    "received_at",
    "route",
    "arm",
    "version",
    "shadow",
    "unit",
    "propensity",
    "score",
    "answer",
    "latency_s",
    "request",
)
FEATURE_PREFIX = "features."
FEEDBACK_COLUMNS = ("id", "label", "known_at", "received_at")
