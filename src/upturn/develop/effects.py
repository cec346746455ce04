"""What modules change outside of their own names when they are imported: top-level statements."""

import ast
import os
import re
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from upturn.core.owncode import is_own_file
from upturn.develop.names import Import, Uses, chain_of
from upturn.develop.parts import Parts, absolute, package_of
from upturn.develop.snapshot import Snapshot
from upturn.develop.source import (
    Source,
    is_own_module,
    looking,
    module_name,
    source_of,
)

# Lines that may begin such a statement; most modules have none, and then aren't parsed for it.
_LOOKS_LIKE = re.compile(
    rb"^(?:(?!from\b|import\b)[A-Za-z_][\w.]*[ \t]*[.\[(]"
    rb"|(?:if(?! __name__)|for|while|with|try|async|del)\b)",
    re.MULTILINE,
)
_IMPORT = re.compile(
    rb"^(?:from[ \t]+([\w.]+)[ \t]+import[ \t]*(\([^)]*\)|[^\n#]*)|import[ \t]+([^\n#]*))",
    re.MULTILINE,
)
_NAME = re.compile(r"([\w.]+)(?:\s+as\s+\w+)?")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)
_SEEN_BY_VALUE = (dict, list, set, types.FunctionType)
_HOOKS = ("__init_subclass__", "__set_name__", "__subclasses__", "metaclass=")

Namespace = dict[str, Any]
Follow = Callable[[Uses, Namespace, str], list[str]]

_quick: dict[str, tuple[tuple[int, int], tuple[Import, ...] | None]] = {}


class Effects:
    """Adds what the modules of a project do when they are imported, as far as no value shows it."""

    def __init__(self, parts: Parts, snapshot: Snapshot, follow: Follow) -> None:
        self._parts = parts
        self._snapshot = snapshot
        self._follow = follow
        self._seen: set[int] = set()

    def add(self, namespace: Namespace) -> None:
        """Add the statements of a loaded module, and of the user's modules that it imports."""
        waiting = [namespace]
        while waiting:
            namespace = waiting.pop()
            file = namespace.get("__file__")
            if id(namespace) in self._seen or not file or not is_own_file(file):
                continue
            self._seen.add(id(namespace))
            self._snapshot.namespace(namespace)
            items = _quickly_imported(file)
            if items is None:
                source = source_of(file)
                if source is None:
                    continue
                items = imports_of(source.tree.body)
                self._statements(source, namespace)
            for item in items:
                waiting += _loaded_by(item, package_of(namespace))

    def _statements(self, source: Source, namespace: Namespace) -> None:
        kept = [item for item in changing(source.tree.body) if not _is_seen(item, namespace)]
        if not kept:
            return
        name = f"{module_name(namespace)} (when it is imported)"
        lines = [source.plain(item) for item in kept]
        for item in kept:
            lines += self._follow(source.uses(item), namespace, name)
        self._parts.add(name, "module", "\n".join(lines))


def changing(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that can change something which they don't bind."""
    for statement in body:
        if isinstance(statement, _COMPOUND):
            if not _is_guard(statement) and any(True for _ in changing(_inner(statement))):
                yield statement
        elif isinstance(statement, ast.Expr):
            if isinstance(statement.value, ast.Call | ast.Await) and _root(statement) != "print":
                yield statement
        elif any(
            isinstance(target, ast.Attribute | ast.Subscript) for target in _targets(statement)
        ):
            yield statement


def registering(source: Source, own: Callable[[Import], bool], *, hooks: bool) -> list[ast.stmt]:
    """The definitions and assignments that can do so, by a call of the user's own code.

    `own` says whether an import is of the user's own; `hooks`, whether classes notice subclasses.
    """
    local = {name for name, found in source.bindings.items() if isinstance(found[0], _DEFINITIONS)}
    mine = local | {
        (alias.asname or alias.name).partition(".")[0]
        for statement in _flat(source.tree.body)
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for alias in statement.names
        if own(_imported(statement, alias))
    }
    found: list[ast.stmt] = []
    for statement in _flat(source.tree.body):
        if isinstance(statement, _DEFINITIONS):
            called: list[ast.AST] = [
                d.func if isinstance(d, ast.Call) else d for d in statement.decorator_list
            ]
            if hooks and isinstance(statement, ast.ClassDef):
                called += statement.bases
        elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
            value = statement.value
            called = (
                [node.func for node in ast.walk(value) if isinstance(node, ast.Call)]
                if value
                else []
            )
        else:
            continue
        chains = [chain_of(node) for node in called]
        if any(chain and chain[0] in mine for chain in chains):
            found.append(statement)
    return found


def has_hooks(source: Source) -> bool:
    """Whether a class in the source may notice its subclasses or attributes."""
    return any(hook in source.text for hook in _HOOKS)


def imports_of(body: Sequence[ast.stmt]) -> tuple[Import, ...]:
    """What the statements import at once, not in functions, each name of `from` by itself."""
    return tuple(
        _imported(statement, alias)
        for statement in _flat(body)
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for alias in statement.names
    )


def _imported(statement: ast.Import | ast.ImportFrom, alias: ast.alias) -> Import:
    if isinstance(statement, ast.Import):
        return Import(0, alias.name, None)
    return Import(statement.level, statement.module or "", (alias.name,))


def _flat(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, _COMPOUND):
            if not _is_guard(statement):
                yield from _flat(_inner(statement))
        else:
            yield statement


def _inner(statement: ast.stmt) -> list[ast.stmt]:
    found: list[ast.stmt] = []
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.stmt):
            found.append(child)
        elif isinstance(child, ast.ExceptHandler | ast.match_case):
            found += child.body
    return found


