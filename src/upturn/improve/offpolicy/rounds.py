"""Rounds: what a log says of the actions taken, read in chunks of bounded size and checked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from upturn.core.errors import Invalid, NotFound, did_you_mean
from upturn.improve.log import LogView
from upturn.model.tables import floats, to_arrow, without_dictionaries

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
CHUNK = 1 << 16
GREATEST = 1e100  # what can be squared and summed

_NO_PROPENSITIES = (
    "Without the probability with which the log's policy took each action, nothing can be said "
    "of another policy. Log it when the action is chosen."
)


@dataclass(frozen=True, slots=True)
class Columns:
    """What the log's columns are called."""

    action: str = "action"
    reward: str = "reward"
    propensity: str = "propensity"
    cluster: str | None = None
    by: str | None = None

    def names(self) -> list[str]:
        """Those that are asked for."""
        asked = (self.action, self.reward, self.propensity, self.cluster, self.by)
        return list(dict.fromkeys(one for one in asked if one is not None))


@dataclass(frozen=True, slots=True)
class Rounds:
    """Some rounds: rows with a reward, in the log's order."""

    table: pa.Table
    first: int  # how many rounds came before
    codes: Integers  # (rows,) the actions, as places in `Actions.values`
    rewards: Floats  # (rows,)
    propensities: Floats  # (rows,)
    clusters: Sequence[Any] | None
    by: Sequence[Any] | None

    def __len__(self) -> int:
        return len(self.codes)


@dataclass
class Actions:
    """The actions that were met so far, each with its place."""

    values: list[Any] = field(default_factory=list[Any])
    _places: dict[Any, int] = field(default_factory=dict[Any, int])

    def place(self, value: Any) -> int:
        """The place of an action, new or met before."""
        if value not in self._places:
            self._places[value] = len(self.values)
            self.values.append(value)
        return self._places[value]

    def codes(self, column: Any) -> Integers:
        """The places of a column's actions."""
        values, places = coded(column)
        known = np.array([self.place(one) for one in values], np.int64)
        return known[places]


def coded(column: Any) -> tuple[list[Any], Integers]:
    """A column's different values, and for each row the place of its own."""
    found: Any = pc.dictionary_encode(column.combine_chunks())
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    return found.dictionary.to_pylist(), found.indices.to_numpy(zero_copy_only=False)


