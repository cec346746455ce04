"""RemoteTrackingStore: what runs say of themselves, kept by a server."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from upturn.core.catalog import CatalogSearch, ModelPage, VersionPage, VersionRow
from upturn.core.errors import Invalid, Unavailable
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
from upturn.stores.remote import wire_tracking as wire
from upturn.stores.remote.connection import Server
from upturn.stores.remote.wire import Blob, Nothing


class RemoteTrackingStore:
    """Metrics, parameters, tags and files over HTTP. See TrackingStore.

    Logging the same again adds nothing, so a call whose connection broke is simply made again.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._closed = False

    def log(
        self,
        run: str,
        *,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str | None] | None = None,
        scope: str = "",
    ) -> None:
        """Add points, parameters and tags of a run in one transaction; see TrackingStore.log."""
        asked = wire.Log(
            run=run,
            points=list(points),
            params=dict(params or {}),
            tags=dict(tags or {}),
            scope=scope,
        )
        self._call("tracking.log", asked, type(None))

    def tag(self, path: str, tags: Mapping[str, str | None]) -> None:
        """Set tags of any thing by its path; None removes one."""
        self._call("tracking.tag", wire.Tag(path=path, tags=dict(tags)), type(None))

    def params(self, runs: Iterable[str]) -> dict[str, dict[str, str]]:
        """The parameters of runs, by run; every run has an entry."""
        return self._call("tracking.params", wire.Names(names=list(runs)), _Texts)

    def tags(self, paths: Iterable[str]) -> dict[str, dict[str, str]]:
        """The tags of things by their paths; every path has an entry."""
        return self._call("tracking.tags", wire.Names(names=list(paths)), _Texts)

    def series(self, runs: Iterable[str]) -> dict[str, list[Series]]:
        """The metrics of runs, by name and scope; every run has an entry."""
        return self._call("tracking.series", wire.Names(names=list(runs)), dict[str, list[Series]])

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
        asked = wire.History(run=run, name=name, scope=scope, limit=limit, after=after)
        return self._call("tracking.history", asked, list[Point])

    def curve(self, run: str, name: str, *, scope: str | None = None, points: int = 320) -> Curve:
        """The metric for a plot of some `points`; see TrackingStore.curve."""
        asked = wire.CurveOf(run=run, name=name, scope=scope, points=points)
        return self._call("tracking.curve", asked, Curve)

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
        """Runs that fit, newest first unless told otherwise; see TrackingStore.search."""
        asked = wire.Search(
            where=None if where is None else wire.plain_where(where),
            projects=None if projects is None else list(projects),
            groups=None if groups is None else list(groups),
            removed=removed,
            order=list(order),
            limit=limit,
            cursor=cursor,
        )
        return self._call("tracking.search", asked, Found)

    def rows(self, runs: Iterable[str]) -> dict[str, RunRow]:
        """The rows of those of the runs that there are."""
        return self._call("tracking.rows", wire.Names(names=list(runs)), dict[str, RunRow])

    def put_file(self, file: StoredFile) -> None:
        """Note a file of a run; what was at its path is no longer there."""
        self._call("tracking.put_file", wire.PutFile(file=file), type(None))

    def files(self, run: str, *, under: str = "") -> list[StoredFile]:
        """The files of a run at or below a path, by path."""
        return self._call("tracking.files", wire.Files(run=run, under=under), list[StoredFile])

    def remove_files(self, run: str, *, under: str) -> int:
        """Forget the files at or below a path; returns how many there were."""
        return self._call("tracking.remove_files", wire.Files(run=run, under=under), int)

    def runs_with(self, digest: str) -> list[str]:
        """The runs that have a file of these bytes."""
        return self._call("tracking.runs_with", Blob(digest=digest), list[str])

    def kept_files(self, *, but: Iterable[str] = ()) -> set[str]:
        """The digests of all files but those of some runs; see TrackingStore.kept_files."""
        return set(self._call("tracking.kept_files", wire.Names(names=list(but)), list[str]))

    def forget(self, runs: Iterable[str], *, removed_before: int) -> None:
        """Delete what removed runs said; see TrackingStore.forget."""
        asked = wire.Forget(runs=list(runs), removed_before=removed_before)
        self._call("tracking.forget", asked, type(None))

    def forgetting(self) -> list[str]:
        """The runs whose deletion was begun, and not ended."""
        return self._call("tracking.forgetting", Nothing(), list[str])

    def find_models(self, search: CatalogSearch) -> ModelPage:
        """A page of the models that fit; see TrackingStore.find_models."""
        return self._call("tracking.find_models", wire.Catalog(search=search), ModelPage)

    def find_versions(self, search: CatalogSearch) -> VersionPage:
        """A page of the versions that fit; see TrackingStore.find_versions."""
        return self._call("tracking.find_versions", wire.Catalog(search=search), VersionPage)

    def find_latest(self, models: Sequence[str]) -> list[VersionRow]:
        """The newest version of each stage, by model and number."""
        return self._call("tracking.find_latest", wire.Names(names=list(models)), list[VersionRow])

    def close(self) -> None:
        """Release this thread's connection."""
        self._closed = True
        self._server.hang_up()

    def _call(self, name: str, asked: wire.Asked, answer: Any) -> Any:
        if self._closed:
            raise Unavailable(f"The store {self._server.url} was closed.")
        try:
            return self._server.call(name, asked, answer)
        except (TypeError, OverflowError, UnicodeEncodeError) as error:
            raise Invalid(f"This can't be stored: {error}.") from None
        finally:
            self._server.stamped = None


_Texts = dict[str, dict[str, str]]
