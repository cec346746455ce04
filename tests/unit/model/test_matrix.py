"""A matrix of numbers gives exactly what the table of the same rows gives."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.model.models import (
    NUMBERS,
    Fitted,
    flights,
    lightgbm_on_categories,
    lightgbm_on_pandas,
    sklearn_on_numpy,
    sklearn_pipeline,
    xgboost_booster,
    xgboost_on_pandas,
)
from upturn.core.errors import ModelFailed
from upturn.core.schema import Signature
from upturn.model.adapters import Predictor, predictor_for
from upturn.model.frames import Frames, schema_of
from upturn.model.matrix import is_matrix, matrix_frames
from upturn.model.signature import learn_signature

CELLS = {
    "bool": st.booleans(),
    "int": st.integers(-(2**53), 2**53),
    "float": st.floats(allow_nan=False),
}


def predictor(fitted: Fitted) -> Predictor:
    model, data, _ = fitted()
    return predictor_for(model, learn_signature(data, model, target="late"))


def logistic_on_floats() -> tuple[Any, Any, Any]:
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(1)
    frame = pd.DataFrame(random.normal(size=(200, 7)), columns=list("abcdefg"))
    late = frame["a"] + frame["b"] > 0
    return LogisticRegression().fit(frame, late), frame.assign(late=late), None


def hist_on_pandas() -> tuple[Any, Any, Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    frame = flights()[[*NUMBERS, "late"]]
    return HistGradientBoostingClassifier(max_iter=5).fit(frame[NUMBERS], frame["late"]), frame, 0


def hist_on_polars() -> tuple[Any, Any, Any]:
    model, frame, _ = hist_on_pandas()
    return model, pl.from_pandas(frame), None


NUMERIC: list[Fitted] = [
    lightgbm_on_pandas,
    xgboost_on_pandas,
    xgboost_booster,
    sklearn_on_numpy,
    logistic_on_floats,
    hist_on_pandas,
    hist_on_polars,
]


@pytest.mark.parametrize("fitted", NUMERIC, ids=lambda one: one.__name__)
def test_a_matrix_gives_what_the_table_gives(fitted: Fitted) -> None:
    found = predictor(fitted)
    assert found.predict_matrix is not None
    random = np.random.default_rng(2)
    matrix = np.round(random.normal(10, 20, (64, len(found.signature.inputs))), 2)
    for place, field in enumerate(found.signature.inputs):
        if field.type == "int":
            matrix[:, place] = random.integers(0, 24, 64)
        if field.type == "bool":
            matrix[:, place] = random.random(64) < 0.5
        if field.nullable:
            matrix[::5, place] = np.nan
    for rows in (matrix, matrix[:1], matrix[:0]):
        table, short = found.predict(as_table(rows, found.signature)), found.predict_matrix(rows)
        assert short.answers == table.answers
        np.testing.assert_array_equal(short.scores, table.scores)


@given(data=st.data())
@pytest.mark.parametrize("kind", ["numpy", "pandas", "polars"])
def test_the_frame_of_a_matrix_is_that_of_the_table(kind: Any, data: st.DataObject) -> None:
    types = data.draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=4))
    count = data.draw(st.integers(1, 4))
    columns = [
        data.draw(st.lists(CELLS[one] | st.none(), min_size=count, max_size=count)) for one in types
    ]
    names = [f"x{place}" for place in range(len(types))]
    draft = learn_signature(
        {name: [0.0, 1.0] for name in names}, lambda rows: [0.5] * len(rows), target=None
    )
    fields = tuple(
        type(field)(name=field.name, type=one, nullable=True)  # type: ignore[arg-type]
        for field, one in zip(draft.inputs, types, strict=True)
    )
    signature = Signature(inputs=fields, output="number", frame=kind)
    table = pa.Table.from_arrays([pa.array(column) for column in columns], names=names)
    frames = Frames(signature)
    typed = frames.typed(table)
    wanted = frames.frame(typed)
    make = matrix_frames(signature)
    assert make is not None
    found = make(frames.codes(typed))
    if kind == "numpy":
        np.testing.assert_array_equal(found, wanted)
    elif kind == "pandas":
        pd.testing.assert_frame_equal(found, wanted)
    else:
        assert found.equals(wanted)
        assert found.schema == wanted.schema


def test_text_and_categories_have_no_matrix() -> None:
    for fitted in (sklearn_pipeline, lightgbm_on_categories):
        found = predictor(fitted)
        assert not is_matrix(found.signature)
        assert found.predict_matrix is None


def test_a_model_that_raises_on_a_matrix_says_so() -> None:
    found = predictor(sklearn_on_numpy)
    assert found.predict_matrix is not None
    with pytest.raises(ModelFailed, match="The model raised ValueError"):
        found.predict_matrix(np.zeros((1, 2)))


def as_table(matrix: np.ndarray, signature: Signature) -> pa.Table:
    columns = [
        pa.array(column, from_pandas=True).cast(field.type)
        for column, field in zip(matrix.T, schema_of(signature.inputs), strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema_of(signature.inputs))
