"""Narrow: the only runs that a condition can fit, when indexes find them and they are few."""

import sqlite3

import msgspec

from upturn.core.tracking import Both, Either, Term, Where
from upturn.stores.tracking.condition import Sql, runs_with

_ENOUGH = 200  # runs that are looked at one by one sooner than an index is asked for fewer
_MOST_TRIED = 8
_INDEXED = ("param", "tag", "metric")
_LINEAGE = ("model", "input")
_FIELDS = {  # of the run, with an index of their own
    "id": "run IN (SELECT value FROM json_each(?))",
    "parent": "parent IN (SELECT value FROM json_each(?))",
    "group": '"group" IN (SELECT value FROM json_each(?))',
    "group_name": '"group" IN (SELECT id FROM group_now '
    "WHERE name IN (SELECT value FROM json_each(?)))",
}
_WIDER = 3  # times as many are read of one index, where another may find others


def narrowed(connection: sqlite3.Connection, where: Where | None, *, most: int) -> set[str] | None:
    """Runs among which are all that the condition fits; None when there are more than `most`.

    Each part of the condition that has an index from the value to the runs is asked for its own,
    the quick ones first, and what is left is what all of them found.
    """
    queries = [] if where is None else _queries(where)[:_MOST_TRIED]
    read = most * _WIDER if len(queries) > 1 else most
    found: set[str] | None = None
    for query in queries:
        if found is not None and len(found) <= _ENOUGH:
            break
        sql = f"SELECT run FROM ({query.text}) LIMIT ?"
        rows = connection.execute(sql, (*query.parameters, read + 1)).fetchall()
        if len(rows) <= read:
            these = {row[0] for row in rows}
            found = these if found is None else found & these
    return None if found is None or len(found) > most else found


def _queries(where: Where) -> list[Sql]:
    """Queries for ids of runs, the quick first, each of which finds all that the condition fits."""
    return [query for _, query in sorted(_costs(where), key=lambda one: one[0])]


def _costs(where: Where) -> list[tuple[int, Sql]]:
    if isinstance(where, Both):
        return [query for term in where.terms for query in _costs(term)]
    if isinstance(where, Either):
        quickest = [min(_costs(term), key=lambda one: one[0], default=None) for term in where.terms]
        parts = [one for one in quickest if one is not None]
        if not parts or len(parts) < len(where.terms):  # the runs of one part are not known
            return []
        text = " UNION ALL ".join(f"SELECT run FROM ({query.text})" for _, query in parts)
        parameters = tuple(value for _, query in parts for value in query.parameters)
        return [(max(cost for cost, _ in parts), Sql(text, parameters))]
    if not isinstance(where, Term):
        return []
    if where.of in _INDEXED and where.op != "IS NULL":
        return [(_cost(where.op), runs_with(where))]
    if where.of in _LINEAGE and where.op not in ("!=", "NOT IN", "IS NULL"):
        return [(0, runs_with(where))]
    among = _FIELDS.get(where.name) if where.of == "run" else None
    if among is not None and where.op in ("=", "IN"):
        values = list(where.value) if where.op == "IN" else [where.value]
        listed = msgspec.json.encode([one for one in values if isinstance(one, str)]).decode()
        return [(0, Sql(f"SELECT run FROM run_now WHERE {among}", (listed,)))]
    return []


def _cost(op: str) -> int:
    """0 for what an index leads to, 1 for its ranges, 2 where all of a name is looked through."""
    if op in ("=", "IN"):
        return 0
    return 1 if op in ("<", "<=", ">", ">=") else 2
