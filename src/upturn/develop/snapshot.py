"""What a fingerprint was made from, so that it can be seen quickly that nothing of it changed."""

import builtins
import marshal
import types
from collections.abc import Callable, Iterable, Mapping
from operator import is_
from typing import Any

from upturn.develop.constants import Contents
from upturn.develop.distributions import installed
from upturn.develop.source import Looked, locate, version_of

_ATOMS = (type(None), bool, int, float, complex, str, bytes, type, types.FunctionType)


class Snapshot:
    """The files, names, functions, classes and constants that were looked at, as they were then."""

    def __init__(self) -> None:
        self._spaces: dict[int, tuple[Callable[[], Mapping[str, Any]], list[str], list[Any]]] = {}
        self._functions: list[tuple[types.FunctionType, Any, Any, Any]] = []
        self._cells: list[tuple[types.CellType, Any]] = []
        self._names: list[tuple[dict[str, Any], str, Any]] = []
        self._plain: list[tuple[Any, bytes]] = []
        self._other: list[tuple[Any, str, str]] = []
        self._files: list[tuple[str, Any]] = []
        self._located: dict[str, str | None] = {}
        self._installed = installed()
        self._whole = True
        self.namespace(vars(builtins))

    def namespace(self, namespace: Mapping[str, Any]) -> None:
        """Names of a module were looked up."""
        if id(namespace) not in self._spaces:
            self._keep(namespace, lambda: namespace)

    def name(self, namespace: dict[str, Any], name: str) -> None:
        """One name of a library was."""
        self._names.append((namespace, name, namespace.get(name)))

    def cls(self, cls: type) -> None:
        """A class was."""
        self._keep(cls, lambda: vars(cls))

    def function(self, function: types.FunctionType) -> None:
        """A function was."""
        known = (function.__code__, function.__defaults__, function.__closure__)
        self._functions.append((function, *known))
        for mapping in (function.__kwdefaults__, vars(function)):
            if mapping:
                self._keep(mapping, lambda mapping=mapping: mapping)
        for cell in function.__closure__ or ():
            self._cells.append((cell, _content(cell)))

    def constant(self, value: Any, home: str, digest: str) -> None:
        """A value was digested, its paths relative to `home`."""
        if isinstance(value, _ATOMS):
            return  # it can't change, and another in its place is seen by its name
        try:
            self._plain.append((value, marshal.dumps(value, 2)))
        except ValueError:
            self._other.append((value, home, digest))

    def close(self, looked: Looked) -> None:
        """Note the files at the end."""
        self._files = [(file, version_of(file)) for file in looked.files]
        self._located = looked.located
        self._whole = looked.listed

    def _keep(self, key: Any, get: Callable[[], Mapping[str, Any]]) -> None:
        found = get()
        self._spaces[id(key)] = (get, list(found), list(found.values()))

    def holds(self, refer: Callable[[Any], str]) -> bool:
        """Whether all is as it was; `refer` names code as it did for the digests."""
        return (
            not self._whole
            and all(version_of(file) == version for file, version in self._files)
            and self._installed == installed()
            and self._same_code()
            and self._same_constants(refer)
            and all(locate(name) == file for name, file in self._located.items())
        )

    def _same_code(self) -> bool:
        for function, code, defaults, closure in self._functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__closure__ is not closure
            ):
                return False
        for get, keys, values in self._spaces.values():
            found = get()
            if len(found) != len(keys) or not _same(found, keys, values):
                return False
        return all(_content(cell) is value for cell, value in self._cells) and all(
            namespace.get(name) is value for namespace, name, value in self._names
        )

    def _same_constants(self, refer: Callable[[Any], str]) -> bool:
        try:
            if any(marshal.dumps(value, 2) != known for value, known in self._plain):
                return False
            contents: dict[str, Contents] = {}
            for value, home, digest in self._other:
                reader = contents.setdefault(home, Contents(refer, home))
                if reader.digest(value) != digest:
                    return False
        except Exception:  # noqa: BLE001  # it held something else before
            return False
        return True


def _same(found: Mapping[str, Any], keys: list[str], values: Iterable[Any]) -> bool:
    return list(found) == keys and all(map(is_, found.values(), values))


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None
