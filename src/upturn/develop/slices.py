"""What an import inside a function reaches, by syntax alone: the module may not be loaded yet."""

import ast
from functools import partial

from upturn.core.owncode import is_own_file
from upturn.develop.effects import changing, has_hooks, imports_of, registering
from upturn.develop.names import UNFOLLOWED, Chain, Import, chain_of
from upturn.develop.parts import DYNAMIC, Kind, Parts, absolute, is_dynamic, package_in
from upturn.develop.source import Source, locate, source_of


class Slices:
    """Adds the top-level statements of modules that a name in them needs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._followed: set[tuple[str, str, Chain]] = set()
        self._waiting: list[tuple[str, str, Chain]] = []
        self._imported_files: dict[str, str] = {}  # by module

    def add(self, item: Import, package: str) -> None:
        """Add all that the import reaches."""
        self._imported(item, package)
        while self._waiting or self._effects():
            module, file, chain = self._waiting.pop()
            source = source_of(file)
            reason = None if source is None else self._name(source, module, file, chain)
            if source is None or reason is not None:
                reason = f"{reason or 'no source'}, imported in a function"
                self._parts.whole(module, file, package_in(module, file), reason)

    def _imported(self, item: Import, package: str) -> None:
        name, path = absolute(item, package), item.path
        file = locate(name)
        if file is None or not is_own_file(file):
            self._parts.distribution(name)
            return
        self._loads(name, item.path)
        while path:
            source = source_of(file)
            inner = locate(f"{name}.{path[0]}")
            if inner is None or (source is not None and path[0] in source.bindings):
                break
            name, file, path = f"{name}.{path[0]}", inner, path[1:]
        if path:
            self._wait(name, file, path)
        elif path is not None:
            reason = f"module {name} is used as a value, imported in a function"
            self._parts.whole(name, file, package_in(name, file), reason)

    # --- what the modules do when they are imported ---

    def _loads(self, name: str, path: Chain | None) -> None:
        """Note a module and all of the user's that importing it imports."""
        waiting = [(name, path)]
        while waiting:
            name, path = waiting.pop()
            parts = name.split(".")
            names = [".".join(parts[: end + 1]) for end in range(len(parts))]
            for module in [*names, f"{name}.{path[0]}"] if path else names:
                file = None if module in self._imported_files else locate(module)
                if file is None or not is_own_file(file):
                    continue
                self._imported_files[module] = file
                source, package = source_of(file), package_in(module, file)
                items = imports_of(source.tree.body) if source else ()
                waiting += [(absolute(item, package), item.path) for item in items]

    def _effects(self) -> bool:
        """Follow the statements of these modules; whether anything was new."""
        sources = {
            (name, file): source
            for name, file in self._imported_files.items()
            if (source := source_of(file)) is not None
        }
        hooks = any(has_hooks(source) for source in sources.values())
        before = len(self._followed)
        for (name, file), source in sources.items():
            if (name, file, ()) in self._followed:
                continue
            self._followed.add((name, file, ()))
            package = package_in(name, file)
            own = partial(self._is_own, package=package)
            for statement in [*changing(source.tree.body), *registering(source, own, hooks=hooks)]:
                dropped = _upturn_decorators(source, statement)
                self._parts.add(
                    f"{name} (imported in a function): {source.plain(statement, dropped)}"[:200],
                    "module",
                    source.plain(statement, dropped),
                )
                reason = self._uses(source, statement, name, file)
                if reason is not None:
                    self._parts.whole(name, file, package, f"{reason}, imported in a function")
        return len(self._followed) > before and bool(self._waiting)

    def _is_own(self, item: Import, *, package: str) -> bool:
        name = absolute(item, package)
        return any(
            found in self._imported_files for found in (name, f"{name}.{(item.path or ('',))[0]}")
        )

    def _wait(self, module: str, file: str, chain: Chain) -> None:
        key = (module, file, chain)
        if key not in self._followed:
            self._followed.add(key)
            self._waiting.append(key)

    def _name(self, source: Source, module: str, file: str, chain: Chain) -> str | None:
        """Follow one name of a module; a reason when only the whole module will do."""
        if chain[0] not in source.bindings:
            return f"nothing in {module} says what {chain[0]} is"
        package = package_in(module, file)
        statements = source.bindings[chain[0]]
        self._add_part(f"{module}.{chain[0]}", source, statements)
        for statement in statements:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                for item in _imports_as(statement, chain):
                    if is_dynamic(item):
                        return f"{'.'.join(chain)} in {module}"
                    self._imported(item, package)
            else:
                reason = self._uses(source, statement, module, file)
                if reason is not None:
                    return reason
        return None

    def _uses(self, source: Source, statement: ast.stmt, module: str, file: str) -> str | None:
        used = source.uses(statement, _upturn_decorators(source, statement))
        for item in used.imports:
            if is_dynamic(item):
                return f"{used.said(item)} in {module}"
            self._imported(item, package_in(module, file))
        for used_chain in used.chains:
            if used_chain[0] in source.bindings:
                self._wait(module, file, used_chain)
            elif (
                used_chain[0] in DYNAMIC["builtins"]
                or used_chain == UNFOLLOWED
                or "*" in source.bindings
            ):
                return f"{used.said(used_chain)} in {module}"
        return None

    def _add_part(self, name: str, source: Source, statements: list[ast.stmt]) -> None:
        kind: Kind = "constant"
        if isinstance(statements[0], ast.FunctionDef | ast.AsyncFunctionDef):
            kind = "function"
        elif isinstance(statements[0], ast.ClassDef):
            kind = "class"
        text = "\n".join(
            source.plain(item, _upturn_decorators(source, item)) for item in statements
        )
        self._parts.add(f"{name} (imported in a function)", kind, text)


def _imports_as(statement: ast.Import | ast.ImportFrom, chain: Chain) -> list[Import]:
    """What the chain means where the import statement binds its first name."""
    found: list[Import] = []
    for alias in statement.names:
        if (alias.asname or alias.name.partition(".")[0]) != chain[0]:
            continue
        if isinstance(statement, ast.ImportFrom):
            path = (alias.name, *chain[1:])
            found.append(Import(statement.level, statement.module or "", path))
        elif alias.asname:
            found.append(Import(0, alias.name, chain[1:]))
        else:
            found.append(Import(0, chain[0], chain[1:]))
    return found


def _upturn_decorators(source: Source, node: ast.stmt) -> frozenset[int]:
    """Which of the node's decorators are Upturn's own."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return frozenset()
    return frozenset(
        index
        for index, decorator in enumerate(node.decorator_list)
        if _is_upturns(source, decorator.func if isinstance(decorator, ast.Call) else decorator)
    )


def _is_upturns(source: Source, decorator: ast.expr) -> bool:
    chain = chain_of(decorator)
    return bool(chain) and any(
        item.module.partition(".")[0] == "upturn"
        for statement in source.bindings.get(chain[0], [])
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for item in _imports_as(statement, chain)
    )
