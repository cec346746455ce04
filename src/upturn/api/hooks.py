"""Hooks as operations: list, put, pause, resume, remove, test, and what they were sent.

An address that is posted to from within the network is a matter of trust: an admin's.
"""

from datetime import datetime

import msgspec

from upturn.adapters.webhooks.duty import send, send_example
from upturn.adapters.webhooks.events import TEST, Event
from upturn.adapters.webhooks.shelf import (
    deliveries_of,
    get_hook,
    list_hooks,
    pause_hook,
    put_hook,
    remove_hook,
    shown_url,
)
from upturn.api.operation import Ask, Operation, Page, Request
from upturn.api.paging import Limit, cut, read_cursor
from upturn.api.visible import hidden
from upturn.core.errors import NotFound, Unavailable
from upturn.core.ids import new_id
from upturn.core.notices import DeliveryStatus, Hook, HookForm
from upturn.core.posting import Answer

_TEST_S = 10.0


class HookSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A hook as it is shown: its secret only when it is put, its address without a query."""

    name: str
    url: str
    events: tuple[str, ...]
    project: str
    paused: bool
    who: str
    at: datetime
    secret: str = ""
    form: HookForm = "upturn"  # whose messages it is sent
    title: str = ""  # what MLflow calls it


class DeliverySeen(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with telling a hook of an event."""

    event: str
    type: str
    path: str
    status: DeliveryStatus
    attempts: int
    response: str
    next_at: datetime | None
    at: datetime


class Tested(msgspec.Struct, frozen=True):
    """What the receiver of a test answered."""

    status: int
    said: str


class ListHooks(Request, frozen=True, kw_only=True):
    """All that are there to see."""


class OneHook(Request, frozen=True, kw_only=True):
    """The hook of a name."""

    name: str


class PutHook(Request, frozen=True, kw_only=True):
    """Where to post what: `events` are types ('run.failed'), or their first parts ('alert')."""

    name: str
    url: str
    events: tuple[str, ...]
    secret: str = ""


class PastDeliveries(Request, frozen=True, kw_only=True):
    """What it was sent, the last first."""

    name: str
    cursor: str = ""
    limit: Limit = 50


def _list(ask: Ask, request: ListHooks) -> Page[HookSeen]:
    """The hooks, by name."""
    del request
    hooks = list_hooks(ask.workspace)
    return Page(tuple(_seen(hook) for hook in hooks if ask.asker.may_see(hook.project)))


def _get(ask: Ask, request: OneHook) -> HookSeen:
    """A hook."""
    return _seen(_visible(ask, request.name))


def _put(ask: Ask, request: PutHook) -> HookSeen:
    """Put a hook. The answer holds its secret, which is not shown again."""
    project = ask.workspace.settings.project
    if not ask.asker.may_see(project):
        raise hidden("project", project)
    hook = put_hook(
        ask.workspace,
        request.name,
        url=request.url,
        events=request.events,
        secret=request.secret,
        project=project,
        by=ask.asker.name,
        now=ask.now,
    )
    return msgspec.structs.replace(_seen(hook), secret=hook.secret if hook.seq == 1 else "")


def _pause(ask: Ask, request: OneHook) -> HookSeen:
    """Send it nothing from now on."""
    return _set_paused(ask, request.name, paused=True)


def _resume(ask: Ask, request: OneHook) -> HookSeen:
    """Tell it of what happens from now on, and of what was due before it was paused."""
    return _set_paused(ask, request.name, paused=False)


def _remove(ask: Ask, request: OneHook) -> HookSeen:
    """Send it nothing any more."""
    _visible(ask, request.name)
    return _seen(remove_hook(ask.workspace, request.name, by=ask.asker.name, now=ask.now))


