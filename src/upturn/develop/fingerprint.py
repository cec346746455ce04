"""The code of a step as a digest: its syntax tree, and all the user's own code that it reaches."""

import difflib
import sys
from collections.abc import Callable
from typing import Any

import msgspec
from blake3 import blake3

from upturn.develop.parts import Part
from upturn.develop.reach import Reach


class Fingerprint(msgspec.Struct, frozen=True):
    """The code of a step: what it is made of, sorted by name, and one digest of it all."""

    digest: str
    parts: tuple[Part, ...]


def fingerprint(function: Callable[..., Any], *, libraries: bool = True) -> Fingerprint:
    """The code that calling `function` can run, as far as it is the user's own, as one digest.

    Covered are the function's syntax without comments, docstrings and formatting; every function,
    class and constant of the user's own that it reaches by name, through modules, closures,
    decorators, base classes and imports; and the versions of the libraries and of Python. Where
    names lead nowhere (`exec`, `getattr` by a computed name), the whole module and all that it
    imports count, as kind "opaque". Without `libraries`, their versions and that of Python are left
    out: an environment of the step's own says them.

    It can't see: methods of an argument that no annotation names; what one module changes in
    another while it is imported; what C code calls; a library's own dynamic imports.

    >>> RATE = 0.5
    >>> scaled = lambda x: x * RATE
    >>> before = fingerprint(scaled)
    >>> before == fingerprint(scaled)
    True
    """
    reach = Reach()
    root = reach.start(function)
    python = ".".join(map(str, sys.version_info[:2]))
    reach.parts.add("python", "python", python)
    parts = tuple(
        part
        for part in sorted(reach.parts.found.values(), key=lambda part: part.name)
        if libraries or part.kind not in ("distribution", "python")
    )
    lines = [root, *(f"{part.name}\0{part.digest}" for part in parts)]
    return Fingerprint(blake3("\n".join(lines).encode()).hexdigest(), parts)


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
        if before.get(name) != after.get(name)
    ]


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
