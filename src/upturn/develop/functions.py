"""Functions on their way to a worker: a reference made here, resolved there."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from upturn.core.executor import FunctionRef
from upturn.develop.loading import load_file, load_module, lookup


def reference_to(function: Callable[..., Any]) -> FunctionRef:
    """How a worker finds the function: by file or module, or by value where it has no name."""
    name, home = function.__qualname__, function.__module__
    module = sys.modules.get(home)
    file = _file_of(function)
    if file is None or module is None:
        return FunctionRef(name=name, pickle=_by_value(function))
    if home.startswith("upturn.") or "." in home:
        place = FunctionRef(name=name, module=home)
    else:
        # As a worker loads a script: not under the name that would run it. What it makes comes
        # back with classes of that name.
        if home == "__main__":
            sys.modules.setdefault("__mp_main__", module)
        place = FunctionRef(
            name=name, file=file, module="__mp_main__" if home == "__main__" else home
        )
    if not _is_named(function, module):
        return msgspec.structs.replace(place, pickle=_by_value(function))
    return place


def _is_named(function: Callable[..., Any], module: ModuleType) -> bool:
    """Whether its name leads to it: not from within a function, and not past a decorator of it."""
    found: Any = module
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function or getattr(found, "function", None) is function


def _file_of(function: Callable[..., Any]) -> str | None:
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        return None
    return file if file is not None and Path(file).is_file() else None


def _by_value(function: Callable[..., Any]) -> bytes:
    import cloudpickle

    return cloudpickle.dumps(function)


def resolve(ref: FunctionRef) -> Callable[..., Any]:
    """The function that a reference names, its module imported when it is not yet."""
    module = None  # loaded for what is pickled by value too: it may name things in there
    if ref.file is not None:
        module = load_file(Path(ref.file), name=ref.module)
    elif ref.module is not None:
        module = load_module(ref.module)
    if ref.pickle is not None:
        import cloudpickle

        function = cloudpickle.loads(ref.pickle)
        # It leaves out globals that only the body of a class in the function names.
        for name, value in vars(module).items() if module is not None else ():
            function.__globals__.setdefault(name, value)
        return function
    assert module is not None
    found = lookup(module, ref.name)
    return getattr(found, "function", found)
