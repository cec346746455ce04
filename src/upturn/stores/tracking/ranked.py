"""Ranked: the first runs by what they said, read off an index of the values in their order.

Sorting by a metric means to look it up for every run. The index of values has the runs in order
already: those that fit are taken from it until there are enough.
"""

import sqlite3
from dataclasses import dataclass
from typing import Any

from upturn.core.tracking import Order
from upturn.stores.tracking.condition import COLUMNS_OF_PARTS, Sql

_SORTED = 8  # times as many as are wanted
_TIES = 1_000  # runs of one value that are read before they are left to another way


@dataclass(frozen=True, slots=True)
class Ranked:
    """The runs of the first values, whole: none of another run comes between them.

    `tie` is the value of which there are more runs than are given: they come next. `last` says
    that there are no more runs with a value.
    """

    runs: list[str]
    tie: Any = None
    last: bool = False


def is_ranked(order: Order) -> bool:
    """Whether there is an index of the values that runs are sorted by."""
    return order.of in ("metric", "param", "tag")


def first_ranked(
    connection: sqlite3.Connection, order: Order, terms: list[Sql], *, after: Any, limit: int
) -> Ranked:
    """At least `limit` runs that fit and come first; `after` is a value that they don't precede."""
    if order.of == "metric" and order.part != "last":
        # These come from the index by sorting, which is quick when only the first are kept.
        found = _read(connection, _walk(order, after, most=limit * _SORTED), terms, limit)
        if not found.last:
            return found
    return _read(connection, _walk(order, after), terms, limit)


def _read(connection: sqlite3.Connection, walk: Sql, terms: list[Sql], limit: int) -> Ranked:
    fits = " AND ".join(term.text for term in terms) or "1"
    sql = f"SELECT run_now.run, walk.value FROM ({walk.text}) AS walk "
    sql += f"CROSS JOIN run_now ON run_now.run = walk.run WHERE {fits}"
    parameters = [*walk.parameters, *(value for term in terms for value in term.parameters)]
    found: dict[str, Any] = {}  # a metric of several tasks counts with the first of its values
    now: Any = None
    rows = connection.execute(sql, parameters)
    try:
        for run, value in rows:
            if value != now and len(found) >= limit:
                return Ranked(list(found))
            if len(found) >= limit + _TIES:
                return Ranked([one for one, own in found.items() if own != value], tie=value)
            found.setdefault(run, value)
            now = value
    finally:
        rows.close()
    return Ranked(list(found), last=True)


def _walk(order: Order, after: Any, *, most: int = -1) -> Sql:
    """Runs and values in the order of these; LIMIT keeps SQLite from doing more before it sorts."""
    if order.of == "metric":
        table, run, column = "series INDEXED BY series_last", "run", COLUMNS_OF_PARTS[order.part]
        which = "name = ?"
    elif order.of == "param":
        table, run, column, which = "param INDEXED BY param_value", "run", "value", "name = ?"
    else:
        table, run, column = "tag INDEXED BY tag_value", "substr(path, 5)", "value"
        which = "name = ? AND path LIKE 'run/%'"
    parameters: tuple[Any, ...] = (order.name,)
    if after is not None:
        which += f" AND {column} {'<=' if order.descending else '>='} ?"
        parameters += (after,)
    sql = f"SELECT {run} AS run, {column} AS value FROM {table} "
    sql += f"WHERE {which} AND {column} IS NOT NULL "
    return Sql(
        f"{sql} ORDER BY {column}{' DESC' if order.descending else ''} LIMIT {most}", parameters
    )
