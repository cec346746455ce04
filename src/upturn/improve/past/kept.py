"""Kept: results remembered by the digest of all that they follow from, as a task's output is."""

from __future__ import annotations

import importlib.metadata
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from blake3 import blake3

from upturn.core.errors import Corrupt, NotFound
from upturn.core.memos import last_memo
from upturn.core.records import Memo, Version
from upturn.core.time import utcnow
from upturn.stores import values
from upturn.stores.workspace import Workspace

_JUDGING = ("core", "improve", "model")  # packages whose code a rehearsal's result rests on


class Kept:
    """Bytes by a key, in the store's blobs, where `upturn gc` removes them when nobody asks.

    Safe to use from several threads and processes. Nothing is ever wrong for being kept: a key is
    the digest of everything that the bytes follow from.
    """

    def __init__(self, workspace: Workspace, by: str, *, fresh: bool = False) -> None:
        self._workspace = workspace
        self._by = by  # the path of what it was made for
        self._fresh = fresh  # nothing is found, so that all is made again

    def find(self, key: str) -> memoryview | None:
        """The bytes kept under that key, if they are still there and whole."""
        memo = None if self._fresh else last_memo(self._workspace.meta, key)
        if memo is None or not self._workspace.blobs.has(memo.output):
            return None
        try:
            return self._workspace.blobs.get(memo.output)
        except (NotFound, Corrupt):
            return None

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Keep the bytes under that key."""
        output = self._workspace.blobs.put([data])
        self._workspace.meta.put(Memo(memo=key, output=output, task=self._by, at=utcnow()))


def key_of(*parts: Any) -> str:
    """The digest of plain values (text, numbers, None, lists of them), told apart from others.

    >>> key_of("ab", "c") == key_of("a", "bc")
    False
    """
    return blake3(msgspec.msgpack.encode(parts)).hexdigest()


def digest_of(table: pa.Table) -> str:
    """The digest of a table's content and types; equal tables have equal ones."""
    found = blake3()
    for part in values.pack(table)[1]:
        found.update(part)
    return found.hexdigest()


def digest_of_array(array: np.ndarray) -> str:
    """The digest of an array's values."""
    return blake3(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()


def version_parts(version: Version) -> list[Any]:
    """All of a version by which its answers and its judgement follow, where it runs now."""
    names = sorted(version.environment.distributions)
    return [
        version.artifact,
        version.data,
        [file.digest for file in version.files],
        msgspec.json.encode(version.signature).decode(),
        [[name, _installed(name)] for name in names],
    ]


@cache
def code_digest() -> str:
    """The digest of Upturn's own code that decides and judges: another one may decide otherwise."""
    package = Path(__file__).resolve().parents[2]
    found = blake3()
    for part in _JUDGING:
        for file in sorted((package / part).rglob("*.py")):
            found.update(file.relative_to(package).as_posix().encode() + b"\0")
            found.update(file.read_bytes() + b"\0")
    return found.hexdigest()


@cache
def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
