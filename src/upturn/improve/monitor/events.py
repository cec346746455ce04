"""Events of an endpoint that a report marks in its plots: its routes, by what changed."""

from __future__ import annotations

from datetime import datetime

from upturn.core.records import Route
from upturn.improve.page.lines import Mark
from upturn.stores.workspace import Workspace


def events(workspace: Workspace, endpoint: str, since: datetime, until: datetime) -> list[Mark]:
    """Where in [since, until) another version, or another share, began to answer."""
    found: list[Mark] = []
    before = ""
    for route in reversed(workspace.meta.select(Route, endpoint=endpoint, newest_first=True)):
        arms = " + ".join(
            f"{route.model}:{arm.version}" + (f" {arm.share:.0%}" if arm.share < 1 else "")
            for arm in route.arms
            if not arm.shadow
        )
        if arms != before and since <= route.at < until:
            found.append(Mark(route.at, arms))
        before = arms
    return found
