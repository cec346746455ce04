"""Access: records of tokens, sessions of browsers, and the audit log of who changed what."""

from contextvars import ContextVar
from datetime import datetime
from typing import Literal

from upturn.core.record import Record

Role = Literal["viewer", "editor", "deployer", "admin"]  # each may do what those before it may
ROLES: tuple[Role, ...] = ("viewer", "editor", "deployer", "admin")
Via = Literal["http", "mlflow", "cli", "python"]
VIA: ContextVar[Via] = ContextVar("via", default="python")  # by what this process is asked


def reaches(role: Role, needed: Role) -> bool:
    """Whether who has a role may do what needs another one.

    >>> reaches("deployer", "editor"), reaches("viewer", "editor")
    (True, False)
    """
    return ROLES.index(role) >= ROLES.index(needed)


class Token(Record, frozen=True, kw_only=True):
    """What somebody may ask of a server over HTTP, and the hash of the secret that shows it.

    The last one holds: to revoke a token is to put it again, as revoked.
    """

    table = "token"
    key = ("id", "seq")
    sequence = "seq"
    indexed = ("hash",)

    id: str
    seq: int = 0
    name: str
    hash: str  # SHA-256 of the secret, which is 256 random bits: a slow hash would add nothing
    role: Role
    projects: tuple[str, ...] = ()  # all of them, when there is none
    who: str  # made or revoked it
    made_at: datetime
    expires_at: datetime | None = None
    revoked: bool = False
    at: datetime

    def holds(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return not self.revoked and (self.expires_at is None or now < self.expires_at)


class Session(Record, frozen=True, kw_only=True):
    """A browser that somebody logged in with; the last one holds.

    It rests on a token, whose end is its own, or on what an OpenID provider said.
    """

    table = "session"
    key = ("id", "seq")
    sequence = "seq"

    id: str  # SHA-256 of the cookie's secret
    seq: int = 0
    token: str = ""  # the token's id; '' for a session by OpenID Connect
    name: str  # of the token, or of the person
    role: Role
    projects: tuple[str, ...] = ()
    made_at: datetime
    expires_at: datetime
    ended: bool = False
    at: datetime


class Audit(Record, frozen=True, kw_only=True):
    """That somebody changed something, or tried to."""

    table = "audit"
    key = ("seq",)
    sequence = "seq"
    indexed = ("at", "who", "path")

    seq: int = 0
    at: datetime
    who: str
    token: str = ""  # the id of the token that they came with
    role: Role
    via: Via
    action: str  # an operation's name, 'models.alias'; else the method and the route, or a command
    path: str = ""  # of the thing: 'run/k3f9x2', 'model/delays'
    status: int  # HTTP's, or the command line's exit status
    detail: str = ""  # an error's code, when it was refused; what was set, when it was done
