"""ONNX sessions: the form of a model as a function of rows; needs onnxruntime alone."""

import contextlib
import ctypes
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.errors import Unfit
from upturn.core.records import Form
from upturn.core.schema import Field, Signature
from upturn.model.frames import Frames, typed_categories
from upturn.model.tables import floats

MATRIX = "__matrix__"  # the input of a form that takes one
MatrixCall = Callable[[np.ndarray], np.ndarray]
_max = np.maximum.reduce  # ndarray.max takes twice as long for one row
_NO_TEXT = "\x00null"  # ONNX has no missing text; no category of a model is this


class OnnxCall:
    """A form's raw answers: `table` of typed rows, `matrix` of numbers where it takes one."""

    def __init__(self, data: bytes, signature: Signature) -> None:
        self._session = open_session(data)
        self._frames = Frames(signature)
        self._fields = signature.inputs
        self._outputs = [self._session.get_outputs()[0].name]
        given = self._session.get_inputs()
        self._kinds = {one.name: _DTYPES.get(one.type) for one in given}
        self.limit: float | None = None
        self.known_text = False
        self.matrix: MatrixCall | None = None
        self._takes_matrix = [one.name for one in given] == [MATRIX]
        if self._takes_matrix:
            self.matrix = self._matrix_call()

    def guarded(self, form: Form) -> "OnnxCall":
        """The same, raising Unfit where the plain model raises."""
        self.limit, self.known_text = form.limit, form.known_text
        if self._takes_matrix:
            self.matrix = self._matrix_call()
        return self

    def table(self, rows: pa.Table) -> np.ndarray:
        """The answers to typed rows."""
        if self.matrix is not None:
            return self.matrix(self._frames.codes(rows))
        columns = zip(self._fields, rows.itercolumns(), strict=True)
        fed = {field.name: self._column(field, column) for field, column in columns}
        return self._session.run(self._outputs, fed)[0]

    def _matrix_call(self) -> MatrixCall:
        run, outputs, limit = self._session.run, self._outputs, self.limit
        kind = self._kinds[MATRIX]
        narrow = kind != np.float64

        def call(matrix: np.ndarray) -> np.ndarray:
            if limit is not None:
                check_limit(matrix, limit)
            return run(outputs, {MATRIX: matrix.astype(kind) if narrow else matrix})[0]

        return call

    def _column(self, field: Field, column: Any) -> np.ndarray:
        if field.categorical:
            known = [*typed_categories(field).cast(pa.string()).to_pylist(), _NO_TEXT]
            codes = pc.index_in(column, value_set=typed_categories(field)).fill_null(-1)
            return np.array(known, dtype=object)[codes.to_numpy()][:, np.newaxis]
        if is_text(field):
            texts = [_NO_TEXT if text is None else text for text in column.to_pylist()]
            if self.known_text:
                _check_known(field, texts)
            return np.array(texts, dtype=object)[:, np.newaxis]
        numbers = floats(column)
        if self.limit is not None:
            check_limit(numbers, self.limit)
        return numbers.astype(self._kinds[field.name] or np.float64, copy=False)[:, np.newaxis]


_DTYPES = {"tensor(double)": np.float64, "tensor(float)": np.float32, "tensor(int64)": np.int64}


def is_text(field: Field) -> bool:
    """Whether a column of the field is fed as text."""
    return field.type == "str" or field.categorical


def open_session(data: bytes) -> Any:
    """A session of one thread that never spins and says nothing."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # it never gives back what one large batch took
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def give_back_memory() -> None:
    """Return what the making of a session left behind to the system: 30 MB of a large forest."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a libc without it
            ctypes.CDLL(None).malloc_trim(0)


def check_limit(matrix: np.ndarray, limit: float) -> None:
    """Raise Unfit for a number beyond the limit; nan is none."""
    sizes = np.abs(matrix)
    if _max(sizes, axis=None) <= limit:
        return
    if (sizes > limit).any():  # else there are nans
        raise Unfit(f"The model takes no numbers beyond {limit:.3g}.")


def _check_known(field: Field, texts: list[str]) -> None:
    known = {*(field.categories or ()), *((_NO_TEXT,) if field.nullable else ())}
    for text in texts:
        if text not in known:
            raise Unfit(f"The model has seen no {field.name} {text[:100]!r} in training.")
