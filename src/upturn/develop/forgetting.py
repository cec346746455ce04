"""Forgetting: which removed runs lose for good what they said, and that they do.

A run that was removed longer ago than others are kept is forgotten: its points, parameters, tags,
files and note go, and it is in no list any more. Its records stay, as all records do, so what was
made of it still leads to it. Not forgotten is a run that is needed: by a version that it registered
or made something for, by a pin, by a run that is kept and that it is part of.
"""

from collections.abc import Iterable
from itertools import islice

from upturn.core.records import Version
from upturn.core.tracking import Term
from upturn.stores.workspace import Workspace

_PAGE = 1_000
_AT_ONCE = 200  # runs in one call


def forgettable(
    workspace: Workspace, kept: Iterable[str], versions: Iterable[Version], *, before: int
) -> list[str]:
    """The runs that were removed before an instant (microseconds since 1970) and are not needed.

    Those whose deletion was begun come first. `kept` is the paths of all that is kept.
    """
    needed = {path.split("/")[1] for path in kept if path.startswith("run/")}
    needed |= {version.run for version in versions if version.run is not None}
    found = workspace.tracking.forgetting()
    where = Term(of="run", name="removed_at", op="<", value=before)
    cursor = ""
    while True:
        page = workspace.tracking.search(where, removed=True, limit=_PAGE, cursor=cursor)
        found += [row.id for row in page.rows if row.id not in needed]
        cursor = page.cursor
        if not cursor:
            return found


def forget(workspace: Workspace, runs: Iterable[str], *, before: int) -> None:
    """Delete what these runs said, but for those that were restored meanwhile."""
    left = iter(runs)
    while some := list(islice(left, _AT_ONCE)):
        workspace.tracking.forget(some, removed_before=before)