def _is_guard(statement: ast.stmt) -> bool:
    """`if __name__ == "__main__":` and `if TYPE_CHECKING:`, which don't run in a worker."""
    if not isinstance(statement, ast.If):
        return False
    names = {node.id for node in ast.walk(statement.test) if isinstance(node, ast.Name)}
    chain = chain_of(statement.test)
    return "__name__" in names or (chain is not None and chain[-1] == "TYPE_CHECKING")


def _targets(statement: ast.stmt) -> list[ast.expr]:
    match statement:
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            return [part for target in targets for part in _parts_of(target)]
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            return [target]
        case _:
            return []


def _parts_of(target: ast.expr) -> list[ast.expr]:
    return target.elts if isinstance(target, ast.Tuple | ast.List) else [target]


def _root(node: ast.AST) -> str | None:
    while not isinstance(node, ast.Name):
        match node:
            case ast.Expr(value=inner) | ast.Await(value=inner) | ast.Call(func=inner):
                node = inner
            case ast.Attribute(value=inner) | ast.Subscript(value=inner):
                node = inner
            case _:
                return None
    return node.id


def _is_seen(statement: ast.stmt, namespace: Namespace) -> bool:
    """Whether all that the statement changes are values that are looked at themselves."""
    if isinstance(statement, ast.Expr):
        value = namespace.get(_root(statement) or "")
        home = value.__name__ if isinstance(value, types.ModuleType) else type(value).__module__
        return type(value) in (dict, list, set) or home.partition(".")[0] == "upturn"
    targets = _targets(statement)
    return bool(targets) and all(
        isinstance(target, ast.Name) or _is_own_value(namespace.get(_root(target) or ""))
        for target in targets
    )


def _is_own_value(value: Any) -> bool:
    if isinstance(value, types.ModuleType):
        return is_own_module(value)
    if isinstance(value, type):
        module = sys.modules.get(value.__module__)
        return module is not None and is_own_module(module)
    return isinstance(value, _SEEN_BY_VALUE)


def _quickly_imported(file: str) -> tuple[Import, ...] | None:
    """What a file imports, when a look at its lines shows no statement that changes anything."""
    if (looked := looking.get()) is not None:
        looked.files.add(file)
    try:
        status = os.stat(file)
        version = (status.st_mtime_ns, status.st_size)
        known = _quick.get(file)
        if known is not None and known[0] == version:
            return known[1]
        with open(file, "rb") as opened:
            text = opened.read()
    except OSError:
        return ()
    found = None if _LOOKS_LIKE.search(text) else tuple(_imports_in(text))
    _quick[file] = (version, found)
    return found


def _imports_in(text: bytes) -> Iterator[Import]:
    for module, names, plain in _IMPORT.findall(text):
        if plain:
            for name in _NAME.findall(plain.decode()):
                yield Import(0, name, None)
            continue
        bare = module.decode().lstrip(".")
        for name in _NAME.findall(names.decode()):
            yield Import(len(module) - len(bare), bare, (name,))


def _loaded_by(item: Import, package: str) -> list[Namespace]:
    """The user's loaded modules that an import loads: it, the packages around it, a submodule."""
    parts = absolute(item, package).split(".")
    names = [".".join(parts[: end + 1]) for end in range(len(parts))]
    if item.path:
        names.append(f"{names[-1]}.{item.path[0]}")
    found = [sys.modules.get(name) for name in names]
    return [vars(module) for module in found if module is not None and is_own_module(module)]
