"""Environment: the Python and the distributions whose modules are loaded here."""

import platform
import sys
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import PurePath
from typing import Any

from upturn.core.records import Environment

_INSTALLED = {"site-packages", "dist-packages"}


def present_environment(*, besides: Iterable[str] = ()) -> Environment:
    """This process's Python and, by name, the version of each distribution that it has imported:
    those left out whose modules are among `besides`.

    >>> "msgspec" in present_environment().distributions
    True
    """
    modules = {name.partition(".")[0] for name in tuple(sys.modules)}.difference(besides)
    found: dict[str, str] = {}
    for module in sorted(modules):
        if _is_installed(sys.modules.get(module)):
            found |= distributions_of(module)
    return Environment(python=platform.python_version(), distributions=dict(sorted(found.items())))


def _is_installed(module: Any) -> bool:
    """Whether the module lies where installers put things: not the user's, nor Python's own."""
    spec = getattr(module, "__spec__", None)
    if spec is None:
        return False
    places: Iterable[str] = spec.submodule_search_locations or ()
    return any(
        not _INSTALLED.isdisjoint(PurePath(place).parts)
        for place in (spec.origin, *places)
        if place
    )


@cache
def distributions_of(module: str) -> dict[str, str]:
    """The distributions that a top-level module is of, with their versions; none for others."""
    try:
        # Most are called as their module, and asking for one by name is far faster than a search.
        return {_name(module): metadata.version(module)}
    except (metadata.PackageNotFoundError, ValueError):
        names = _by_module().get(module, ())
        return {_name(name): metadata.version(name) for name in names}


@cache
def _by_module() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def _name(distribution: str) -> str:
    return distribution.lower().replace("_", "-").replace(".", "-")
