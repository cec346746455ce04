"""Performance is of the labelled rows, and says how many they are."""

import math

import numpy as np
import pyarrow as pa
import pytest

from upturn.core.errors import NotFound
from upturn.core.schema import Signature
from upturn.core.time import instant
from upturn.improve.monitor.performance import days, outcomes, performance, performance_by, scores

AT = [instant("2013-04-30T23:00:00Z"), *[instant("2013-05-01T01:00:00Z")] * 3]
TABLE = pa.table(
    {
        "at": pa.array(AT, pa.timestamp("us", "UTC")),
        "score": [0.9, 0.1, 0.6, None],
        "label": [1.0, 0.0, None, 1.0],
        "answer": ["true", "false", "true", "null"],
    }
)


def test_metrics_are_of_rows_with_label_and_score() -> None:
    found = performance(TABLE)
    assert (found.rows, found.labelled, found.completeness) == (4, 3, 0.75)
    assert found.values["auc"] == 1.0
    assert found.values["base_rate"] == 0.5
    assert found.values["log_loss"] == pytest.approx(-math.log(0.9))
    assert set(performance(TABLE, ["brier"]).values) == {"base_rate", "brier"}
    with pytest.raises(NotFound):
        performance(TABLE, ["gini"])


def test_without_rows_or_labels_there_is_nan() -> None:
    empty = performance(TABLE.slice(0, 0))
    assert (empty.rows, empty.labelled) == (0, 0)
    assert math.isnan(empty.completeness)
    assert all(math.isnan(value) for value in empty.values.values())
    assert math.isnan(performance(TABLE.slice(2, 1)).values["auc"])


def test_by_day_and_month() -> None:
    assert list(performance_by(TABLE, "day")) == ["2013-04-30", "2013-05-01"]
    found = performance_by(TABLE, "month")
    assert {name: one.rows for name, one in found.items()} == {"2013-04": 1, "2013-05": 3}
    assert performance_by(TABLE.slice(0, 0), "day") == {}
    assert days(TABLE).tolist() == [15825, 15826, 15826, 15826]


@pytest.mark.parametrize(
    ("classes", "labels", "expected"),
    [
        (("in time", "late"), ["late", "in time", "early", None], [1, 0, math.nan, math.nan]),
        ((False, True), [True, False, None, True], [1, 0, math.nan, 1]),
        ((0, 1), [1.0, 0.0, 0.5, None], [1, 0, math.nan, math.nan]),
        ((1, 2), [1, 2, 2, 0], [0, 1, 1, math.nan]),
        ((1, 2), ["1", "2", "x", "2"], [0, 1, math.nan, 1]),
        (("1", "2"), [1.0, 2.0, None, 2.0], [0, 1, math.nan, 1]),
        ((), ["1", "0.5", "x", None], [1, 0.5, math.nan, math.nan]),
        (("in time", "late"), [1.0, 0.0, None, 1.0], [1, 0, math.nan, 1]),
    ],
)
def test_labels_are_read_by_the_models_classes(
    classes: tuple[str | int | bool, ...], labels: list[object], expected: list[float]
) -> None:
    signature = Signature(inputs=(), output="probability", classes=classes)
    np.testing.assert_array_equal(outcomes(pa.table({"label": labels}), signature), expected)


def test_a_model_that_answers_labels_is_judged_by_its_answers() -> None:
    signature = Signature(inputs=(), output="label", classes=("a", "b", "c"))
    table = pa.table({"label": ["a", "b", None], "answer": ['"a"', '"c"', '"c"']})
    assert performance(table, signature=signature).values == {"accuracy": 0.5}
    numbers = pa.table({"label": [1.0, 2.0], "answer": ["1", "3"]})
    assert performance(numbers, signature=signature).values == {"accuracy": 0.5}


def test_a_model_that_answers_numbers_is_judged_by_its_errors() -> None:
    table = pa.table({"label": [10.0, 20.0], "score": [11.0, 22.0]})
    found = performance(table, signature=Signature(inputs=(), output="number"))
    assert found.values["mae"] == 1.5
    assert found.values["rmse"] == pytest.approx(math.sqrt(2.5))
    assert scores(table).tolist() == [11.0, 22.0]
