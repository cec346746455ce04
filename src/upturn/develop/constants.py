"""The content of a Python value as a digest: the same in every process, whatever its hash seed."""

import contextvars
import functools
import logging
import os
import re
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath
from pickle import PickleBuffer
from typing import Any, cast

import msgspec
from blake3 import blake3

from upturn.develop.source import is_own_module

_ATOMS = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented), range)
_ATOM_SET = frozenset(_ATOMS)
_DYNAMIC_STATE = (  # their state is of the process, not of the code
    logging.Logger,
    type(threading.Lock()),
    type(threading.RLock()),
    type(sys.stdout),
)
_CODE = (types.FunctionType, types.BuiltinFunctionType, type, types.ModuleType)
_PICKLING = {"__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__getnewargs_ex__"}
_SHOWN = 400


class Unreadable(Exception):
    """A value whose content can't be had."""


class Contents:
    """Digests values; `refer` names code met in them, and paths under `home` are relative to it."""

    def __init__(self, refer: Callable[[Any], str], home: str) -> None:
        self._refer = refer
        self._homes = _homes(home)
        self._done: dict[int, bytes] = {}
        self._open: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no id is used twice

    def digest(self, value: Any) -> str:
        """The content's digest. Raises Unreadable."""
        try:
            return blake3(self._encode(value)).hexdigest()
        except Unreadable:
            raise
        except Exception as error:  # a class's own __reduce__ raises what it likes
            raise Unreadable(type(value).__qualname__) from error

    def _encode(self, value: Any) -> bytes:
        kind: type = type(value)
        if kind is str:
            return b"str:" + self._text(value).encode("utf-8", "surrogatepass")
        if kind in _ATOM_SET:
            return f"{kind.__name__}:{value!r}".encode()
        key = id(value)
        if key in self._done:
            return self._done[key]
        if key in self._open:
            return f"cycle:{len(self._open) - self._open[key]}".encode()
        self._open[key] = len(self._open)
        self._kept.append(value)
        try:
            encoded = self._compound(value, kind)
        finally:
            del self._open[key]
        if len(encoded) > 64:
            encoded = b"=" + blake3(encoded).digest()
        self._done[key] = encoded
        return encoded

    def _text(self, text: str) -> str:
        if os.path.isabs(text):
            for index, home in enumerate(self._homes):
                if text == home or text.startswith(home + os.sep):
                    return f"<home {index}>{text[len(home) :]}"
        return text

    def _compound(self, value: Any, kind: type) -> bytes:
        if kind in (list, tuple):
            return self._sequence(kind.__name__, value)
        if kind in (dict, types.MappingProxyType):
            items = [part for pair in value.items() for part in pair]
            return self._sequence("dict", items)
        if kind in (set, frozenset):
            return _joined(kind.__name__, sorted(self._encode(item) for item in value))
        if isinstance(value, PurePath):
            return b"path:" + self._text(str(value)).encode("utf-8", "surrogatepass")
        if isinstance(value, bytearray | memoryview | PickleBuffer):
            return b"bytes:" + bytes(value)
        if isinstance(value, _CODE):
            return b"code:" + self._refer(value).encode()
        if isinstance(value, _DYNAMIC_STATE):
            return b"state:" + kind.__qualname__.encode()
        special = self._special(value)
        return self._reduced(value, kind) if special is None else special

    def _sequence(self, name: str, items: Iterable[Any]) -> bytes:
        items = list(items)
        if set(map(type, items)) <= _ATOM_SET and not any(
            type(item) is str and os.path.isabs(item) for item in items
        ):
            return f"{name}!{items!r}".encode("utf-8", "surrogatepass")
        return _joined(name, [self._encode(item) for item in items])

    def _special(self, value: Any) -> bytes | None:
        """Kinds that don't reduce, or reduce to more than their content."""
        made_of = _made_of(value)
        if made_of is not None:
            return self._sequence(type(value).__name__, made_of)
        module = type(value).__module__
        if module.startswith("upturn."):
            if hasattr(value, "function"):
                return self._encode(value.function)
            if isinstance(value, msgspec.Struct):
                return b"struct:" + msgspec.msgpack.encode(value, enc_hook=repr)
            return b"upturn:" + repr(value).encode()
        if module == "numpy" and type(value).__name__ == "ndarray" and not value.dtype.hasobject:
            head = f"{value.dtype.descr}{value.shape}{value.flags.f_contiguous}"
            return _joined("array", [head.encode(), blake3(value.tobytes()).digest()])
        if _hides_state(type(value)):
            return _joined("own", [self._encode(part) for part in _state(value, type(value))])
        return None

    def _reduced(self, value: Any, kind: type) -> bytes:
        reduced = value.__reduce_ex__(5)
        if isinstance(reduced, str):  # a global name
            parts = [self._encode(kind), reduced.encode()]
            inner = getattr(value, "__wrapped__", None)
            return _joined("global", [*parts, self._encode(inner)] if inner is not None else parts)
        make, args, *rest = reduced
        parts = [self._encode(kind), self._encode(make), self._encode(args)]
        for index, extra in enumerate(rest):
            if index in (1, 2) and extra is not None:
                extra = list(extra)  # the items of a list, or the pairs of a dict
            parts.append(self._encode(extra))
        return _joined("object", parts)


