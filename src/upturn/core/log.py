"""The Log's rows: predictions and feedback, in the columnar batches in which they are written."""

from collections.abc import Sequence
from typing import Any

import msgspec


class Layout:
    """The columns of a Matrix. Made once for each arm: rows share it, and journals write it once.

    `kinds` has one letter a column, which says how the Log types it: 'f' float, 'i' int, 'b' bool.
    """

    __slots__ = ("_hash", "kinds", "names")

    def __init__(self, names: Sequence[str], kinds: str) -> None:
        if len(names) != len(kinds) or set(kinds) - set("fib"):
            raise ValueError(f"{len(names)} columns can't be of the kinds {kinds!r}.")
        self.names = tuple(names)
        self.kinds = kinds
        self._hash = hash((self.names, kinds))  # asked for once a row

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Layout) and (self.names, self.kinds) == (other.names, other.kinds)
        )

    def __repr__(self) -> str:
        return f"Layout({self.names!r}, {self.kinds!r})"


class Matrix(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Numbers of many rows: float64, little-endian, row after row; nan is null."""

    layout: Layout
    data: bytes


class PredictionBatch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Rows that one arm answered (or shadowed) together. Every list has one entry a row.

    Times are microseconds since 1970 in UTC. A shadow's row has the id of the row that it shadows.
    """

    ids: list[str]
    at: int | list[int]  # when the thing happened, by the client's word or else the server's clock
    received_at: int
    route: int
    arm: str
    version: int
    shadow: bool
    units: list[str | None] | None
    propensity: float | list[float]  # that of the arm, when it was chosen
    features: Matrix | dict[str, list[Any]] | None  # None: not to be logged
    scores: list[float | None] | None  # probability of the positive class, or the number predicted
    answers: list[Any] | None  # what the client was told; None: the scores
    latency_s: float
    request: str = ""
    rate: float = 1.0  # the share of such rows that is logged
    error: str = ""  # why there is no answer: then neither scores nor answers are there


Features = Matrix | dict[str, list[Any]] | None


class FeedbackBatch(msgspec.Struct, frozen=True, array_like=True):
    """What later turned out to be true, by prediction id."""

    ids: list[str]
    labels: list[bool | int | float | str | None]
    known_at: list[int]
    received_at: int


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """Rows that were dropped between two moments, and why: the Log says what it lacks."""

    began_at: int
    ended_at: int
    rows: int
    why: str


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
    "rate",
    "error",
)
FEATURE_PREFIX = "features."
FEEDBACK_COLUMNS = ("id", "label", "known_at", "received_at")
GAP_COLUMNS = ("began_at", "ended_at", "rows", "why")
