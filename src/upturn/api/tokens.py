"""Tokens over the API: what lets others ask this server, made, listed and revoked by an admin."""

from datetime import datetime
from typing import Annotated

import msgspec

from upturn.api.operation import AnyOperation, Ask, Operation, Page, Request
from upturn.api.visible import hidden
from upturn.core.access import Role, Token
from upturn.core.errors import Invalid, NotFound
from upturn.core.time import duration, end_instant
from upturn.deploy.serve.problems import Forbidden
from upturn.stores.tokens import get_token, list_tokens, make_token, revoke_token

_NEVER = "never"
Limit = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class TokenRow(msgspec.Struct, frozen=True, kw_only=True):
    """A token as others may know it: without its secret."""

    id: str
    name: str
    role: Role
    projects: tuple[str, ...]  # all of them, when there is none
    who: str
    made_at: datetime
    expires_at: datetime | None
    state: str  # 'holds', 'expired', 'revoked'


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that was made, with its secret: it is shown this once."""

    token: TokenRow
    secret: str


class CreateToken(Request, frozen=True):
    """What the token is for, and what it lets do."""

    name: str
    role: Role = "viewer"
    projects: tuple[str, ...] = ()
    expires: str = "90d"  # a duration, a date, an instant, or 'never'


class ListTokens(Request, frozen=True):
    """Which tokens: those that hold, or every one that there ever was."""

    every: bool = False
    cursor: str = ""
    limit: Limit = 100


class RevokeToken(Request, frozen=True):
    """Which token, by its id or its name."""

    token: str


def create_token(ask: Ask, request: CreateToken) -> NewToken:
    """Make a token. Its secret is in the answer, and nowhere else: keep it."""
    projects = _within(ask, request.projects)
    token, secret = make_token(
        ask.workspace.meta,
        request.name,
        role=request.role,
        who=ask.asker.name,
        projects=projects,
        expires_at=_expiry(request.expires, ask.now),
    )
    return NewToken(token=_row(token, ask.now), secret=secret)


def all_tokens(ask: Ask, request: ListTokens) -> Page[TokenRow]:
    """Tokens, the newest first."""
    tokens = [token for token in list_tokens(ask.workspace.meta) if _may_manage(ask, token)]
    rows = [_row(token, ask.now) for token in tokens if request.every or token.holds(ask.now)]
    begin = 0
    if request.cursor:
        ids = [row.id for row in rows]
        if request.cursor not in ids:
            raise Invalid("The cursor is none of this list's.", hint="Begin without one.")
        begin = ids.index(request.cursor) + 1
    page = rows[begin : begin + request.limit]
    more = begin + request.limit < len(rows)
    return Page(items=tuple(page), cursor=page[-1].id if more else "")


def end_token(ask: Ask, request: RevokeToken) -> TokenRow:
    """End a token: within a second no server takes it any more, nor sessions that rest on it."""
    try:
        token = get_token(ask.workspace.meta, request.token)
    except NotFound as error:
        raise (error if ask.asker.projects is None else hidden("token", request.token)) from None
    if not _may_manage(ask, token):
        raise NotFound(f"There is no token {request.token!r}.")
    return _row(revoke_token(ask.workspace.meta, token, who=ask.asker.name), ask.now)


def _within(ask: Ask, projects: tuple[str, ...]) -> tuple[str, ...]:
    """The projects of a new token: never more than its maker's own."""
    own = ask.asker.projects
    if own is None:
        return projects
    beyond = sorted(set(projects) - own)
    if beyond or not projects:
        raise Forbidden(
            f"A token for {', '.join(beyond) or 'all projects'} is not yours to make.",
            hint=f"Yours may be for: {', '.join(sorted(own))}.",
        )
    return projects


def _may_manage(ask: Ask, token: Token) -> bool:
    own = ask.asker.projects
    return own is None or (bool(token.projects) and own.issuperset(token.projects))


def _expiry(text: str, now: datetime) -> datetime | None:
    if text.strip().lower() == _NEVER:
        return None
    try:
        if text.strip()[:4].isdigit() and "-" in text:
            return end_instant(text.strip())
        return now + duration(text)
    except (Invalid, OverflowError):
        raise Invalid(
            f"{text[:50]!r} says not when the token expires.",
            hint="Write a duration as '90d', a date as '2027-01-31', or 'never'.",
        ) from None


def _row(token: Token, now: datetime) -> TokenRow:
    state = "revoked" if token.revoked else "holds" if token.holds(now) else "expired"
    return TokenRow(
        id=token.id,
        name=token.name,
        role=token.role,
        projects=token.projects,
        who=token.who,
        made_at=token.made_at,
        expires_at=token.expires_at,
        state=state,
    )


_AT = "/api/v1/tokens"
CREATE_TOKEN = Operation(
    "tokens.create", "POST", _AT, CreateToken, NewToken, create_token, role="admin", status=201
)
LIST_TOKENS = Operation(
    "tokens.list", "GET", _AT, ListTokens, Page[TokenRow], all_tokens, role="admin"
)
REVOKE_TOKEN = Operation(
    "tokens.revoke", "DELETE", f"{_AT}/{{token}}", RevokeToken, TokenRow, end_token, role="admin"
)
OPERATIONS: tuple[AnyOperation, ...] = (CREATE_TOKEN, LIST_TOKENS, REVOKE_TOKEN)
