"""Search: finds runs by what they are and what they said, a page at a time."""

import base64
import binascii
import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from upturn.core.errors import Invalid
from upturn.core.tracking import Found, Order, RunRow, Where
from upturn.stores.tracking.condition import Sql, condition_of, hits, order_of

COLUMNS = (
    'run_now.run, run_now.name, run_now.flow, run_now."group", run_now.project, run_now.who, '
    "run_now.source, run_now.status, run_now.started_at, run_now.ended_at, run_now.removed_at, "
    "run_now.parent"
)
_FEW = 2_000  # runs that are looked at one by one, rather than all runs from the newest on
_MOST_ORDERS = 20
NEWEST = Order(of="run", name="started_at", descending=True)


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What is searched for, whatever page of it."""

    where: Where | None
    projects: Sequence[str] | None
    groups: Sequence[str] | None
    removed: bool | None
    order: Sequence[Order]


def find(connection: sqlite3.Connection, search: Search, *, limit: int, cursor: str) -> Found:
    """A page of the runs that fit. Raises Invalid for a cursor of another search."""
    if limit < 1:
        raise Invalid(f"A page has at least one run, not {limit}.")
    orders = _orders(search)
    keys = [order_of(order) for order in orders]
    terms = [*_scope(search), *([] if search.where is None else [condition_of(search.where)])]
    if cursor:
        terms.append(_after(orders, keys, _opened(cursor, search, len(keys))))
    source = _source(connection, search.where)
    condition = " AND ".join(term.text for term in terms) or "1"
    parts = [f"{key.text} AS key_{number}" for number, key in enumerate(keys)]
    sorting: list[str] = []
    for number, order in enumerate(orders):
        if order != NEWEST:  # which is never missing, and comes from an index
            sorting.append(f"key_{number} IS NULL")
        sorting.append(f"key_{number}{' DESC' if order.descending else ''}")
    sql = f"SELECT {', '.join([COLUMNS, *parts])} FROM {source.text} WHERE {condition} "
    sql += f"ORDER BY {', '.join(sorting)}, run_now.run LIMIT ?"
    values = [value for key in keys for value in key.parameters]
    values += [*source.parameters, *(value for term in terms for value in term.parameters)]
    rows = connection.execute(sql, (*values, limit + 1)).fetchall()
    more = len(rows) > limit
    rows = rows[:limit]
    width = len(rows[0]) - len(keys) if rows else 0
    return Found(
        tuple(run_row(row[:width]) for row in rows),
        _closed(search, [*rows[-1][width:], rows[-1][0]]) if more else "",
    )


def run_row(row: Sequence[Any]) -> RunRow:
    """A row of COLUMNS as a RunRow."""
    return RunRow(
        id=row[0],
        name=row[1],
        flow=row[2],
        group=row[3],
        project=row[4],
        who=row[5],
        source=row[6],
        status=row[7],
        started_at=row[8],
        ended_at=row[9],
        removed_at=row[10],
        parent=row[11],
    )


def _orders(search: Search) -> list[Order]:
    if len(search.order) > _MOST_ORDERS:
        raise Invalid(f"Runs are sorted by at most {_MOST_ORDERS} things.")
    orders = list(search.order)
    return orders if NEWEST in orders else [*orders, NEWEST]


def _scope(search: Search) -> list[Sql]:
    terms: list[Sql] = []
    for column, values in (("project", search.projects), ('"group"', search.groups)):
        if values is None:
            continue
        wanted = list(dict.fromkeys(values))
        if len(wanted) == 1:
            terms.append(Sql(f"run_now.{column} = ?", (wanted[0],)))
        else:
            among = msgspec.json.encode(wanted).decode()
            terms.append(Sql(f"run_now.{column} IN (SELECT value FROM json_each(?))", (among,)))
    if search.removed is not None:
        terms.append(Sql(f"run_now.removed_at IS {'NOT ' if search.removed else ''}NULL"))
    return terms


def _source(connection: sqlite3.Connection, where: Where | None) -> Sql:
    """Where runs are read from: all of them, or the few that a part of the condition finds."""
    best: tuple[int, Sql] | None = None
    for query in [] if where is None else hits(where):
        sql = f"SELECT count(*) FROM (SELECT 1 FROM ({query.text}) LIMIT {_FEW})"
        count: int = connection.execute(sql, query.parameters).fetchone()[0]
        if count < _FEW and (best is None or count < best[0]):
            best = count, query
    if best is None:
        return Sql("run_now")
    few = best[1]
    # A cross join is carried out in the order in which it is written.
    text = f"(SELECT DISTINCT run FROM ({few.text})) AS few "
    text += "CROSS JOIN run_now ON run_now.run = few.run"
    return Sql(text, few.parameters)


# Cursors: the keys of a page's last run. They are for one search only, and say so.


def _closed(search: Search, last: Sequence[Any]) -> str:
    body = msgspec.msgpack.encode([_digest(search), *last])
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def _opened(cursor: str, search: Search, keys: int) -> list[Any]:
    try:
        body = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, *last = msgspec.msgpack.decode(body, type=list[str | int | float | None])
    except (ValueError, binascii.Error, msgspec.DecodeError):
        digest, last = None, []
    fits = digest == _digest(search) and len(last) == keys + 1 and isinstance(last[-1], str)
    if not fits:
        raise Invalid(
            "The cursor isn't one of this search.",
            hint="Ask for the first page, without a cursor, and go on with the one that it gives.",
        )
    return last


def _digest(search: Search) -> str:
    return hashlib.sha256(msgspec.msgpack.encode(search)).hexdigest()[:16]


def _after(orders: list[Order], keys: list[Sql], last: list[Any]) -> Sql:
    """The runs that come after the last one, by the keys and then by their id."""
    text, parameters = "run_now.run > ?", (last[-1],)
    for order, key, value in reversed(list(zip(orders, keys, last[:-1], strict=True))):
        if value is None:
            text = f"({key.text} IS NULL AND {text})"
            parameters = (*key.parameters, *parameters)
            continue
        op = "<" if order.descending else ">"
        text = f"({key.text} {op} ? OR ({key.text} = ? AND {text})"
        parameters = (*key.parameters, value, *key.parameters, value, *parameters)
        if order == NEWEST:
            text = f"(run_now.started_at <= ? AND {text}))"  # where the index is entered
            parameters = (value, *parameters)
        else:
            text += f" OR {key.text} IS NULL)"
            parameters = (*parameters, *key.parameters)
    return Sql(text, parameters)
