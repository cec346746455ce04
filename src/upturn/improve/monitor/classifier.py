"""Domain classifier: whether recent rows can be told from the baseline's, and by which columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.core.errors import Unfit
from upturn.improve.monitor.grouping import times
from upturn.improve.statistics.distributions import t_quantile, t_sf
from upturn.improve.statistics.interval import Interval
from upturn.model.profile_categories import rank
from upturn.model.profile_source import Source, open_source
from upturn.model.profile_values import coded, is_number, numbers

ROWS = 10_000  # of each side, at most
_FOLDS, _FEWEST = 5, 30
_VALUES = 200  # of a category that are told apart; a forest of histograms takes 255
_DAY = 86_400_000_000
_LEVEL = 0.95
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Clue(msgspec.Struct, frozen=True, kw_only=True):
    """A column, and how much less the AUC is when its values are shuffled between held-out rows."""

    column: str
    drop: float


class DomainShift(msgspec.Struct, frozen=True, kw_only=True):
    """How well recent rows are told from those before: 0.5 is not at all, 1 is always.

    `auc` says it with an interval, and the p-value of its not being above 0.5; `clues` are columns,
    the one that gives most away first. `blocks` is what the folds and the interval were made of:
    'days' or 'rows'. Where nothing can be said, `auc` is nan and `note` says why.
    """

    auc: Interval
    clues: tuple[Clue, ...] = ()
    rows_before: int
    rows: int
    blocks: str = "rows"
    note: str = ""


def tell_apart(
    before: Any,
    now: Any,
    *,
    columns: Sequence[str] | None = None,
    time: str | None = None,
    rows: int = ROWS,
    seed: int = 0,
) -> DomainShift:
    """Train a classifier to tell two tables' rows apart, and say how well it does on other rows.

    At most `rows` rows of each, drawn by the seed, as numbers, or as the 200 most frequent values
    of a category; missing values stay missing. Gradient-boosted trees (scikit-learn's
    HistGradientBoosting) are fitted on four fifths and asked about the rest, five times. With
    `time`, whole days are held out: rows of one day may be alike, and a classifier that knows a day
    by another of its rows has found no drift. The AUC's interval is DeLong's (1988), by days that
    of Obuchowski (1997, Biometrics 53(2)) for clusters, with Student's t for as many days as the
    side with fewer has. Clues are permutation importances (Breiman 2001) on held-out rows: of two
    columns that say the same, either may seem to say little. Rows that are in both tables push the
    AUC below 0.5: what was learned of one of them is wrong of the other.

    Raises Unfit without scikit-learn, NotFound for a column that is not there.
    """
    past, after = open_source(before), open_source(now)
    names = _names(past, after, columns, time)
    picked = [_picked(source.rows, rows, seed + side) for side, source in enumerate((past, after))]
    sizes = [len(one) for one in picked]
    if min(sizes) < _FEWEST or not names:
        why = "no column in common" if not names else f"fewer than {_FEWEST} rows on one side"
        return _unsaid(sizes, why)
    matrix, kinds = _matrix(past, after, names, picked)
    label = np.repeat([0, 1], sizes)
    groups, blocks = _blocks(past, after, time, picked)
    folds = _folds(groups, label, seed)
    if folds is None:
        return _unsaid(sizes, "fewer than two days on one side")
    placed, drops = _validated(matrix, kinds, label, folds, seed)
    order = sorted(range(len(names)), key=lambda place: (-drops[place], names[place]))
    return DomainShift(
        auc=clustered_auc(placed, label, groups),
        clues=tuple(Clue(column=names[place], drop=float(drops[place])) for place in order),
        rows_before=sizes[0],
        rows=sizes[1],
        blocks=blocks,
    )


def placements(scores: Floats, label: Ints) -> Floats:
    """Of each row, the share of rows of the other label that it is on the right side of; ties half.

    >>> placements(np.array([0.1, 0.6, 0.6, 0.9]), np.array([0, 0, 1, 1])).tolist()
    [1.0, 0.75, 0.75, 1.0]
    """
    found = np.empty(len(scores))
    for one in (0, 1):
        mine, others = label == one, np.sort(scores[label != one])
        below = np.searchsorted(others, scores[mine], "left")
        upto = np.searchsorted(others, scores[mine], "right")
        share = (below + upto) / 2 / len(others)
        found[mine] = share if one else 1 - share
    return found


def clustered_auc(placed: Floats, label: Ints, groups: Ints) -> Interval:
    """The AUC with an interval, from placements of rows; rows of one group go together."""
    auc = float(placed[label == 1].mean())
    variance, fewest = 0.0, len(label)
    for one in (0, 1):
        mine = label == one
        _, places = np.unique(groups[mine], return_inverse=True)
        sums = np.bincount(places, weights=placed[mine] - float(placed[mine].mean()))
        count = len(sums)
        fewest = min(fewest, count)
        variance += count / max(count - 1, 1) * float(sums @ sums) / int(mine.sum()) ** 2
    error = math.sqrt(variance)
    df = fewest - 1
    reach = t_quantile((1 + _LEVEL) / 2, df) * error
    certain = 0.0 if auc > 0.5 else 1.0
    return Interval(
        estimate=auc,
        low=max(0.0, auc - reach),
        high=min(1.0, auc + reach),
        level=_LEVEL,
        p_value=t_sf((auc - 0.5) / error, df) if error else certain,
        method="AUC of clusters (Obuchowski 1997), p one-sided",
        null=0.5,
    )


# Rows and columns


def _names(
    past: Source, after: Source, columns: Sequence[str] | None, time: str | None
) -> list[str]:
    wanted = columns if columns is not None else list(past.types)
    return [name for name in wanted if name in past.types and name in after.types and name != time]


def _picked(rows: int, most: int, seed: int) -> Ints:
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _taken(source: Source, name: str, places: Ints) -> list[Any]:
    """The column's arrays with these rows alone."""
    found: list[Any] = []
    at = 0
    for array in source.parts(name):
        begin, end = np.searchsorted(places, (at, at + len(array)))
        found.append(array.take(pa.array(places[begin:end] - at)))
        at += len(array)
    return found


