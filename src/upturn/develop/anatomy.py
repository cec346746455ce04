"""Functions and classes from outside: whose they are and what they hold; none of theirs runs."""

import sys
import types
from typing import Any, cast

from blake3 import blake3

from upturn.core.owncode import is_own_file
from upturn.develop.source import is_own_module, module_name

ABSENT = object()  # in the place of a value that is not there
_HEAP = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that a statement or a call made


def unwrapped(value: Any) -> Any:
    """The function of a Step or a Flow; anything else as it is."""
    while (type(value).__module__ or "").startswith("upturn.") and hasattr(value, "function"):
        value = value.function
    return value


def is_code(value: Any) -> bool:
    return isinstance(value, types.FunctionType | type)


def is_free(value: types.BuiltinFunctionType) -> bool:
    """Whether a built-in function is bound to no object but its module or its class."""
    return value.__self__ is None or isinstance(value.__self__, types.ModuleType | type)


def is_own(value: Any) -> bool:
    if isinstance(value, types.FunctionType):
        file = value.__code__.co_filename
        if not file.startswith("<"):
            return is_own_file(file)
    elif not isinstance(value, type):
        return False
    module = sys.modules.get(value.__module__)
    return module is None or is_own_module(module) or is_made(value, module)


def is_made(value: Any, module: types.ModuleType) -> bool:
    """Whether a class says that it is of Python's own module which only made it for the user."""
    name = value.__qualname__
    return (
        isinstance(value, type)
        and module.__name__ in sys.stdlib_module_names
        and "." not in name
        and name not in vars(module)
        and bool(value.__flags__ & _HEAP)
        and "__dict__" in vars(value)
    )


def module_of(value: Any) -> str:
    if isinstance(value, types.FunctionType):
        return module_name(value.__globals__)
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    return module_name(vars(module)) if module else str(getattr(value, "__module__", ""))


def closed_over(function: types.FunctionType) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            found[name] = ABSENT
    return found


def class_around(function: types.FunctionType) -> type | None:
    """The class that a method is written in, when its module has it by name."""
    outer = function.__qualname__.rpartition(".")[0]
    found: Any = None
    if outer and "<" not in outer:
        found = function.__globals__.get(outer.partition(".")[0])
        for name in outer.split(".")[1:]:
            found = getattr(found, name, None)
    return found if isinstance(found, type) else None


def function_in(value: Any) -> types.FunctionType | None:
    """The plain function that a member of a class is, or wraps."""
    if isinstance(value, staticmethod | classmethod):
        value = cast(Any, value).__func__
    return value if isinstance(value, types.FunctionType) else None


def bytecode(code: types.CodeType) -> str:
    consts = [
        repr(sorted(map(repr, const))) if isinstance(const, frozenset) else repr(const)
        for const in code.co_consts
        if not isinstance(const, types.CodeType)
    ]
    head = f"{code.co_name} {code.co_names} {code.co_varnames} {consts}"
    return f"{head} {blake3(code.co_code).hexdigest()}"
