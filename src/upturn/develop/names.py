"""The names that a piece of syntax needs from outside, with the attributes read from them."""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Chain = tuple[str, ...]  # ("helpers", "clean") for helpers.clean

# What reads a docstring, or reaches code that no name leads to: said as if it were a global.
UNFOLLOWED = ("__doc__",)
_REFLECTIVE = {"__doc__", "__subclasses__", "__globals__", "__builtins__"}
_IMPORTERS = {"import_module", "__import__"}
_SAID = 80


@dataclass(frozen=True, slots=True, order=True)
class Import:
    """A use of something imported inside the syntax: `module` as written, then what is read of it.

    `path` is None when the module is imported and not used, and () when it is used as a value.
    """

    level: int
    module: str
    path: Chain | None


@dataclass(frozen=True, slots=True)
class Uses:
    """What a piece of syntax needs: chains that start at a name bound outside it, and imports."""

    chains: tuple[Chain, ...]
    imports: tuple[Import, ...]
    places: "Mapping[Chain | Import, ast.AST]" = field(default_factory=dict, compare=False)

    def said(self, use: "Chain | Import") -> str:
        """The code of a use, for a message."""
        place = self.places.get(use)
        text = ast.unparse(place) if place is not None else str(use)
        return text if len(text) <= _SAID else f"{text[: _SAID - 1]}…"


def uses(nodes: Iterable[ast.AST]) -> Uses:
    """What the nodes need from outside, sorted.

    >>> uses([ast.parse("def f(x): return x + helpers.clean(x, LIMIT)").body[0]]).chains
    (('LIMIT',), ('helpers', 'clean'))
    """
    visitor = _Visitor()
    for node in nodes:
        visitor.visit(node)
    outer = visitor.scopes[0]
    visitor.resolve_imports(outer)
    imports = tuple(sorted(visitor.imports, key=_import_key))
    return Uses(tuple(sorted(outer.chains)), imports, visitor.places)