def _matrix(
    past: Source, after: Source, names: Sequence[str], picked: Sequence[Ints]
) -> tuple[Floats, list[bool]]:
    """The rows of both, those before first, and which columns are categories."""
    columns: list[Floats] = []
    kinds: list[bool] = []
    for name in names:
        arrays = [
            array
            for source, places in zip((past, after), picked, strict=True)
            for array in _taken(source, name, places)
        ]
        number = is_number(past.types[name]) and is_number(after.types[name])
        columns.append(_numbers(arrays) if number else _codes(arrays))
        kinds.append(not number)
    matrix = np.column_stack(columns)
    matrix[:, np.isnan(matrix).all(axis=0)] = 0.0  # trees have no bins of nothing
    return matrix, kinds


def _numbers(arrays: Sequence[Any]) -> Floats:
    found = np.concatenate([numbers(array) for array in arrays])
    found[~np.isfinite(found)] = np.nan
    return found


def _codes(arrays: Sequence[Any]) -> Floats:
    values = pa.array(rank(lambda: arrays, _VALUES).values, pa.string())
    parts: list[Floats] = []
    for array in arrays:
        codes, distinct = coded(array)
        places = pc.index_in(distinct, values).fill_null(len(values))
        parts.append(np.append(np.asarray(places, np.float64), np.nan)[codes])
    return np.concatenate(parts)


def _blocks(
    past: Source, after: Source, time: str | None, picked: Sequence[Ints]
) -> tuple[Ints, str]:
    """What each row goes together with: its day where that is known, else nothing."""
    if time is None or time not in past.types or time not in after.types:
        return np.arange(sum(len(places) for places in picked)), "rows"
    days = [
        times(source, time)[places] // _DAY
        for source, places in zip((past, after), picked, strict=True)
    ]
    return np.concatenate(days), "days"


# Folds


def _folds(groups: Ints, label: Ints, seed: int) -> Ints | None:
    """The fold of each row: groups are dealt out, of each side alike; None if one has one group."""
    random = np.random.default_rng(seed)
    sides = [np.unique(groups[label == one]) for one in (0, 1)]
    count = min(_FOLDS, *(len(side) for side in sides))
    if count < 2:
        return None
    found = np.empty(len(groups), np.int64)
    for one, side in enumerate(sides):
        dealt = random.permutation(len(side)) % count
        mine = label == one
        found[mine] = dealt[np.searchsorted(side, groups[mine])]
    return found


def _validated(
    matrix: Floats, kinds: Sequence[bool], label: Ints, folds: Ints, seed: int
) -> tuple[Floats, Floats]:
    """The placement of each row by a model that has not seen it, and each column's importance."""
    random = np.random.default_rng(seed)
    placed = np.empty(len(label))
    drops = np.zeros(matrix.shape[1])
    for fold, model in _models(matrix, kinds, label, folds, seed):
        held = folds == fold
        rows, truth = matrix[held], label[held]
        placed[held] = placements(model(rows), truth)
        auc = placed[held][truth == 1].mean()
        for column in range(matrix.shape[1]):
            kept = rows[:, column].copy()
            rows[:, column] = random.permutation(kept)
            shuffled = placements(model(rows), truth)[truth == 1].mean()
            rows[:, column] = kept
            drops[column] += (auc - shuffled) * held.sum() / len(label)
    return placed, drops


def _models(
    matrix: Floats, kinds: Sequence[bool], label: Ints, folds: Ints, seed: int
) -> Iterator[tuple[int, Any]]:
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits  # comes with scikit-learn
    except ImportError:
        raise Unfit(
            "A domain classifier needs scikit-learn, which is not installed.",
            hint="pip install scikit-learn",
        ) from None
    make: Any = HistGradientBoostingClassifier  # its stubs know fewer types than it takes
    for fold in np.unique(folds).tolist():
        model = make(
            max_iter=60,
            max_leaf_nodes=15,
            early_stopping=False,
            categorical_features=list(kinds),
            random_state=seed,
        )
        seen = folds != fold
        with threadpool_limits(1):  # so little work is done sooner by one thread
            model.fit(matrix[seen], label[seen])
            yield fold, lambda rows, model=model: model.predict_proba(rows)[:, 1]


def _unsaid(sizes: Sequence[int], why: str) -> DomainShift:
    nothing = Interval(
        estimate=math.nan,
        low=math.nan,
        high=math.nan,
        level=_LEVEL,
        p_value=math.nan,
        method="none",
        null=0.5,
    )
    return DomainShift(
        auc=nothing, rows_before=sizes[0], rows=sizes[1], note=f"{why.capitalize()}."
    )
