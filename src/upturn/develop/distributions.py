"""Which installed distribution provides a module, at which version: read from names of folders."""

import os
import re
import sys
from functools import lru_cache
from pathlib import Path

_REQUIRES = re.compile(rb"^Requires-Dist: *([A-Za-z0-9._-]+)([^\n]*)", re.MULTILINE)


def versions(top: str) -> dict[str, str]:
    """Versions of the distributions that provide a top-level module, and of what they require.

    Empty for Python's own modules. A module of no known distribution is at version ''.

    >>> sorted(versions("msgspec"))
    ['msgspec']
    >>> versions("json")
    {}
    """
    if top in sys.stdlib_module_names or top in ("__main__", "upturn"):
        return {}
    return _versions(top, installed())


def installed() -> tuple[tuple[str, int], ...]:
    """The folders of installed packages, with when they last changed."""
    found: list[tuple[str, int]] = []
    for path in sys.path:
        if path.endswith(("site-packages", "dist-packages")):
            try:
                found.append((path, os.stat(path).st_mtime_ns))
            except OSError:
                continue
    return tuple(found)


@lru_cache(maxsize=1024)
def _versions(top: str, installed: tuple[tuple[str, int], ...]) -> dict[str, str]:
    folders = _folders(installed)
    waiting = _providers(top, folders)
    if not waiting:
        return {_normal(top): str(getattr(sys.modules.get(top), "__version__", ""))}
    found: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        version, folder = folders[name]
        found[name] = version
        waiting.extend(needed for needed in _requirements(folder) if needed in folders)
    return found


@lru_cache(maxsize=8)
def _folders(installed: tuple[tuple[str, int], ...]) -> dict[str, tuple[str, Path]]:
    """The version and the metadata folder of each distribution, by its normalised name."""
    found: dict[str, tuple[str, Path]] = {}
    for site, _ in installed:
        for entry in sorted(os.listdir(site)):
            stem, ending = os.path.splitext(entry)
            if ending in (".dist-info", ".egg-info") and "-" in stem:
                name, version = stem.split("-")[:2]
                found.setdefault(_normal(name), (version, Path(site, entry)))
    return found


def _providers(top: str, folders: dict[str, tuple[str, Path]]) -> list[str]:
    if _normal(top) in folders:
        return [_normal(top)]
    marks = [f"\n{top}{end}".encode() for end in ("/", ".py,", ".cpython", ".abi3", "\n")]
    found: list[str] = []
    for name, (_, folder) in folders.items():
        files = b"\n" + b"\n".join(_read(folder / file) for file in ("RECORD", "top_level.txt"))
        if any(mark in files for mark in marks):
            found.append(name)
    return found


def _requirements(folder: Path) -> list[str]:
    """What the distribution declares that it needs, without what is for an extra."""
    text = _read(folder / "METADATA") or _read(folder / "PKG-INFO")
    head = text.partition(b"\n\n")[0]
    return [
        _normal(name.decode())
        for name, rest in _REQUIRES.findall(head)
        if b"extra ==" not in rest and b"extra==" not in rest
    ]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
