"""A model of any kind gives rows as they come of JSON what it gave its training data."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from unit.model.models import (
    BINARY,
    NUMBERS,
    Fitted,
    coded,
    flights,
    lightgbm_classifier,
    lightgbm_on_categories,
    lightgbm_on_pandas,
    served,
    xgboost_on_categories,
)
from upturn.core.errors import Invalid, ModelFailed
from upturn.model.adapters import Predictor, predictor_for
from upturn.model.frames import schema_of
from upturn.model.signature import learn_signature


def predictor(model: Any, data: Any, target: str | None = "late") -> Predictor:
    return predictor_for(model, learn_signature(data, model, target=target))


def rows_of(data: Any, found: Predictor) -> pa.Table:
    frame = data if isinstance(data, pd.DataFrame) else data.to_pandas()
    return served(frame, found.signature.names)


@pytest.mark.parametrize("fitted", BINARY, ids=lambda one: one.__name__)
def test_served_rows_give_what_the_model_gives_its_training_rows(fitted: Fitted) -> None:
    model, data, expected = fitted()
    found = predictor(model, data)
    assert found.signature.output == "probability"
    assert found.signature.classes == (False, True)
    predictions = found.predict(rows_of(data, found))
    assert predictions.scores is not None
    np.testing.assert_allclose(predictions.scores, np.asarray(expected(), float), rtol=1e-12)
    assert predictions.answers == predictions.scores.tolist()


@pytest.mark.parametrize("fitted", BINARY, ids=lambda one: one.__name__)
def test_one_row_gives_the_same_as_among_others(fitted: Fitted) -> None:
    model, data, _ = fitted()
    found = predictor(model, data)
    rows = rows_of(data, found)
    together = found.predict(rows.slice(0, 5)).answers
    alone = [found.predict(rows.slice(i, 1)).answers[0] for i in range(5)]
    np.testing.assert_allclose(alone, together, rtol=1e-12)  # BLAS adds in another order


@pytest.mark.parametrize("fitted", [lightgbm_on_categories, xgboost_on_categories])
def test_an_unknown_category_is_a_missing_value(fitted: Fitted) -> None:
    model, data, _ = fitted()
    found = predictor(model, data)
    row = {"hour": 7, "night": True}
    answers = {
        carrier: found.predict(
            pa.Table.from_pylist(
                [{**row, "delay": delay, "carrier": carrier} for delay in (0.0, 7.0, 14.0, 21.0)],
                schema=schema_of(found.signature.inputs),
            )
        ).answers
        for carrier in ("ZZ", None, "UA", "B6")
    }
    assert answers["ZZ"] == answers[None]
    assert answers["UA"] != answers["B6"]


def test_columns_may_come_in_any_order_type_and_company() -> None:
    model, data, expected = lightgbm_on_pandas()
    found = predictor(model, data)
    rows = pa.table(
        {
            "night": data["night"].to_numpy(),
            "extra": ["x"] * len(data),
            "hour": data["hour"].to_numpy().astype(np.float32),
            "delay": pa.array(data["delay"], from_pandas=True),
        }
    )
    np.testing.assert_array_equal(found.predict(rows).scores, expected())


def test_a_missing_column_and_one_that_does_not_fit_are_named() -> None:
    model, data, _ = lightgbm_on_pandas()
    found = predictor(model, data)
    rows = rows_of(data, found)
    with pytest.raises(Invalid, match="no column 'hour'") as caught:
        found.predict(rows.rename_columns(["delay", "hours", "night"]))
    assert caught.value.hint == "Did you mean 'hours'?"
    with pytest.raises(Invalid, match="Column 'hour' is double and can't be int"):
        found.predict(rows.set_column(1, "hour", pa.array([0.5] * len(data))))


def test_no_rows_give_no_predictions() -> None:
    model, data, _ = lightgbm_on_pandas()
    found = predictor(model, data)
    predictions = found.predict(rows_of(data, found).slice(0, 0))
    assert predictions.answers == []
    assert predictions.scores is not None
    assert predictions.scores.shape == (0,)


def test_a_boosters_native_call_is_taken_only_where_it_gives_the_same() -> None:
    model, data, _ = lightgbm_on_pandas()
    assert predictor(model, data).native

    class Twice(type(model)):
        def predict_proba(self, X: Any, **options: Any) -> Any:
            return super().predict_proba(X, **options)[:, ::-1]

    model.__class__ = Twice
    found = predictor(model, data)
    assert not found.native
    expected = model.predict_proba(data[NUMBERS])[:, 1]
    np.testing.assert_array_equal(found.predict(rows_of(data, found)).scores, expected)


def test_several_classes_are_answered_by_name() -> None:
    frame = coded(flights())
    inputs = frame.drop(columns="carrier")
    model = lightgbm_classifier().fit(inputs, frame["carrier"].astype(str))
    found = predictor(model, frame, target="carrier")
    assert found.signature.output == "scores"
    assert found.signature.classes == ("AA", "B6", "DL", "UA")
    predictions = found.predict(served(inputs, found.signature.names))
    assert predictions.scores is None
    assert [list(answer) for answer in predictions.answers[:1]] == [["AA", "B6", "DL", "UA"]]
    assert list(predictions.answers[7].values()) == model.predict_proba(inputs)[7].tolist()


def test_a_classifier_without_probabilities_answers_labels() -> None:
    from sklearn.svm import LinearSVC

    frame = flights().fillna(0.0)
    model = LinearSVC(dual=False).fit(frame[["delay", "hour"]], frame["carrier"])
    found = predictor(model, frame, target="carrier")
    assert found.signature.output == "label"
    predictions = found.predict(served(frame, found.signature.names))
    assert predictions.scores is None
    assert predictions.answers == model.predict(frame[["delay", "hour"]]).tolist()


@pytest.mark.parametrize("kind", ["sklearn", "lightgbm", "xgboost"])
def test_a_regressor_answers_numbers(kind: str) -> None:
    from lightgbm import LGBMRegressor
    from sklearn.linear_model import Ridge
    from xgboost import XGBRegressor

    made = {
        "sklearn": Ridge(),
        "lightgbm": LGBMRegressor(n_estimators=5, verbose=-1, n_jobs=1),
        "xgboost": XGBRegressor(n_estimators=5, n_jobs=1),
    }
    frame = flights().fillna(0.0)
    model = made[kind].fit(frame[["hour", "night"]], frame["delay"])
    found = predictor(model, frame, target="delay")
    assert found.signature.output == "number"
    np.testing.assert_array_equal(
        found.predict(served(frame, found.signature.names)).scores,
        model.predict(frame[["hour", "night"]]).astype(float),
    )


def test_a_regressor_of_several_targets_answers_lists() -> None:
    from sklearn.linear_model import LinearRegression

    inputs = flights()[["hour", "night"]]
    model = LinearRegression().fit(inputs, np.column_stack([inputs["hour"], inputs["hour"] * 2]))
    found = predictor(model, inputs, target=None)
    answers = found.predict(served(inputs, found.signature.names).slice(0, 2)).answers
    np.testing.assert_allclose(answers, [[hour, 2 * hour] for hour in inputs["hour"][:2]])


class Answers:
    """A model that answers whatever it is told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, rows: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ValueError("no such row\nand more"), "The model raised ValueError: no such row"),
        (KeyError(), "The model raised KeyError."),
        ([0.1], "The model answered 1 prediction for 2 rows."),
        (np.zeros((2, 3)), r"The model answered an array of shape \(2, 3\) for 2 rows."),
        (0.5, r"The model answered an array of shape \(\) for 2 rows."),
        (["a", "b"], "The model answered 'a', where a number was expected."),
        (None, r"The model answered an array of shape \(\) for 2 rows."),
    ],
)
def test_a_model_that_fails_says_so(answer: Any, said: str) -> None:
    model = Answers([0.5, 0.25])
    found = predictor(model, {"a": [1, 2], "late": [True, False]})
    model.answer = answer
    with pytest.raises(ModelFailed, match=said) as caught:
        found.predict(pa.table({"a": [1, 2]}))
    assert caught.value.code == "model_failed"


def test_anything_else_is_passed_on_as_json() -> None:
    model = Answers([{"a": 1}, {"b": [2]}])
    found = predictor(model, {"a": [1, 2]}, target=None)
    assert found.signature.output == "json"
    assert found.predict(pa.table({"a": [1, 2]})).answers == [{"a": 1}, {"b": [2]}]
    model.answer = {"a": 1}
    with pytest.raises(ModelFailed, match="answered a dict"):
        found.predict(pa.table({"a": [1, 2]}))
