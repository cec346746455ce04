"""Carrying over: runs and metrics of a store from before there were tables for what runs say."""

import sqlite3
from datetime import datetime

import msgspec

from upturn.core.records import Run, RunState
from upturn.core.time import micros
from upturn.core.tracking import NO_STEP, Point
from upturn.stores.projection import projected
from upturn.stores.tables import table_of
from upturn.stores.tracking.values import put_points


class OldMetric(msgspec.Struct, frozen=True, kw_only=True):
    """One value that a task logged, as it was recorded."""

    run: str
    step: str
    index: int
    name: str
    value: float
    at: datetime
    at_step: int | None = None


def carry_over(connection: sqlite3.Connection) -> None:
    """Fill the tables from the records; metrics are records no more."""
    for kind in (Run, RunState):
        decode = table_of(kind).decode
        for (body,) in _all(connection, kind.table):
            for statement, parameters in projected(decode(body)):
                connection.execute(statement, parameters)
    tasks: dict[tuple[str, str], list[Point]] = {}
    for (body,) in _all(connection, "metric"):
        metric = _metric(body)
        step = NO_STEP if metric.at_step is None else metric.at_step
        point = Point(metric.name, metric.value, step, micros(metric.at))
        scope = f"{metric.step}/{metric.index}"
        tasks.setdefault((metric.run, scope), []).append(point)
    for (run, scope), points in tasks.items():
        put_points(connection, run, scope, points)
    connection.execute('DROP TABLE "metric"')


def _all(connection: sqlite3.Connection, table: str) -> list[tuple[str | bytes]]:
    return connection.execute(f'SELECT body FROM "{table}" ORDER BY put_order').fetchall()


def _metric(body: str | bytes) -> OldMetric:
    if isinstance(body, str):
        return msgspec.json.decode(body, type=OldMetric)
    return msgspec.msgpack.decode(body, type=OldMetric)
