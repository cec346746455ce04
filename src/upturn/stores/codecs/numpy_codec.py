"""NumpyCodec: arrays as their raw bytes, so that reading one is a view of the mapping."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from upturn.core.codec import Encoded

if TYPE_CHECKING:
    import numpy as np


class NumpyCodec:
    """Arrays and scalars of numpy whose items are not Python objects.

    A decoded array is a read-only view. C and Fortran order are kept; any other becomes C order.
    """

    name = "numpy"

    def accepts(self, value: object) -> bool:
        """Whether it is an ndarray itself or a numpy scalar, of a dtype that has a name."""
        kind = type(value)
        if kind.__module__ != "numpy":
            return False
        np = sys.modules["numpy"]
        return (kind is np.ndarray or issubclass(kind, np.generic)) and _portable(value.dtype)  # pyright: ignore[reportAttributeAccessIssue]

    def encode(self, value: Any) -> Encoded:
        """One buffer: the items, in C or Fortran order."""
        import numpy as np

        scalar = isinstance(value, np.generic)
        array = np.asarray(value)
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        flat = np.ascontiguousarray(array.T if fortran else array).reshape(-1)
        meta = {
            "dtype": np.lib.format.dtype_to_descr(array.dtype),
            "shape": array.shape,
            "order": "F" if fortran else "C",
            "scalar": scalar,
        }
        summary = repr(value) if scalar else f"{array.dtype} {array.shape}"
        return Encoded(
            buffers=[flat.view(np.uint8).data if flat.nbytes else b""],
            meta=meta,
            summary=summary if len(summary) <= 60 else summary[:59] + "…",
        )

    def decode(self, meta: dict[str, Any], buffers: Sequence[memoryview]) -> Any:
        """A read-only view of the buffer, or the scalar."""
        import numpy as np

        dtype = np.lib.format.descr_to_dtype(_descr(meta["dtype"]))
        shape = tuple(meta["shape"])
        array: np.ndarray[Any, Any] = np.ndarray(
            shape, dtype, buffer=buffers[0] if buffers[0].nbytes else None, order=meta["order"]
        )
        array.flags.writeable = False
        return array[()] if meta["scalar"] else array


def _portable(dtype: "np.dtype[Any]") -> bool:
    """Whether the dtype's description says all of it (not so of objects and of extensions)."""
    import numpy as np

    if dtype.hasobject or dtype.metadata or dtype.kind not in "biufcSUMmV":
        return False
    try:
        return np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype)) == dtype
    except (ValueError, TypeError):
        return False


def _descr(stored: Any) -> Any:
    """The description as numpy wants it: fields are tuples, which JSON made lists."""
    if isinstance(stored, str):
        return stored
    return [
        (
            tuple(field[0]) if isinstance(field[0], list) else field[0],
            _descr(field[1]),
            *(tuple(shape) for shape in field[2:]),
        )
        for field in stored
    ]
