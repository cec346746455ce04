"""Snapshot: a Log at one moment, read as rows with labels and, without any order, as features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from upturn.core.log import FEATURE_PREFIX
from upturn.core.time import micros
from upturn.improve.log_query import Parts, Reader, Rows

Meets = Callable[[Path, datetime, datetime], bool]
_OWN = ("at", "version", "shadow", "score", "answer", "error")
_SLIM = ("id", "at", "arm", "version", "shadow", "score", "latency_s", "rate")


class Snapshot:
    """The same rows at each read, whatever is written meanwhile.

    A read raises FileNotFoundError, or DuckDB's IOException, where compaction has replaced a file
    since: then one begins anew with another snapshot, see `steadily`.
    """

    def __init__(
        self, reader: Reader, predictions: Parts, feedback: Parts, known_by: datetime, meets: Meets
    ) -> None:
        self._reader = reader
        self._predictions = predictions
        self._feedback = feedback
        self._known_by = known_by
        self._meets = meets

    @cached_property
    def _footers(self) -> dict[Path, Any]:
        return {path: pq.read_metadata(path) for path in self._predictions.paths}

    @cached_property
    def features(self) -> frozenset[str]:
        """The names of the features that any row has."""
        schemas = [footer.schema.names for footer in self._footers.values()]
        names = {
            name for names in (*schemas, self._predictions.tail.column_names) for name in names
        }
        return frozenset(
            name.removeprefix(FEATURE_PREFIX) for name in names if name.startswith(FEATURE_PREFIX)
        )

    def slim(
        self,
        since: datetime,
        until: datetime,
        features: Sequence[str] = (),
        *,
        answers: bool = False,
    ) -> pa.Table:
        """As LogView.joined, with the columns that judging takes and the features that are named.

        There is an `answer` only if `answers` asks for it: to spell out scores takes long.
        """
        names = [FEATURE_PREFIX + name for name in features if name in self.features]
        only = (*_SLIM, *(["answer"] if answers else []), *names)
        rows = Rows(since, until, None, None, None, bool(names), False, None, only)
        paths = [path for path in self._predictions.paths if self._meets(path, since, until)]
        tail = self._predictions.tail
        for name in set(names) - set(tail.column_names):
            # Files of that time may lack it, which are then read as if they had it.
            tail = tail.append_column(name, pa.nulls(tail.num_rows))
        return self._reader.joined(Parts(paths, tail), self._feedback, rows, self._known_by)

    def parts(
        self, since: datetime, until: datetime, features: Sequence[str]
    ) -> Iterator[pa.Table]:
        """The answered rows of [since, until), a row group at a time, as they lie.

        Features bear the model's names of them and text is dictionary-encoded; those that a file
        lacks are nulls. Beside them are `at`, `version`, `score` and `answer`, as "@at" and so on.
        """
        wanted = [name for name in features if name in self.features]
        for table in self._groups(since, until, [FEATURE_PREFIX + name for name in wanted]):
            rows = _answered(table, since, until)
            if rows.num_rows:
                yield _named(rows, wanted)

    def _groups(
        self, since: datetime, until: datetime, features: Sequence[str]
    ) -> Iterator[pa.Table]:
        for path, footer in self._footers.items():
            schema = footer.schema.to_arrow_schema()
            with pq.ParquetFile(
                path,
                metadata=footer,
                read_dictionary=[one.name for one in schema if pa.types.is_string(one.type)],
                pre_buffer=False,  # what is read ahead stays in memory
            ) as file:
                names = [name for name in (*_OWN, *features) if name in schema.names]
                for group in range(footer.num_row_groups):
                    if _may_meet(footer, group, since, until):
                        yield file.read_row_group(group, columns=names, use_threads=False)
        yield self._predictions.tail


def _may_meet(footer: Any, group: int, since: datetime, until: datetime) -> bool:
    """Whether a row group can have rows in [since, until)."""
    known = footer.row_group(group).column(footer.schema.names.index("at")).statistics
    if known is None or not known.has_min_max:
        return True
    return micros(known.max) >= micros(since) and micros(known.min) < micros(until)


def _answered(table: pa.Table, since: datetime, until: datetime) -> pa.Table:
    at = table["at"].cast(pa.int64()).to_numpy()
    some = (at >= micros(since)) & (at < micros(until))
    shadow: Any = table["shadow"]
    some &= ~np.asarray(shadow.fill_null(True).to_numpy())
    if "error" in table.column_names and table["error"].null_count < table.num_rows:
        some &= np.asarray(table["error"].combine_chunks().is_null())
    return table if some.all() else table.filter(pa.array(some))


def _named(rows: pa.Table, features: Sequence[str]) -> pa.Table:
    columns: dict[str, Any] = {}
    for name in ("at", "version", "score", "answer"):
        columns[f"@{name}"] = rows[name] if name in rows.column_names else pa.nulls(rows.num_rows)
    for name in features:
        full = FEATURE_PREFIX + name
        columns[name] = rows[full] if full in rows.column_names else pa.nulls(rows.num_rows)
    return pa.Table.from_pydict(columns)
