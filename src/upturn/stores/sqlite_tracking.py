"""SqliteTrackingStore: metrics, parameters, tags and files of runs, in the file of the records."""

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from upturn.core.catalog import CatalogSearch, ModelPage, VersionPage, VersionRow
from upturn.core.errors import Invalid
from upturn.core.tracking import (
    Curve,
    Found,
    Order,
    Point,
    RunRow,
    Series,
    StoredFile,
    Where,
)
from upturn.stores.connections import Connections, connections_to
from upturn.stores.tracking import catalog
from upturn.stores.tracking.curve import chosen
from upturn.stores.tracking.forget import begin, begun, go_on
from upturn.stores.tracking.points import (
    UNCOUNTED,
    as_points,
    count_of,
    read_all,
    read_some,
)
from upturn.stores.tracking.search import COLUMNS, Search, find, run_row
from upturn.stores.tracking.values import put_params, put_points, put_tags

_AMONG = "IN (SELECT value FROM json_each(?))"
_BEGUN = 200  # runs whose deletion begins in one transaction
_NAN = float("nan")
T = TypeVar("T")


class SqliteTrackingStore:
    """See TrackingStore. A write survives the death of the process when the call returns.

    Raises Unavailable and Corrupt as SqliteMetaStore does.
    """

    def __init__(self, file: Path | str | Connections, *, busy_s: float = 10.0) -> None:
        self._connections = connections_to(file, busy_s)

    def log(
        self,
        run: str,
        *,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str | None] | None = None,
        scope: str = "",
    ) -> None:
        """Add points, parameters and tags in one transaction; see TrackingStore.log."""

        def write(connection: sqlite3.Connection) -> None:
            if params:
                put_params(connection, run, params)
            if tags:
                put_tags(connection, f"run/{run}", tags)
            if points:
                put_points(connection, run, scope, points)

        if points or params or tags:
            self._connections.write(write)

    def tag(self, path: str, tags: Mapping[str, str | None]) -> None:
        """Set tags of a thing by its path; None removes one."""
        self._connections.write(lambda connection: put_tags(connection, path, tags))

    def params(self, runs: Iterable[str]) -> dict[str, dict[str, str]]:
        """The parameters of runs, by run."""
        return self._pairs(runs, f"SELECT run, name, value FROM param WHERE run {_AMONG}")

    def tags(self, paths: Iterable[str]) -> dict[str, dict[str, str]]:
        """The tags of things by their paths."""
        return self._pairs(paths, f"SELECT path, name, value FROM tag WHERE path {_AMONG}")

    def series(self, runs: Iterable[str]) -> dict[str, list[Series]]:
        """The metrics of runs, by name and scope."""
        found: dict[str, list[Series]] = {run: [] for run in runs}
        among = _json(found)

        def read(connection: sqlite3.Connection) -> None:
            sql = "SELECT id, run, name, scope, last, step, at, low, high, count FROM series "
            sql += f"WHERE run {_AMONG} ORDER BY name, scope"
            for number, run, name, scope, *sums, count in connection.execute(sql, (among,)):
                last, step, at, low, high = sums
                if count == UNCOUNTED:
                    count = count_of(connection, run, number)
                found[run].append(
                    Series(
                        run=run,
                        name=name,
                        scope=scope,
                        last=_NAN if last is None else last,
                        step=step,
                        at=at,
                        low=_NAN if low is None else low,
                        high=_NAN if high is None else high,
                        count=count,
                    )
                )

        self._connections.read(read)
        return found

    def history(
        self,
        run: str,
        name: str,
        *,
        scope: str | None = None,
        limit: int | None = None,
        after: int = 0,
    ) -> list[Point]:
        """The points of a metric by (step, at, value); see TrackingStore.history."""
        if after < 0 or (limit is not None and limit < 0):
            raise Invalid("The points of a metric are counted from 0 on.")

        def read(connection: sqlite3.Connection) -> list[Point]:
            ids = _series_ids(connection, run, name, scope)
            columns = read_some(connection, run, ids, after=after, limit=limit)
            return as_points(name, columns)

        return self._connections.read(read)

    def curve(self, run: str, name: str, *, scope: str | None = None, points: int = 320) -> Curve:
        """The metric for a plot; see TrackingStore.curve."""
        if points < 1:
            raise Invalid(f"A curve has at least one point, not {points}.")

        def read(connection: sqlite3.Connection) -> Any:
            return read_all(connection, run, _series_ids(connection, run, name, scope))

        columns = self._connections.read(read)
        shown = chosen(columns.values, points)
        steps, at, values = (tuple(column[shown].tolist()) for column in columns)
        return Curve(
            name=name,
            scope=scope or "",
            steps=steps,
            values=values,
            at=at,
            points=len(columns.steps),
        )

    def search(
        self,
        where: Where | None = None,
        *,
        projects: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        removed: bool | None = False,
        order: Sequence[Order] = (),
        limit: int = 100,
        cursor: str = "",
    ) -> Found:
        """Runs that fit; see TrackingStore.search."""
        search = Search(where=where, projects=projects, groups=groups, removed=removed, order=order)
        return self._connections.read(
            lambda connection: find(connection, search, limit=limit, cursor=cursor)
        )

    def rows(self, runs: Iterable[str]) -> dict[str, RunRow]:
        """The rows of those of the runs that there are."""
        sql = f"SELECT {COLUMNS} FROM run_now WHERE run {_AMONG}"
        return {row[0]: run_row(row) for row in self._rows(sql, _json(runs))}

    def put_file(self, file: StoredFile) -> None:
        """Note a file of a run; what was at its path is no longer there."""
        row = (file.run, file.path, file.digest, file.size_bytes, file.media, file.at)
        sql = "INSERT OR REPLACE INTO run_file (run, path, digest, size_bytes, media, at) "
        sql += "VALUES (?, ?, ?, ?, ?, ?)"
        self._connections.write(lambda connection: connection.execute(sql, row))

    def files(self, run: str, *, under: str = "") -> list[StoredFile]:
        """The files of a run at or below a path, by path."""
        sql = "SELECT run, path, digest, size_bytes, media, at FROM run_file WHERE "
        condition, values = _below(run, under)
        return [
            StoredFile(
                run=row[0], path=row[1], digest=row[2], size_bytes=row[3], media=row[4], at=row[5]
            )
            for row in self._rows(f"{sql} {condition} ORDER BY path", *values)
        ]

    def remove_files(self, run: str, *, under: str) -> int:
        """Forget the files at or below a path; returns how many there were."""
        condition, values = _below(run, under)
        sql = f"DELETE FROM run_file WHERE {condition}"
        return self._connections.write(lambda connection: connection.execute(sql, values).rowcount)

    def runs_with(self, digest: str) -> list[str]:
        """The runs that have a file of these bytes."""
        sql = "SELECT DISTINCT run FROM run_file WHERE digest = ? ORDER BY run"
        return [row[0] for row in self._rows(sql, digest)]

    def kept_files(self, *, but: Iterable[str] = ()) -> set[str]:
        """The digests of all files but those of some runs; see TrackingStore.kept_files."""
        sql = "SELECT DISTINCT digest FROM run_file "
        return {row[0] for row in self._rows(f"{sql} WHERE run NOT {_AMONG}", _json(but))}

    def forget(self, runs: Iterable[str], *, removed_before: int) -> None:
        """Delete what removed runs said; see TrackingStore.forget."""
        waiting = list(runs)
        for start in range(0, len(waiting), _BEGUN):
            some = waiting[start : start + _BEGUN]
            self._written(lambda connection, some=some: begin(connection, some, removed_before))
        while self._written(go_on):
            pass

    def forgetting(self) -> list[str]:
        """The runs whose deletion was begun, and not ended."""
        return self._connections.read(begun)

    def find_models(self, search: CatalogSearch) -> ModelPage:
        """A page of the models that fit; see TrackingStore.find_models."""
        return self._connections.read(lambda connection: catalog.find_models(connection, search))

    def find_versions(self, search: CatalogSearch) -> VersionPage:
        """A page of the versions that fit; see TrackingStore.find_versions."""
        return self._connections.read(lambda connection: catalog.find_versions(connection, search))

    def find_latest(self, models: Sequence[str]) -> list[VersionRow]:
        """The newest version of each stage, by model and number."""
        return self._connections.read(lambda connection: catalog.find_latest(connection, models))

    def close(self) -> None:
        """Release files and connections."""
        self._connections.close()

    def _written(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in one transaction, and leave as much time as it took to other writers."""
        began = time.monotonic()
        done = self._connections.write(work)
        time.sleep(min(time.monotonic() - began, 1.0))
        return done

    def _rows(self, sql: str, *values: object) -> list[Any]:
        return self._connections.rows(sql, values)

    def _pairs(self, keys: Iterable[str], sql: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {key: {} for key in keys}
        for key, name, value in self._rows(f"{sql} ORDER BY name", _json(found)):
            found[key][name] = value
        return found


def _json(values: Iterable[str]) -> str:
    try:
        return msgspec.json.encode(list(values)).decode()
    except UnicodeEncodeError as error:
        raise Invalid(f"Nothing has such a name: {error}.") from None


def _series_ids(
    connection: sqlite3.Connection, run: str, name: str, scope: str | None
) -> list[int]:
    sql = "SELECT id FROM series WHERE run = ? AND name = ?"
    values = [run, name]
    if scope is not None:
        sql += " AND scope = ?"
        values.append(scope)
    return [row[0] for row in connection.execute(f"{sql} ORDER BY scope", values)]


def _below(run: str, under: str) -> tuple[str, tuple[str, ...]]:
    path = under.strip("/")
    if not path:
        return "run = ?", (run,)
    # '0' is the character after '/'.
    return "run = ? AND (path = ? OR (path >= ? AND path < ?))", (run, path, f"{path}/", f"{path}0")
