"""Search: finds runs by what they are and what they said, a page at a time."""

import base64
import binascii
import hashlib
import math
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from upturn.core.errors import Invalid
from upturn.core.tracking import Found, Order, RunRow, Where
from upturn.stores.tracking.condition import MISSING, Sql, condition_of, order_of
from upturn.stores.tracking.narrow import narrowed
from upturn.stores.tracking.ranked import first_ranked, is_ranked

COLUMNS = (
    'run_now.run, run_now.name, run_now.flow, run_now."group", run_now.project, run_now.who, '
    "run_now.source, run_now.status, run_now.started_at, run_now.ended_at, run_now.removed_at, "
    "run_now.parent"
)
_BALANCE = 2.0  # the runs that fit may lie together, far from the newest
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
    terms = [*_scope(search), *([] if search.where is None else [condition_of(search.where)])]
    last = _opened(cursor, search, len(orders)) if cursor else None
    [order_of(order) for order in orders]  # what is none is said before anything is read
    among, ranked = _ways(connection, search, limit)
    page = _Page(connection, terms, among, ranked and among is None)
    rows = [] if among == set() else page.rows(orders, last, limit + 1)
    more = len(rows) > limit
    rows = rows[:limit]
    found = _rows_of(connection, [row[-1] for row in rows])
    return Found(tuple(found), _closed(search, rows[-1]) if more else "")


class _Page(msgspec.Struct, frozen=True):
    """How the runs of a page are read: all that fit, or only some are looked at."""

    connection: sqlite3.Connection
    terms: list[Sql]
    among: set[str] | None
    ranked: bool

    def rows(
        self, orders: list[Order], last: list[Any] | None, limit: int
    ) -> list[tuple[Any, ...]]:
        """The keys of runs by the orders, and their ids, from the last one's on."""
        if self.ranked and orders and is_ranked(orders[0]):
            return self._by_value(orders, last, limit)
        return self._sorted(orders, last, limit)

    def _by_value(
        self, orders: list[Order], last: list[Any] | None, limit: int
    ) -> list[tuple[Any, ...]]:
        """Those with the first values off their index; then those of one value; or of none."""
        key = order_of(orders[0])
        if last is not None and last[0] is None:
            return self._without(key, orders, last[1:], limit)
        after = [] if last is None else [_after(orders, [order_of(one) for one in orders], last)]
        value = None if last is None else last[0]
        terms = [*self.terms, *after]
        found = first_ranked(self.connection, orders[0], terms, after=value, limit=limit)
        few = _Page(self.connection, [], set(found.runs), False)
        rows = few.rows(orders, None, limit) if found.runs else []
        left = limit - len(rows)
        if not left:
            return rows
        if found.last:
            return rows + self._without(key, orders, None, left)
        within = last[1:] if last is not None and value == found.tie else None
        same = Sql(f"{key.text} = ?", (*key.parameters, found.tie))
        page = msgspec.structs.replace(self, terms=[*self.terms, same])
        return rows + [(found.tie, *row) for row in page.rows(orders[1:], within, left)]

    def _without(
        self, key: Sql, orders: list[Order], last: list[Any] | None, limit: int
    ) -> list[tuple[Any, ...]]:
        missing = Sql(f"{key.text} IS NULL", key.parameters)
        page = msgspec.structs.replace(self, terms=[*self.terms, missing])
        return [(None, *row) for row in page.rows(orders[1:], last, limit)]

    def _sorted(
        self, orders: list[Order], last: list[Any] | None, limit: int
    ) -> list[tuple[Any, ...]]:
        keys = [order_of(order) for order in orders]
        terms = self.terms if last is None else [*self.terms, _after(orders, keys, last)]
        condition = " AND ".join(term.text for term in terms) or "1"
        sorting: list[str] = []
        for number, order in enumerate(orders):
            if not (order.of == "run" and order.name not in MISSING):
                sorting.append(f"key_{number} IS NULL")
            sorting.append(f"key_{number}{' DESC' if order.descending else ''}")
        source, values = "run_now", [value for key in keys for value in key.parameters]
        if self.among is not None:
            # A cross join is carried out in the order in which it is written.
            source = "(SELECT value AS run FROM json_each(?)) AS few "
            source += "CROSS JOIN run_now ON run_now.run = few.run"
            values.append(msgspec.json.encode(list(self.among)).decode())
        parts = [f"{key.text} AS key_{number}" for number, key in enumerate(keys)]
        sql = f"SELECT {', '.join([*parts, 'run_now.run'])} FROM {source} WHERE {condition} "
        sql += f"ORDER BY {', '.join([*sorting, 'run_now.run'])} LIMIT ?"
        values += [value for term in terms for value in term.parameters]
        return self.connection.execute(sql, (*values, limit)).fetchall()


def _ways(
    connection: sqlite3.Connection, search: Search, limit: int
) -> tuple[set[str] | None, bool]:
    """The few runs that alone have to be looked at, if so; and whether runs are so many that
    the first are better read off an index of values than sorted.

    Of N runs n fit. To find a page from the newest on, some limit · N / n are looked at; to sort
    those that an index finds, n. So an index is used up to some √(limit · N).
    """
    if search.where is None and not (search.order and is_ranked(search.order[0])):
        return None, False
    count = connection.execute("SELECT coalesce(max(number), 0) FROM run_now").fetchone()[0]
    most = int(_BALANCE * math.sqrt(limit * count)) + 1
    scope = _scope(msgspec.structs.replace(search, removed=None))
    if scope:
        condition = " AND ".join(term.text for term in scope)
        sql = f"SELECT count(*) FROM (SELECT 1 FROM run_now WHERE {condition} LIMIT ?)"
        values = [value for term in scope for value in term.parameters]
        count = connection.execute(sql, (*values, most + 1)).fetchone()[0]
    return narrowed(connection, search.where, most=min(most, count // 2)), count > most


def _rows_of(connection: sqlite3.Connection, runs: list[str]) -> list[RunRow]:
    sql = f"SELECT {COLUMNS} FROM run_now WHERE run IN (SELECT value FROM json_each(?))"
    rows = connection.execute(sql, (msgspec.json.encode(runs).decode(),))
    found = {row[0]: run_row(row) for row in rows}
    return [found[run] for run in runs]


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
    timed = any(order.of == "run" and order.name == "started_at" for order in orders)
    return orders if timed else [*orders, NEWEST]


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
        if order.of == "run" and order.name not in MISSING:
            text = f"({key.text} {op}= ? AND {text}))"  # where an index is entered
            parameters = (value, *parameters)
        else:
            text += f" OR {key.text} IS NULL)"
            parameters = (*parameters, *key.parameters)
    return Sql(text, parameters)
