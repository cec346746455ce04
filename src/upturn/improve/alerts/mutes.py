"""Mutes: alerts of which nobody is to be told for a while, by name or by pattern."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from fnmatch import fnmatchcase

from upturn.core.errors import NotFound, did_you_mean
from upturn.core.findings import Mute
from upturn.core.who import who
from upturn.stores.workspace import Workspace


def mute(
    workspace: Workspace, endpoint: str, pattern: str, *, until: datetime, why: str, now: datetime
) -> Mute:
    """Tell nobody of the endpoint's alerts of this name ('drift/plan', 'drift/*') until then."""
    return workspace.meta.add(
        Mute(endpoint=endpoint, name=pattern, until=until, why=why, who=who(), at=now)
    )


def unmute(workspace: Workspace, endpoint: str, pattern: str, *, now: datetime) -> Mute:
    """End a mute. Raises NotFound when there is none of that name now."""
    names = [one.name for one in mutes(workspace, endpoint, now)]
    if pattern not in names:
        raise NotFound(
            f"{pattern!r} of {endpoint!r} is not muted.", hint=did_you_mean(pattern, names)
        )
    return workspace.meta.add(Mute(endpoint=endpoint, name=pattern, until=None, who=who(), at=now))


def mutes(workspace: Workspace, endpoint: str, now: datetime) -> list[Mute]:
    """The endpoint's mutes that hold at that time."""
    found = workspace.meta.last_each(Mute, endpoint=endpoint)
    return [one for one in found if one.until is not None and now < one.until]


def muted_names(workspace: Workspace, endpoint: str, now: datetime) -> Callable[[str], bool]:
    """Whether nobody is to be told of an alert of that name now."""
    patterns = [one.name for one in mutes(workspace, endpoint, now)]
    return lambda name: any(name == one or fnmatchcase(name, one) for one in patterns)
