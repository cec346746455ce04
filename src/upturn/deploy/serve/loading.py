"""Loading: a version becomes a worker only after it has predicted its example rows."""

from collections.abc import Sequence
from time import perf_counter
from typing import Any

from upturn.core.errors import Unavailable
from upturn.core.records import Version
from upturn.core.schema import Signature
from upturn.deploy.columns import row_tables
from upturn.deploy.fields import example_value
from upturn.deploy.serve.decoding import Row
from upturn.deploy.serve.problems import reason
from upturn.deploy.serve.worker import Predict
from upturn.model.adapters import Predictor, load_predictor
from upturn.stores.workspace import Workspace

_INLINE_S = 0.001
_INLINE_STEPS = (1, 4, 16, 64)  # batch sizes that are tried at warm-up


class Refused(Unavailable):
    """A version that can't be served; the message says why."""

    code = "refused"


def load(workspace: Workspace, version: Version) -> tuple[Predict, int]:
    """The version's predict function, warm, and how many rows it predicts within a millisecond.

    Raises Refused when it can't be loaded, raises on its example row, or answers NaN to it.
    """
    try:
        predictor = load_predictor(workspace, version)
        predict = predict_function(predictor)
        example = tuple(example_value(field) for field in version.signature.inputs)
        scores, answers = predict([example])
    except (Exception, SystemExit) as error:
        raise Refused(f"{version.name} failed its warm-up: {reason(error)}") from error
    if any(_is_nan(value) for value in (*scores, *answers)):
        raise Refused(f"{version.name} failed its warm-up: it answers its example row with NaN.")
    if len(answers) != 1:
        raise Refused(f"{version.name} gave {len(answers)} predictions for its one example row.")
    return predict, _inline_rows(predict, example)


def predict_function(predictor: Predictor) -> Predict:
    """The predictor as a function of rows in the order of its inputs."""
    table_of = row_tables(predictor.signature)

    def predict(rows: Sequence[Row]) -> tuple[Sequence[float | None], Sequence[Any]]:
        predictions = predictor.predict(table_of(rows))
        answers = predictions.answers
        scores = predictions.scores
        if scores is None:
            return [None] * len(answers), answers
        # A score of NaN is none: it says nothing, and would poison every mean.
        return [score if score == score else None for score in scores.tolist()], answers

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


def _inline_rows(predict: Predict, example: Row) -> int:
    inline = 0
    for count in _INLINE_STEPS:
        rows = [example] * count
        predict(rows)  # the first call of a size may allocate
        started = perf_counter()
        predict(rows)
        if perf_counter() - started > _INLINE_S:
            break
        inline = count
    return inline


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and value != value
