"""Source: any table that a user has, to be asked in SQL as `data`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from upturn.core.errors import Invalid, NotFound, did_you_mean
from upturn.model.tables import to_arrow

_NUMBERS = (
    "BOOL",
    "TINYINT",
    "SMALLINT",
    "INT",
    "BIGINT",
    "HUGEINT",
    "U",
    "FLOAT",
    "DOUBLE",
    "DEC",
)
_MOMENTS = ("TIMESTAMP", "DATE")


@dataclass(frozen=True, slots=True)
class Source:
    """A table in DuckDB: its columns with their types, and how to ask it."""

    columns: dict[str, str]
    ask: Callable[[str], Any]  # SQL over `data` → a relation

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a query says, as tuples. Raises Invalid when it can't be answered."""
        try:
            return self.ask(sql).fetchall()
        except duckdb.Error as error:
            said = str(error).splitlines()[0].rstrip(".")
            raise Invalid(f"The table can't be read: {said}.") from None

    def check(self, name: str, *, what: str) -> str:
        """The type of a column. Raises NotFound with the nearest name."""
        if name not in self.columns:
            raise NotFound(
                f"The table has no column {name!r}, which is {what}.",
                hint=did_you_mean(name, self.columns),
            )
        return self.columns[name]

    def check_number(self, name: str, *, what: str) -> str:
        """The type of a column of numbers or booleans. Raises NotFound or Invalid."""
        kind = self.check(name, what=what)
        if not kind.startswith(_NUMBERS) or kind.startswith("UUID") or kind.endswith("]"):
            raise Invalid(
                f"The column {name!r}, which is {what}, holds no numbers: its type is {kind}.",
                hint="Metrics and covariates are columns of numbers or booleans.",
            )
        return kind

    def check_time(self, name: str, *, what: str) -> str:
        """The type of a column of times or dates. Raises NotFound or Invalid."""
        kind = self.check(name, what=what)
        if not kind.startswith(_MOMENTS):
            raise Invalid(
                f"The column {name!r}, which is {what}, holds no times but {kind}.",
                hint="Make it one of dates or timestamps.",
            )
        return kind


@contextmanager
def open_source(table: Any) -> Generator[Source]:
    """A table to ask: pandas, polars, Arrow, columns, a path or pattern of files, or a relation.

    Files are Parquet or CSV. Raises NotFound for a file that is not there, Invalid for what is no
    table.
    """
    if isinstance(table, duckdb.DuckDBPyRelation):
        columns = dict(zip(table.columns, map(str, table.types), strict=True))
        yield Source(columns, lambda sql: table.query("data", sql))
        return
    with tempfile.TemporaryDirectory(prefix="upturn-") as spill, _connect(spill) as connection:
        if isinstance(table, str | Path):
            _open_files(connection, str(table))
        else:
            arrow = to_arrow(table)
            if not arrow.num_columns:
                raise Invalid(
                    "The table has no columns.", hint="Give one with the rows to compare."
                )
            connection.register("data", arrow)
        described = connection.sql("DESCRIBE SELECT * FROM data").fetchall()
        yield Source({row[0]: str(row[1]) for row in described}, connection.sql)


def _connect(spill: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        ":memory:",
        config={
            # One thread: sums of floats are then taken in the same order each time, so the same
            # rows give the same verdict to the last digit.
            "threads": 1,
            "memory_limit": "1GB",
            "temp_directory": spill,  # where millions of units do not fit
            "autoinstall_known_extensions": False,  # never reaches for the network
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _open_files(connection: duckdb.DuckDBPyConnection, path: str) -> None:
    if Path(path).is_dir():
        raise Invalid(f"{path} is a folder.", hint=f"Name its files: {path}/*.parquet")
    quoted = "'" + path.replace("'", "''") + "'"
    if not connection.sql(f"SELECT count(*) FROM glob({quoted})").fetchall()[0][0]:
        folder = Path(path).parent
        near = [other.name for other in folder.iterdir()] if folder.is_dir() else []
        raise NotFound(f"No file {path!r}.", hint=did_you_mean(Path(path).name, near))
    read = "read_csv" if path.endswith((".csv", ".tsv", ".csv.gz")) else "read_parquet"
    try:
        connection.execute(f"CREATE VIEW data AS SELECT * FROM {read}({quoted})")
    except duckdb.Error as error:
        said = str(error).splitlines()[0].rstrip(".")
        raise Invalid(
            f"{path} can't be read: {said}.", hint="It is to be Parquet or CSV."
        ) from None


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text in SQL."""
    return "'" + value.replace("'", "''") + "'"
