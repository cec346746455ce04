"""HookDuty: notes what hooks are to be told of, and tells each, until it has taken it.

Every event that concerns a hook is noted in the store, as due, together with how far the records
have been read: nobody who dies loses one, and none is noted twice. Each hook is told by a thread of
its own, so one that hangs holds up no other. What a hook does not take is tried again, ever later,
with some jitter. It may get a message twice, when we die before its answer is stored: the message's
id is the same then.
"""

from __future__ import annotations

import contextlib
import ipaddress
import random
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from upturn.adapters.webhooks.events import Event, event_of, kinds, wants
from upturn.adapters.webhooks.mlflow_events import (
    EXAMPLES,
    MlflowEvent,
    body_of,
    mlflow_event_of,
    mlflow_kinds,
)
from upturn.adapters.webhooks.shelf import list_hooks, pause_hook
from upturn.adapters.webhooks.signing import headers_for
from upturn.core.errors import NotFound, UpturnError
from upturn.core.naming import Model
from upturn.core.notices import Delivery, DeliveryStatus, Hook
from upturn.core.posting import Answer, Unreached, post
from upturn.core.record import Record
from upturn.core.records import Version
from upturn.core.schedules import Position
from upturn.core.time import from_micros, utcnow
from upturn.stores.workspace import Workspace

READER = "hooks"
TIMEOUT_S = 10.0  # that a receiver gets for one message
# Until it is tried again, after each attempt: ten in all, over a day and a half.
DELAYS_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 7200.0, 21600.0, 43200.0, 43200.0)
_JITTER = 0.2
_AT_ONCE = 1000
_GONE = 410  # by which a receiver says that it wants no more
# Tags and descriptions that MLflow's messages tell of are written right after these.
_COMPLETED = (Model, Version)
_AWAY_S = 10.0  # after so long, another server may have told them meanwhile


class HookDuty:
    """See Duty."""

    name = "hooks"
    every_s = 1.0

    def __init__(
        self, *, delays_s: Sequence[float] = DELAYS_S, timeout_s: float = TIMEOUT_S
    ) -> None:
        """`delays_s`: until the next attempt after each one; after the last it has failed."""
        self._delays_s = tuple(delays_s)
        self._timeout_s = timeout_s
        self._read: dict[str, int] = {}
        self._settled: dict[str, int] = {}  # what was there a look ago, by table
        self._unsettled = False
        self._stored: dict[str, int] = {}
        self._due: dict[str, dict[str, Delivery]] = {}  # by hook and event
        self._tellers: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()
        self._looked: float | None = None
        self._stamp: int | None = None  # of the store when it was read last

    def look(self, workspace: Workspace, now: datetime) -> None:
        """Note what happened, and tell those who are due to be told."""
        moment = time.monotonic()
        if self._looked is None or moment - self._looked > _AWAY_S:
            self._begin(workspace)
            self._stamp = None
        stamp = workspace.meta.stamp()
        if stamp != self._stamp or self._unsettled:
            self._note(workspace, now)
            self._stamp = stamp
        self._looked = time.monotonic()
        for hook in list_hooks(workspace):
            self._tell(workspace, hook, now)

    @property
    def telling(self) -> bool:
        """Whether somebody is being told just now."""
        return any(thread.is_alive() for thread in self._tellers.values())

    # What there is to tell

    def _begin(self, workspace: Workspace) -> None:
        """From where the last one stopped, whoever that was."""
        meta = workspace.meta
        for kind in _kinds():
            last = meta.find(Position, READER, kind.table)
            if last is None:
                start = meta.position(kind)
                at = from_micros(0)
                last = meta.add(Position(reader=READER, kind=kind.table, position=start, at=at))
            self._read[kind.table] = self._stored[kind.table] = last.position
        due: dict[str, dict[str, Delivery]] = {}
        for hook in list_hooks(workspace):
            last_each = meta.last_each(Delivery, hook=hook.name)
            due[hook.name] = {one.event: one for one in last_each if one.status == "due"}
        with self._lock:
            self._due = due

    def _note(self, workspace: Workspace, now: datetime) -> None:
        """Note for each hook what happened, in the order in which it was put."""
        in_mlflows = any(hook.form == "mlflow" for hook in list_hooks(workspace))
        self._unsettled = False
        for kind in _kinds():
            end = self._end(workspace, kind) if in_mlflows and kind in _COMPLETED else None
            while True:
                news = workspace.meta.read_on(kind, self._read[kind.table], limit=_AT_ONCE)
                if end is not None:
                    news = [one for one in news if one[0] <= end]
                if not news:
                    break
                hooks = list_hooks(workspace)  # after the records: none misses its event
                made = [
                    _noted(hook, event, now)
                    for _, record in news
                    for event in self._events(workspace, record, hooks)
                    for hook in hooks
                    if _concerns(hook, event)
                ]
                self._store(workspace, kind.table, news[-1][0], made, now)

    def _end(self, workspace: Workspace, kind: type[Record]) -> int:
        """Up to where to read a kind whose records are described and tagged just after."""
        end, there = self._settled.get(kind.table, 0), workspace.meta.position(kind)
        self._settled[kind.table] = there
        self._unsettled |= there > end
        return end

    @staticmethod
    def _events(
        workspace: Workspace, record: Record, hooks: Sequence[Hook]
    ) -> list[Event | MlflowEvent]:
        found: list[Event | MlflowEvent | None] = [event_of(workspace, record)]
        if any(hook.form == "mlflow" for hook in hooks):
            found.append(mlflow_event_of(workspace, record))
        return [event for event in found if event is not None]

    def _store(
        self, workspace: Workspace, table: str, position: int, made: list[Delivery], now: datetime
    ) -> None:
        find = workspace.meta.find
        records: list[Record] = [
            one for one in made if find(Delivery, one.hook, one.event, 1) is None
        ]
        if records or position - self._stored[table] >= _AT_ONCE:
            records.append(Position(reader=READER, kind=table, position=position, at=now))
            workspace.meta.put(*records)
            self._stored[table] = position
        self._read[table] = position
        with self._lock:
            for delivery in records:
                if isinstance(delivery, Delivery):
                    self._due.setdefault(delivery.hook, {})[delivery.event] = delivery

    # Telling

    def _tell(self, workspace: Workspace, hook: Hook, now: datetime) -> None:
        teller = self._tellers.get(hook.name)
        if hook.paused or (teller is not None and teller.is_alive()):
            return
        with self._lock:
            ready = [one for one in self._due.get(hook.name, {}).values() if _is_ready(one, now)]
        if not ready:
            return
        thread = threading.Thread(
            target=self._tell_all, args=(workspace, hook, ready), name=f"hook {hook.name}"
        )
        thread.daemon = True  # what it has not told when we end is due when we begin
        self._tellers[hook.name] = thread
        thread.start()

    def _tell_all(self, workspace: Workspace, hook: Hook, ready: list[Delivery]) -> None:
        # A store that is closed or full: it stays due, and is tried again at a later look.
        with contextlib.suppress(UpturnError):
            for delivery in ready:
                last = workspace.meta.get(Delivery, delivery.hook, delivery.event)
                told = self._attempt(workspace, hook, last) if last.status == "due" else last
                if told is not last:
                    workspace.meta.put(told)
                with self._lock:
                    due = self._due.setdefault(hook.name, {})
                    due.pop(told.event, None)
                    if told.status == "due":
                        due[told.event] = told
                if told.response.startswith(str(_GONE)):
                    with contextlib.suppress(NotFound):
                        pause_hook(
                            workspace, hook.name, paused=True, by="its receiver", now=utcnow()
                        )
                    return

    def _attempt(self, workspace: Workspace, hook: Hook, delivery: Delivery) -> Delivery:
        """Send it once; how it stands then."""
        first = workspace.meta.get(Delivery, delivery.hook, delivery.event, 1)
        public_only = workspace.settings.public_hooks
        try:
            answer = send(
                hook, first.event, first.body, timeout_s=self._timeout_s, public_only=public_only
            )
            taken, said = answer.taken, f"{answer.status} {answer.said}".strip()
        except Unreached as error:
            taken, said = False, error.message
        attempts, now = delivery.attempts + 1, utcnow()
        left = attempts <= len(self._delays_s) and not said.startswith(str(_GONE))
        status: DeliveryStatus = "done" if taken else "due" if left else "failed"
        wait_s = self._delays_s[attempts - 1] if status == "due" else 0.0
        wait_s *= random.uniform(1 - _JITTER, 1 + _JITTER)
        return msgspec.structs.replace(
            delivery,
            seq=delivery.seq + 1,
            status=status,
            attempts=attempts,
            response=said,
            body="",
            next_at=now + timedelta(seconds=wait_s) if status == "due" else None,
            at=now,
        )


