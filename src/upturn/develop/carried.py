"""The user's own classes and functions that a value carries: their code counts with the value.

A step that gets an object runs its methods, and no name in the step may lead to them. So what is
stored of such a value says which code its classes had: other code, another digest, and what takes
the value as its input runs again.
"""

import sys
from collections.abc import Iterable
from typing import Any

from blake3 import blake3

from upturn.core.blobstore import BlobStore
from upturn.core.records import Artifact
from upturn.develop.source import is_own_module
from upturn.stores import values


def save(blobs: BlobStore, value: object) -> Artifact:
    """Store a value together with the code that it carries; see `values.save`."""
    return values.save(blobs, value, code=code_of)


def code_of(carried: Iterable[Any]) -> str:
    """The digest of the user's own among these classes and functions; '' when there are none."""
    own = [item for item in carried if _is_own(item)]
    if not own:
        return ""
    from upturn.develop.fingerprint import fingerprint

    digests = sorted({fingerprint(item).digest for item in own})
    return blake3("\n".join(digests).encode()).hexdigest()


def _is_own(item: Any) -> bool:
    module = sys.modules.get(getattr(item, "__module__", None) or "")
    return module is not None and is_own_module(module)
