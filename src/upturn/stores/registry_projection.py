"""Registry projection: what the last records say of models and versions, in tables for searches."""

import sqlite3
from collections.abc import Callable
from typing import Any

from upturn.core.naming import Description, Model, Removal, Stage
from upturn.core.record import Record
from upturn.core.records import Version
from upturn.core.time import micros
from upturn.stores.tables import table_of

Statement = tuple[str, tuple[Any, ...]]
_NO_STAGE = "None"
_MODEL_LATER = "UPDATE model_now SET updated_at = max(updated_at, ?) WHERE name = ?"
_VERSION_LATER = (
    "UPDATE version_now SET updated_at = max(updated_at, ?) WHERE model = ? AND number = ?"
)


def of_registry(record: Record) -> list[Statement]:
    """The statements that keep the tables in step with a record that is put."""
    project = _BY_KIND.get(type(record))
    return [] if project is None else project(record)


def carry_registry(connection: sqlite3.Connection) -> None:
    """Fill the tables from the records of a store that is older than they are."""
    models: dict[str, Model] = {}
    for kind in _BY_KIND:
        decode = table_of(kind).decode
        rows = connection.execute(f'SELECT body FROM "{kind.table}" ORDER BY put_order').fetchall()
        for (body,) in rows:
            record = decode(body)
            if isinstance(record, Model):
                models[record.name] = record
            for statement, parameters in of_registry(record):
                connection.execute(statement, parameters)
    for model in models.values():
        if model.renamed_to is not None:  # whatever was restored before it was
            connection.execute("UPDATE model_now SET shown = 0 WHERE name = ?", (model.name,))


def _model(record: Any) -> list[Statement]:
    model: Model = record
    if model.renamed_to is not None:
        return [("UPDATE model_now SET shown = 0 WHERE name = ?", (model.name,))]
    return [
        (
            "INSERT INTO model_now (name, project, updated_at, shown) VALUES (?1, ?2, ?3, 1) "
            "ON CONFLICT (name) DO UPDATE SET project = ?2, updated_at = ?3, shown = 1",
            (model.name, model.project, micros(model.at)),
        )
    ]


def _version(record: Any) -> list[Statement]:
    version: Version = record
    at = micros(version.at)
    return [
        (  # from before models had a record: whose it is, nobody said
            "INSERT OR IGNORE INTO model_now (name, project, updated_at, shown) "
            "VALUES (?, '', ?, 1)",
            (version.model, at),
        ),
        (
            "INSERT INTO version_now (model, number, run, source, stage, created_at, updated_at, "
            "shown) VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
            (version.model, version.number, version.run or "", version.source, _NO_STAGE, at, at),
        ),
        (_MODEL_LATER, (at, version.model)),
    ]


def _stage(record: Any) -> list[Statement]:
    stage: Stage = record
    at = micros(stage.at)
    return [
        (
            "UPDATE version_now SET stage = ? WHERE model = ? AND number = ?",
            (stage.stage, stage.model, stage.number),
        ),
        (_VERSION_LATER, (at, stage.model, stage.number)),
        (_MODEL_LATER, (at, stage.model)),
    ]


def _description(record: Any) -> list[Statement]:
    said: Description = record
    kind, _, name = said.path.partition("/")
    if kind == "model":
        return [(_MODEL_LATER, (micros(said.at), name))]
    if kind == "version":
        return [(_VERSION_LATER, (micros(said.at), *_numbered(name)))]
    return []


def _removal(record: Any) -> list[Statement]:
    removal: Removal = record
    kind, _, name = removal.path.partition("/")
    at, shown = micros(removal.at), not removal.removed
    if kind == "model":
        return [("UPDATE model_now SET shown = ? WHERE name = ?", (shown, name))]
    if kind == "version":
        model, number = _numbered(name)
        return [
            (
                "UPDATE version_now SET shown = ? WHERE model = ? AND number = ?",
                (shown, model, number),
            ),
            (_MODEL_LATER, (at, model)),
        ]
    return []


def _numbered(name: str) -> tuple[str, int]:
    """Model and number in 'delays:7'; 0, which no version has, where there is no number."""
    model, _, number = name.rpartition(":")
    return model, int(number) if number.isdecimal() and len(number) < 19 else 0


# In the order in which those of an older store are read.
_BY_KIND: dict[type[Record], Callable[[Record], list[Statement]]] = {
    Model: _model,
    Version: _version,
    Stage: _stage,
    Description: _description,
    Removal: _removal,
}
