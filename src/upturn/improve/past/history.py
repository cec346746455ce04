"""History: any table with a time, a label and when the label was known, as a loop's past."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.time import duration
from upturn.model.tables import to_arrow

OWN = ("at", "known_at", "label")
_AT = pa.timestamp("us", "UTC")
_HINT = "It takes at, known_at (null when never), label and the model's inputs."
_READ = (".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".ndjson")


class History(msgspec.Struct, frozen=True, kw_only=True):
    """A table, or the path of one, and what its columns are called; see `history`."""

    table: Any
    at: str
    label: str
    known_at: str | None
    known_after: timedelta | None
    zone: str | None
    drop: tuple[str, ...] = ()


def history(
    table: Any,
    *,
    at: str = "at",
    label: str = "label",
    known_at: str | None = None,
    known_after: str | float | timedelta | None = None,
    zone: str | None = None,
    drop: Sequence[str] = (),
) -> History:
    """Past rows for a rehearsal from any table: it need not have been served by Upturn.

    `table` is a pandas, polars or Arrow table, a DuckDB relation, or the path of a Parquet, CSV or
    JSON lines file. `at` names the column that says when a row happened, `label` what turned out to
    be true, and `known_at` when that was known (null: never); where no column says so,
    `known_after` is how long it took: '3d'. `zone` is where times without a zone were written down:
    'UTC', 'America/New_York'. When a clock goes back, its doubled hour counts as the first for
    `at`, and as the second for `known_at`, so that no label is seen too early.

    All other columns are inputs, but those in `drop`: what was not known at `at` has to go. Raises
    Invalid unless exactly one of `known_at` and `known_after` is given, or `known_at` is the name
    of a column of the table by default.

    >>> import upturn as up
    >>> past = up.history("flights.parquet", at="departed", label="late", known_after="1d")
    >>> past.known_after
    datetime.timedelta(days=1)
    """
    if known_at is not None and known_after is not None:
        raise Invalid(
            "known_at and known_after both say when a label was known.", hint="Give one of them."
        )
    delay = None if known_after is None else duration(known_after)
    if delay is not None and delay < timedelta(0):
        raise Invalid(
            f"known_after={known_after!r}: no label is known before its row happened.",
            hint="Give the time from a row to its label, as '3d'.",
        )
    if known_at is None and delay is None:
        known_at = "known_at"
    return History(
        table=table,
        at=at,
        label=label,
        known_at=known_at,
        known_after=delay,
        zone=zone,
        drop=tuple(drop),
    )


def as_history(table: Any) -> pa.Table:
    """A table, or a `History`, with `at` and `known_at` in UTC, `label` as numbers or text.

    The other columns are the inputs. Raises Invalid, naming the column, where it can't be.
    """
    said = table if isinstance(table, History) else history(table)
    rows = _rows(said.table)
    named = [said.at, said.label, *([said.known_at] if said.known_at else []), *said.drop]
    for name in named:
        if name not in rows.column_names:
            raise _missing(name, said, rows)
    _check_distinct(said)
    at = _instants(rows, said.at, said, late=False)
    if at.null_count:
        raise Invalid(
            f"The history has rows without a time in {said.at!r}: {at.null_count:,} of"
            f" {len(at):,}.",
            hint="Leave them out: nobody can say when they would have been answered.",
        )
    known_at = _known(rows, said, at)
    _check_order(said, at, known_at)
    columns: dict[str, Any] = {"at": at, "known_at": known_at, "label": _label(rows, said.label)}
    gone = {said.label, said.known_at, *said.drop, *OWN}
    columns |= {name: rows[name] for name in rows.column_names if name not in gone}
    return pa.table(columns)


def _missing(name: str, said: History, rows: pa.Table) -> Invalid:
    if name == "known_at" and said.known_at == name:
        hint = (
            "Say when labels were known: known_at= names its column, or known_after='3d' says how"
            " long it took."
        )
    else:
        hint = did_you_mean(name, rows.column_names)
        hint = _HINT if name in OWN and not hint.startswith("Did") else hint
    return Invalid(f"The history has no column {name!r}.", hint=hint)


def _check_distinct(said: History) -> None:
    named = [("at", said.at), ("label", said.label), ("known_at", said.known_at)]
    for (one, column), (other, same) in combinations(named, 2):
        if column == same:
            raise Invalid(
                f"The history's column {column!r} is named as both {one} and {other}.",
                hint="They are three different things: when, what, and known when.",
            )


def _known(rows: pa.Table, said: History, at: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    if said.known_at is not None:
        return _instants(rows, said.known_at, said, late=True)
    assert said.known_after is not None
    delay = pa.scalar(said.known_after, pa.duration("us"))
    return pc.add(at, delay)


def _check_order(said: History, at: Any, known_at: Any) -> None:
    """A label that is known before its row happened is a mistake of columns or of zones."""
    before = pc.sum(pc.less(known_at, at)).as_py() or 0
    known = len(known_at) - known_at.null_count
    if 2 * before > known:
        raise Invalid(
            f"Of {known:,} labels {before:,} were known ({said.known_at!r}) before their row"
            f" happened ({said.at!r}).",
            hint="Are the two columns swapped, or written down in different time zones?",
        )


def _instants(rows: pa.Table, name: str, said: History, *, late: bool) -> pa.ChunkedArray[Any]:
    column, kind = rows[name], rows.schema.field(name).type
    if pt.is_null(kind):
        return column.cast(_AT)
    if not pt.is_timestamp(kind):
        raise Invalid(
            f"The history's column {name!r} is {kind}, not a time with a zone.", hint=_cure(kind)
        )
    if kind.tz is not None and said.zone is not None:
        raise Invalid(
            f"The history's column {name!r} has the zone {kind.tz} already.",
            hint=f"Leave zone={said.zone!r} out.",
        )
    if kind.tz is None:
        if said.zone is None:
            raise Invalid(
                f"The history's column {name!r} is {kind}, not a time with a zone.",
                hint="Say which: zone='UTC', or in polars .dt.replace_time_zone('UTC').",
            )
        column = _in_zone(column, name, said.zone, late=late)
    return column.cast(_AT, safe=False)


def _in_zone(column: Any, name: str, zone: str, *, late: bool) -> Any:
    """Times of a wall clock; of a doubled hour, and in a skipped one, the earlier or the later."""
    side = "latest" if late else "earliest"
    try:
        return pc.assume_timezone(column, zone, ambiguous=side, nonexistent=side)
    except pa.ArrowInvalid:
        raise Invalid(
            f"{zone!r} is no time zone, so the history's column {name!r} can't be placed.",
            hint="Give the name of one, as 'UTC' or 'America/New_York'.",
        ) from None


def _cure(kind: pa.DataType) -> str:
    if pt.is_date(kind):
        return "A day is no instant: say when on that day, as in polars .cast(pl.Datetime)."
    if pt.is_integer(kind) or pt.is_floating(kind):
        return "Make it a time: in polars pl.from_epoch(column, time_unit='s')."
    if pt.is_string(kind) or pt.is_large_string(kind):
        return "Parse it: in polars .str.to_datetime(time_zone='UTC')."
    return "Say which zone: in polars, .dt.replace_time_zone('UTC')."


def _label(rows: pa.Table, name: str) -> Any:
    column = rows[name]
    kind = column.type
    if pt.is_dictionary(kind):
        kind = kind.value_type
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        return column.cast(pa.string())
    if pt.is_boolean(kind) or pt.is_integer(kind) or pt.is_floating(kind) or pt.is_null(kind):
        return column.cast(pa.float64())
    if pt.is_decimal(kind):
        return column.cast(pa.float64(), safe=False)
    raise Invalid(
        f"The history's column {name!r} is {kind}, which is no label.",
        hint="A label is true or false, a number or a text.",
    )


def _rows(table: Any) -> pa.Table:
    if isinstance(table, History):
        return _rows(table.table)
    if isinstance(table, str | Path):
        return _file(Path(table))
    if type(table).__name__ == "DuckDBPyRelation":
        return table.to_arrow_table()
    return to_arrow(table)


def _file(path: Path) -> pa.Table:
    import duckdb

    if not path.is_file():
        near = [other.name for other in path.parent.glob("*")] if path.parent.is_dir() else []
        raise Invalid(f"There is no file {str(path)!r}.", hint=did_you_mean(path.name, near))
    readers = {".csv": "read_csv", ".tsv": "read_csv", ".jsonl": "read_json_auto"}
    readers |= {".ndjson": "read_json_auto", ".parquet": "read_parquet", ".pq": "read_parquet"}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise Invalid(
            f"{path.name!r} is no table that can be read.", hint=f"Known are {', '.join(_READ)}."
        )
    if reader == "read_parquet":
        import pyarrow.parquet as pq

        try:
            return to_arrow(pq.read_table(path))
        except pa.ArrowInvalid as error:
            raise _unread(path, error) from None
    with duckdb.connect(":memory:", config={"autoinstall_known_extensions": False}) as own:
        own.execute("SET TimeZone = 'UTC'")
        try:
            found = own.sql(f"SELECT * FROM {reader}(?)", params=[str(path)])
            return found.to_arrow_table()
        except duckdb.Error as error:
            raise _unread(path, error) from None


def _unread(path: Path, error: Exception) -> Invalid:
    return Invalid(f"{path.name!r} can't be read: {str(error).splitlines()[0]}")
