"""The Log's queries, in DuckDB: the one definition of what joining predictions and labels means."""

import glob
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.core.errors import Invalid
from upturn.core.log import PREDICTION_COLUMNS

_AT = pa.timestamp("us", "UTC")
_TYPES: dict[str, pa.DataType] = {
    "id": pa.string(),
    "at": _AT,
    "received_at": _AT,
    "route": pa.int32(),
    "arm": pa.string(),
    "version": pa.int32(),
    "shadow": pa.bool_(),
    "unit": pa.string(),
    "propensity": pa.float64(),
    "score": pa.float64(),
    "answer": pa.string(),
    "latency_s": pa.float64(),
    "request": pa.string(),
    "rate": pa.float64(),
    "error": pa.string(),
}
PREDICTION_SCHEMA = pa.schema([(name, _TYPES[name]) for name in PREDICTION_COLUMNS])
FEEDBACK_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.float64()),
        ("label_text", pa.string()),
        ("known_at", _AT),
        ("received_at", _AT),
    ]
)

# What a null stands for.
_MEANT = {
    "answer": "coalesce(answer, CAST(score AS VARCHAR)) AS answer",
    "rate": "coalesce(rate, 1.0) AS rate",
}
_OWN = ", ".join(f'"{name}"' for name in PREDICTION_COLUMNS)
_AS_MEANT = ", ".join(_MEANT.get(name, f'"{name}"') for name in PREDICTION_COLUMNS)
# What a query of one's own can ask.
_VIEWS = {
    "predictions": (
        f"CREATE VIEW predictions AS SELECT {_AS_MEANT}, * EXCLUDE ({_OWN}) FROM {{source}}"
    ),
    "feedback": "CREATE VIEW feedback AS SELECT id, label, label_text, known_at, received_at "
    "FROM {source}",
    "gaps": "CREATE VIEW gaps AS SELECT * FROM {source}",
}
_LABELS = """
    CREATE VIEW labels AS
    SELECT id, newest.label AS label, newest.label_text AS label_text, newest.known_at AS known_at
    FROM (
        SELECT id, max(struct_pack(known_at, received_at, label, label_text)) AS newest
        FROM feedback GROUP BY id
    )"""
_SQL_HINT = (
    "There are the tables predictions, labels, feedback and gaps. "
    'Write the column "at" and features as "features.name", in quotes.'
)