def chain_of(node: ast.AST) -> Chain | None:
    """`a.b.c`, and `getattr(a.b, "c")`, as a chain; None for anything else."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        base = chain_of(node.value)
        return (*base, node.attr) if base else None
    if isinstance(node, ast.Call) and _is_literal_getattr(node):
        base = chain_of(node.args[0])
        name = node.args[1]
        return (*base, str(name.value)) if base and isinstance(name, ast.Constant) else None
    return None


def _import_key(item: Import) -> tuple[int, str, bool, Chain]:
    return (item.level, item.module, item.path is not None, item.path or ())


def _is_literal_getattr(node: ast.Call) -> bool:
    return (
        isinstance(node.func, ast.Name)
        and node.func.id == "getattr"
        and len(node.args) in (2, 3)
        and isinstance(node.args[1], ast.Constant)
    )


@dataclass(slots=True)
class _Scope:
    kind: str  # "outer", "class", "function" or "comprehension"
    chains: set[Chain] = field(default_factory=set[Chain])
    bound: set[str] = field(default_factory=set[str])
    outside: set[str] = field(default_factory=set[str])  # declared global or nonlocal
    aliases: dict[str, list[tuple[int, str, Chain]]] = field(
        default_factory=dict[str, list[tuple[int, str, Chain]]]
    )


class _Visitor(ast.NodeVisitor):
    def __init__(self) -> None:
        self.scopes = [_Scope("outer")]
        self.imports: set[Import] = set()
        self.places: dict[Chain | Import, ast.AST] = {}

    # --- scopes ---

    def enter(self, kind: str) -> None:
        self.scopes.append(_Scope(kind))

    def leave(self) -> None:
        scope = self.scopes.pop()
        self.resolve_imports(scope)
        hidden = scope.bound - scope.outside if scope.kind != "class" else set[str]()
        self.scopes[-1].chains |= {chain for chain in scope.chains if chain[0] not in hidden}

    def resolve_imports(self, scope: _Scope) -> None:
        for alias, targets in scope.aliases.items():
            read = {chain[1:] for chain in scope.chains if chain[0] == alias}
            for level, module, path in targets:
                for rest in read:
                    item = Import(level, module, (*path, *rest))
                    self.imports.add(item)
                    self.places.setdefault(item, self.places[alias, *rest])
                if not read:
                    self.imports.add(Import(level, module, path or None))
        scope.chains = {
            chain
            for chain in scope.chains
            if chain[0] not in scope.aliases or chain[0] in scope.outside
        }

    def bind(self, name: str) -> None:
        for scope in reversed(self.scopes):
            if scope.kind != "comprehension":
                scope.bound.add(name)
                return

    def use(self, chain: Chain, node: ast.AST) -> None:
        self.scopes[-1].chains.add(chain)
        self.places.setdefault(chain, node)

    def visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    # --- names ---

    def visit_Name(self, node: ast.Name) -> None:
        scope = self.scopes[-1]
        if isinstance(node.ctx, ast.Load):
            self.use((node.id,), node)
        elif scope.kind == "comprehension":
            scope.bound.add(node.id)
        else:
            scope.bound.add(node.id)
            if node.id in scope.outside:
                self.use((node.id,), node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.bind(node.target.id)
        self.visit(node.value)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in _REFLECTIVE:
            self.use(UNFOLLOWED, node)
        chain = chain_of(node)
        if chain:
            self.use(chain, node)
        else:
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        if self._literal_import(node):
            return
        if _is_literal_getattr(node):
            chain = chain_of(node)
            if chain:
                self.use(chain, node)
                self.visit_all(node.args[2:])
            else:
                self.visit_all(node.args)
            return
        called = chain_of(node.func)
        if called:
            self.places.setdefault(called, node)
        self.generic_visit(node)

    def _literal_import(self, node: ast.Call) -> bool:
        function = chain_of(node.func)
        if not function or function[-1] not in _IMPORTERS or not node.args:
            return False
        name = node.args[0]
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            return False
        bare = name.value.lstrip(".")
        self.imports.add(Import(len(name.value) - len(bare), bare, ()))
        return True

    def visit_Global(self, node: ast.Global) -> None:
        self.scopes[-1].outside.update(node.names)
        for name in node.names:
            self.use((name,), node)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.scopes[-1].outside.update(node.names)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.asname:
                self._alias(alias.asname, 0, alias.name, ())
                continue
            top = alias.name.partition(".")[0]
            self._alias(top, 0, top, ())
            if top != alias.name:
                self.imports.add(Import(0, alias.name, None))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            path = () if alias.name == "*" else (alias.name,)
            self._alias(alias.asname or alias.name, node.level, node.module or "", path)

    def _alias(self, name: str, level: int, module: str, path: Chain) -> None:
        self.bind(name)
        self.scopes[-1].aliases.setdefault(name, []).append((level, module, path))

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.bind(node.name)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.name:
            self.bind(node.name)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self.bind(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            self.bind(node.rest)
        self.generic_visit(node)

    # --- definitions ---

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if len(self.scopes) > 1:
            self.bind(node.name)
        self.visit_all(node.decorator_list)
        self._signature(node.args)
        if node.returns:
            self._annotation(node.returns)
        self.enter("function")
        self._parameters(node.args)
        self._type_parameters(node)
        self.visit_all(node.body)
        self.leave()

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._signature(node.args)
        self.enter("function")
        self._parameters(node.args)
        self.visit(node.body)
        self.leave()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if len(self.scopes) > 1:
            self.bind(node.name)
        self.visit_all(node.decorator_list)
        self.visit_all(node.bases)
        self.visit_all(node.keywords)
        self.enter("class")
        self._type_parameters(node)
        self.visit_all(node.body)
        self.leave()

    def _type_parameters(self, node: ast.AST) -> None:
        for parameter in getattr(node, "type_params", ()):
            self.scopes[-1].bound.add(parameter.name)
            self.generic_visit(parameter)

    def _signature(self, args: ast.arguments) -> None:
        self.visit_all([*args.defaults, *args.kw_defaults])
        for arg in _all_args(args):
            if arg.annotation:
                self._annotation(arg.annotation)

    def _parameters(self, args: ast.arguments) -> None:
        self.scopes[-1].bound.update(arg.arg for arg in _all_args(args))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        self._annotation(node.annotation)
        if node.value:
            self.visit(node.value)

    def _annotation(self, node: ast.expr) -> None:
        self.visit(node)
        for text in _strings(node):
            try:
                self.visit(ast.parse(text, mode="eval"))
            except SyntaxError:
                continue

    # --- comprehensions ---

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._comprehension(node.generators, [node.elt])

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._comprehension(node.generators, [node.elt])

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._comprehension(node.generators, [node.elt])

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehension(node.generators, [node.key, node.value])

    def _comprehension(self, generators: list[ast.comprehension], items: list[ast.expr]) -> None:
        self.visit(generators[0].iter)
        self.enter("comprehension")
        for index, generator in enumerate(generators):
            self.visit(generator.target)
            if index:
                self.visit(generator.iter)
            self.visit_all(generator.ifs)
        self.visit_all(items)
        self.leave()


def _all_args(args: ast.arguments) -> list[ast.arg]:
    stars = [arg for arg in (args.vararg, args.kwarg) if arg is not None]
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *stars]


def _strings(node: ast.AST) -> Iterable[str]:
    """The string annotations in an annotation, those of Literal left out."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.value
        return
    if isinstance(node, ast.Subscript):
        chain = chain_of(node.value)
        if chain and chain[-1] == "Literal":
            return
    for child in ast.iter_child_nodes(node):
        yield from _strings(child)
