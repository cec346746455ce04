"""Pickles of what has no name elsewhere (closures, a script's classes): alike in every process."""

import copyreg
import io
import pickle
from collections import ChainMap
from collections.abc import Callable, MutableMapping
from typing import Any

from blake3 import blake3

from upturn.stores.codecs.torch_reducers import torch_reducers

_OURS = "up"  # how the names begin that are the same in every process
_LENGTH = 32  # of a name, as cloudpickle makes it


def dumps_by_value(value: object, keep: Callable[[pickle.PickleBuffer], bool]) -> bytes:
    """The value by cloudpickle.

    Cloudpickle gives a class a random name, by which it is known again where it is read. Here the
    name is the digest of the class, so that the same value is the same bytes.
    """
    import cloudpickle

    stream = _dumps(value, lambda _: False)
    names = getattr(cloudpickle.cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_CLASS", None)
    classes = getattr(cloudpickle.cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_ID", None)
    if names is None or classes is None:  # another cloudpickle: its own names will do
        return _dumps(value, keep)
    for cls in list(names):  # what the first object of a class leaves in it, so that all are alike
        copyreg._slotnames(cls)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    stream = _dumps(value, keep)
    return _renamed(stream, names, classes, cloudpickle.dumps)


def _dumps(value: object, keep: Callable[[pickle.PickleBuffer], bool]) -> bytes:
    import cloudpickle

    reducers = torch_reducers()
    if not reducers:
        return cloudpickle.dumps(value, 5, buffer_callback=keep)
    stream = io.BytesIO()
    pickler = cloudpickle.Pickler(stream, 5, buffer_callback=keep)
    pickler.dispatch_table = ChainMap[type, Any](reducers, dict(pickler.dispatch_table))
    pickler.dump(value)
    return stream.getvalue()


def _renamed(
    stream: bytes,
    names: MutableMapping[type, str],
    classes: MutableMapping[str, type],
    dumps: Callable[[type], bytes],
) -> bytes:
    for cls, old in list(names.items()):
        if old.startswith(_OURS) or old.encode() not in stream:
            continue
        text = dumps(cls)
        for name in names.values():
            text = text.replace(name.encode(), bytes(_LENGTH))
        new = (_OURS + blake3(text).hexdigest())[:_LENGTH]
        stream = stream.replace(old.encode(), new.encode())
        names[cls] = new
        classes[new] = cls
    return stream
