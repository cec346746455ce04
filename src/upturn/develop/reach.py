"""Following code by name: from a function to all of the user's own code that it can reach."""

import ast
import builtins
import importlib
import sys
import types
from collections import deque
from dataclasses import dataclass
from typing import Any, cast

from upturn.develop.anatomy import (
    ABSENT,
    bytecode,
    class_around,
    closed_over,
    function_in,
    is_code,
    is_free,
    is_own,
    module_of,
    unwrapped,
)
from upturn.develop.constants import Contents, Unreadable, shown
from upturn.develop.effects import Effects
from upturn.develop.names import UNFOLLOWED, Chain, Import, Uses, chain_of
from upturn.develop.parts import DYNAMIC, Parts, is_anywhere, is_dynamic, package_of
from upturn.develop.slices import Slices
from upturn.develop.snapshot import Snapshot
from upturn.develop.source import (
    Looked,
    Source,
    home_of,
    is_own_module,
    looking,
    module_name,
    source_of,
)

Namespace = dict[str, Any]
_SKIPPED = {"__spec__", "__loader__", "__builtins__", "__cached__"}
_GENERATED = {"__dict__", "__weakref__", "__doc__", "__module__", "__qualname__"}
_DESCRIPTORS = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a piece of code looks its names up."""

    namespace: Namespace
    closure: Namespace
    name: str  # of the code, for the names of what it closes over

    @property
    def module(self) -> str:
        """The module's name."""
        return module_name(self.namespace)


