"""Loading: a version becomes a worker only after it has predicted its example rows."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from upturn.core.errors import Unavailable
from upturn.core.records import Version
from upturn.core.schema import Signature
from upturn.deploy.columns import row_tables
from upturn.deploy.fields import example_value
from upturn.deploy.serve.pace import Pace
from upturn.deploy.serve.problems import reason
from upturn.deploy.serve.rows import Block, Row, is_numeric, matrix_table
from upturn.deploy.serve.worker import Predict
from upturn.model.adapters import Predictor
from upturn.model.choice import describe_uses
from upturn.model.forms import load_forms
from upturn.stores.workspace import Workspace

_INLINE_S = 0.001
_LONG_S, _TOO_LONG_S = 0.05, 0.5  # larger batches need not be tried, but for a second size
_STEPS = (1, 4, 16, 64, 256)  # batch sizes that are tried at warm-up


class Refused(Unavailable):
    """A version that can't be served; the message says why."""

    code = "refused"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version's predict function, warm, and how fast it was found to be."""

    predict: Predict
    inline_rows: int  # how many rows it predicts within a millisecond
    pace: Pace
    form: str  # which form of the model answers how many rows


def load(workspace: Workspace, version: Version) -> Loaded:
    """The version, ready to answer.

    Raises Refused when it can't be loaded, raises on its example row, or answers NaN to it.
    """
    try:
        predictor = load_forms(workspace, version)
        predict = predict_function(predictor)
        example = tuple(example_value(field) for field in version.signature.inputs)
        scores, answers = predict(_block(version.signature, [example]))
    except BaseException as error:  # a model may raise anything, and this is its own thread
        raise Refused(f"{version.name} failed its warm-up: {reason(error)}") from error
    if any(_is_nan(value) for value in (*(scores or ()), *answers)):
        raise Refused(f"{version.name} failed its warm-up: it answers its example row with NaN.")
    if len(answers) != 1:
        raise Refused(f"{version.name} gave {len(answers)} predictions for its one example row.")
    return _measured(predict, version.signature, example, describe_uses(predictor.forms))


def predict_function(predictor: Predictor) -> Predict:
    """The predictor as a function of rows in the order of its inputs."""
    signature = predictor.signature
    table_of = row_tables(signature)
    on_matrix = predictor.predict_matrix
    scores_are_answers = signature.output in ("probability", "number")

    def predict(block: Block) -> tuple[list[float | None] | None, list[Any]]:
        if not isinstance(block, np.ndarray):
            found = predictor.predict(table_of(block))
        elif on_matrix is not None:
            found = on_matrix(block)
        else:
            found = predictor.predict(matrix_table(block, signature))
        if scores_are_answers or found.scores is None:
            return None, found.answers
        return found.scores.tolist(), found.answers

    return predict


def check_arm(name: str, version: Version, clients: Signature) -> None:
    """Raise Refused unless the version can answer what clients of another signature send."""
    sent = {field.name: field.type for field in clients.inputs}
    for field in version.signature.inputs:
        kind = sent.get(field.name)
        if kind is None:
            raise Refused(
                f"Arm {name!r} with {version.name} takes {field.name!r}, "
                "which clients of the route's first arm do not send."
            )
        if kind != field.type and (kind, field.type) != ("int", "float"):
            raise Refused(
                f"Arm {name!r} with {version.name} takes {field.name!r} as {field.type}, "
                f"and clients of the route's first arm send it as {kind}."
            )


def _measured(predict: Predict, signature: Signature, example: Row, form: str) -> Loaded:
    inline = 0
    measured: list[tuple[int, float]] = []
    for count in _STEPS:
        block = _block(signature, [example] * count)
        if count > 1:
            predict(block)  # the first call of a size may allocate
        started = perf_counter()
        predict(block)
        seconds = perf_counter() - started
        measured.append((count, seconds))
        if seconds <= _INLINE_S:
            inline = count
        if seconds > (_LONG_S if len(measured) > 1 else _TOO_LONG_S):
            break
    return Loaded(predict, inline, Pace(measured), form)


def _block(signature: Signature, rows: list[Row]) -> Block:
    return np.array(rows, dtype=np.float64) if is_numeric(signature) else rows


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and value != value
