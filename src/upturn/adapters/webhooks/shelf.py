"""Shelf of hooks: putting, finding, pausing and removing them, and what they were sent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from urllib.parse import urlsplit

import msgspec

from upturn.adapters.webhooks.events import topics
from upturn.adapters.webhooks.signing import key_of, new_secret
from upturn.core.errors import Conflict, Invalid, NotFound, did_you_mean
from upturn.core.notices import Delivery, Hook
from upturn.core.posting import check_url
from upturn.stores.begun import begun
from upturn.stores.workspace import Workspace

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def put_hook(
    workspace: Workspace,
    name: str,
    *,
    url: str,
    events: Iterable[str],
    secret: str = "",
    project: str,
    by: str,
    now: datetime,
) -> Hook:
    """Put a hook, in the place of one of the same name, whose secret it then keeps.

    Without a secret a new one is made. Raises Invalid for what can't be one, Conflict when the name
    is that of another project's.
    """
    if _NAME.fullmatch(name) is None:
        raise Invalid(
            f"{name!r} can't be the name of a hook.",
            hint="It takes letters, digits, '.', _ and -, up to 128, and no '.' first.",
        )
    check_url(url, what="events", example="https://ci.example.org/upturn")
    asked = tuple(dict.fromkeys(events))
    for one in asked:
        if one not in topics():
            raise Invalid(f"There are no events {one!r}.", hint=did_you_mean(one, topics()))
    if not asked:
        raise Invalid("A hook is told of some events.", hint=f"There is: {', '.join(topics())}.")
    if secret:
        key_of(secret)
    last = workspace.meta.find(Hook, name)
    if last is not None and last.removed:
        last = None
    if last is not None and last.form != "upturn":
        raise Conflict(
            f"The hook {name!r} is one of MLflow's.",
            hint="Change it by MLflow's client, or take it away: upturn hooks remove",
        )
    if last is not None and last.project != project:
        raise Conflict(f"There is a hook {name!r} already.", hint="Call this one otherwise.")
    kept = last.secret if last is not None else new_secret()
    return workspace.meta.add(
        Hook(
            name=name,
            url=url,
            events=asked,
            secret=secret or kept,
            project=project,
            paused=last.paused if last is not None else False,
            who=by,
            at=now,
            since=last.since if last is not None else now,
        )
    )


def get_hook(workspace: Workspace, name: str) -> Hook:
    """The hook of that name. Raises NotFound."""
    found = workspace.meta.find(Hook, name)
    if found is None or found.removed:
        known = [one.name for one in list_hooks(workspace)]
        hint = did_you_mean(name, known) or "Put one with: upturn hooks add NAME URL --on EVENTS"
        raise NotFound(f"No hook {name!r}.", hint=hint)
    return found


def list_hooks(workspace: Workspace) -> list[Hook]:
    """The hooks that there are, by name."""
    return [one for one in workspace.meta.last_each(Hook) if not one.removed]


def pause_hook(workspace: Workspace, name: str, *, paused: bool, by: str, now: datetime) -> Hook:
    """Send it nothing from now on, or again; it is not told of what happens meanwhile."""
    hook = get_hook(workspace, name)
    if hook.paused == paused:
        return hook
    since = hook.since if paused else now
    changed = msgspec.structs.replace(hook, seq=0, paused=paused, since=since, who=by, at=now)
    return workspace.meta.add(changed)


def remove_hook(workspace: Workspace, name: str, *, by: str, now: datetime) -> Hook:
    """Send it nothing any more, what is due neither, and forget its secret."""
    hook = get_hook(workspace, name)
    given_up = [
        msgspec.structs.replace(
            one, seq=0, status="failed", response="the hook was removed", body="", at=now
        )
        for one in workspace.meta.last_each(Delivery, hook=name)
        if one.status == "due"
    ]
    removed = msgspec.structs.replace(hook, seq=0, removed=True, secret="", who=by, at=now)
    workspace.meta.put(*given_up, removed)
    return workspace.meta.get(Hook, name)


def deliveries_of(
    workspace: Workspace, name: str, *, limit: int, after: str = ""
) -> list[Delivery]:
    """What a hook was sent, the last event first: of each how it stands.

    `after` an event, those from before it. Raises Invalid when there is none such.
    """
    return begun(workspace.meta, Delivery, "event", limit=limit, after=after, hook=name)


def shown_url(url: str) -> str:
    """An address without what may be secret in it: its query, and who it is given by.

    >>> shown_url("https://ci:geheim@hooks.example.org/T0?token=3f9")
    'https://hooks.example.org/T0?…'
    """
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}" + ("?…" if parts.query else "")
