"""Tracking: what runs say of themselves, at volume: metrics, parameters, tags and files.

These are values, not records: a run may have millions of points. What names things (runs, groups)
is in records; a store keeps both in one place, so that runs are found by what they said.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from upturn.core.catalog import CatalogSearch, ModelPage, VersionPage, VersionRow
from upturn.core.records import RunStatus

NO_STEP = -1  # of a value that a task logged without a step


class Point(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One value of a metric: at a step, and at an instant in microseconds since 1970 (UTC)."""

    name: str
    value: float  # NaN and infinities are values, too
    step: int = 0
    at: int = 0


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """A metric of a run in a few numbers. `last` is the value of the greatest (step, at, value)."""

    run: str
    name: str
    scope: str = ""  # the task that logged it: 'train/3'; '' for the run itself
    last: float
    step: int
    at: int  # microseconds since 1970
    low: float  # the least and the greatest value; NaN when there was nothing else
    high: float
    count: int  # of points that differ


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A metric's points for a plot: all of them, or the extremes of equal parts, by step."""

    name: str
    scope: str = ""
    steps: tuple[int, ...]
    values: tuple[float, ...]
    at: tuple[int, ...]
    points: int  # that there are


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a run: where it lies among the run's, and the digest of its bytes."""

    run: str
    path: str  # 'model/MLmodel'
    digest: str
    size_bytes: int
    media: str = ""
    at: int  # microseconds since 1970


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run as lists show it: what it is, and how it stands now."""

    id: str
    name: str
    flow: str
    group: str  # the group's id
    project: str
    who: str
    source: str
    status: RunStatus
    started_at: int  # microseconds since 1970
    ended_at: int | None = None
    removed_at: int | None = None
    parent: str | None = None


class Found(msgspec.Struct, frozen=True):
    """A page of what a search found, and the cursor of the next page; '' after the last."""

    rows: tuple[RunRow, ...]
    cursor: str = ""


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison of a search: `metric.auc.last > 0.9`.

    `of` is 'run' (a field of RunRow), 'param', 'tag', 'metric' (with `part`: last, min or max),
    'model' (name or name:number that the run registered) or 'input' (a digest that it read).
    `op` is one of = != < <= > >= LIKE ILIKE IN, NOT LIKE, NOT ILIKE, NOT IN, IS NULL, IS NOT NULL.
    Where `value` is a number, parameters and tags compare as numbers; where it is text, as text.
    What is missing fits nothing but IS NULL, and NaN nothing but IS NOT NULL. A metric of several
    scopes fits when it does in one of them. Fields of the run are those of RunRow, with
    `group_name` and `seconds`.
    """

    of: str
    name: str
    op: str
    value: Any = None
    part: str = "last"


class Both(msgspec.Struct, frozen=True):
    """All of them hold."""

    terms: tuple["Where", ...]


class Either(msgspec.Struct, frozen=True):
    """At least one of them holds."""

    terms: tuple["Where", ...]


class Not(msgspec.Struct, frozen=True):
    """It does not hold."""

    term: "Where"


Where = Term | Both | Either | Not


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a search sorts by: as of Term. Runs that lack it come last, whichever the direction."""

    of: str
    name: str
    part: str = "last"
    descending: bool = False


class TrackingStore(Protocol):
    """What runs said of themselves. Safe to use from several threads and processes.

    What a call writes is written whole or not at all, and survives the death of the process when
    the call returns. Raises Unavailable as MetaStore does.
    """

    def log(
        self,
        run: str,
        *,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str | None] | None = None,
        scope: str = "",
    ) -> None:
        """Add points, parameters and tags of a run in one transaction.

        A point that is there already, in all its parts, is left out. A tag of None is removed.
        Raises Conflict, and writes nothing, when a parameter has another value already.
        """
        ...

    def tag(self, path: str, tags: Mapping[str, str | None]) -> None:
        """Set tags of any thing by its path: 'group/3', 'model/delays'; None removes one."""
        ...

    def params(self, runs: Iterable[str]) -> dict[str, dict[str, str]]:
        """The parameters of runs, by run; every run has an entry."""
        ...

    def tags(self, paths: Iterable[str]) -> dict[str, dict[str, str]]:
        """The tags of things by their paths ('run/k3f9x2'); every path has an entry."""
        ...

    def series(self, runs: Iterable[str]) -> dict[str, list[Series]]:
        """The metrics of runs, by name and scope; every run has an entry."""
        ...

    def history(
        self,
        run: str,
        name: str,
        *,
        scope: str | None = None,
        limit: int | None = None,
        after: int = 0,
    ) -> list[Point]:
        """The points of a metric by (step, at, value), `limit` of them from the `after`-th on.

        Without a scope: those of all scopes together.
        """
        ...

    def curve(self, run: str, name: str, *, scope: str | None = None, points: int = 320) -> Curve:
        """The metric for a plot of some `points`: every extreme is kept, the order is by step."""
        ...

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
        """Runs that fit, newest first unless told otherwise, with ties by the run's id.

        `removed`: those that are, those that are not, or (None) both. Raises Invalid for a cursor
        that is not one of this search's.
        """
        ...

    def rows(self, runs: Iterable[str]) -> dict[str, RunRow]:
        """The rows of those of the runs that there are."""
        ...

    def put_file(self, file: StoredFile) -> None:
        """Note a file of a run; what was at its path is no longer there."""
        ...

    def files(self, run: str, *, under: str = "") -> list[StoredFile]:
        """The files of a run at or below a path, by path."""
        ...

    def remove_files(self, run: str, *, under: str) -> int:
        """Forget the files at or below a path; returns how many there were."""
        ...

    def runs_with(self, digest: str) -> list[str]:
        """The runs that have a file of these bytes."""
        ...

    def kept_files(self, *, but: Iterable[str] = ()) -> set[str]:
        """The digests of all files but those of some runs: what `upturn gc` leaves."""
        ...

    def forget(self, runs: Iterable[str], *, removed_before: int) -> None:
        """Delete for good what runs said, and their rows: points, params, tags, files and notes.

        Of the runs, those that were removed before an instant (microseconds since 1970) and not
        restored. It takes many short transactions, so that others write meanwhile. When it is
        killed, the next call goes on with what was begun.
        """
        ...

    def forgetting(self) -> list[str]:
        """The runs whose deletion was begun, and not ended."""
        ...

    def find_models(self, search: CatalogSearch) -> ModelPage:
        """A page of the models that are shown and fit, by name unless told otherwise.

        Raises Invalid for a search that can't be, and for an `after` that is none of its pages'.
        """
        ...

    def find_versions(self, search: CatalogSearch) -> VersionPage:
        """A page of the versions that are shown and fit, by model and newest number first."""
        ...

    def find_latest(self, models: Sequence[str]) -> list[VersionRow]:
        """The newest version of each stage of each of the models, by model and number."""
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...
