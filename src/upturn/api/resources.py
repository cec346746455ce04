"""Resources: which module of this package answers for which part of the API, found without imports.

A module `runs.py` with `OPERATIONS` answers below `/api/v1/runs`. Where it answers for other first
segments as well, `MORE` says so.
"""

import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib import import_module

from upturn.api.operation import AnyOperation

PREFIX = "/api/v1/"
MORE: dict[str, str] = {}  # first segment of the path → module
_NONE: tuple[AnyOperation, ...] = ()


@cache
def segments() -> dict[str, str]:
    """The first segments of paths that there may be, each with its module."""
    import upturn.api as package

    found = {module.name.replace("_", "-"): module.name for module in _modules(package.__path__)}
    return found | MORE


@cache
def operations_of(segment: str) -> tuple[AnyOperation, ...]:
    """The operations whose path begins with that segment; none where there is no such resource."""
    module = segments().get(segment)
    if module is None:
        return _NONE
    operations: tuple[AnyOperation, ...] = getattr(
        import_module(f"upturn.api.{module}"), "OPERATIONS", _NONE
    )
    return tuple(each for each in operations if first_segment(each.path) == segment)


def all_operations() -> tuple[AnyOperation, ...]:
    """Every operation, by path; all modules are imported for it."""
    found = [each for segment in segments() for each in operations_of(segment)]
    return tuple(sorted(found, key=lambda each: (each.path, each.method)))


def resources() -> list[str]:
    """The first segments at which there is something."""
    return sorted(segment for segment in segments() if operations_of(segment))


def first_segment(path: str) -> str:
    """The first segment below the prefix.

    >>> first_segment("/api/v1/runs/{run}")
    'runs'
    """
    return path.removeprefix(PREFIX).partition("/")[0]


def _modules(path: Iterable[str]) -> list[pkgutil.ModuleInfo]:
    return [module for module in pkgutil.iter_modules(path) if not module.name.startswith("_")]
