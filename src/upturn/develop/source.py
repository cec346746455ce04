"""Where the user's own source is, and its syntax: parsed once a version of the file."""

import ast
import importlib.machinery
import importlib.util
import linecache
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from upturn.core.owncode import is_own_file
from upturn.develop.names import Uses, chain_of, uses

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_NOTEBOOK = ("<ipython-input-", "ipykernel_")


class Source:
    """The syntax of one file or notebook cell, without its docstrings, by what it defines."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = parse(text)
        self.functions: dict[tuple[str, int], list[Definition]] = {}
        self.classes: dict[str, list[ast.ClassDef]] = {}
        self._index(self.tree, "")
        self._uses: dict[tuple[int, int], Uses] = {}
        self._plain: dict[tuple[int, int], str] = {}
        self._bindings: dict[str, list[ast.stmt]] | None = None
        self._whole: str | None = None

    def _index(self, node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = prefix
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                line = child.decorator_list[0].lineno if child.decorator_list else child.lineno
                self.functions.setdefault((child.name, line), []).append(child)
                inner = f"{prefix}{child.name}.<locals>."
                _drop_docstring(child)
            elif isinstance(child, ast.Lambda):
                self.functions.setdefault(("<lambda>", child.lineno), []).append(child)
                inner = f"{prefix}<lambda>.<locals>."
            elif isinstance(child, ast.ClassDef):
                self.classes.setdefault(prefix + child.name, []).append(child)
                inner = f"{prefix}{child.name}."
                _drop_docstring(child)
            self._index(child, inner)

    def function(self, code: CodeType) -> Definition | None:
        """The syntax of a code object; None when the file has none such at its line."""
        found = self.functions.get((code.co_name, code.co_firstlineno), [])
        if len(found) > 1:
            ends = [place for place in code.co_positions() if place[2] is not None]
            start = (ends[-1][0], ends[-1][2]) if ends else None
            found = [node for node in found if _starts_at(node, start)]
        return found[0] if len(found) == 1 else None

    def uses(self, node: ast.AST, dropped: frozenset[int] = frozenset()) -> Uses:
        """What the node needs from outside, its dropped decorators left out."""
        key = (id(node), hash(dropped))
        if key not in self._uses:
            self._uses[key] = _without(node, dropped, lambda: uses([node]))
        return self._uses[key]

    def plain(self, node: ast.AST, dropped: frozenset[int] = frozenset()) -> str:
        """The node as normalised source, its dropped decorators left out."""
        key = (id(node), hash(dropped))
        if key not in self._plain:
            self._plain[key] = _without(node, dropped, lambda: ast.unparse(node))
        return self._plain[key]

    @property
    def whole(self) -> str:
        """All of it as normalised source, docstrings too: they may be read."""
        if self._whole is None:
            self._whole = ast.unparse(parse(self.text))
        return self._whole

    @property
    def bindings(self) -> dict[str, list[ast.stmt]]:
        """The top-level statements that bind or change each name; star imports under '*'."""
        if self._bindings is None:
            self._bindings = {}
            for statement in self.tree.body:
                for name, part in _bound_by(statement):
                    kept = self._bindings.setdefault(name, [])
                    if part not in kept:
                        kept.append(part)
        return self._bindings


def parse(text: str) -> ast.Module:
    """The syntax of a text."""
    try:
        return ast.parse(text)
    except SystemError:  # Python 3.11, when the collector runs a finalizer that parses meanwhile
        return ast.parse(text)


def _without(node: ast.AST, dropped: frozenset[int], call: Any) -> Any:
    if not dropped:
        return call()
    decorated: Any = node
    decorators = decorated.decorator_list
    decorated.decorator_list = [d for i, d in enumerate(decorators) if i not in dropped]
    try:
        return call()
    finally:
        decorated.decorator_list = decorators


def _drop_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        if isinstance(first.value.value, str):
            del node.body[0]
    if not node.body:
        node.body.append(ast.Pass())


def _starts_at(node: Definition, start: tuple[int | None, int | None] | None) -> bool:
    body = node.body
    return isinstance(body, ast.expr) and start == (body.lineno, body.col_offset)


def _bound_by(statement: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name, statement
        return
    if isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0], statement
        return
    for child in ast.walk(statement):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield from _bound_by(child)
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child.name, statement
        elif isinstance(child, ast.Name) and not isinstance(child.ctx, ast.Load):
            yield child.id, statement
        elif isinstance(child, ast.Attribute | ast.Subscript):
            root = _root(child)
            changed = not isinstance(child.ctx, ast.Load) or isinstance(statement, ast.Expr)
            if root and changed:
                yield root, statement


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    chain = chain_of(node)
    return chain[0] if chain else None


# --- Where source is -------------------------------------------------------------------------


class Looked:
    """The files whose content was looked at, and where modules were found."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.located: dict[str, str | None] = {}
        self.listed = False  # whether a folder or all cells were: what is new there counts