class Reach:
    """Collects the parts of what it is told to follow."""

    def __init__(self) -> None:
        self.parts = Parts()
        self.snapshot = Snapshot()
        self._slices = Slices(self.parts)
        self._effects = Effects(
            self.parts,
            self.snapshot,
            lambda used, namespace, name: self._follow(used, Scope(namespace, {}, name)),
        )
        self._names: dict[int, str] = {}
        self._taken: dict[str, int] = {}
        self._waiting: deque[tuple[str, Any]] = deque()
        self._contents: dict[str, Contents] = {}
        self._kept: list[Any] = []  # so that no id is used twice

    def start(self, function: Any) -> str:
        """Follow `function` to the end, and return what names it among the parts."""
        namespace = _namespace_of(function)
        looked = Looked()
        token = looking.set(looked)
        try:
            root = self._value(function, namespace, "the step")
            self._effects.add(namespace)
            while self._waiting:
                name, value = self._waiting.popleft()
                if isinstance(value, type):
                    self._class(name, value)
                else:
                    self._function(name, value)
        finally:
            looking.reset(token)
        self.snapshot.close(looked)
        return root

    def holds(self) -> bool:
        """Whether all that was followed is as it was."""
        return self.snapshot.holds(self.refer)

    # --- what a value is called, following it later ---

    def refer(self, value: Any) -> str:
        """The name of code: a function, a class or a module."""
        if isinstance(value, types.ModuleType):
            if is_own_module(value):
                name = module_name(vars(value))
                return self.parts.whole_of(vars(value), f"module {name} is used as a value")
            self.parts.distribution(value.__name__)
            return value.__name__
        known = self._names.get(id(value))
        if known is not None:
            return known
        self._kept.append(value)
        name = f"{module_of(value)}.{getattr(value, '__qualname__', '')}"
        if not is_own(value):
            self._names[id(value)] = name
            if isinstance(value, types.FunctionType):  # __module__ may be what it wraps
                self.parts.distribution(str(value.__globals__.get("__name__", "builtins")))
                self._inside_library(value)
            else:
                self.parts.distribution(getattr(value, "__module__", None) or "builtins")
            return name
        count = self._taken[name] = self._taken.get(name, 0) + 1
        name = name if count == 1 else f"{name}#{count}"
        self._names[id(value)] = name
        self._waiting.append((name, value))
        return name

    def _inside_library(self, wrapper: types.FunctionType) -> None:
        """Follow the user's code that a library's wrapper holds."""
        held = [vars(wrapper).get("__wrapped__"), *closed_over(wrapper).values()]
        held += list(getattr(wrapper, "registry", {}).values())
        for value in held:
            value = unwrapped(value)
            if isinstance(value, types.FunctionType | types.MethodType | type):
                self.refer(value.__func__ if isinstance(value, types.MethodType) else value)

    def _value(self, value: Any, namespace: Namespace, label: str) -> str:
        """The name of code, or of the constant that `label` is in the namespace."""
        value = unwrapped(value)
        if isinstance(value, types.ModuleType | types.FunctionType | type):
            return self.refer(value)
        if isinstance(value, types.BuiltinFunctionType) and is_free(value):
            return self.refer(value)
        module = module_name(namespace)
        name = f"constant {module}.{label}"
        if name in self.parts.found:
            return name
        file = namespace.get("__file__")
        home = home_of(file, package_of(namespace)) if file else ""
        contents = self._contents.setdefault(home, Contents(self.refer, home))
        try:
            digest = contents.digest(value)
        except Unreadable:
            reason = f"the content of {module}.{label}, a {type(value).__qualname__}, can't be read"
            whole = self.parts.whole_of(namespace, reason)
            self.parts.add(name, "opaque", f"<{type(value).__qualname__}> of {whole}")
        else:
            self.parts.add(name, "constant", shown(value, digest), digest)
            self.snapshot.constant(value, home, digest)
        return name

    # --- names ---

    def _follow(self, used: Uses, scope: Scope) -> list[str]:
        """Follow all that is used; a line for each name that means something of another name."""
        package = package_of(scope.namespace)
        for item in used.imports:
            if is_dynamic(item):
                self._unfollowed(used.said(item), scope, anywhere=is_anywhere(item.path[0]))  # pyright: ignore[reportOptionalSubscript]
            self._slices.add(item, package)
            self._live_import(item, scope)
        lines: list[str] = []
        for chain in used.chains:
            found = self._chain(chain, scope, used)
            plain = ".".join([scope.module, *chain])
            if found and found not in (plain, f"constant {plain}"):
                lines.append(f"# {'.'.join(chain)} is {found}")
        return lines

    def _unfollowed(self, said: str, scope: Scope, *, anywhere: bool = False) -> str:
        return self.parts.whole_of(scope.namespace, f"{said} in {scope.name}", anywhere=anywhere)

    def _live_import(self, item: Import, scope: Scope) -> None:
        """Follow the user's own code that was put into a library which a function imports."""
        value: Any = None if item.level else sys.modules.get(item.module)
        if not item.path or not isinstance(value, types.ModuleType) or is_own_module(value):
            return
        for name in item.path:
            value = vars(value).get(name) if isinstance(value, types.ModuleType) else None
        if is_code(value) and is_own(value):
            self.refer(value)

    def _chain(self, chain: Chain, scope: Scope, used: Uses) -> str | None:
        root = chain[0]
        if chain == UNFOLLOWED:
            return self._unfollowed(used.said(chain), scope)
        if root in scope.closure:
            value = scope.closure[root]
            label = f"{scope.name.removeprefix(scope.module + '.')}:{root}"
        elif root in _SKIPPED:
            return None
        elif root == "__name__":
            return scope.module
        elif root in scope.namespace:
            value, label = scope.namespace[root], root
        else:
            value = vars(builtins).get(root, ABSENT)
            if value is ABSENT or value is _BUILTINS.get(root):
                self._mind(value, scope, used.said(chain))
                return None
            label = f"builtins.{root}"
        self._mind(value, scope, used.said(chain))
        if isinstance(value, types.ModuleType):
            return self._through(value, chain[1:], scope, used.said(chain))
        return self._attribute(value, scope.namespace, label, chain[1:])

    def _mind(self, value: Any, scope: Scope, said: str) -> None:
        name = _REFLECTION.get(id(value))
        if name is not None:
            self._unfollowed(said, scope, anywhere=is_anywhere(name))

    def _attribute(self, value: Any, namespace: Namespace, label: str, path: Chain) -> str | None:
        if value is ABSENT:
            return None
        found = self._value(value, namespace, label)
        inner = unwrapped(value)
        if path and isinstance(inner, types.FunctionType) and path[0] in vars(inner):
            self._value(vars(inner)[path[0]], namespace, f"{label}.{path[0]}")
        return found

    def _through(
        self, module: types.ModuleType, path: Chain, scope: Scope, said: str
    ) -> str | None:
        """What a dotted name that starts at a module means."""
        label = module.__name__
        value: Any = module
        while isinstance(value, types.ModuleType):
            module = value
            if not path:
                return self.refer(module)
            label, path = path[0], path[1:]
            if is_own_module(module):
                self.snapshot.namespace(vars(module))
            else:
                self.snapshot.name(vars(module), label)
            value = vars(module).get(label, ABSENT)
            if value is ABSENT:
                value = sys.modules.get(f"{module.__name__}.{label}", ABSENT)
        self._mind(value, scope, said)
        if not is_own_module(module):
            self.parts.distribution(module.__name__)
            if value is not ABSENT and is_code(value) and is_own(value):
                return self.refer(value)  # the user's own, put into a library
            return f"{module.__name__}.{label}"
        if value is ABSENT or label == "__dict__":
            dynamic = "__getattr__" in vars(module) or label == "__dict__"
            reason = f"{said} in {scope.name}"
            return self.parts.whole_of(vars(module), reason) if dynamic else None
        return self._attribute(value, vars(module), label, path)

    # --- functions ---

    def _function(self, name: str, function: types.FunctionType) -> None:
        code, namespace = function.__code__, function.__globals__
        self._effects.add(namespace)
        self.snapshot.namespace(namespace)
        self.snapshot.function(function)
        scope = Scope(namespace, closed_over(function), name)
        source = source_of(code.co_filename, namespace)
        node = source.function(code) if source else None
        if source is None or node is None:
            self._opaque_function(name, function, scope)
        else:
            dropped = self._upturns(node, scope)
            lines = self._follow(source.uses(node, dropped), scope)
            lines += self._defaults(function, scope)
            text = source.plain(node, dropped)
            self.parts.add(name, "function", "\n".join([text, *lines]))
        if "__class__" in scope.closure:
            self.refer(scope.closure["__class__"])
        if (around := class_around(function)) is not None:
            self.refer(around)
        for key, held in vars(function).items():  # __wrapped__, and what people put there
            self._value(held, namespace, f"{name.removeprefix(scope.module + '.')}.{key}")

    def _defaults(self, function: types.FunctionType, scope: Scope) -> list[str]:
        defaults: dict[str, Any] = dict(function.__kwdefaults__ or {})
        values = function.__defaults__ or ()
        code = function.__code__
        positional = code.co_varnames[: code.co_argcount]
        defaults.update(zip(positional[len(positional) - len(values) :], values, strict=True))
        lines: list[str] = []
        for parameter, value in defaults.items():
            if value is None or type(value) in (bool, int, float, str):
                lines.append(f"# {parameter} = {value!r}")
                continue
            label = f"{scope.name.removeprefix(scope.module + '.')}({parameter})"
            lines.append(f"# {parameter} = {self._value(value, scope.namespace, label)}")
        return lines

    def _upturns(self, node: ast.AST, scope: Scope) -> frozenset[int]:
        """Which of the node's decorators are Upturn's own."""
        return frozenset(
            index
            for index, decorator in enumerate(_decorators(node))
            if _is_upturns(
                chain_of(decorator.func if isinstance(decorator, ast.Call) else decorator), scope
            )
        )

    def _opaque_function(self, name: str, function: types.FunctionType, scope: Scope) -> None:
        codes = [function.__code__]
        for code in codes:
            codes += [const for const in code.co_consts if isinstance(const, types.CodeType)]
        names = sorted({used for code in codes for used in code.co_names} | set(scope.closure))
        chains: set[Chain] = {(used,) for used in names}
        for used in names:
            value = scope.closure.get(used, scope.namespace.get(used))
            if isinstance(value, types.ModuleType) and used not in _SKIPPED:
                chains.discard((used,))
                open_ended = "__getattr__" in vars(value)
                chains |= {(used, inner) for inner in names if open_ended or inner in vars(value)}
        lines = self._follow(Uses(tuple(sorted(chains)), ()), scope)
        lines += self._defaults(function, scope)
        lines += [bytecode(code) for code in codes]
        self.parts.add(name, "opaque", "\n".join(lines))

    # --- classes ---

    def _class(self, name: str, cls: type) -> None:
        module = sys.modules.get(cls.__module__)
        namespace = vars(module) if module else {}
        self._effects.add(namespace)
        self.snapshot.namespace(namespace)
        self.snapshot.cls(cls)
        methods = [found for found in map(function_in, vars(cls).values()) if found is not None]
        methods = [
            found for found in methods if found.__qualname__.startswith(f"{cls.__qualname__}.")
        ]
        closure = {key: value for found in methods for key, value in closed_over(found).items()}
        scope = Scope(namespace, closure, name)
        file = namespace.get("__file__") or next((m.__code__.co_filename for m in methods), None)
        source = source_of(file, namespace) if file else None
        nodes = source.classes.get(cls.__qualname__, []) if source else []
        lines: list[str] = []
        for node in nodes:
            source = cast(Source, source)
            dropped = self._upturns(node, scope)
            lines.append(source.plain(node, dropped))
            lines += self._follow(source.uses(node, dropped), scope)
        bases = [self.refer(base) for base in (*cls.__bases__, type(cls))]
        lines.append(f"# bases {bases}")
        lines += self._members(cls, nodes, namespace, name)
        self.parts.add(name, "class" if nodes else "opaque", "\n".join(lines))

    def _members(
        self, cls: type, nodes: list[ast.ClassDef], namespace: Namespace, name: str
    ) -> list[str]:
        """Lines for what the class holds and its source does not say."""
        written = {
            child.name
            for node in nodes
            for child in node.body
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        lines: list[str] = []
        for key, value in sorted(vars(cls).items()):
            function = function_in(value)
            if key in _GENERATED or key.startswith(("__pydantic", "_abc_", "__abstract")):
                continue
            if function is not None:
                generated = key not in written and function.__code__.co_filename.startswith("<")
                own = function.__qualname__ == f"{cls.__qualname__}.{key}" and key in written
                if nodes and (generated or (own and function.__closure__ is None)):
                    continue
                if (
                    own
                    and "__wrapped__" not in vars(function)
                    and function.__module__ == cls.__module__
                ):
                    continue
                lines.append(f"# {key} is {self.refer(function)}")
            elif not isinstance(value, _DESCRIPTORS) and not (nodes and key.startswith("__")):
                label = f"{name.partition('.')[2] or name}.{key}"
                lines.append(f"# {key} is {self._value(value, namespace, label)}")
        return lines


_REFLECTION: dict[int, str] = {
    id(getattr(importlib.import_module(module), name)): name
    for module, names in DYNAMIC.items()
    for name in names
}
_BUILTINS = dict(vars(builtins))  # before anybody adds to them


def _namespace_of(function: Any) -> Namespace:
    function = unwrapped(function)
    if isinstance(function, types.FunctionType):
        return function.__globals__
    inner = getattr(function, "func", None) or getattr(function, "__func__", None)
    if inner is not None:
        return _namespace_of(inner)
    owner = function if hasattr(function, "__module__") else type(function)
    module = sys.modules.get(owner.__module__ or "")
    return vars(module) if module else {}


def _is_upturns(chain: Chain | None, scope: Scope) -> bool:
    if not chain:
        return False
    value: Any = scope.closure.get(chain[0], scope.namespace.get(chain[0]))
    for name in chain[1:]:
        value = getattr(value, name, None)
    module = getattr(value, "__module__", None) or type(value).__module__
    return module.partition(".")[0] == "upturn"


def _decorators(node: ast.AST) -> list[ast.expr]:
    return getattr(node, "decorator_list", [])
