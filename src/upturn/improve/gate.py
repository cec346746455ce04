"""Gate evidence: candidate and champion on the same fresh labelled rows, and on parts of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.errors import UpturnError
from upturn.improve.actions import Actions
from upturn.improve.compare import Comparison, compare_paired, p_beyond
from upturn.improve.evidence import GateSeen, SliceSeen
from upturn.improve.logged import days, inputs
from upturn.improve.loop import Loop
from upturn.improve.metrics import METRICS
from upturn.improve.monitor.performance import outcomes
from upturn.improve.rollout import Beats, Gate, NoWorse, Slices, parts
from upturn.improve.state import Gating
from upturn.improve.triggers import greater_is_better

if TYPE_CHECKING:
    from upturn.improve.log import LogView

OTHERS = "others"
_VALUES = 20  # a number with more of them is cut into quarters


def gate_seen(
    loop: Loop, state: Gating, log: LogView, actions: Actions, now: datetime
) -> GateSeen | None:
    """What the loop's gate is judged by, as of `now`; None for a loop without a gate."""
    if loop.gate is None:
        return None
    # Rows on which either was trained would favour it.
    ends = [state.champion.trained_until, state.candidate.trained_until, now - 2 * loop.holdout]
    since = max(end for end in ends if end is not None)
    rows = log.joined(since=since, until=now, known_by=now, shadow=False, features=True)
    total = rows.num_rows
    rows = rows.filter(pc.is_valid(rows["label"]))
    found = GateSeen(
        since=since,
        until=now,
        rows=total,
        labelled=rows.num_rows,
        newest=pc.max(rows["known_at"]).as_py() if rows.num_rows else None,
    )
    if rows.num_rows < loop.min_rows:
        lack = f"{rows.num_rows:,} labelled rows are too few of {loop.min_rows:,}"
        return msgspec.structs.replace(found, note=lack)
    candidate = actions.version(state.candidate.version)
    truth = outcomes(rows, candidate.signature)
    table = inputs(rows)
    try:
        old = actions.score(state.champion.version, table)
        new = actions.score(state.candidate.version, table)
    except UpturnError as error:
        lack = f"the Log's rows can't be scored: {error}"
        return msgspec.structs.replace(found, note=lack, impossible=True)
    judge = _Judge(loop.gate, truth, old, new, days(rows), table, seed_of(loop, now))
    if judge.missing:
        lack = f"the Log has no {judge.missing!r} to judge parts by"
        return msgspec.structs.replace(found, note=lack, impossible=True)
    compared = [judge.whole(gate) for gate in parts(loop.gate)]
    for one in compared:
        if not one.conclusive:
            lack = f"the rows are too few or too alike to compare {one.metric}"
            return msgspec.structs.replace(found, note=lack)
    return msgspec.structs.replace(
        found,
        comparison=compared[0],
        further=tuple(compared[1:]),
        values=_values(loop, truth, new),
        slices=judge.slices(),
    )


def seed_of(loop: Loop, now: datetime) -> int:
    """The seed of what is drawn at random for this loop at this time."""
    return crc32(f"{loop.name} {now.isoformat()}".encode())


class _Judge:
    """Both models' scores of the same rows, and what the parts of a gate ask of them."""

    def __init__(
        self,
        gate: Gate,
        truth: np.ndarray,
        old: np.ndarray,
        new: np.ndarray,
        block: np.ndarray,
        table: pa.Table,
        seed: int,
    ) -> None:
        self._gate = gate
        self._arrays = truth, old, new, block
        self._usable = ~(np.isnan(truth) | np.isnan(old) | np.isnan(new))
        self._table = table
        self._seed = seed
        asked = [name for part in parts(gate) if part.slices for name in part.slices.names]
        self.missing = next((name for name in asked if name not in table.column_names), "")

    def whole(self, gate: Beats | NoWorse) -> Comparison:
        """The gate's metric on all rows."""
        return self._compare(gate, np.ones(len(self._usable), dtype=np.bool_))

    def slices(self) -> tuple[tuple[SliceSeen, ...], ...]:
        """For each part of the gate the parts of the rows that it asks about."""
        gates = parts(self._gate)
        if all(gate.slices is None for gate in gates):
            return ()
        return tuple(
            tuple(self._slices(gate, gate.slices)) if gate.slices else () for gate in gates
        )

    def _compare(self, gate: Beats | NoWorse, rows: np.ndarray) -> Comparison:
        truth, old, new, block = (array[rows] for array in self._arrays)
        return compare_paired(
            gate.metric, truth, old, new, block, alpha=gate.alpha, seed=self._seed
        )

    def _slices(self, gate: Beats | NoWorse, slices: Slices) -> Iterator[SliceSeen]:
        for name in slices.names:
            small = np.zeros(len(self._usable), dtype=np.bool_)
            for value, rows in parted(self._table[name]):
                if int((rows & self._usable).sum()) < slices.min_rows:
                    small |= rows
                else:
                    yield self._slice(gate, slices, f"{name}={value}", rows)
            if small.any():
                yield self._slice(gate, slices, f"{name}={OTHERS}", small)

    def _slice(
        self, gate: Beats | NoWorse, slices: Slices, name: str, rows: np.ndarray
    ) -> SliceSeen:
        count = int((rows & self._usable).sum())
        if count < slices.min_rows:
            return SliceSeen(name=name, rows=count)
        found = self._compare(gate, rows)
        if not found.conclusive:
            return SliceSeen(name=name, rows=count)
        worse = not greater_is_better(gate.metric)
        p_harm = p_beyond(found, slices.no_worse_by, more=worse)
        return SliceSeen(name=name, rows=count, comparison=found, p_harm=p_harm)


def parted(column: pa.ChunkedArray[Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The values of a column with the rows that have each; of many numbers, four quarters.

    >>> [(name, rows.tolist()) for name, rows in parted(pa.chunked_array([["a", None, "a"]]))]
    [('a', [True, False, True]), ('missing', [False, True, False])]
    """
    missing = pc.is_null(column, nan_is_null=True).to_numpy()
    kind = column.type
    number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
    if number and pc.count_distinct(column).as_py() > _VALUES:
        values = column.cast(pa.float64()).to_numpy()
        edges = np.unique(np.quantile(values[~missing], (0.25, 0.5, 0.75)))
        quarter = np.searchsorted(edges, values, side="left")
        for place in range(len(edges) + 1):
            rows = (quarter == place) & ~missing
            if rows.any():
                below = f"up to {edges[place]:.3g}" if place < len(edges) else ""
                yield below or f"above {edges[-1]:.3g}", rows
    else:
        texts = ["" if text is None else text for text in column.cast(pa.string()).to_pylist()]
        names, places = np.unique(texts, return_inverse=True)
        for place, name in enumerate(names.tolist()):
            rows = (places == place) & ~missing
            if rows.any():
                yield str(name), rows
    if missing.any():
        yield "missing", missing


def _values(loop: Loop, truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    usable = ~(np.isnan(truth) | np.isnan(predicted))
    found = {
        name: METRICS[name].function(truth[usable], predicted[usable]) for name in loop.metrics
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}