@dataclass(frozen=True, slots=True)
class Rows:
    """Which predictions are asked for."""

    since: datetime | None
    until: datetime | None
    arm: str | None
    version: int | None
    shadow: bool | None
    features: bool
    errors: bool
    received_by: datetime | None = None
    only: tuple[str, ...] = ()  # if it names any: the columns, in place of all

    def predicate(self) -> tuple[str, list[Any]]:
        """The condition in SQL, and its parameters."""
        asked = {
            '"at" >= ?': self.since,
            '"at" < ?': self.until,
            "arm = ?": self.arm,
            "version = ?": self.version,
            "shadow = ?": self.shadow,
            'coalesce(received_at, "at") <= ?': self.received_by,
        }
        given = {term: value for term, value in asked.items() if value is not None}
        terms = list(given) if self.errors else [*given, "error IS NULL"]
        return " AND ".join(terms) or "true", list(given.values())


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the rows of one kind are: sealed files, and a table of the rest."""

    paths: Sequence[Path]
    tail: pa.Table


class Reader:
    """The queries of both Logs, in DuckDB: there is one definition of what `joined` means."""

    def __init__(self, spill: Path | None) -> None:
        self._lock = threading.Lock()  # names are registered on the connection while a query runs
        self._spill = spill
        self._connection = _connect(spill)

    def predictions(self, parts: Parts, rows: Rows) -> pa.Table:
        where, parameters = rows.predicate()
        query = f"""
            SELECT {_columns(rows)} FROM {_source(parts, "predictions")} AS p
            WHERE {where} ORDER BY "at", id, arm, version"""
        return _typed(self._run(query, parameters, predictions=parts.tail))

    def joined(
        self, predictions: Parts, feedback: Parts, rows: Rows, known_by: datetime
    ) -> pa.Table:
        where, parameters = rows.predicate()
        told = "" if rows.received_by is None else "AND coalesce(received_at, known_at) <= ?"
        told_by = [] if rows.received_by is None else [rows.received_by]
        # The newest feedback of an id is its greatest row. The label itself comes last, so that a
        # tie in both times is broken the same way each time the Log is read.
        query = f"""
            WITH p AS MATERIALIZED (
                SELECT {_columns(rows)} FROM {_source(predictions, "predictions")} WHERE {where}
            ), f AS (
                SELECT id, max(struct_pack(known_at, received_at, label, label_text)) AS newest
                FROM {_source(feedback, "feedback")}
                WHERE known_at <= ? {told} AND id IN (SELECT id FROM p) GROUP BY id
            )
            SELECT p.*, f.newest.label AS label, f.newest.label_text AS label_text,
                f.newest.known_at AS known_at
            FROM p LEFT JOIN f ON p.id = f.id ORDER BY p."at", p.id, p.arm, p.version"""
        found = self._run(
            query,
            [*parameters, known_by, *told_by],
            predictions=predictions.tail,
            feedback=_with_text(feedback.tail),
        )
        return one_label(_typed(found))

    def has(self, parts: Parts, ids: Sequence[str]) -> NDArray[np.bool_]:
        asked = pa.Table.from_pydict(
            {"id": pa.array(ids, pa.string()), "place": np.arange(len(ids))}
        )
        query = f"""
            SELECT place FROM asked
            WHERE id IN (SELECT id FROM {_source(parts, "predictions")})"""
        found = np.zeros(len(ids), dtype=np.bool_)
        places = self._run(query, [], predictions=parts.tail, asked=asked)["place"]
        found[places.to_numpy()] = True
        return found

    def unmatched(
        self, predictions: Parts, feedback: Parts, since: datetime, until: datetime
    ) -> int:
        query = f"""
            SELECT count(DISTINCT id) AS ids FROM {_source(feedback, "feedback")}
            WHERE received_at >= ? AND received_at < ?
            AND id NOT IN (SELECT id FROM {_source(predictions, "predictions")})"""
        tails = {"predictions": predictions.tail, "feedback": _with_text(feedback.tail)}
        return int(self._run(query, [since, until], **tails)["ids"][0].as_py())

    def sql(self, query: str, views: Mapping[str, Parts]) -> pa.Table:
        """What a query of one's own says of the views. Raises Invalid when it can't be answered."""
        with _connect(self._spill) as own:
            for name, parts in views.items():
                own.register(f"{name}_tail", parts.tail)
                source = _source(parts, f"{name}_tail")
                own.execute(_VIEWS[name].format(source=source))
            own.execute(_LABELS)
            try:
                kinds = [one.type for one in own.extract_statements(query)]
                if kinds != [duckdb.StatementType.SELECT]:
                    raise Invalid("That is not one query that gives rows.", hint=_SQL_HINT)
                return own.sql(query).to_arrow_table()
            except duckdb.IOException:
                raise  # a file was replaced meanwhile: see `StoredLog`
            except duckdb.Error as error:
                said = str(error).splitlines()[0]
                raise Invalid(f"The query can't be answered: {said}", hint=_SQL_HINT) from None

    def _run(self, query: str, parameters: list[Any], **tables: pa.Table) -> pa.Table:
        with self._lock:
            for name, table in tables.items():
                self._connection.register(name, table)
            try:
                return self._connection.sql(query, params=parameters).to_arrow_table()
            finally:
                for name in tables:
                    self._connection.unregister(name)


def _connect(spill: Path | None) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": 2,
            "memory_limit": "1GB",
            "temp_directory": "" if spill is None else str(spill),
            "autoinstall_known_extensions": False,  # never reaches for the network
        },
    )
    connection.execute("SET TimeZone = 'UTC'; SET parquet_metadata_cache = true")
    return connection


def _source(parts: Parts, tail: str) -> str:
    """The rows of one kind as SQL; files written at different times may differ in their columns."""
    if not parts.paths:
        return tail
    names = ", ".join(map(_quoted, parts.paths))
    files = f"SELECT * FROM read_parquet([{names}], union_by_name=true, hive_partitioning=false)"
    # The tail has all the columns, which files of another time may lack.
    return f"({files} UNION ALL BY NAME SELECT * FROM {tail})"


def _quoted(path: Path) -> str:
    # A path is a pattern to DuckDB: `[` and `*` in a directory's name must not be one.
    pattern = glob.escape(str(path)).replace("'", "''")
    return f"'{pattern}'"


def _columns(rows: Rows) -> str:
    if rows.only:
        return ", ".join(_MEANT.get(name, _identifier(name)) for name in rows.only)
    return f"{_AS_MEANT}, * EXCLUDE ({_OWN})" if rows.features else _AS_MEANT


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _typed(table: pa.Table) -> pa.Table:
    """The table with the Log's own types where a part had others: a column of nulls, say."""
    for field in PREDICTION_SCHEMA:
        place = table.schema.get_field_index(field.name)
        if place >= 0 and table.schema.field(place).type != field.type:
            table = table.set_column(place, field, table.column(place).cast(field.type))
    return table


def one_label(table: pa.Table) -> pa.Table:
    """`label` as text if any label is, else as a number."""
    text = table["label_text"]
    label = table["label"].cast(pa.float64())
    if text.null_count < len(text):
        label = pc.coalesce(text.cast(pa.string()), label.cast(pa.string()))
    place = table.schema.get_field_index("label")
    return table.set_column(place, "label", label).drop_columns(["label_text"])


def _with_text(feedback: pa.Table) -> pa.Table:
    missing = [field for field in FEEDBACK_SCHEMA if field.name not in feedback.column_names]
    for field in missing:
        feedback = feedback.append_column(field, pa.nulls(len(feedback), field.type))
    return feedback
