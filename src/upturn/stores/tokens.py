"""Tokens in a store: made, found by their secret, listed and revoked."""

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from upturn.core.access import Role, Token
from upturn.core.errors import Conflict, Invalid, NotFound, did_you_mean
from upturn.core.ids import new_id
from upturn.core.metastore import MetaStore
from upturn.core.time import utcnow
from upturn.core.tokentext import new_token_text, token_hash

_MAX_NAME = 100


def make_token(
    meta: MetaStore,
    name: str,
    *,
    role: Role,
    who: str,
    projects: Sequence[str] = (),
    expires_at: datetime | None = None,
) -> tuple[Token, str]:
    """A new token and its secret, which is nowhere else from now on.

    Raises Conflict when a token of that name holds already, and Invalid for a name that is none.
    """
    if not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
        raise Invalid(
            f"{name[:_MAX_NAME]!r} is no name of a token.",
            hint=f"Take up to {_MAX_NAME} printable characters: who uses it, and where.",
        )
    now = utcnow()
    if expires_at is not None and expires_at <= now:
        raise Invalid(f"The token would have expired at {expires_at.isoformat()} already.")
    if any(token.name == name and token.holds(now) for token in meta.last_each(Token)):
        raise Conflict(
            f"There is a token {name!r} already.",
            hint=f"Choose another name, or end that one first: upturn tokens revoke {name}",
        )
    secret = new_token_text()
    token = Token(
        id=new_id(),
        name=name,
        hash=token_hash(secret),
        role=role,
        projects=tuple(sorted(set(projects))),
        who=who,
        made_at=now,
        expires_at=expires_at,
        at=now,
    )
    return meta.add(token), secret


def token_by_hash(meta: MetaStore, digest: str) -> Token | None:
    """The token whose secret has that hash, as it is now; None when there never was one."""
    found = meta.select(Token, hash=digest, newest_first=True, limit=1)
    return found[0] if found else None


def list_tokens(meta: MetaStore) -> list[Token]:
    """Every token that there ever was, the newest first."""
    return sorted(meta.last_each(Token), key=lambda token: token.made_at, reverse=True)


def get_token(meta: MetaStore, name: str) -> Token:
    """The token of that id or name, one that holds before others. Raises NotFound."""
    tokens = list_tokens(meta)
    now = utcnow()
    named = [token for token in tokens if name in (token.id, token.name)]
    if not named:
        raise NotFound(
            f"There is no token {name!r}.", hint=did_you_mean(name, [one.name for one in tokens])
        )
    return next((token for token in named if token.holds(now)), named[0])


def revoke_token(meta: MetaStore, token: Token, *, who: str) -> Token:
    """The token as revoked. One that is revoked already stays as it is."""
    if token.revoked:
        return token
    return meta.add(replace(token, seq=0, revoked=True, who=who, at=utcnow()))


def has_tokens(meta: MetaStore) -> bool:
    """Whether somebody can show a token that holds now."""
    now = utcnow()
    return any(token.holds(now) for token in meta.last_each(Token))
