"""Blobs of the store's calls: which of them a client that is limited to projects may read.

A digest is no right: it is printed, and stands in records. Theirs is what they sent the bytes of,
and what a record of their projects refers to; and a record that they put refers to nothing else.
"""

from collections.abc import Iterator

from upturn.api.operation import Ask
from upturn.api.visible import project_of, project_of_model
from upturn.core.errors import UpturnError
from upturn.core.ids import artifact_path
from upturn.core.record import Record
from upturn.core.records import Artifact, Edge, Version
from upturn.deploy.serve.problems import Forbidden

_BYTES = ("artifact", "code")  # kinds of paths that name a blob by its digest
_BROUGHT = "brought by "  # of the tags that say who sent the bytes: 'brought by PROJECT'


def note_brought(ask: Ask, digest: str) -> None:
    """Remember that whoever asks sent the bytes, if their projects are limited."""
    if ask.asker.projects is not None:
        tags = {f"{_BROUGHT}{project}": "" for project in ask.asker.projects}
        ask.workspace.tracking.tag(artifact_path(digest), tags)


def may_read(ask: Ask, digest: str) -> bool:
    """Whether the blob is whoever asks' to read, as far as there is one."""
    if ask.asker.projects is None:
        return True
    path = artifact_path(digest)
    brought = ask.workspace.tracking.tags([path])[path]
    if any(f"{_BROUGHT}{project}" in brought for project in ask.asker.projects):
        return True
    return _is_linked(ask, digest) or _is_of_a_run(ask, digest) or _is_of_a_version(ask, digest)


def refuse_strange(ask: Ask, record: Record) -> None:
    """Raise Forbidden for a record that refers to bytes which are not whoever asks' to read."""
    for digest in _referred(record):
        if not may_read(ask, digest):
            raise not_theirs(ask, type(record).table, digest)


def not_theirs(ask: Ask, what: str, digest: str) -> UpturnError:
    """The error for what refers to bytes that are not whoever asks' to read."""
    return Forbidden(
        f"{ask.asker.name} may not put this {what}: it refers to the artifact {digest[:64]}, "
        "which is in no project of theirs.",
        hint="Send the bytes first: what somebody has sent is theirs.",
    )


def digest_in(path: str) -> str:
    """The digest of the blob that a path of lineage names; '' when it names none."""
    kind, _, name = path.partition("/")
    return name if kind in _BYTES else ""


def _referred(record: Record) -> Iterator[str]:
    """The digests by which a record gives bytes away. Of a task they only say what it was given."""
    if isinstance(record, Edge):
        yield from filter(None, map(digest_in, (record.source, record.target)))
    elif isinstance(record, Artifact):
        yield record.digest
    elif type(record).table != "task":
        yield from filter(None, (getattr(record, name) for name in record.digests))
    output = getattr(record, "output", None)
    if output and "output" not in record.digests:
        yield output
    if isinstance(record, Version):
        yield from (one.digest for one in record.files)


def _is_linked(ask: Ask, digest: str) -> bool:
    """By an edge between it and something of theirs."""
    meta = ask.workspace.meta
    for kind in _BYTES:
        path = f"{kind}/{digest}"
        ends = [edge.target for edge in meta.select(Edge, source=path)]
        ends += [edge.source for edge in meta.select(Edge, target=path)]
        if any(_is_theirs(ask, end) for end in dict.fromkeys(ends)):
            return True
    return False


def _is_of_a_run(ask: Ask, digest: str) -> bool:
    """As a file that was logged."""
    return any(_is_theirs(ask, f"run/{run}") for run in ask.workspace.tracking.runs_with(digest))


def _is_of_a_version(ask: Ask, digest: str) -> bool:
    """As what a version is loaded with. There are far fewer of them than of anything else."""
    if not ask.workspace.blobs.has(digest, use=False):
        return False
    return any(
        digest in _referred(version) and ask.asker.may_see(project_of_model(ask, version.model))
        for version in ask.workspace.meta.select(Version)
    )


def _is_theirs(ask: Ask, path: str) -> bool:
    project = project_of(ask, path)
    return project is not None and ask.asker.may_see(project)