looking: ContextVar[Looked | None] = ContextVar("looking", default=None)
_files: dict[str, tuple[tuple[int, int], Source | None]] = {}
_cells: dict[str, tuple[str, Source | None]] = {}


def source_of(file: str, namespace: dict[str, Any] | None = None) -> Source | None:
    """The syntax of the file as it is now, or of the notebook cell; None when it can't be had."""
    if (looked := looking.get()) is not None:
        looked.files.add(file)
    try:
        status = os.stat(file)
        if stat.S_ISDIR(status.st_mode):
            return None
    except OSError:
        text = "".join(linecache.getlines(file, namespace))
        known_text = _cells.get(file)
        if known_text is None or known_text[0] != text:
            known_text = _cells[file] = (text, _parsed(text))
        return known_text[1]
    version = (status.st_mtime_ns, status.st_size)
    known = _files.get(file)
    if known is None or known[0] != version:
        known = _files[file] = (version, _parsed(Path(file).read_bytes()))
    return known[1]


def version_of(file: str) -> Any:
    """What is another after an edit of the file or of the notebook cell."""
    try:
        status = os.stat(file)
    except OSError:
        return linecache.getlines(file)
    return (status.st_mtime_ns, status.st_size)


def _parsed(text: str | bytes) -> Source | None:
    if not text:
        return None
    try:
        if isinstance(text, bytes):
            text = importlib.util.decode_source(text)
        return Source(text)
    except (SyntaxError, ValueError):
        return None


@lru_cache(maxsize=4096)
def home_of(file: str, package: str) -> str:
    """The folder that a module's project is in: above its outermost package."""
    return str(Path(file).resolve().parents[len(package.split(".")) if package else 0])


def own_files_in(home: str) -> list[str]:
    """The Python files of a project: not those of environments and hidden folders in it."""
    if (looked := looking.get()) is not None:
        looked.listed = True
    found: list[str] = []
    for folder, inner, files in os.walk(home):
        inner[:] = sorted(
            name
            for name in inner
            if not name.startswith((".", "__pycache__", "node_modules"))
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        )
        paths = (os.path.join(folder, name) for name in sorted(files) if name.endswith(".py"))
        found += [path for path in paths if is_own_file(path)]
    return found


def is_own_module(module: ModuleType) -> bool:
    """Whether the module is the user's own."""
    file = file_of(module)
    return is_own_file(file) if file else module.__name__ in ("__main__", "__mp_main__")


def file_of(module: ModuleType) -> str | None:
    """The file of a module, or the folder of a namespace package."""
    file = getattr(module, "__file__", None)
    return file or next(iter(getattr(module, "__path__", ())), None)


def module_name(namespace: dict[str, Any]) -> str:
    """The name of the module with that namespace, the same however it was loaded."""
    name: str = namespace.get("__name__", "__main__")
    spec = namespace.get("__spec__")
    if spec is not None:
        name = spec.name
    return _module_name(name, namespace.get("__file__"))


@lru_cache(maxsize=4096)
def _module_name(name: str, file: str | None) -> str:
    if not file:
        return "__main__" if name == "__mp_main__" else name
    stem = Path(file).stem
    if stem == "__init__":
        return name
    return name if name.rpartition(".")[2] == stem else stem


def locate(name: str) -> str | None:
    """The file of a module by its dotted name, found without importing it; None for none."""
    found = _locate(name)
    if (looked := looking.get()) is not None and (found is None or is_own_file(found)):
        looked.located[name] = found
    return found


def _locate(name: str) -> str | None:
    loaded = sys.modules.get(name)
    if loaded is not None:
        return file_of(loaded)
    path: Sequence[str] | None = None
    spec: importlib.machinery.ModuleSpec | None = None
    parts = name.split(".")
    for index in range(len(parts)):
        partial = ".".join(parts[: index + 1])
        known = sys.modules.get(partial)
        if known is not None:
            path = list(getattr(known, "__path__", ()))
            continue
        spec = _find(partial, path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    if spec is None:
        return None
    return spec.origin if spec.has_location else next(iter(path or ()), None)


def _find(name: str, path: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, path) if find else None
        if spec is not None:
            return spec
    return None


def cells() -> str:
    """Every notebook cell that was run, in order."""
    if (looked := looking.get()) is not None:
        looked.listed = True
    return "\n".join(
        "".join(linecache.getlines(file))
        for file in list(linecache.cache)
        if any(mark in file for mark in _NOTEBOOK)
    )