def _hides_state(kind: type) -> bool:
    """Whether a class of the user's own says itself what a pickle holds of it: maybe not all."""
    for cls in kind.__mro__:
        if not _PICKLING.isdisjoint(vars(cls)):
            module = sys.modules.get(cls.__module__)
            return cls is not object and (module is None or is_own_module(module))
    return False


def _state(value: Any, kind: type) -> list[Any]:
    """The class, the items of a subclass of a built-in one, and all attributes."""
    written = [vars(cls).get("__slots__", ()) for cls in kind.__mro__]
    slots = [name for own in written for name in ([own] if isinstance(own, str) else own)]
    found: list[Any] = [kind, getattr(value, "__dict__", None)]
    found += [getattr(value, name) for name in slots if hasattr(value, name)]
    bases: tuple[Callable[[Any], Any], ...]
    bases = (dict, list, tuple, set, frozenset, str, bytes, int, float)
    return found + [base(value) for base in bases if isinstance(value, cast(type, base))]


def _made_of(value: Any) -> Iterable[Any] | None:  # noqa: PLR0911  # one line a kind
    """What values of Python's own kinds hold that don't reduce to it."""
    match value:
        case staticmethod() | classmethod():
            return [cast(Any, value).__func__]
        case property():
            return [value.fget, value.fset, value.fdel]
        case functools.cached_property():
            return [value.func]
        case functools.singledispatchmethod():
            return [value.dispatcher]
        case threading.local():
            return [type(value), vars(value)]
        case types.UnionType():
            return value.__args__
        case contextvars.ContextVar():
            return [value.name, _current(value)]
        case weakref.ReferenceType():
            return [value()]
        case _:
            return None


def _current(variable: contextvars.ContextVar[Any]) -> Any:
    try:
        return variable.get()
    except LookupError:
        return ...


def _joined(name: str, parts: list[bytes]) -> bytes:
    return b"".join([name.encode(), b"(", *(b"%d:%b" % (len(part), part) for part in parts), b")"])


def _homes(home: str) -> list[str]:
    """The folder and two above it, never the root of the file system or what lies right in it."""
    path = Path(home)
    return [str(folder) for folder in [path, *path.parents][:3] if len(folder.parts) > 2]


def shown(value: Any, digest: str) -> str:
    """A short text of the value, the same in every process."""
    text = _shown(value, digest[:8], 3)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… {digest[:8]}"


def _shown(value: Any, mark: str, depth: int) -> str:
    kind: type = type(value)
    if kind in _ATOM_SET:
        return repr(value) if kind is not str else repr(value[: _SHOWN + 1])
    if depth and kind in (list, tuple):
        items = ", ".join(_shown(item, mark, depth - 1) for item in value[:_SHOWN])
        return f"[{items}]" if kind is list else f"({items},)"
    if depth and kind in (set, frozenset):
        return "{" + ", ".join(sorted(_shown(item, mark, depth - 1) for item in value)) + "}"
    if depth and isinstance(value, Mapping):
        pairs = list(cast("Mapping[Any, Any]", value).items())[:_SHOWN]
        inner = (f"{_shown(k, mark, depth - 1)}: {_shown(v, mark, depth - 1)}" for k, v in pairs)
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, _CODE):
        return f"<{getattr(value, '__qualname__', value.__name__)}>"
    if isinstance(value, re.Pattern):
        return repr(cast("re.Pattern[Any]", value))
    if kind.__module__ in ("decimal", "datetime", "fractions", "uuid"):
        return repr(value)
    return f"<{kind.__qualname__} {mark}>"
