"""The store's calls about what runs say of themselves, and whose runs they may be."""

from collections.abc import Iterable
from typing import Any

import msgspec

from upturn.api.operation import Ask
from upturn.api.store_access import Projects, may_see, refuse_below, refuse_narrow
from upturn.api.store_blobs import may_read, not_theirs
from upturn.core.catalog import CatalogSearch
from upturn.core.errors import NotFound
from upturn.deploy.serve.problems import Forbidden
from upturn.stores.remote import wire_tracking as wire
from upturn.stores.remote.wire import Blob, Nothing

_OF_MODELS = ("model/", "version/")


def log(ask: Ask, asked: wire.Log) -> None:
    """Add points, parameters and tags of a run."""
    _check_run(ask, asked.run)
    ask.workspace.tracking.log(
        asked.run,
        points=asked.points,
        params=asked.params or None,
        tags=asked.tags or None,
        scope=asked.scope,
    )


def tag(ask: Ask, asked: wire.Tag) -> None:
    """Set tags of any thing."""
    if asked.path.startswith(_OF_MODELS):
        refuse_below(ask.asker, "deployer", "tag models")
    if not _may_see_path(ask, asked.path):
        raise NotFound(f"There is no {asked.path[:100]!r}.")
    ask.workspace.tracking.tag(asked.path, asked.tags)


def params(ask: Ask, asked: wire.Names) -> Any:
    """The parameters of runs."""
    seen = _seen(ask, asked.names)
    return {name: {} for name in asked.names} | ask.workspace.tracking.params(seen)


def tags(ask: Ask, asked: wire.Names) -> Any:
    """The tags of things."""
    seen = [path for path in asked.names if _may_see_path(ask, path)]
    return {path: {} for path in asked.names} | ask.workspace.tracking.tags(seen)


def series(ask: Ask, asked: wire.Names) -> Any:
    """The metrics of runs."""
    seen = _seen(ask, asked.names)
    return {name: [] for name in asked.names} | ask.workspace.tracking.series(seen)


def history(ask: Ask, asked: wire.History) -> Any:
    """The points of a metric."""
    if not _seen(ask, [asked.run]):
        return []
    return ask.workspace.tracking.history(
        asked.run, asked.name, scope=asked.scope, limit=asked.limit, after=asked.after
    )


def curve(ask: Ask, asked: wire.CurveOf) -> Any:
    """A metric for a plot."""
    if not _seen(ask, [asked.run]):
        raise NotFound(f"No run {asked.run[:100]!r}.")
    return ask.workspace.tracking.curve(
        asked.run, asked.name, scope=asked.scope, points=asked.points
    )


def search(ask: Ask, asked: wire.Search) -> Any:
    """Runs that fit, in the projects that are whoever asks'."""
    projects: list[str] | None = asked.projects
    theirs = ask.asker.projects
    if theirs is not None:
        projects = sorted(theirs if projects is None else theirs & set(projects))
    return ask.workspace.tracking.search(
        None if asked.where is None else wire.where_of(asked.where),
        projects=projects,
        groups=asked.groups,
        removed=asked.removed,
        order=asked.order,
        limit=asked.limit,
        cursor=asked.cursor,
    )


def find_models(ask: Ask, asked: wire.Catalog) -> Any:
    """A page of models, in the projects that are whoever asks'."""
    return ask.workspace.tracking.find_models(_within(ask, asked.search))


def find_versions(ask: Ask, asked: wire.Catalog) -> Any:
    """A page of versions, in the projects that are whoever asks'."""
    return ask.workspace.tracking.find_versions(_within(ask, asked.search))


def find_latest(ask: Ask, asked: wire.Names) -> Any:
    """The newest versions of models."""
    projects = Projects(ask)
    seen = [name for name in asked.names if may_see(ask, projects.of_model(name))]
    return ask.workspace.tracking.find_latest(seen)


def _within(ask: Ask, search: CatalogSearch) -> CatalogSearch:
    theirs = ask.asker.projects
    if theirs is None:
        return search
    if ask.workspace.settings.project in theirs:
        theirs = theirs | {""}  # models from before they were of a project
    asked = theirs if search.projects is None else theirs & set(search.projects)
    return msgspec.structs.replace(search, projects=tuple(sorted(asked)))


def rows(ask: Ask, asked: wire.Names) -> Any:
    """The rows of runs."""
    return ask.workspace.tracking.rows(_seen(ask, asked.names))


def put_file(ask: Ask, asked: wire.PutFile) -> None:
    """Note a file of a run."""
    _check_run(ask, asked.file.run)
    if not may_read(ask, asked.file.digest):
        raise not_theirs(ask, "file", asked.file.digest)
    ask.workspace.tracking.put_file(asked.file)


def files(ask: Ask, asked: wire.Files) -> Any:
    """The files of a run."""
    if not _seen(ask, [asked.run]):
        return []
    return ask.workspace.tracking.files(asked.run, under=asked.under)


def remove_files(ask: Ask, asked: wire.Files) -> int:
    """Forget files of a run."""
    _check_run(ask, asked.run)
    return ask.workspace.tracking.remove_files(asked.run, under=asked.under)


def runs_with(ask: Ask, asked: Blob) -> list[str]:
    """The runs that have a file of these bytes."""
    return _seen(ask, ask.workspace.tracking.runs_with(asked.digest))


def kept_files(ask: Ask, asked: wire.Names) -> Any:
    """The digests of the files that are kept."""
    refuse_narrow(ask.asker, "the files of all runs")
    return sorted(ask.workspace.tracking.kept_files(but=asked.names))


def forget(ask: Ask, asked: wire.Forget) -> None:
    """Delete for good what removed runs said."""
    refuse_narrow(ask.asker, "the removed runs of all projects")
    ask.workspace.tracking.forget(asked.runs, removed_before=asked.removed_before)


def forgetting(ask: Ask, _: Nothing) -> Any:
    """The runs whose deletion was begun."""
    refuse_narrow(ask.asker, "the removed runs of all projects")
    return ask.workspace.tracking.forgetting()


def _seen(ask: Ask, runs: Iterable[str]) -> list[str]:
    if ask.asker.projects is None:
        return list(runs)
    projects = Projects(ask)
    return [run for run in runs if may_see(ask, projects.of_run(run))]


def _check_run(ask: Ask, run: str) -> None:
    if ask.asker.projects is not None and not _seen(ask, [run]):
        raise Forbidden(
            f"{ask.asker.name} may not change run {run[:100]!r}: it is in no project of theirs.",
            hint="Use a token of its project.",
        )


def _may_see_path(ask: Ask, path: str) -> bool:
    if ask.asker.projects is None:
        return True
    kind, _, name = path.partition("/")
    projects = Projects(ask)
    if kind == "run":
        return may_see(ask, projects.of_run(name))
    if kind in ("model", "version"):
        return may_see(ask, projects.of_model(name.partition(":")[0]))
    refuse_narrow(ask.asker, f"tags of {kind[:20]!r}")
    return False
