"""The audit log over the API: who changed what, and who was refused."""

from datetime import datetime
from typing import Annotated

import msgspec

from upturn.api.operation import AnyOperation, Ask, Operation, Page, Request
from upturn.core.access import Audit, Role, Via
from upturn.core.errors import Invalid
from upturn.deploy.serve.problems import Forbidden
from upturn.stores.audit import read_audit

Limit = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One change, or one try."""

    number: int
    at: datetime
    who: str
    token: str
    role: Role
    via: Via
    action: str
    path: str
    status: int
    detail: str


class ListAudit(Request, frozen=True):
    """Which part of the log: from when on, whose, and of which thing, or what is below it."""

    since: datetime | None = None
    who: str | None = None
    path: str | None = None
    cursor: str = ""
    limit: Limit = 100


def list_audit(ask: Ask, request: ListAudit) -> Page[AuditRow]:
    """What was changed by whom, the newest first."""
    if ask.asker.projects is not None:
        raise Forbidden(
            "The audit log tells of every project, and your token is for some.",
            hint="Ask with an admin's token for all projects.",
        )
    if request.since is not None and request.since.tzinfo is None:
        raise Invalid("`since` has no time zone.", hint="Write it as 2027-01-31T06:00:00Z.")
    before = None
    if request.cursor:
        if not request.cursor.isdecimal() or len(request.cursor) > 18:
            raise Invalid("The cursor is none of this list's.", hint="Begin without one.")
        before = int(request.cursor)
    found = read_audit(
        ask.workspace.meta,
        since=request.since,
        who=request.who,
        path=request.path,
        before=before,
        limit=request.limit + 1,
    )
    page = tuple(_row(one) for one in found[: request.limit])
    return Page(items=page, cursor=str(page[-1].number) if len(found) > request.limit else "")


def _row(one: Audit) -> AuditRow:
    return AuditRow(
        number=one.seq,
        at=one.at,
        who=one.who,
        token=one.token,
        role=one.role,
        via=one.via,
        action=one.action,
        path=one.path,
        status=one.status,
        detail=one.detail,
    )


LIST_AUDIT = Operation(
    "audit.list", "GET", "/api/v1/audit", ListAudit, Page[AuditRow], list_audit, role="admin"
)
OPERATIONS: tuple[AnyOperation, ...] = (LIST_AUDIT,)
