"""Decisions over the API: what loops decided, with the evidence that it rests on."""

from datetime import datetime

import msgspec

from upturn.api.operation import AnyOperation, Ask, Operation, Page, Request
from upturn.api.paging import LIMIT, Limit, cut, page_by, read_cursor
from upturn.api.visible import hidden, may_see
from upturn.core.errors import NotFound
from upturn.core.records import Decision


class LoopRow(msgspec.Struct, frozen=True, kw_only=True):
    """A loop, by what it decided last."""

    loop: str
    endpoint: str
    decisions: int
    action: str
    why: str
    at: datetime


class ListLoops(Request, frozen=True):
    """Which of the loops that have decided anything."""

    cursor: str = ""
    limit: Limit = LIMIT


class ListDecisions(Request, frozen=True):
    """Of which loop; `action` is one kind of them: promote, hold, …"""

    loop: str
    action: str = ""
    cursor: str = ""
    limit: Limit = LIMIT


class GetDecision(Request, frozen=True):
    """Which decision of which loop."""

    loop: str
    seq: int


def list_loops(ask: Ask, request: ListLoops) -> Page[LoopRow]:
    """Loops by name, each with what it decided last."""
    rows = [
        LoopRow(
            loop=last.loop,
            endpoint=last.endpoint,
            decisions=last.seq,
            action=last.action,
            why=last.why,
            at=last.at,
        )
        for last in ask.workspace.meta.last_each(Decision)
        if _seen(ask, last)
    ]
    return page_by(rows, key=lambda row: row.loop, cursor=request.cursor, limit=request.limit)


def list_decisions(ask: Ask, request: ListDecisions) -> Page[Decision]:
    """What a loop decided, newest first, each with all its evidence."""
    _check(ask, request.loop)
    before = read_cursor(request.cursor, tuple[int])[0] if request.cursor else None
    found = ask.workspace.meta.select(Decision, newest_first=True, loop=request.loop)
    left = [
        each
        for each in found
        if (before is None or each.seq < before) and request.action in ("", each.action)
    ]
    return cut(left, request.limit, lambda each: (each.seq,))


def get_decision(ask: Ask, request: GetDecision) -> Decision:
    """One decision, with its evidence and the state that it left behind."""
    _check(ask, request.loop)
    found = None
    if 0 < request.seq < 2**63:
        found = ask.workspace.meta.find(Decision, request.loop, request.seq)
    if found is None:
        raise NotFound(f"Loop {request.loop!r} has made no decision {request.seq}.")
    return found


def _check(ask: Ask, loop: str) -> None:
    last = ask.workspace.meta.find(Decision, loop)
    if last is None and ask.asker.projects is None:
        ask.workspace.meta.get(Decision, loop)  # for its hint
    if last is None or not _seen(ask, last):
        raise hidden("loop", loop)


def _seen(ask: Ask, decision: Decision) -> bool:
    return may_see(ask, f"endpoint/{decision.endpoint or decision.loop}")


_AT = "/api/v1/decisions"
LIST_LOOPS = Operation("decisions.loops", "GET", _AT, ListLoops, Page[LoopRow], list_loops)
LIST_DECISIONS = Operation(
    "decisions.list", "GET", f"{_AT}/{{loop}}", ListDecisions, Page[Decision], list_decisions
)
GET_DECISION = Operation(
    "decisions.get", "GET", f"{_AT}/{{loop}}/{{seq}}", GetDecision, Decision, get_decision
)
OPERATIONS: tuple[AnyOperation, ...] = (LIST_LOOPS, LIST_DECISIONS, GET_DECISION)
