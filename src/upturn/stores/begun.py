"""Begun: sequences in the order in which they began, the last one first, each as it stands now.

That order never changes, whatever becomes of them, so a list can be read on from where one was.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from upturn.core.errors import Invalid
from upturn.core.metastore import MetaStore
from upturn.core.record import Record

R = TypeVar("R", bound=Record)


def begun(
    meta: MetaStore,
    kind: type[R],
    by: str,
    *,
    limit: int,
    after: str = "",
    counts: Callable[[R], bool] = lambda _: True,
    **where: object,
) -> list[R]:
    """The last records of up to `limit` sequences, told apart by the field `by`.

    `after` a value of it, those that began before that one; Invalid when there is none such. Only
    what `counts`, as it stands now, is listed.
    """
    numbered: dict[str, Any] = {str(kind.sequence): 1}
    take = 2 * limit
    while True:
        firsts = meta.select(kind, newest_first=True, limit=take, **where, **numbered)
        names = [str(getattr(first, by)) for first in firsts]
        at_end = len(firsts) < take
        if after and after not in names and at_end:
            raise Invalid("The cursor is none of this list's.", hint="Begin without one.")
        names = names[names.index(after) + 1 :] if after in names else [] if after else names
        last = {getattr(one, by): one for one in meta.last_each(kind, **where, **{by: names})}
        found = [last[name] for name in names if counts(last[name])]
        if len(found) >= limit or at_end:
            return found[:limit]
        take *= 4