def _test(ask: Ask, request: OneHook) -> Tested:
    """Send it a message of type hook.test now, once; what its receiver answered."""
    hook = _visible(ask, request.name)
    public_only = ask.workspace.settings.public_hooks
    if hook.form == "mlflow":
        answer = send_example(hook, hook.events[0], ask.now, public_only=public_only)
        return _taken(hook, answer)
    event = Event(
        id=f"msg_{new_id(24)}",
        type=TEST,
        project=hook.project,
        path=f"hook/{hook.name}",
        at=ask.now,
        data={"hook": hook.name, "who": ask.asker.name},
    )
    answer = send(
        hook,
        event.id,
        event.body(),
        timeout_s=_TEST_S,
        public_only=public_only,
    )
    return _taken(hook, answer)


def _taken(hook: Hook, answer: Answer) -> Tested:
    if not answer.taken:
        raise NotTaken(f"The receiver of {hook.name!r} answered {answer.status} {answer.said}.")
    return Tested(answer.status, answer.said)


class NotTaken(Unavailable):
    """The receiver of a hook did not take a message."""

    code = "not_taken"


def _deliveries(ask: Ask, request: PastDeliveries) -> Page[DeliverySeen]:
    """What it was sent, newest first: of each event how it stands."""
    _visible(ask, request.name)
    after = read_cursor(request.cursor, tuple[str])[0] if request.cursor else ""
    found = deliveries_of(ask.workspace, request.name, limit=request.limit + 1, after=after)
    page = cut(found, request.limit, lambda one: (one.event,))
    names = DeliverySeen.__struct_fields__
    seen = (DeliverySeen(**{name: getattr(one, name) for name in names}) for one in page.items)
    return Page(tuple(seen), page.cursor)


def _set_paused(ask: Ask, name: str, *, paused: bool) -> HookSeen:
    _visible(ask, name)
    return _seen(pause_hook(ask.workspace, name, paused=paused, by=ask.asker.name, now=ask.now))


def _visible(ask: Ask, name: str) -> Hook:
    """The hook, for who may see it; for others it looks as if there were none."""
    try:
        hook = get_hook(ask.workspace, name)
    except NotFound as error:
        raise (error if ask.asker.projects is None else hidden("hook", name)) from None
    if not ask.asker.may_see(hook.project):
        raise hidden("hook", name)
    return hook


def _seen(hook: Hook) -> HookSeen:
    return HookSeen(
        name=hook.name,
        url=shown_url(hook.url),
        events=hook.events,
        project=hook.project,
        paused=hook.paused,
        who=hook.who,
        at=hook.at,
        form=hook.form,
        title=hook.title,
    )


_ALL = "/api/v1/hooks"
_ONE = "/api/v1/hooks/{name}"
_TAGS = ("hooks",)

LIST_HOOKS = Operation("hooks.list", "GET", _ALL, ListHooks, Page[HookSeen], _list, tags=_TAGS)
GET_HOOK = Operation("hooks.get", "GET", _ONE, OneHook, HookSeen, _get, tags=_TAGS)
PUT_HOOK = Operation("hooks.put", "PUT", _ONE, PutHook, HookSeen, _put, role="admin", tags=_TAGS)
PAUSE_HOOK = Operation(
    "hooks.pause", "POST", f"{_ONE}/pause", OneHook, HookSeen, _pause, role="admin", tags=_TAGS
)
RESUME_HOOK = Operation(
    "hooks.resume", "POST", f"{_ONE}/resume", OneHook, HookSeen, _resume, role="admin", tags=_TAGS
)
REMOVE_HOOK = Operation(
    "hooks.remove", "DELETE", _ONE, OneHook, HookSeen, _remove, role="admin", tags=_TAGS
)
TEST_HOOK = Operation(
    "hooks.test", "POST", f"{_ONE}/test", OneHook, Tested, _test, role="admin", tags=_TAGS
)
PAST_DELIVERIES = Operation(
    "hooks.deliveries",
    "GET",
    f"{_ONE}/deliveries",
    PastDeliveries,
    Page[DeliverySeen],
    _deliveries,
    role="admin",
    tags=_TAGS,
)

OPERATIONS = (
    LIST_HOOKS,
    GET_HOOK,
    PUT_HOOK,
    PAUSE_HOOK,
    RESUME_HOOK,
    REMOVE_HOOK,
    TEST_HOOK,
    PAST_DELIVERIES,
)
