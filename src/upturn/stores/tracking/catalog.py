"""Catalog queries: pages of models and versions, read from the tables that records keep in step."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from upturn.core.catalog import (
    CatalogSearch,
    Compare,
    Key,
    ModelPage,
    ModelRow,
    VersionPage,
    VersionRow,
)
from upturn.core.errors import Invalid
from upturn.stores.tracking.condition import Sql, like

_MODEL = {"name": "m.name"}
_VERSION = {
    "name": "v.model",
    "number": "v.number",
    "run": "v.run",
    "source": "v.source",
    "stage": "v.stage",
}
_MODEL_KEYS = {"name": "m.name", "updated": "m.updated_at"}
_VERSION_KEYS = {
    "name": "v.model",
    "number": "v.number",
    "created": "v.created_at",
    "updated": "v.updated_at",
}
_PLAIN = ("=", "!=", "<", "<=", ">", ">=")
_AMONG = "(SELECT value FROM json_each(?))"
_TEXTS = ("LIKE", "ILIKE")
_GREATEST = 2**63 - 1


def find_models(connection: sqlite3.Connection, search: CatalogSearch) -> ModelPage:
    """A page of the models that fit. Raises Invalid for a search that can't be."""
    keys = _keys(search.order, _MODEL_KEYS, (Key("name"),))
    terms = [Sql("m.shown"), *_terms(search, _MODEL, "'model/' || m.name")]
    rows, after = _page(
        connection,
        "SELECT m.name, m.project, m.updated_at",
        "FROM model_now AS m",
        terms,
        keys,
        search,
    )
    found = [ModelRow(name=row[0], project=row[1], updated_at=row[2]) for row in rows]
    return ModelPage(rows=tuple(found), after=after)


def find_versions(connection: sqlite3.Connection, search: CatalogSearch) -> VersionPage:
    """A page of the versions that fit. Raises Invalid for a search that can't be."""
    keys = _keys(search.order, _VERSION_KEYS, (Key("name"), Key("number", True)))
    path = "'version/' || v.model || ':' || v.number"
    terms = [Sql("v.shown"), Sql("m.shown"), *_terms(search, _VERSION, path)]
    rows, after = _page(
        connection,
        "SELECT v.model, v.number, v.stage, v.updated_at",
        # A cross join is carried out in the order in which it is written.
        "FROM version_now AS v CROSS JOIN model_now AS m ON m.name = v.model",
        terms,
        keys,
        search,
    )
    return VersionPage(rows=tuple(map(_version_row, rows)), after=after)


def find_latest(connection: sqlite3.Connection, models: Sequence[str]) -> list[VersionRow]:
    """The newest version of each stage, of each of the models, by model and number."""
    sql = "SELECT v.model, max(v.number), v.stage, v.updated_at FROM version_now AS v "
    sql += f"WHERE v.model IN {_AMONG} AND v.shown GROUP BY v.model, v.stage ORDER BY 1, 2"
    rows = connection.execute(sql, (msgspec.json.encode(list(models)).decode(),)).fetchall()
    return list(map(_version_row, rows))


def _version_row(row: Sequence[Any]) -> VersionRow:
    return VersionRow(model=row[0], number=row[1], stage=row[2], updated_at=row[3])


def _page(
    connection: sqlite3.Connection,
    select: str,
    source: str,
    terms: list[Sql],
    keys: list[tuple[str, bool]],
    search: CatalogSearch,
) -> tuple[list[Any], tuple[str | int, ...]]:
    if search.after:
        terms = [*terms, _behind(keys, search.after)]
    where = " AND ".join(term.text for term in terms)
    order = ", ".join(f"{column} DESC" if down else column for column, down in keys)
    said = ", ".join(column for column, _ in keys)
    sql = f"{select}, {said} {source} WHERE {where} ORDER BY {order} LIMIT ?"
    parameters = [one for term in terms for one in term.parameters]
    try:
        rows = connection.execute(sql, (*parameters, search.limit + 1)).fetchall()
    except (UnicodeEncodeError, OverflowError) as error:
        raise Invalid(f"Nothing has such a name: {error}.") from None
    page = rows[: search.limit]
    more = len(rows) > search.limit
    return page, tuple(page[-1][-len(keys) :]) if more else ()


def _keys(
    order: Sequence[Key], columns: Mapping[str, str], ties: Sequence[Key]
) -> list[tuple[str, bool]]:
    """The columns to sort by, and whether downwards; the last ones tell all rows apart."""
    found: dict[str, bool] = {}
    for key in (*order, *ties):
        if key.name not in columns:
            raise Invalid(f"Nothing is sorted by {key.name!r} here.")
        found.setdefault(columns[key.name], key.descending)
    return list(found.items())


def _behind(keys: list[tuple[str, bool]], after: Sequence[str | int]) -> Sql:
    """What comes behind the last one that was seen, by the keys in their order."""
    if len(after) != len(keys):
        raise Invalid(
            "The cursor isn't one of this search.",
            hint="Ask for the first page, without a cursor, and go on with the one that it gives.",
        )
    text, parameters = "0", ()
    for (column, down), value in reversed(list(zip(keys, after, strict=True))):
        op = "<" if down else ">"
        # The first part is where an index is entered.
        text = f"({column} {op}= ? AND ({column} {op} ? OR {text}))"
        parameters = (value, value, *parameters)
    return Sql(text, parameters)


def _terms(search: CatalogSearch, columns: Mapping[str, str], path: str) -> list[Sql]:
    terms: list[Sql] = []
    if search.projects is not None:
        among = msgspec.json.encode(search.projects).decode()
        terms.append(Sql(f"m.project IN {_AMONG}", (among,)))
    for tag, no in ((search.with_tag, ""), (search.without_tag, "NOT ")):
        if tag is not None:
            own = "SELECT 1 FROM tag WHERE path = 'model/' || m.name AND name = ?"
            terms.append(Sql(f"{no}EXISTS ({own} AND lower(value) = ?)", (tag[0], tag[1].lower())))
    for one in search.where:
        if one.of == "tag":
            inner = _compared("value", one)
            sql = f"EXISTS (SELECT 1 FROM tag WHERE path = {path} AND name = ? AND {inner.text})"
            terms.append(Sql(sql, (one.name, *inner.parameters)))
        elif one.name not in columns:
            raise Invalid(f"Nothing is searched by {one.name!r} here.")
        else:
            terms.append(_compared(columns[one.name], one))
    return terms


def _compared(column: str, one: Compare) -> Sql:
    value = one.value
    if one.op in ("IN", "NOT IN") and isinstance(value, tuple):
        return Sql(f"{column} {one.op} {_AMONG}", (msgspec.json.encode(value).decode(),))
    if one.op in _TEXTS and isinstance(value, str):
        return like(column, one.op, value)
    if one.op in _PLAIN and not isinstance(value, tuple):
        if isinstance(value, int):
            value = max(-_GREATEST, min(_GREATEST, value))
        return Sql(f"{column} {one.op} ?", (value,))
    raise Invalid(f"{one.name!r} can't be compared by {one.op!r} with {value!r}.")
