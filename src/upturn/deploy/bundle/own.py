"""The user's own modules: those that are loaded, and those that they may import later."""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from upturn.core.owncode import is_own_file


def loaded() -> dict[str, str]:
    """The user's own modules that are loaded here, by name: their files."""
    found: dict[str, str] = {}
    for name, module in tuple(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and is_own_file(file) and name not in ("__main__", "__mp_main__"):
            found[name] = str(Path(file).resolve())
    return found


def followed(modules: dict[str, str]) -> tuple[dict[str, str], set[str]]:
    """The modules with all of the user's own that they import anywhere, in functions too; and the
    top-level names of installed modules that they import. Nothing is imported to find out.
    """
    found = dict(modules)
    foreign: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        for imported in _imports(name, Path(found[name])):
            for partial, file in _files(imported):
                if file is None or not is_own_file(file):
                    foreign.add(partial.partition(".")[0])
                    break
                if file.endswith(".py") and partial not in found:
                    found[partial] = file
                    waiting.append(partial)
    return found, foreign - sys.stdlib_module_names - {"upturn"}


def place_of(module: str, file: str) -> Path:
    """Where the module's file is to lie below a folder that is on the path.

    >>> place_of("shop.models", "/x/shop/models.py").as_posix()
    'shop/models.py'
    >>> place_of("shop", "/x/shop/__init__.py").as_posix()
    'shop/__init__.py'
    """
    path = Path(*module.split("."))
    name = Path(file).name
    if name.startswith("__init__."):
        return path / name
    return path.with_name(path.name + "".join(Path(file).suffixes))


def root_of(module: str, file: str) -> Path:
    """The folder that has to be on the path for the module to be found."""
    depth = len(place_of(module, file).parts)
    return Path(file).parents[depth - 1]


def _imports(module: str, file: Path) -> Iterator[str]:
    """The dotted names that a module's file imports, and those that may be modules."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # not Python, or a file that is gone: what it did import is loaded
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            try:
                base = importlib.util.resolve_name(name, package or None)
            except ImportError:
                continue
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _files(name: str) -> Iterator[tuple[str, str | None]]:
    """The module and the packages that it is in, outermost first: their files; none from where
    nothing is found.
    """
    path: Any = None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        partial = ".".join(parts[:end])
        spec = _spec(partial, path)
        if spec is None:
            return
        path = spec.submodule_search_locations
        if spec.has_location or not path:
            yield partial, spec.origin
        if path is None:
            return


def _spec(name: str, path: Any) -> Any:
    known = getattr(sys.modules.get(name), "__spec__", None)
    if known is not None:
        return known
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, path) if find is not None else None
        if spec is not None:
            return spec
    return None
