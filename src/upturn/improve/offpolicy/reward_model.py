"""Reward models: what each action would have earned in a round, learned from other rounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from zlib import crc32

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upturn.core.errors import Invalid
from upturn.improve.offpolicy.rounds import GREATEST, Actions, Rounds, coded
from upturn.improve.offpolicy.target import by_action
from upturn.model.tables import floats

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
RewardModel = Callable[[pa.Table], Any]
_BUCKETS = 16  # of a column of text
_PENALTY = 1.0
_MOST = 64 << 20  # bytes of a matrix of sums


def folds(rounds: Rounds, count: int) -> Integers:
    """To which fold each round belongs: by its cluster, so that none is torn, or by its place.

    A hash decides, so a fold is the same each time the log is read, in whatever chunks.
    """
    if rounds.clusters is not None:
        return np.array([crc32(repr(one).encode()) % count for one in rounds.clusters], np.int64)
    mixed = (rounds.first + np.arange(len(rounds))).astype(np.uint64)
    # The finalizer of SplitMix64 (Steele, Lea & Flood 2014).
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(count)).astype(np.int64)


def describe(table: pa.Table, context: Sequence[str]) -> Floats:
    """The context as (rows, columns), a column of ones first; text by hashed indicators.

    Weinberger, Dasgupta, Langford, Smola & Attenberg (2009) for the hashing. Missing is 0.
    """
    parts = [np.ones((table.num_rows, 1))]
    for name in context:
        column = table[name]
        kind = column.type
        if pa.types.is_boolean(kind) or pa.types.is_floating(kind) or pa.types.is_integer(kind):
            known = np.nan_to_num(floats(column), posinf=0.0, neginf=0.0)
            if (np.abs(known) > GREATEST).any():
                raise Invalid(
                    f"The context {name!r} has numbers beyond {GREATEST:g}, too great to square.",
                    hint="Give it in another unit.",
                )
            parts.append(known[:, None])
            continue
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise Invalid(f"The context {name!r} is {kind}; numbers, booleans and text can be.")
        values, places = coded(column.fill_null(pa.scalar("", kind)))
        buckets = np.array([crc32(str(one).encode()) % _BUCKETS for one in values], np.int64)
        hashed = np.zeros((table.num_rows, _BUCKETS))
        hashed[np.arange(table.num_rows), buckets[places]] = 1.0
        parts.append(hashed)
    return np.hstack(parts)


@dataclass
class Ridge:
    """A ridge regression of the reward on the context for each action and fold, by sums alone.

    A fold's rounds are answered by what the other folds taught (cross-fitting: Chernozhukov et al.
    2018, section 3), so that the doubly robust estimate has no bias from learning and judging on
    the same rewards. Coefficients are drawn to the mean reward of all actions, as if one more
    round had shown it, so an action that was hardly taken is not believed. Without context this is
    the (drawn) mean by action.
    """

    context: Sequence[str]
    folds: int
    _gram: Floats = field(default_factory=lambda: np.zeros((0, 0, 0, 0)))  # (folds, K, d, d)
    _moment: Floats = field(default_factory=lambda: np.zeros((0, 0, 0)))  # (folds, K, d)
    _fitted: Floats | None = None

    def learn(self, rounds: Rounds) -> None:
        """Take some rounds."""
        features = describe(rounds.table, self.context)
        self._grow(int(rounds.codes.max()) + 1, features.shape[1])
        fold = folds(rounds, self.folds)
        cells = fold * self._gram.shape[1] + rounds.codes
        width = features.shape[1]
        grams = self._gram.reshape(-1, width, width)
        moments = self._moment.reshape(-1, width)
        order = np.argsort(cells, kind="stable")
        edges = np.flatnonzero(np.diff(cells[order], prepend=-1))
        for start, end in zip(edges, [*edges[1:], len(order)], strict=True):
            rows = order[start:end]
            part = features[rows]
            grams[cells[rows[0]]] += part.T @ part
            moments[cells[rows[0]]] += part.T @ rounds.rewards[rows]

    def fit(self) -> None:
        """Solve for the coefficients, of each fold from the others."""
        gram = self._gram.sum(axis=0) - self._gram
        moment = self._moment.sum(axis=0) - self._moment
        width = gram.shape[-1]
        # The first column is of ones: its sums count rows and rewards.
        rows = gram[..., 0, 0].sum(axis=1)
        prior = moment[..., 0].sum(axis=1) / np.maximum(rows, 1)  # (folds,)
        centred = moment - prior[:, None, None] * gram[..., 0]
        # As large as one round is: a column in other units is drawn as much.
        squares = np.einsum("fkii->fi", gram) / np.maximum(rows, 1)[:, None]
        penalty = _PENALTY * np.where(squares > 0, squares, 1.0)
        pulled = gram + penalty[:, None, None, :] * np.eye(width)
        found = np.linalg.solve(pulled, centred[..., None])[..., 0]
        found[..., 0] += prior[:, None]
        self._fitted = found

    def predict(self, rounds: Rounds, actions: Actions) -> Floats:
        """What each action would earn: (rows, actions). An action never met earns the mean."""
        if self._fitted is None:
            raise ValueError("not fitted")
        features = describe(rounds.table, self.context)
        fold = folds(rounds, self.folds)
        found = np.empty((len(rounds), len(actions.values)))
        for one in range(self.folds):
            rows = np.flatnonzero(fold == one)
            known = features[rows] @ self._fitted[one].T
            found[rows, : known.shape[1]] = known
            found[rows, known.shape[1] :] = self._fitted[one][:, 0].mean()
        return found

    def _grow(self, actions: int, width: int) -> None:
        have = self._gram.shape[1]
        if have >= actions:
            return
        if self.folds * actions * width**2 * 8 > _MOST:
            raise Invalid(
                f"{actions} actions × {width} columns of context are too many for a reward model.",
                hint="Give less context, or predictions of your own as model=function.",
            )
        gram = np.zeros((self.folds, actions, width, width))
        moment = np.zeros((self.folds, actions, width))
        if have:
            gram[:, :have], moment[:, :have] = self._gram, self._moment
        self._gram, self._moment = gram, moment


def predictions(model: RewardModel, rounds: Rounds, actions: Actions) -> Floats:
    """What a user's own model says that each action would earn: (rows, actions)."""
    answer = model(rounds.table)
    if not isinstance(answer, Mapping):
        raise Invalid(
            f"The reward model answered a {type(answer).__name__}.",
            hint="It gives a dict of action: expected rewards.",
        )
    found = by_action("model", cast("Mapping[Any, Any]", answer), len(rounds), actions)
    if not np.isfinite(found).all():
        raise Invalid("The reward model's answers are not all finite.")
    return found
