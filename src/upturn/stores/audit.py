"""The audit log: the one place that writes it, and how it is read."""

from datetime import datetime

from upturn.core.access import Audit, Role, Via
from upturn.core.metastore import MetaStore
from upturn.core.time import utcnow

_MAX_TEXT = 300
_CHUNK = 1000


def note(
    meta: MetaStore,
    *,
    who: str,
    via: Via,
    action: str,
    status: int,
    token: str = "",
    role: Role = "admin",
    path: str = "",
    detail: str = "",
) -> Audit:
    """Write down that somebody changed something, or tried to."""
    return meta.add(
        Audit(
            at=utcnow(),
            who=_line(who),
            token=token,
            role=role,
            via=via,
            action=_line(action),
            path=_line(path),
            status=status,
            detail=_line(detail),
        )
    )


def read_audit(
    meta: MetaStore,
    *,
    since: datetime | None = None,
    who: str | None = None,
    path: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Audit]:
    """What was noted, the newest first: `limit` of them, all older than the number `before`.

    `path` is a thing's, or the beginning of several's up to a slash: 'model', 'run/k3f9x2'.
    """
    found: list[Audit] = []
    newest = meta.find(Audit)
    end = newest.seq if newest is not None else 0
    if before is not None:
        end = min(end, before - 1)
    while end > 0:
        begin = max(0, end - _CHUNK)
        part = meta.select(Audit, after=begin, limit=end - begin)
        for one in reversed(part):
            if since is not None and one.at < since:
                return found
            if (who is None or one.who == who) and (path is None or _is_of(one.path, path)):
                found.append(one)
                if len(found) == limit:
                    return found
        end = begin
    return found


def _is_of(path: str, part: str) -> bool:
    return path == part or path.startswith(f"{part.rstrip('/')}/")


def _line(text: str) -> str:
    """Text in one line that no terminal is confused by, of a bounded length."""
    return "".join(char if char.isprintable() else "?" for char in text[:_MAX_TEXT])