def send(
    hook: Hook, event: str, body: str, *, timeout_s: float = TIMEOUT_S, public_only: bool = False
) -> Answer:
    """Post a message to a hook, signed. Raises Unreached when nobody answers."""
    data = body.encode()
    headers = headers_for(hook, event, int(time.time()), data)

    def allowed(address: str) -> bool:
        return may_be_posted_to(address, public_only=public_only)

    return post(hook.url, data, headers, timeout_s=timeout_s, allowed=allowed)


def send_example(hook: Hook, type: str, now: datetime, *, public_only: bool) -> Answer:
    """Post an example of an event to a hook in MLflow's form. Raises Unreached as `send` does."""
    body = body_of(type, now, EXAMPLES[type])
    return send(hook, str(uuid.uuid4()), body, public_only=public_only)


def may_be_posted_to(address: str, *, public_only: bool) -> bool:
    """Whether hooks may post to an IP address: never to what no receiver has.

    That is: addresses of one link alone, where clouds answer with a machine's credentials, of
    groups, and of nobody. With `public_only`, none of a private network and of this machine either.

    >>> may_be_posted_to("169.254.169.254", public_only=False)
    False
    >>> [may_be_posted_to("10.1.2.3", public_only=only) for only in (False, True)]
    [True, False]
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    ip = mapped if mapped is not None else ip
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return False
    if str(ip) == "fd00:ec2::254":  # the same service, where a cloud has it elsewhere
        return False
    return ip.is_global or not public_only


def _kinds() -> tuple[type[Record], ...]:
    return tuple(dict.fromkeys((*kinds(), *mlflow_kinds())))


def _concerns(hook: Hook, event: Event | MlflowEvent) -> bool:
    return (
        not hook.paused
        and (hook.form == "mlflow") == isinstance(event, MlflowEvent)
        and hook.project == event.project
        and event.at >= hook.since
        and wants(hook.events, event.type)
    )


def _noted(hook: Hook, event: Event | MlflowEvent, now: datetime) -> Delivery:
    return Delivery(
        hook=hook.name,
        event=event.id,
        seq=1,
        type=event.type,
        path=event.path,
        status="due",
        body=event.body(),
        at=now,
    )


def _is_ready(delivery: Delivery, now: datetime) -> bool:
    return delivery.next_at is None or delivery.next_at <= now
