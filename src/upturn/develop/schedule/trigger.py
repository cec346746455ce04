"""Triggers of a schedule: what has to have happened for a flow to be started."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from upturn.core.errors import Invalid

KINDS = ("flow", "model", "data")
_NAME = re.compile(r"[^/\s]+")


class NewVersion(msgspec.Struct, frozen=True):
    """That a new version of a model was registered; those of rehearsals do not count."""

    model: str

    @property
    def path(self) -> str:
        """How a schedule keeps it."""
        return f"model/{self.model}"


class NewData(msgspec.Struct, frozen=True):
    """That a file, or anything in a folder, has another content than before."""

    file: str

    @property
    def path(self) -> str:
        """How a schedule keeps it."""
        return f"data/{self.file}"


Trigger = NewVersion | NewData


def new_version(model: str) -> NewVersion:
    """Start a flow when a new version of the model has been registered: @up.flow(after=…).

    Parameters of the flow that are named like those that the version was made with get their
    values, unless the schedule gives them others.

    >>> new_version("delays").path
    'model/delays'
    """
    return NewVersion(model)


def new_data(file: str) -> NewData:
    """Start a flow when the content of a file or a folder, relative to the project, has changed.

    Content is compared, not times: a file that is written anew with the same bytes starts nothing.
    It has to have stayed the same for some seconds, so that nothing half-written is taken up.

    >>> new_data("purchases.parquet").path
    'data/purchases.parquet'
    """
    return NewData(file)


def paths_of(after: Any) -> tuple[str, ...]:
    """What `after=` was given, as a schedule keeps it. Raises Invalid for what is no trigger.

    >>> paths_of("prepare"), paths_of([new_version("delays"), "data/purchases.parquet"])
    (('flow/prepare',), ('model/delays', 'data/purchases.parquet'))
    """
    if after is None:
        return ()
    if isinstance(after, str) or not isinstance(after, Iterable):
        return (_path(after),)
    return tuple(dict.fromkeys(_path(one) for one in after))


def _path(one: Any) -> str:
    if isinstance(one, Trigger):
        one = one.path
    elif not isinstance(one, str) and callable(getattr(one, "convert", None)):
        one = f"flow/{one.name}"  # a Flow
    if not isinstance(one, str):
        raise Invalid(
            f"after={one!r} is nothing that a flow can be started after.",
            hint='Give a flow, its name, up.new_version("model") or up.new_data("file").',
        )
    kind, slash, name = one.partition("/")
    if not slash:
        kind, name = "flow", one
    if kind not in KINDS or not name or (kind != "data" and not _NAME.fullmatch(name)):
        raise Invalid(
            f"after={one!r} is nothing that a flow can be started after.",
            hint="Write a flow's name, flow/NAME, model/NAME or data/FILE.",
        )
    return f"{kind}/{name}"
