"""The wire of tracking: what its calls ask, and how a search's condition travels."""

from typing import Any, cast

import msgspec

from upturn.core.catalog import CatalogSearch
from upturn.core.errors import Invalid
from upturn.core.tracking import Both, Either, Not, Order, Point, StoredFile, Term, Where
from upturn.stores.remote.wire import Asked

_DEEPEST = 50
_MOST_TERMS = 1000
_Plain = list[Any]


class Log(Asked, frozen=True, kw_only=True):
    """What a run says."""

    run: str
    points: list[Point] = msgspec.field(default_factory=list[Point])
    params: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    tags: dict[str, str | None] = msgspec.field(default_factory=dict[str, str | None])
    scope: str = ""


class Tag(Asked, frozen=True, kw_only=True):
    """Tags of a thing."""

    path: str
    tags: dict[str, str | None]


class Names(Asked, frozen=True, kw_only=True):
    """Runs, or paths of things."""

    names: list[str]


class History(Asked, frozen=True, kw_only=True):
    """A metric's points."""

    run: str
    name: str
    scope: str | None = None
    limit: int | None = None
    after: int = 0


class CurveOf(Asked, frozen=True, kw_only=True):
    """A metric for a plot."""

    run: str
    name: str
    scope: str | None = None
    points: int = 320


class Search(Asked, frozen=True, kw_only=True):
    """Which runs."""

    where: _Plain | None = None
    projects: list[str] | None = None
    groups: list[str] | None = None
    removed: bool | None = False
    order: list[Order] = msgspec.field(default_factory=list[Order])
    limit: int = 100
    cursor: str = ""


class Catalog(Asked, frozen=True, kw_only=True):
    """Which models or versions."""

    search: CatalogSearch


class PutFile(Asked, frozen=True, kw_only=True):
    """A file of a run."""

    file: StoredFile


class Files(Asked, frozen=True, kw_only=True):
    """Files of a run."""

    run: str
    under: str = ""


class Forget(Asked, frozen=True, kw_only=True):
    """Runs to be deleted for good."""

    runs: list[str]
    removed_before: int


def plain_where(where: Where) -> _Plain:
    """A condition as lists: ['term', {…}], ['both', …], ['either', …], ['not', …].

    >>> where_of(plain_where(Not(Term(of="tag", name="a", op="=", value="b"))))
    Not(term=Term(of='tag', name='a', op='=', value='b', part='last'))
    """
    match where:
        case Term():
            return ["term", msgspec.structs.asdict(where)]
        case Both():
            return ["both", *map(plain_where, where.terms)]
        case Either():
            return ["either", *map(plain_where, where.terms)]
        case Not():
            return ["not", plain_where(where.term)]


def where_of(plain: _Plain) -> Where:
    """The condition of such lists. Raises Invalid for what is none, or is beyond all measure."""
    left = [_MOST_TERMS]

    def read(part: Any, depth: int) -> Where:
        left[0] -= 1
        if not isinstance(part, list) or not part or depth > _DEEPEST or left[0] < 0:
            raise Invalid("The search's condition is not understood, or too large.")
        what, *rest = cast("list[Any]", part)
        if what == "term" and len(rest) == 1:
            try:
                return msgspec.convert(rest[0], Term)
            except msgspec.ValidationError as error:
                raise Invalid(f"A term of the search is not understood: {error}.") from None
        terms = tuple(read(each, depth + 1) for each in rest)
        if what == "both":
            return Both(terms)
        if what == "either":
            return Either(terms)
        if what == "not" and len(terms) == 1:
            return Not(terms[0])
        raise Invalid("The search's condition is not understood.")

    return read(plain, 0)
