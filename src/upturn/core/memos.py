"""Memos: which of those under a key the tasks of a project may use.

Who may write for some projects only could write anything as the output of a task of all others. So
what such a client remembers says for which project alone it holds.
"""

from collections.abc import Iterable

from upturn.core.metastore import MetaStore
from upturn.core.records import Memo

_TRIED = 100  # of the newest of a key


def usable(memos: Iterable[Memo], project: str) -> list[Memo]:
    """Those that hold in the project ('': in none, so only those that hold everywhere).

    >>> from upturn.core.time import utcnow
    >>> memo = Memo(memo="m", output="o", task="run/a/b/0", at=utcnow(), only="churn")
    >>> len(usable([memo], "churn")), len(usable([memo], "delays"))
    (1, 0)
    """
    return [memo for memo in memos if memo.only in ("", project)]


def last_memo(meta: MetaStore, key: str, project: str = "") -> Memo | None:
    """The last memo under the key that holds in the project."""
    last = meta.find(Memo, key)
    if last is None or usable([last], project):
        return last
    newest = meta.select(Memo, memo=key, newest_first=True, limit=_TRIED)
    return next(iter(usable(newest, project)), None)
