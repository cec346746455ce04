"""Logged rows as the arrays that comparisons take: inputs, days, hours, seconds."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa

from upturn.core.log import FEATURE_PREFIX

_HOUR, _DAY = 3_600_000_000, 86_400_000_000  # microseconds
_ENOUGH_DAYS = 21  # in a stage of fewer, its blocks are hours


def inputs(rows: pa.Table) -> pa.Table:
    """The features of rows of the Log, under a model's names of them, and the ids."""
    names = [name for name in rows.column_names if name.startswith(FEATURE_PREFIX)]
    table = rows.select(["id", *names])
    return table.rename_columns(["id", *(name.removeprefix(FEATURE_PREFIX) for name in names)])


def days(rows: pa.Table) -> np.ndarray:
    """The UTC day of each row: what it is drawn together with, since a day's errors go together."""
    return _at(rows) // _DAY


def blocks(rows: pa.Table, lasts: timedelta) -> tuple[np.ndarray, int]:
    """The block of each row of a stage, and how many a stage of that length has.

    Days in a stage of three weeks or more, else hours. That is settled before the stage begins: a
    sequence of looks has to be at one and the same thing. Hours of one day are more alike than the
    bound can tell from a few days, so a short stage errs a little more often, on the side of a
    rollback.
    """
    size = _DAY if lasts >= timedelta(days=_ENOUGH_DAYS) else _HOUR
    return _at(rows) // size, max(1, round(lasts / timedelta(microseconds=size)))


def seconds(rows: pa.Table) -> np.ndarray:
    """The latencies of the rows that have one."""
    found = np.asarray(rows["latency_s"].to_numpy(), dtype=np.float64)
    return found[~np.isnan(found)]


def _at(rows: pa.Table) -> np.ndarray:
    return np.asarray(rows["at"].combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False))
