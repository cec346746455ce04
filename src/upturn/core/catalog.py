"""Catalog: how models and their versions are searched for, and the rows that are found."""

from typing import Literal

import msgspec


class Compare(msgspec.Struct, frozen=True):
    """One comparison, of an attribute or of a tag that has to be there."""

    of: Literal["attribute", "tag"]
    name: str  # of attributes: 'name', and of versions 'number', 'run', 'source', 'stage'
    op: str  # '=', '!=', '<', '<=', '>', '>=', 'LIKE', 'ILIKE', 'IN', 'NOT IN'
    value: str | int | tuple[str, ...]


class Key(msgspec.Struct, frozen=True):
    """What a search sorts by: 'name', 'updated', and of versions 'number', 'created'."""

    name: str
    descending: bool = False


class CatalogSearch(msgspec.Struct, frozen=True, kw_only=True):
    """Which models or versions, in which order; `after` is a page's own, for the one after it.

    A page that is asked for by `after` begins behind what was seen last, whatever came meanwhile.
    """

    where: tuple[Compare, ...] = ()
    with_tag: tuple[str, str] | None = None  # of the model; text in any case of letters
    without_tag: tuple[str, str] | None = None
    projects: tuple[str, ...] | None = None
    order: tuple[Key, ...] = ()
    limit: int = 100
    after: tuple[str | int, ...] = ()


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is shown, as its last records say it."""

    name: str
    project: str
    updated_at: int  # microseconds since 1970


class VersionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is shown, as its last records say it."""

    model: str
    number: int
    stage: str
    updated_at: int  # microseconds since 1970


class ModelPage(msgspec.Struct, frozen=True, kw_only=True):
    """Models that were found; `after` is () when there are no more."""

    rows: tuple[ModelRow, ...]
    after: tuple[str | int, ...] = ()


class VersionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Versions that were found; `after` is () when there are no more."""

    rows: tuple[VersionRow, ...]
    after: tuple[str | int, ...] = ()
