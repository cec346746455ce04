"""Predictor: any model as one function, from a table of rows to scores and answers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from upturn.core.errors import ModelFailed
from upturn.core.records import Version
from upturn.core.schema import Signature
from upturn.model.choice import Use
from upturn.model.estimator import Estimator, describe, plain_class
from upturn.model.frames import Frames
from upturn.model.matrix import is_matrix, matrix_frames
from upturn.model.mlflow_model import open_mlflow
from upturn.model.native import MatrixCall, native_call
from upturn.model.opening import open_model
from upturn.model.several import named_answers, plain_answers
from upturn.stores.workspace import Workspace

_SCORED = ("probability", "number")  # whose answers are the scores


class Predictions(msgspec.Struct, frozen=True):
    """One prediction a row.

    `scores`: float64, the probability of the positive class or the number predicted; None for
    models that give neither. `answers`: Python values that JSON can hold, what clients are told:
    the score itself, else a label, else {class: probability}.
    """

    scores: np.ndarray | None
    answers: list[Any]


class Predictor:
    """A model with its signature. Safe to share between threads as far as the model itself is."""

    def __init__(
        self, signature: Signature, frames: Frames, call: Callable[[pa.Table], Any], *, native: bool
    ) -> None:
        self.signature = signature
        self.native = native  # whether the library's own booster is called on a matrix
        self.predict_matrix: Callable[[np.ndarray], Predictions] | None = None
        """Where all inputs are numbers: of a float64 matrix (rows, inputs), nan where null, what
        `predict` gives of the table; None where there is no such short way."""
        self.forms: tuple[Use, ...] = ()
        """Which form answers how many rows, where that is known (see forms.py)."""
        self._frames = frames
        self.call = call  # typed rows to whatever the model answers

    def predict(self, rows: pa.Table) -> Predictions:
        """The predictions of the rows: the signature's columns, in any order and among others.

        Values are cast to the signature's types where nothing is lost. Raises Invalid for a missing
        column or one that can't be cast, ModelFailed when the model raises or does not answer one
        prediction a row.
        """
        typed = self._frames.typed(rows)
        if not typed.num_rows:
            return _none_of(self.signature)
        try:
            raw = self.call(typed)
            return predictions(raw, typed.num_rows, self.signature)
        except (Exception, SystemExit) as error:
            raise _failed(error) from error


def predictor_for(model: Any, signature: Signature) -> Predictor:
    """The model as a Predictor. Raises Invalid for what is no model.

    For LightGBM and XGBoost models their native booster is called on a matrix of numbers, where
    that gives the very same predictions on rows made up from the signature.
    """
    frames = Frames(signature)
    estimator = describe(model)
    if signature.answer == "label" and estimator.labels is not None:
        estimator = replace(estimator, call=estimator.labels)

    def call(rows: pa.Table) -> Any:
        return estimator.call(frames.frame(rows))

    native = native_call(model, estimator, signature, frames, call)
    if native is None:
        predictor = Predictor(signature, frames, call, native=False)
    else:
        predictor = Predictor(
            signature, frames, lambda rows: native(frames.codes(rows)), native=True
        )
    predictor.predict_matrix = _predict_matrix(signature, estimator, native)
    return predictor


def _predict_matrix(
    signature: Signature, estimator: Estimator, native: MatrixCall | None
) -> Callable[[np.ndarray], Predictions] | None:
    if native is not None and is_matrix(signature):
        return matrix_predict(native, signature)
    if estimator.matrix is not None and is_matrix(signature):
        return matrix_predict(estimator.matrix, signature)
    make_frame = matrix_frames(signature)
    if make_frame is None:
        return None
    return matrix_predict(lambda matrix: estimator.call(make_frame(matrix)), signature)


def matrix_predict(call: MatrixCall, signature: Signature) -> Callable[[np.ndarray], Predictions]:
    """A function of a matrix as one that answers Predictions, and raises as `predict` does."""

    def predict_matrix(matrix: np.ndarray) -> Predictions:
        if not len(matrix):
            return _none_of(signature)
        try:
            return predictions(call(matrix), len(matrix), signature)
        except (Exception, SystemExit) as error:
            raise _failed(error) from error

    return predict_matrix


def load_predictor(workspace: Workspace, version: Version) -> Predictor:
    """The version's model as a Predictor. Raises NotFound or Corrupt when it can't be had."""
    if version.format == "mlflow":
        model = open_mlflow(workspace, version)
    else:
        model = open_model(workspace, version.artifact, version.files)
    return predictor_for(model, version.signature)


def predictions(raw: Any, rows: int, signature: Signature) -> Predictions:
    """What a model answered, as Predictions. Raises ModelFailed unless it is one a row."""
    output = signature.output
    if type(raw) is np.ndarray and raw.shape == (rows,) and raw.dtype == np.float64:
        if output in _SCORED:  # as most models answer, and what one row waits for
            return Predictions(raw, raw.tolist())
    if output == "json":
        answers = named_answers(raw, rows, signature) if signature.outputs else plain_answers(raw)
        _check_count(len(answers), rows)
        return Predictions(None, answers)
    found = _array(raw)
    if found.ndim == 2 and output == "probability" and found.shape[1] == 2:
        found = found[:, 1]
    if output == "scores":
        return _class_scores(found, rows, signature)
    if output == "label":
        return _labels(found, rows, signature)
    _check_count(len(found) if found.ndim == 1 else None, rows, found.shape)
    if found.dtype.kind == "c":
        raise ModelFailed("The model answered complex numbers, which JSON can't hold.")
    try:
        scores = found.astype(np.float64)
    except (TypeError, ValueError):
        raise ModelFailed(
            f"The model answered {found.tolist()[0]!r}, where a number was expected."
        ) from None
    return Predictions(scores, scores.tolist())


def _array(raw: Any) -> np.ndarray:
    """The answers as an array; one column is as good as none."""
    try:
        found = np.asarray(raw)
    except ValueError:
        raise ModelFailed("The model answered rows of different lengths.") from None
    return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found


def _labels(found: np.ndarray, rows: int, signature: Signature) -> Predictions:
    if signature.answer == "label" and found.dtype.kind == "f":  # else they are labels already
        shares = shares_of_both(found) if found.ndim == 1 else found
        if shares.ndim == 2:
            _check_count(len(shares), rows)
            return Predictions(None, most_likely(shares, signature))
    _check_count(len(found) if found.ndim == 1 else None, rows, found.shape)
    return Predictions(None, [plain_class(value) for value in found.tolist()])


def _class_scores(found: np.ndarray, rows: int, signature: Signature) -> Predictions:
    wanted = (rows, len(signature.classes))
    if found.ndim == 1 and wanted[1] == 2 and found.dtype.kind == "f":
        found = shares_of_both(found)
    if found.shape != wanted or found.dtype.kind not in "fiu":
        raise ModelFailed(
            f"The model answered {found.shape} of {found.dtype}, where {wanted} was expected."
        )
    names = [class_name(value) for value in signature.classes]
    return Predictions(None, [dict(zip(names, row, strict=True)) for row in found.tolist()])


def shares_of_both(found: np.ndarray) -> np.ndarray:
    """The probabilities of both classes, of those of the second one."""
    return np.stack([1 - found, found], axis=1)


def most_likely(found: np.ndarray, signature: Signature) -> list[str | int | bool]:
    """The class of each row that is the most likely one, by the probabilities of all.

    Raises ModelFailed when they are not one a class, or not numbers.
    """
    if found.shape[1] != len(signature.classes):
        raise ModelFailed(
            f"The model answered {found.shape[1]} classes of the "
            f"{len(signature.classes)} that it has."
        )
    if np.isnan(found).any():
        raise ModelFailed("The model answered NaN, of which no class is the most likely.")
    return [signature.classes[place] for place in found.argmax(axis=1).tolist()]


def class_name(value: str | int | bool) -> str:
    """A class as JSON names it: a member of an object is text.

    >>> class_name(True), class_name(3), class_name("late")
    ('true', '3', 'late')
    """
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_count(count: int | None, rows: int, shape: tuple[int, ...] = ()) -> None:
    if count == rows:
        return
    what = f"an array of shape {shape}"
    if count is not None:
        what = f"{count} prediction{'' if count == 1 else 's'}"
    raise ModelFailed(f"The model answered {what} for {rows} row{'' if rows == 1 else 's'}.")


def _failed(error: BaseException) -> ModelFailed:
    if isinstance(error, ModelFailed):
        return error
    text = (str(error).strip().splitlines() or [""])[0]
    kind = type(error).__name__
    return ModelFailed(f"The model raised {kind}: {text}" if text else f"The model raised {kind}.")


def _none_of(signature: Signature) -> Predictions:
    scored = signature.output in _SCORED
    return Predictions(np.empty(0) if scored else None, [])
