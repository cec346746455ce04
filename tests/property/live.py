"""A project loaded into this process, looked at, and forgotten again."""

import builtins
import decimal
import importlib
import linecache
import math
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from upturn.develop.fingerprint import Fingerprint, fingerprint

INPUTS = (0, 1, 2, 5)


@contextmanager
def loaded(folder: Path, files: dict[str, str]) -> Generator[ModuleType]:
    """The module `main` of the project, whose modules are forgotten at the end."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    before, path_before, writes = set(sys.modules), list(sys.path), sys.dont_write_bytecode
    patched: list[tuple[Any, dict[str, Any]]] = [
        (vars(module), dict(vars(module))) for module in (builtins, math)
    ]
    patched.append((os.environ, dict(os.environ)))
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        with decimal.localcontext():
            yield importlib.import_module("main")
    finally:
        sys.dont_write_bytecode = writes
        sys.path[:] = path_before
        for namespace, names in patched:
            for name in namespace.keys() - names.keys():
                del namespace[name]
        for name in set(sys.modules) - before:
            if _under(sys.modules[name], folder):
                del sys.modules[name]
        for file in [file for file in linecache.cache if file.startswith(str(folder))]:
            del linecache.cache[file]
        sys.path_importer_cache.pop(str(folder), None)


def _under(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
    return str(file).startswith(str(folder))


def seen(folder: Path, files: dict[str, str]) -> tuple[Fingerprint, list[str]]:
    """The fingerprint of the project's step, and what the step returns for several inputs."""
    with loaded(folder, files) as main:
        found = fingerprint(main.step)
        return found, [_outcome(main.step.function, x) for x in INPUTS]


def _outcome(function: Any, x: int) -> str:
    try:
        return repr(function(x))
    except Exception as error:  # noqa: BLE001  # what a step raises is its outcome too
        return f"{type(error).__name__}: {error}"
