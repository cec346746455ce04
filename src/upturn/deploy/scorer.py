"""Scorer: a table of rows to the same table with the model's predictions."""

from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from upturn.core.records import Version
from upturn.core.schema import Signature
from upturn.deploy.columns import input_table
from upturn.deploy.outputs import prediction_type
from upturn.model.adapters import Predictions, load_predictor
from upturn.model.tables import numbers
from upturn.stores.workspace import Workspace

PREDICTION, VERSION = "prediction", "version"
ADDED = (PREDICTION, VERSION)
_VERSION_TYPE: Final = pa.dictionary(pa.int32(), pa.string())
_EXACT = 2**53  # whole numbers to there are floats too


class Scorer:
    """A version's model, loaded. One thread at a time."""

    def __init__(self, workspace: Workspace, version: Version) -> None:
        self._version = version
        self._predictor = load_predictor(workspace, version)

    def predictions(self, table: pa.Table, first_row: int = 0) -> Any:
        """The column of predictions for rows whose columns fit the signature.

        Raises Invalid, naming column, value and row, when a value does not fit; ModelFailed.
        """
        inputs = input_table(table, self._version.signature, first_row=first_row)
        return _column(self._predict(inputs), self._version.signature)

    def scored(self, table: pa.Table, first_row: int = 0) -> pa.Table:
        """The table with the columns `prediction` and `version`."""
        names = pa.array([self._version.name], pa.string())
        zeros = pa.repeat(pa.scalar(0, pa.int32()), table.num_rows)
        return table.append_column(PREDICTION, self.predictions(table, first_row)).append_column(
            VERSION, pa.DictionaryArray.from_arrays(zeros, names)
        )

    def _predict(self, inputs: pa.Table) -> Predictions:
        short = self._predictor.predict_matrix
        if short is None or not inputs.num_rows or not _are_exact(inputs):
            return self._predictor.predict(inputs)
        return short(numbers(inputs))


def scored_schema(schema: pa.Schema, signature: Signature) -> pa.Schema:
    """The schema of the rows of a schema when they are scored."""
    kind = prediction_type(signature.output, signature.classes)
    return schema.append(pa.field(PREDICTION, kind)).append(pa.field(VERSION, _VERSION_TYPE))


def _are_exact(inputs: pa.Table) -> bool:
    for column in inputs.itercolumns():
        if pt.is_integer(column.type):
            ends: Any = pc.min_max(column).as_py()
            if max(-(ends["min"] or 0), ends["max"] or 0) > _EXACT:
                return False
    return True


def _column(predictions: Predictions, signature: Signature) -> Any:
    kind = prediction_type(signature.output, signature.classes)
    if predictions.scores is not None and pt.is_floating(kind):
        return pa.array(predictions.scores, kind)
    if signature.output != "label":
        encode = msgspec.json.Encoder(enc_hook=str).encode
        return pa.array([encode(one).decode() for one in predictions.answers], kind)
    if not pt.is_string(kind):
        return pa.array(predictions.answers, kind)
    return pa.array([None if one is None else str(one) for one in predictions.answers], kind)
