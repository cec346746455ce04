"""What a bundle is made of: an endpoint, its route, and the versions of its arms."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from upturn.core.errors import NotFound, did_you_mean
from upturn.core.ids import artifact_path, route_path, version_path
from upturn.core.keeping import reachable, references
from upturn.core.records import Alias, Arm, Artifact, Edge, Endpoint, Record, Route, Version
from upturn.deploy.route import CHAMPION, current_route
from upturn.model.registry import get_version
from upturn.stores.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Content:
    """An endpoint with the route and the versions that are to be served."""

    endpoint: Endpoint
    route: Route
    versions: tuple[Version, ...]  # that of the first answering arm first
    alone: bool = False  # a version, with an endpoint that the store itself does not have

    @property
    def name(self) -> str:
        """The endpoint's."""
        return self.endpoint.name

    @property
    def tag(self) -> str:
        """What an image of it is called: 'r7' of the seventh revision, 'v3' of a version alone."""
        return f"v{self.champion.number}" if self.alone else f"r{self.route.revision}"

    @property
    def champion(self) -> Version:
        """What the first answering arm serves."""
        return self.versions[0]


def content_of(workspace: Workspace, name: str) -> Content:
    """What `name` stands for: an endpoint as it is routed now, or one version, as 'churn:3'.

    A version becomes an endpoint of its own, 'churn-3', so that its Log stays apart. Raises
    NotFound for what there is not, and for an endpoint that nobody answers for.
    """
    if set(name) & set(":@"):
        return _of_version(workspace, get_version(workspace, name))
    endpoint = workspace.meta.find(Endpoint, name)
    route = current_route(workspace, name)
    if endpoint is None or route is None:
        raise _nothing(workspace, name, known=endpoint is not None)
    first = next(arm.version for arm in route.arms if not arm.shadow)
    numbers = dict.fromkeys((first, *(arm.version for arm in route.arms)))
    versions = (workspace.meta.get(Version, route.model, number) for number in numbers)
    return Content(endpoint, route, tuple(versions))


def _of_version(workspace: Workspace, version: Version) -> Content:
    name = f"{version.model[:40]}-{version.number}"
    stored = workspace.meta.find(Endpoint, version.model) or Endpoint(version.model)
    endpoint = msgspec.structs.replace(stored, name=name, model=version.model, seq=1, at=version.at)
    route = Route(
        endpoint=name,
        revision=1,
        model=version.model,
        arms=(Arm(name=CHAMPION, version=version.number, share=1.0),),
        salt=name,
        why=f"upturn build {version.name}",
        at=version.at,
    )
    return Content(endpoint, route, (version,), alone=True)


def _nothing(workspace: Workspace, name: str, *, known: bool) -> NotFound:
    newest = workspace.meta.find(Version, name)
    if known or newest is not None:
        what = f"Endpoint {name!r} has no route yet." if known else f"No endpoint {name!r} yet."
        version = newest.name if newest is not None else f"{name}:1"
        return NotFound(what, hint=f"upturn deploy {name}, or one version: upturn build {version}")
    names = {endpoint.name for endpoint in workspace.meta.last_each(Endpoint)}
    hint = did_you_mean(name, names) or "There is none yet; upturn deploy makes one."
    return NotFound(f"No endpoint {name!r}.", hint=hint, endpoint=name)


def write_store(workspace: Workspace, content: Content, directory: Path) -> None:
    """Write a store that holds the content and no more: the models, and not their training data.

    The same content is the same bytes. Raises NotFound or Corrupt when a model can't be had.
    """
    from upturn.stores.disk import DiskBlobStore
    from upturn.stores.sqlite import SqliteMetaStore

    digests = _served(content)
    blobs = DiskBlobStore(directory / "blobs")
    for digest in digests:
        blobs.put([workspace.blobs.get(digest)])
    shutil.rmtree(directory / "blobs" / "tmp")
    meta = SqliteMetaStore(directory / "upturn.db")
    try:
        meta.put(*_records(workspace, content, digests))
    finally:
        meta.close()


def _served(content: Content) -> list[str]:
    """The blobs that serving reads: all that a version keeps but its data and its code."""
    kept = set[str]()
    left_out = set[str]()
    for version in content.versions:
        path = version_path(version.model, version.number)
        kept |= reachable([path], references([version]))
        left_out |= {artifact_path(digest) for digest in (version.data, version.code) if digest}
    prefix = artifact_path("")
    return sorted(path.removeprefix(prefix) for path in kept - left_out if path.startswith(prefix))


def _records(workspace: Workspace, content: Content, digests: list[str]) -> list[Record]:
    route = content.route
    versions = sorted(content.versions, key=lambda version: version.number)
    champion = Alias(
        model=route.model,
        name=CHAMPION,
        seq=1,
        number=content.champion.number,
        why=route.why,
        at=route.at,
    )
    records: list[Record] = [content.endpoint, *versions, champion, route]
    for digest in digests:
        records += workspace.meta.select(Artifact, digest=digest)
    at = route_path(route.endpoint, route.revision)
    for version in versions:
        path = version_path(version.model, version.number)
        # Where it came from, by name: the store that built it has the rest of the way.
        edges = workspace.meta.select(Edge, target=path)
        records += sorted(edges, key=lambda edge: (edge.source, edge.role))
        records.append(Edge(source=path, target=at, role="arm"))
    return records


def label_of(name: str) -> str:
    """The endpoint's name as containers and clusters take it.

    >>> label_of("Delays_2.EU"), label_of("7days")
    ('delays-2-eu', 'endpoint-7days')
    """
    kept = "".join(char if char.isalnum() and char.isascii() else "-" for char in name.lower())
    label = "-".join(part for part in kept.split("-") if part)[:40].strip("-")
    return label if label[0].isalpha() else f"endpoint-{label}"
