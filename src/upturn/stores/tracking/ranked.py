"""Ranked: the first runs by what they said, read off an index of the values in their order.

Sorting by a metric means to look it up for every run. The index of values has the runs in order
already: those that fit are taken from it until there are enough.
"""

import sqlite3
from dataclasses import dataclass
from typing import Any

from upturn.core.tracking import Order
from upturn.stores.tracking.condition import COLUMNS_OF_PARTS, Sql

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
    walk = _walk(order)
    fits = "".join(f" AND {term.text}" for term in terms)
    parameters = [order.name]
    bound = ""
    if after is not None:
        bound = f"AND {walk.value} {'<=' if order.descending else '>='} ? "
        parameters.append(after)
    sql = f"SELECT run_now.run, {walk.value} FROM {walk.table} CROSS JOIN run_now "
    sql += f"ON run_now.run = {walk.run} WHERE {walk.name} = ? AND {walk.value} IS NOT NULL "
    sql += f"{bound}{fits} ORDER BY {walk.value}{' DESC' if order.descending else ''}"
    parameters += [value for term in terms for value in term.parameters]
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


@dataclass(frozen=True, slots=True)
class _Walk:
    table: str
    run: str
    name: str
    value: str


def _walk(order: Order) -> _Walk:
    if order.of == "metric":
        column = COLUMNS_OF_PARTS[order.part]
        table = f"series INDEXED BY series_{column}"
        return _Walk(table, "series.run", "series.name", f"series.{column}")
    if order.of == "param":
        return _Walk("param INDEXED BY param_value", "param.run", "param.name", "param.value")
    run = "substr(tag.path, 5)"
    own = "tag.path LIKE 'run/%' AND tag.name"
    return _Walk("tag INDEXED BY tag_value", run, own, "tag.value")
