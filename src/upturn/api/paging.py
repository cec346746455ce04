"""Paging: parts of a list by a cursor, which says after which item the next part begins."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from upturn.api.operation import Page
from upturn.core.errors import Invalid

LIMIT = 100
Limit = Annotated[int, msgspec.Meta(ge=1, le=1000)]  # how many items one part has at most
T = TypeVar("T")
K = TypeVar("K")


def cursor_of(*key: Any) -> str:
    """A cursor that stands for the key: text that is safe in a URL, and says nothing to people.

    >>> read_cursor(cursor_of("delays", 7), tuple[str, int])
    ('delays', 7)
    """
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(key)).decode().rstrip("=")


def read_cursor(cursor: str, kind: type[K]) -> K:
    """The key that the cursor stands for, as that type. Raises Invalid for what is no cursor."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        return msgspec.msgpack.decode(raw, type=kind)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise Invalid(
            "The cursor is none of this list's.",
            hint="Ask with the `cursor` of the page before, or without one for the first page.",
        ) from None


def page_by(
    items: Sequence[T], *, key: Callable[[T], str], cursor: str = "", limit: int = LIMIT
) -> Page[T]:
    """A part of a short list that is there as a whole, by keys that differ, in their order.

    >>> page_by(["a", "b", "c"], key=str, limit=2).items
    ('a', 'b')
    >>> page_by(["a", "b", "c"], key=str, cursor=cursor_of("b"), limit=2)
    Page(items=('c',), cursor='')
    """
    ordered = sorted(items, key=key)
    if cursor:
        after = read_cursor(cursor, tuple[str])[0]
        ordered = [item for item in ordered if key(item) > after]
    return cut(ordered, limit, lambda item: (key(item),))


def cut(items: Sequence[T], limit: int, key: Callable[[T], Sequence[Any]]) -> Page[T]:
    """The first `limit` of items that were read with one more; that there is one makes a cursor."""
    page = tuple(items[:limit])
    return Page(page, cursor_of(*key(page[-1])) if len(items) > limit else "")