class Source:
    """A log that can be read more than once: a table, Parquet files, or an endpoint's Log."""

    def __init__(self, log: Any, columns: Columns, *, known_by: datetime | None = None) -> None:
        self._paths: list[Path] = []
        self._table: pa.Table | None = None
        self.waiting = 0  # rows without a reward, of the last reading
        if isinstance(log, str | Path):
            self._paths = _files(Path(log))
            known = pq.read_schema(self._paths[0]).names
        else:
            self._table = _table(log, known_by)
            known = self._table.column_names
            if is_log(log) and columns.cluster is None and not self._table["unit"].null_count:
                # A unit gets the same arm each time, so its rows are one draw of the route.
                columns = replace(columns, cluster="unit")
        self.column_names: list[str] = known
        self._columns = columns
        if columns.propensity not in known:
            raise Invalid(
                f"The log has no propensities: no column {columns.propensity!r}.",
                hint=_NO_PROPENSITIES,
            )
        for name in columns.names():
            self.require(name)

    @property
    def clustered(self) -> bool:
        """Whether rows belong to clusters."""
        return self._columns.cluster is not None

    def require(self, name: str) -> None:
        """Raise Invalid when the log has no such column."""
        if name not in self.column_names:
            raise Invalid(
                f"The log has no column {name!r}.", hint=did_you_mean(name, self.column_names)
            )

    def rounds(self, actions: Actions, wanted: Sequence[str] | None) -> Iterator[Rounds]:
        """All rounds, chunk by chunk, with the columns that are wanted (None: all of them).

        Raises Invalid where an action or a propensity is missing or is no such thing.
        """
        names = self.column_names if wanted is None else [*wanted, *self._columns.names()]
        first, self.waiting = 0, 0
        for chunk in self._chunks(list(dict.fromkeys(names))):
            rewards = column_numbers(chunk, self._columns.reward)
            known = ~np.isnan(rewards)
            if not known.all():
                self.waiting += int((~known).sum())
                chunk, rewards = chunk.filter(pa.array(known)), rewards[known]
            if len(rewards):
                yield self._checked(chunk, rewards, first, actions)
                first += len(rewards)

    def _checked(self, table: pa.Table, rewards: Floats, first: int, actions: Actions) -> Rounds:
        if np.isinf(rewards).any():
            raise Invalid(
                f"The rewards in {self._columns.reward!r} are not all finite.",
                hint="Leave a reward out (null) where it is not known.",
            )
        if (np.abs(rewards) > GREATEST).any():
            raise Invalid(
                f"{self._columns.reward!r} has a reward beyond {GREATEST:g}: too great to square.",
                hint="Give rewards in another unit.",
            )
        propensities = column_numbers(table, self._columns.propensity)
        unfit = ~(propensities > 1 / GREATEST) | np.isinf(propensities)
        if unfit.any():
            row = first + int(np.argmax(unfit))
            raise Invalid(
                f"Round {row:,} has the propensity {propensities[unfit][0]:g}: "
                f"the log says that it can't have happened, or does not say how probable it was.",
                hint=_NO_PROPENSITIES,
            )
        action = table[self._columns.action]
        for name in self._columns.names():
            if pa.types.is_nested(table.schema.field(name).type):
                raise Invalid(f"The column {name!r} has lists or records, not single values.")
        if action.null_count:
            raise Invalid(f"{action.null_count:,} rounds have no action.")
        clusters, by = self._columns.cluster, self._columns.by
        return Rounds(
            table=table,
            first=first,
            codes=actions.codes(action),
            rewards=rewards,
            propensities=propensities,
            clusters=None if clusters is None else table[clusters].to_pylist(),
            by=None if by is None else table[by].to_pylist(),
        )

    def _chunks(self, names: list[str]) -> Iterator[pa.Table]:
        if self._table is not None:
            table = self._table.select(names)
            for start in range(0, len(table), CHUNK):
                yield table.slice(start, CHUNK)
        for path in self._paths:
            # Pre-buffering would hold whole row groups of all columns at once.
            with pq.ParquetFile(path, pre_buffer=False) as file:
                lacking = set(names) - set(file.schema_arrow.names)
                if lacking:
                    raise Invalid(f"{path.name} has no column {min(lacking)!r}, which others have.")
                for batch in file.iter_batches(CHUNK, columns=names, use_threads=False):
                    yield without_dictionaries(pa.Table.from_batches([batch]))


def _files(path: Path) -> list[Path]:
    found = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not found or not found[0].exists():
        raise NotFound(f"No Parquet file at {path}.")
    try:
        pq.read_schema(found[0])
    except pa.ArrowException:
        raise Invalid(f"{found[0]} is not a Parquet file.") from None
    return found


def is_log(log: Any) -> bool:
    """Whether this is an endpoint's Log."""
    return hasattr(log, "joined") and hasattr(log, "endpoint")


def _table(log: Any, known_by: datetime | None) -> pa.Table:
    if is_log(log):
        view: LogView = log
        if known_by is None:
            raise ValueError("known_by is needed to read a Log")
        return view.joined(known_by=known_by, shadow=False, features=True)
    return to_arrow(log)


def column_numbers(table: pa.Table, name: str) -> Floats:
    """A column as float64, nan where null. Raises Invalid for one that holds no numbers."""
    kind = table.schema.field(name).type
    if pa.types.is_null(kind):
        return np.full(len(table), np.nan)
    if not (pa.types.is_boolean(kind) or pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise Invalid(
            f"The column {name!r} has no numbers but {kind}.",
            hint="Name a column of numbers or booleans.",
        )
    return floats(table[name])
