"""Own modules: the user's code is imported as it is written, however soon it was edited again.

Python takes a file's bytecode for its source when both agree on its size and on the second in which
it was written. Of two edits in one second it may run the first. So no bytecode is written of a file
that may still be edited in the second of its time, as git does with its index.
"""

import os
import sys
import time
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from typing import Any

_SETTLED_S = 2.0
_LIBRARIES = ("site-packages", "dist-packages")
_roots: set[str] = set()


class OwnLoader(SourceFileLoader):
    """Loads a file of the user's."""

    def set_data(self, path: str, data: Any, **options: Any) -> None:
        """Write bytecode, unless the file was written a moment ago. See SourceFileLoader."""
        try:
            age_s = time.time() - os.stat(self.path).st_mtime
        except OSError:
            return
        if age_s > _SETTLED_S:
            super().set_data(path, data, **options)


def import_own(root: Path) -> None:
    """Have the modules in and below a folder be imported by OwnLoader."""
    folder = str(root)
    if folder in _roots:
        return
    if not _roots:
        sys.path_hooks.insert(0, _finder)
    _roots.add(folder)
    for known in list(sys.path_importer_cache):
        if _is_own(known):
            del sys.path_importer_cache[known]


def _finder(path: str) -> FileFinder:
    if not _is_own(path) or not os.path.isdir(path):
        raise ImportError(path=path)
    return FileFinder(
        path,
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (OwnLoader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )


def _is_own(path: str) -> bool:
    own = any(path == root or path.startswith(root + os.sep) for root in _roots)
    return own and not any(part in _LIBRARIES for part in path.split(os.sep))
