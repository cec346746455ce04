"""Pickles in which sets lie sorted: the same value is the same bytes whatever the hash seed."""

import copyreg
import io
import pickle
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, cast

from upturn.stores.codecs.torch_reducers import torch_reducers

Keep = Callable[[pickle.PickleBuffer], bool]

# What a set and a frozenset look like in a stream, each followed by the code that remembers it.
_SETS = (pickle.EMPTY_SET + pickle.MEMOIZE, pickle.FROZENSET + pickle.MEMOIZE)
# Sorting takes a pickler in Python, some 30 times slower: not for streams where that is felt.
_SORTED_UP_TO = 16 << 20
_NAMED = (type, types.FunctionType)
_BATCH = 1000  # as pickle itself puts them into a stream
_PythonPickler: Any = pickle._Pickler  # pyright: ignore[reportPrivateUsage]


def dumps(value: object, keep: Keep, carried: set[Any] | None = None) -> bytes:
    """The value by protocol 5, to be read by `pickle.loads`; `keep` is asked about each buffer.

    The classes and functions that the stream only names are added to `carried`.
    """
    stream = io.BytesIO()
    pickler = _Noting(stream, 5, buffer_callback=keep)
    pickler.dispatch_table = _dispatch()
    pickler.carried = set() if carried is None else carried
    pickler.dump(value)
    return stream.getvalue()


def may_hold_sets(stream: bytes) -> bool:
    """Whether there may be sets to sort in the stream of `dumps`."""
    return len(stream) <= _SORTED_UP_TO and any(mark in stream for mark in _SETS)


def dumps_sorted(value: object, keep: Keep | None = None) -> bytes:
    """The same with the items of sets sorted by their own bytes."""
    stream = io.BytesIO()
    pickler = _Sorting(stream, 5, buffer_callback=keep)
    pickler.dispatch_table = _dispatch()
    pickler.dump(value)
    return stream.getvalue()


class _Noting(pickle.Pickler):
    carried: set[Any]

    def reducer_override(self, obj: Any) -> Any:
        """Note the class of an object, or the class or function that it is."""
        self.carried.add(obj if isinstance(obj, _NAMED) else type(obj))
        return NotImplemented


class _Sorting(_PythonPickler):
    dispatch: ClassVar[dict[type, Any]] = dict(_PythonPickler.dispatch)

    def save_set(self, items: set[Any]) -> None:
        self.write(pickle.EMPTY_SET)
        self.memoize(items)
        ordered = _in_order(items)
        for begin in range(0, len(ordered), _BATCH):
            self.write(pickle.MARK)
            for item in ordered[begin : begin + _BATCH]:
                self.save(item)
            self.write(pickle.ADDITEMS)

    def save_frozenset(self, items: frozenset[Any]) -> None:
        self.write(pickle.MARK)
        for item in _in_order(items):
            self.save(item)
        if id(items) in self.memo:  # it holds itself, by way of an item
            self.write(pickle.POP_MARK + self.get(self.memo[id(items)][0]))
            return
        self.write(pickle.FROZENSET)
        self.memoize(items)

    dispatch[set] = save_set
    dispatch[frozenset] = save_frozenset


def _in_order(items: Iterable[Any]) -> list[Any]:
    found = list(items)
    if set(map(type, found)) in ({str}, {int}):
        return sorted(found)
    return sorted(found, key=dumps_sorted)


def _dispatch() -> dict[type, Callable[[Any], Any]]:
    """How types are reduced: arrays that are views, with gaps, as what they show."""
    table = cast("dict[type, Callable[[Any], Any]]", dict(copyreg.dispatch_table))
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        table[numpy.ndarray] = _reduced_array
    return table | torch_reducers()


def _reduced_array(array: Any) -> Any:
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        array = array.copy()
    return array.__reduce_ex__(5)
