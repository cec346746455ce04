"""ONNX models of the user's own: stored as their bytes, run by onnxruntime alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from upturn.core.errors import Invalid, ModelFailed
from upturn.model.classes import Shares
from upturn.model.tables import floats, without_dictionaries

_KINDS: dict[str, Any] = {
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}
_LABELS = ("tensor(int64)", "tensor(int32)", "tensor(string)", "tensor(bool)")


def is_onnx(model: Any) -> bool:
    """Whether it is an onnx.ModelProto; onnx is not imported to find out."""
    kind = type(model)
    return kind.__name__ == "ModelProto" and kind.__module__.partition(".")[0] == "onnx"


def onnx_model(model: Any) -> "OnnxModel":
    """A ModelProto, or the path of a file with one, as what is stored.

    Raises Invalid when there is no such model, or onnxruntime can't open it or is not installed.
    """
    name = "The ONNX model"
    if isinstance(model, Path):
        name = str(model)
        try:
            data = model.read_bytes()
        except OSError as error:
            raise Invalid(
                f"{name} can't be read: {error.strerror}.", hint="Give the path of an ONNX file."
            ) from None
    else:
        data = model.SerializeToString()
    found = OnnxModel(data)
    try:
        found.open()
    except ImportError as error:
        raise Invalid(
            f"{name} needs onnxruntime, which is not installed.",
            hint="pip install 'upturn[onnx]'",
        ) from error
    except Invalid:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise Invalid(
            f"{name} can't be opened by onnxruntime: {text}",
            hint="A model is one ONNX file, with its weights inside.",
        ) from error
    return found


class OnnxModel:
    """A model in ONNX: its bytes, and a session of onnxruntime once it is called."""

    def __init__(self, data: bytes) -> None:
        self.data = np.frombuffer(data, np.uint8)
        self._session: Any = None

    def __getstate__(self) -> Any:
        """The bytes alone."""
        return {"data": self.data}

    def __setstate__(self, state: Any) -> None:
        """No session yet."""
        self.data = state["data"]
        self._session = None

    def open(self) -> Any:
        """Its session. Raises Invalid for inputs that no table has."""
        if self._session is None:
            from upturn.model.onnx_session import open_session

            session = open_session(self.data.tobytes())
            for one in session.get_inputs():
                if one.type not in _KINDS or len(one.shape) > 2:
                    raise Invalid(
                        f"Its input {one.name!r} is a {one.type} of shape {one.shape}.",
                        hint="Inputs are one matrix of numbers, or a column each.",
                    )
            self._session = session
        return self._session

    @property
    def takes_matrix(self) -> bool:
        """Whether its one input is a matrix of all columns."""
        given = self.open().get_inputs()
        return len(given) == 1 and len(given[0].shape) == 2 and given[0].shape[1] != 1

    @property
    def width(self) -> int | None:
        """How many columns its matrix has, where it says so."""
        width = self.open().get_inputs()[0].shape[1] if self.takes_matrix else None
        return width if isinstance(width, int) else None

    @property
    def names(self) -> tuple[str, ...] | None:
        """The columns that it takes, where each is an input."""
        return None if self.takes_matrix else tuple(one.name for one in self.open().get_inputs())

    def table_call(self) -> Callable[[Any], Any]:
        """A function of what Estimator.frame says: a matrix, or a table with a column an input."""
        return self.matrix_call() if self.takes_matrix else self._columns_call()

    def matrix_call(self) -> Callable[[np.ndarray], Any]:
        """A function of a matrix of numbers, one column an input where it takes columns."""
        session = self.open()
        given = session.get_inputs()
        wanted, answer = self._answers()
        run = session.run
        if self.takes_matrix:
            name, kind = given[0].name, _KINDS[given[0].type]
            return lambda matrix: answer(run(wanted, {name: matrix.astype(kind, copy=False)}))
        columns = [(one.name, _KINDS[one.type], len(one.shape)) for one in given]

        def call(matrix: np.ndarray) -> Any:
            fed = {
                name: _shaped(_numbers(matrix[:, place], kind, name), ndim)
                for place, (name, kind, ndim) in enumerate(columns)
            }
            return answer(run(wanted, fed))

        return call

    def _columns_call(self) -> Callable[[pa.Table], Any]:
        session = self.open()
        columns = [(one.name, _KINDS[one.type], len(one.shape)) for one in session.get_inputs()]
        wanted, answer = self._answers()

        def call(rows: pa.Table) -> Any:
            rows = without_dictionaries(rows)
            fed = {
                name: _shaped(_column(rows.column(name), kind, name), ndim)
                for name, kind, ndim in columns
            }
            return answer(session.run(wanted, fed))

        return call

    def _answers(self) -> tuple[list[str], Callable[[list[Any]], Any]]:
        """Which outputs are asked for, and what they make: one array, or one by each name.

        Of a classifier's label and probabilities, the probabilities.
        """
        outputs = self.open().get_outputs()
        if len(outputs) == 2 and outputs[0].type in _LABELS and _are_shares(outputs[1]):
            outputs = outputs[1:]
        names = [one.name for one in outputs]
        if len(names) == 1:
            return names, lambda found: _plain(found[0])
        return names, lambda found: dict(zip(names, map(_plain, found), strict=True))


def _are_shares(output: Any) -> bool:
    if output.type.startswith("seq(map("):
        return True
    return output.type in ("tensor(float)", "tensor(double)") and len(output.shape) == 2


def _plain(found: Any) -> Any:
    """Rows as {class: probability} as a matrix."""
    if not isinstance(found, list) or not found or not isinstance(found[0], dict):
        return found
    classes = tuple(found[0])
    return Shares(classes, np.array([list(row.values()) for row in found]))


def _shaped(column: np.ndarray, ndim: int) -> np.ndarray:
    return column[:, np.newaxis] if ndim == 2 else column


def _numbers(column: np.ndarray, kind: Any, name: str) -> np.ndarray:
    if kind is np.object_:
        raise ModelFailed(f"The model takes {name} as text.")
    if kind not in (np.float64, np.float32, np.float16) and np.isnan(column).any():
        raise ModelFailed(f"The model takes whole numbers as {name}: it can't be missing.")
    return column.astype(kind)


def _column(column: Any, kind: Any, name: str) -> np.ndarray:
    if kind is np.object_:
        return np.array([_text(one) for one in column.to_pylist()], dtype=object)
    if pt.is_integer(column.type) and kind is np.int64 and not column.null_count:
        return column.to_numpy()
    if not (
        pt.is_integer(column.type) or pt.is_floating(column.type) or pt.is_boolean(column.type)
    ):
        raise ModelFailed(f"The model takes numbers as {name}, which is {column.type}.")
    return _numbers(floats(column), kind, name)


def _text(value: Any) -> str:
    return "" if value is None else str(value)  # ONNX has no missing text
