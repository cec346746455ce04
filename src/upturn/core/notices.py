"""Notices: records of who is told of what happens, and of each telling."""

from datetime import datetime
from typing import Literal

from upturn.core.record import Record

HookForm = Literal["upturn", "mlflow"]
DeliveryStatus = Literal["due", "done", "failed"]


class Hook(Record, frozen=True, kw_only=True):
    """An address that events are posted to, under a name; the last one holds.

    It is told of nothing that happened before its first record.
    """

    table = "hook"
    key = ("name", "seq")
    sequence = "seq"

    name: str
    seq: int = 0
    url: str
    events: tuple[str, ...]  # 'version', 'run.failed', …: see develop/notices
    secret: str  # 'whsec_…'; in MLflow's form any text, or none
    project: str
    paused: bool = False
    removed: bool = False
    who: str
    at: datetime
    since: datetime  # of the first record since it was there anew
    form: HookForm = "upturn"  # whose messages and headers it is sent
    title: str = ""  # what MLflow calls it: names of its webhooks need not differ
    description: str = ""


class Delivery(Record, frozen=True, kw_only=True):
    """How it stands with telling a hook of an event; the last one holds."""

    table = "delivery"
    key = ("hook", "event", "seq")
    sequence = "seq"

    hook: str
    event: str  # its id, the same at every attempt
    seq: int = 0
    type: str  # 'version.registered'
    path: str  # of what it is about
    status: DeliveryStatus
    attempts: int = 0
    response: str = ""  # of the last attempt: '200', '500 …', or why there was none
    body: str = ""  # what is posted, in the first record alone
    next_at: datetime | None = None  # when it is tried again
    at: datetime
