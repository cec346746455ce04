"""LogView: the Log as tables of predictions, joined with what was known of them at a given time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from upturn.core.log import FEATURE_PREFIX
from upturn.core.records import Endpoint
from upturn.core.time import micros
from upturn.improve.log_query import FEEDBACK_SCHEMA, PREDICTION_SCHEMA, Parts, Reader, Rows
from upturn.improve.log_snapshot import Snapshot
from upturn.stores.journal import Kind
from upturn.stores.segments import segments
from upturn.stores.workspace import Workspace, open_workspace

T = TypeVar("T")
_TRIES = 5


class LogView(Protocol):
    """The Log of one endpoint, to read. Safe to use from several threads.

    Rows come ordered by `at`, then id, then arm, whatever way they were written. A shadow's row has
    the id of the row that it shadows, so both get the same label.
    """

    @property
    def endpoint(self) -> str:
        """The name of the endpoint."""
        ...

    def predictions(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        arm: str | None = None,
        version: int | None = None,
        shadow: bool | None = None,
        features: bool = True,
        errors: bool = False,
        received_by: datetime | None = None,
    ) -> pa.Table:
        """The rows with `since` <= at < `until`: PREDICTION_COLUMNS, then `features.<name>`.

        Rows that a model failed have no answer and are left out, unless `errors` is set. With
        `received_by` (inclusive) the Log is read as it was then.
        """
        ...

    def joined(
        self,
        *,
        known_by: datetime,
        since: datetime | None = None,
        until: datetime | None = None,
        arm: str | None = None,
        version: int | None = None,
        shadow: bool | None = None,
        features: bool = False,
        errors: bool = False,
        received_by: datetime | None = None,
    ) -> pa.Table:
        """As `predictions`, with `label` and `known_at`; null where nothing was known by then.

        Of several feedbacks for an id that were known by `known_by` (inclusive), the one with the
        greatest known_at counts, then received_at. If it is null, the label was withdrawn. `label`
        is float64 (false and true are 0 and 1), or string where any label of the result is text.
        """
        ...


class StoredLog:
    """The Log as the endpoint's servers wrote it: sealed Parquet, and journals still open.

    It can be read while it is written, sealed and compacted: each row is there once.
    """

    def __init__(self, workspace: Workspace, endpoint: str) -> None:
        self.endpoint = endpoint
        self._directory = workspace.log_dir / endpoint
        self._reader = Reader(workspace.settings.home / "tmp" / "duckdb")
        self._spans: dict[tuple[Path, str], _Span] = {}

    def predictions(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        arm: str | None = None,
        version: int | None = None,
        shadow: bool | None = None,
        features: bool = True,
        errors: bool = False,
        received_by: datetime | None = None,
    ) -> pa.Table:
        """See LogView."""
        rows = Rows(since, until, arm, version, shadow, features, errors, received_by)
        return steadily(lambda: self._reader.predictions(self._predictions(since, until), rows))

    def joined(
        self,
        *,
        known_by: datetime,
        since: datetime | None = None,
        until: datetime | None = None,
        arm: str | None = None,
        version: int | None = None,
        shadow: bool | None = None,
        features: bool = False,
        errors: bool = False,
        received_by: datetime | None = None,
    ) -> pa.Table:
        """See LogView."""
        rows = Rows(since, until, arm, version, shadow, features, errors, received_by)

        def ask() -> pa.Table:
            predictions = self._predictions(since, until)
            return self._reader.joined(predictions, self._feedback(known_by), rows, known_by)

        return steadily(ask)

    def snapshot(self, since: datetime, until: datetime, known_by: datetime) -> Snapshot:
        """The rows of [since, until) as they are now, to be read more than once: see `steadily`."""
        return Snapshot(
            self._reader,
            self._predictions(since, until),
            self._feedback(known_by),
            known_by,
            lambda path, begin, end: self._span(path, "at").meets(begin, end),
        )

    def sql(self, query: str) -> pa.Table:
        """What a query in DuckDB's SQL says of the Log as it is now.

        Its tables are `predictions` (PREDICTION_COLUMNS, then `"features.<name>"`; rows that a
        model failed have an `error`), `labels` (the newest of each id), `feedback` (all of them)
        and `gaps` (rows that could not be written). Raises Invalid when it can't be answered.
        """

        def ask() -> pa.Table:
            views = {
                "predictions": self._predictions(None, None),
                "feedback": self._feedback(None),
                "gaps": self._parts("gaps"),
            }
            return self._reader.sql(query, views)

        return steadily(ask)

    def gaps(self) -> pa.Table:
        """From when to when how many rows were lost, and why: GAP_COLUMNS, in order of time."""
        return self.sql("SELECT * FROM gaps ORDER BY began_at, ended_at, rows")

    def find(self, prediction: str) -> list[dict[str, Any]]:
        """The rows of one prediction: that of the arm that answered, and those of shadows."""
        rows = self.predictions(features=False, errors=True)
        return rows.filter(pc.equal(rows["id"], pa.scalar(prediction))).to_pylist()

    def has(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """For each id, whether there is a prediction with it."""
        return steadily(lambda: self._reader.has(self._predictions(None, None), ids))

    def unmatched(self, *, since: datetime, until: datetime) -> int:
        """How many ids have feedback received in [since, until) but no prediction.

        Of a Log that is sampled most are of predictions that were answered and not logged.
        """

        def ask() -> int:
            predictions, feedback = self._predictions(None, None), self._feedback(None)
            return self._reader.unmatched(predictions, feedback, since, until)

        return steadily(ask)

    def _predictions(self, since: datetime | None, until: datetime | None) -> Parts:
        found = segments(self._directory, "predictions")
        paths = [path for path in found.parquet if self._span(path, "at").meets(since, until)]
        return Parts(paths, found.tail)

    def _feedback(self, known_by: datetime | None) -> Parts:
        found = segments(self._directory, "feedback")
        paths = [path for path in found.parquet if self._span(path, "known_at").begins_by(known_by)]
        return Parts(paths, found.tail)

    def _parts(self, kind: Kind) -> Parts:
        found = segments(self._directory, kind)
        return Parts(found.parquet, found.tail)

    def _span(self, path: Path, column: str) -> "_Span":
        # A sealed file never changes, so its footer is read once.
        if (path, column) not in self._spans:
            self._spans[path, column] = _parquet_span(path, column)
        return self._spans[path, column]


def read_log(endpoint: str, workspace: Workspace | None = None) -> StoredLog:
    """The Log of an endpoint, to read with SQL or as tables, while it is written.

    Raises NotFound when there is no such endpoint.
    """
    workspace = workspace or open_workspace()
    return StoredLog(workspace, workspace.meta.get(Endpoint, endpoint).name)


def steadily(ask: Callable[[], T]) -> T:
    """Ask again when a file was gone before it was read: a larger one has its rows by then.

    `ask` begins anew each time, with the files that there are then.
    """
    for _ in range(_TRIES):
        try:
            return ask()
        except (FileNotFoundError, duckdb.IOException):
            continue
    return ask()


class MemoryLog:
    """A Log held in memory, with the semantics of a stored one: what a rehearsal writes to.

    Columns that a table lacks are null, but `shadow` is false, `rate` is 1, and `received_at` is
    `at` or `known_at`. A `label` column may be numeric, boolean or text.
    """

    def __init__(
        self,
        endpoint: str,
        predictions: pa.Table | None = None,
        feedback: pa.Table | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._reader = Reader(None)
        self._predictions: list[tuple[_Span, pa.Table]] = []
        self._feedback: list[tuple[_Span, pa.Table]] = []
        self.append(predictions, feedback)

    def append(self, predictions: pa.Table | None = None, feedback: pa.Table | None = None) -> None:
        """Add rows; ones appended in the order of `at` make reading a window cheap."""
        if predictions is not None and predictions.num_rows:
            table = _prediction_table(predictions)
            self._predictions.append((_table_span(table, "at"), table))
        if feedback is not None and feedback.num_rows:
            table = _feedback_table(feedback)
            self._feedback.append((_table_span(table, "known_at"), table))

    def predictions(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        arm: str | None = None,
        version: int | None = None,
        shadow: bool | None = None,
        features: bool = True,
        errors: bool = False,
        received_by: datetime | None = None,
    ) -> pa.Table:
        """See LogView."""
        rows = Rows(since, until, arm, version, shadow, features, errors, received_by)
        return self._reader.predictions(self._within(since, until), rows)

    def joined(
        self,
        *,
        known_by: datetime,
        since: datetime | None = None,
        until: datetime | None = None,
        arm: str | None = None,
        version: int | None = None,
        shadow: bool | None = None,
        features: bool = False,
        errors: bool = False,
        received_by: datetime | None = None,
    ) -> pa.Table:
        """See LogView."""
        rows = Rows(since, until, arm, version, shadow, features, errors, received_by)
        known = [table for span, table in list(self._feedback) if span.begins_by(known_by)]
        feedback = Parts([], _stacked(known, FEEDBACK_SCHEMA))
        return self._reader.joined(self._within(since, until), feedback, rows, known_by)

    def _within(self, since: datetime | None, until: datetime | None) -> Parts:
        tables = [t for span, t in list(self._predictions) if span.meets(since, until)]
        return Parts([], _stacked(tables, PREDICTION_SCHEMA))


@dataclass(frozen=True, slots=True)
class _Span:
    """The least and the greatest instant in a part of the Log, in microseconds; None: unknown."""

    low: int | None
    high: int | None

    def meets(self, since: datetime | None, until: datetime | None) -> bool:
        """Whether the part may have rows in [since, until)."""
        if self.low is None or self.high is None:
            return True
        return (until is None or self.low < micros(until)) and (
            since is None or self.high >= micros(since)
        )

    def begins_by(self, at: datetime | None) -> bool:
        """Whether the part may have rows at or before that instant."""
        return at is None or self.low is None or self.low <= micros(at)


def _prediction_table(table: pa.Table) -> pa.Table:
    features = [name for name in table.column_names if name.startswith(FEATURE_PREFIX)]
    columns = {field.name: _column(table, field) for field in PREDICTION_SCHEMA}
    columns["shadow"] = columns["shadow"].fill_null(False)
    columns["rate"] = columns["rate"].fill_null(1.0)
    columns["received_at"] = pc.coalesce(columns["received_at"], columns["at"])
    return pa.Table.from_pydict(columns | {name: table[name] for name in features})


def _feedback_table(table: pa.Table) -> pa.Table:
    if "label" in table.column_names and _is_text(table.schema.field("label").type):
        place = table.schema.get_field_index("label")
        table = table.set_column(place, "label_text", table["label"])
    columns = {field.name: _column(table, field) for field in FEEDBACK_SCHEMA}
    columns["received_at"] = pc.coalesce(columns["received_at"], columns["known_at"])
    return pa.Table.from_pydict(columns)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _column(table: pa.Table, field: "pa.Field[Any]") -> Any:
    if field.name not in table.column_names:
        return pa.nulls(len(table), field.type)
    return table[field.name].cast(field.type)


def _stacked(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    if not tables:
        return schema.empty_table()
    return pa.concat_tables(tables, promote_options="permissive")


def _table_span(table: pa.Table, column: str) -> _Span:
    found: Any = pc.min_max(table[column].cast(pa.int64())).as_py()
    return _Span(found["min"], found["max"])


def _parquet_span(path: Path, column: str) -> _Span:
    footer = pq.read_metadata(path)
    place = footer.schema.names.index(column)
    groups = (
        footer.row_group(group).column(place).statistics for group in range(footer.num_row_groups)
    )
    return _span_of(groups)


def _span_of(statistics: Iterable[Any]) -> _Span:
    known = list(statistics)
    if not known or any(one is None or not one.has_min_max for one in known):
        return _Span(None, None)
    return _Span(micros(min(one.min for one in known)), micros(max(one.max for one in known)))
