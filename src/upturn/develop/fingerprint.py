"""The code of a step as a digest: its syntax tree, and all the user's own code that it reaches."""

import difflib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from blake3 import blake3

from upturn.develop.parts import Part
from upturn.develop.reach import Reach

_KEPT = 256
_known: "dict[int, _Known]" = {}


class _Known(NamedTuple):
    function: Any
    reach: Reach
    root: str
    parts: tuple[Part, ...]


class Fingerprint(msgspec.Struct, frozen=True):
    """The code of a step: what it is made of, sorted by name, and one digest of it all."""

    digest: str
    parts: tuple[Part, ...]


def fingerprint(function: Callable[..., Any], *, libraries: bool = True) -> Fingerprint:
    """The code that calling `function` can run, as far as it is the user's own, as one digest.

    Covered are the function's syntax without comments, docstrings and formatting; every function,
    class and constant of the user's own that it reaches by name, through modules, closures,
    decorators, base classes and imports; what these modules do when they are imported; and the
    versions of the libraries and of Python. Where names lead nowhere (`getattr` by a computed
    name), the whole module and all that it imports count, or the whole project (`exec`), as parts
    of kind "opaque" that have a reason. A class or anything else that is called may be given too.
    Without `libraries`, their versions and that of Python are left out: an environment of the
    step's own says them.

    What it can't see is listed in docs/develop.md. It is known again at once, from a snapshot of
    all that was looked at: files, names, functions, classes and constants.

    >>> RATE = 0.5
    >>> scaled = lambda x: x * RATE
    >>> before = fingerprint(scaled)
    >>> before == fingerprint(scaled)
    True
    """
    root, parts = _followed(function)
    if not libraries:
        parts = tuple(part for part in parts if part.kind not in ("distribution", "python"))
    lines = [root, *(f"{part.name}\0{part.digest}" for part in parts)]
    return Fingerprint(blake3("\n".join(lines).encode()).hexdigest(), parts)


def _followed(function: Callable[..., Any]) -> tuple[str, tuple[Part, ...]]:
    """What names the function among the parts, and these, sorted by name."""
    known = _known.get(id(function))
    if known is not None and known.function is function and known.reach.holds():
        return known.root, known.parts
    reach = Reach()
    root = reach.start(function)
    reach.parts.add("python", "python", ".".join(map(str, sys.version_info[:2])))
    parts = tuple(sorted(reach.parts.found.values(), key=lambda part: part.name))
    if len(_known) >= _KEPT:
        _known.clear()
    _known[id(function)] = _Known(function, reach, root, parts)
    return root, parts


def changes(old: Fingerprint, new: Fingerprint) -> list[str]:
    """What differs, one text for each part: a unified diff of code, 'was → is' of the rest.

    >>> from upturn.develop.parts import Part
    >>> old, new = (Part("constant flights.LATE", "constant", str(n), str(n)) for n in (10, 15))
    >>> changes(Fingerprint("a", (old,)), Fingerprint("b", (new,)))
    ['constant flights.LATE: 10 → 15']
    """
    before = {part.name: part for part in old.parts}
    after = {part.name: part for part in new.parts}
    return [
        _change(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if _digest(before.get(name)) != _digest(after.get(name))
    ]


def _digest(part: Part | None) -> str | None:
    return part.digest if part else None


def _change(name: str, old: Part | None, new: Part | None) -> str:
    part = new or old
    assert part is not None
    if part.kind in ("function", "class", "module", "opaque"):
        if old is None or new is None:
            return f"{name}: {'no longer used' if new is None else 'newly used'}"
        diff = difflib.unified_diff(
            old.source.splitlines(), new.source.splitlines(), name, name, lineterm=""
        )
        return "\n".join(diff)
    return f"{name}: {old.source if old else 'absent'} → {new.source if new else 'absent'}"
