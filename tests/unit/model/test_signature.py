"""What a model takes and answers is learned from it and from its training data."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from unit.model.models import (
    NUMBERS,
    coded,
    flights,
    lightgbm_classifier,
    lightgbm_on_categories,
    lightgbm_on_categories_of_text,
    pipeline,
    sklearn_on_numpy,
    xgboost_classifier,
    xgboost_on_polars_categories,
)
from upturn.core.errors import Invalid
from upturn.core.schema import Field, Signature
from upturn.model.signature import learn_field, learn_signature


def half(rows: Any) -> Any:
    """A model that takes anything."""
    return [0.5] * len(rows)


def test_fields_are_typed_by_the_data() -> None:
    at = datetime(2013, 1, 1, 6, tzinfo=UTC)
    data = pl.DataFrame(
        {
            "bool": [True, None],
            "int": pl.Series([3, 4], dtype=pl.Int16),
            "float": [float("nan"), 0.5],
            "float32": pl.Series([0.5, 1.5], dtype=pl.Float32),
            "decimal": [Decimal("1.50"), Decimal("2.00")],
            "str": ["b", "a"],
            "date": [date(2013, 1, 1), date(2013, 1, 2)],
            "datetime": [at, at],
            "enum": pl.Series(["x", None], dtype=pl.Enum(["z", "x"])),
            "nothing": [None, None],
        }
    )
    assert learn_signature(data, half).inputs == (
        Field(name="bool", type="bool", nullable=True, example=True),
        Field(name="int", type="int", example=3),
        Field(name="float", type="float", nullable=True, example=0.5),
        Field(name="float32", type="float", example=0.5),
        Field(name="decimal", type="float", example=1.5),
        Field(name="str", type="str", categories=("a", "b"), example="b"),
        Field(name="date", type="date", example="2013-01-01"),
        Field(name="datetime", type="datetime", example="2013-01-01T06:00:00Z"),
        Field(
            name="enum",
            type="str",
            nullable=True,
            categories=("z", "x"),
            categorical=True,
            example="x",
        ),
        Field(name="nothing", type="float", nullable=True),
    )


def test_a_signature_is_json_and_comes_back() -> None:
    model, data, _ = lightgbm_on_categories()
    found = learn_signature(data, model, target="late")
    assert msgspec.json.decode(msgspec.json.encode(found), type=Signature) == found


def test_text_with_many_values_has_no_categories() -> None:
    assert learn_field("s", pa.array([f"N{i}" for i in range(101)])).categories is None
    few = learn_field("s", pa.array([f"N{i:03}" for i in range(100)])).categories
    assert few is not None
    assert len(few) == 100


def test_inputs_are_what_the_model_was_fitted_on_in_its_order() -> None:
    frame = flights()
    order = ["night", "delay", "hour"]
    for made in (lightgbm_classifier(), xgboost_classifier()):
        model = made.fit(frame[order], frame["late"])
        for data in (frame, pl.from_pandas(frame), pa.Table.from_pandas(frame)):
            assert learn_signature(data, model, target="late").names == tuple(order)
    model = pipeline().fit(frame.drop(columns="late"), frame["late"])
    assert learn_signature(frame, model).names == ("delay", "hour", "night", "carrier")


def test_a_blank_in_a_name_that_lightgbm_replaced_is_found_again() -> None:
    frame = flights().rename(columns={"hour": "dep hour"})
    inputs = frame[["dep hour", "delay"]]
    model = lightgbm_classifier().fit(inputs, frame["late"])
    assert learn_signature(frame, model, target="late").names == ("dep hour", "delay")


def test_a_model_without_names_takes_all_but_the_target_and_what_is_excluded() -> None:
    frame = flights()
    assert learn_signature(frame, half, target="late").names == (*NUMBERS, "carrier")
    found = learn_signature(frame, half, target="late", exclude=["carrier"])
    assert found.names == tuple(NUMBERS)
    indexed = frame.set_index("carrier")
    assert learn_signature(indexed, half, target="late").names == tuple(NUMBERS)


def test_the_models_own_categories_are_the_fields_in_the_order_of_their_codes() -> None:
    for fitted in (lightgbm_on_categories, lightgbm_on_categories_of_text):
        model, data, _ = fitted()
        field = learn_signature(data, model, target="late").inputs[3]
        assert (field.categorical, field.categories) == (True, ("UA", "B6", "AA", "DL"))
    model, data, _ = xgboost_on_polars_categories()
    assert learn_signature(data, model, target="late").inputs[3].categorical


def test_categories_that_are_numbers_are_spelled_and_typed() -> None:
    frame = flights()
    inputs = frame[["delay"]].assign(hour=pd.Categorical(frame["hour"]))
    model = lightgbm_classifier().fit(inputs, frame["late"])
    field = learn_signature(inputs, model).inputs[1]
    assert (field.type, field.categorical) == ("int", True)
    assert field.categories == tuple(str(hour) for hour in range(24))


def test_the_frame_is_the_one_that_the_model_takes() -> None:
    frame = flights()
    assert learn_signature(frame, half).frame == "pandas"
    assert learn_signature(pl.from_pandas(frame), half).frame == "polars"
    assert learn_signature(frame.to_dict("list"), half).frame == "numpy"
    model, data, _ = sklearn_on_numpy()
    assert learn_signature(data, model, target="late").frame == "numpy"
    model, data, _ = lightgbm_on_categories()  # LightGBM takes no categories of polars
    assert learn_signature(pl.from_pandas(data), model, target="late").frame == "pandas"


@pytest.mark.parametrize(
    ("answer", "target", "output", "classes"),
    [
        ([0.1, 0.9], [False, True], "probability", (False, True)),
        ([0.1, 0.9], [1.0, 0.0], "probability", (0, 1)),
        ([0.1, 0.9], ["no", "yes"], "probability", ("no", "yes")),
        ([0.1, 0.9], [3.5, 1.2], "number", ()),
        ([0.1, 1.9], [False, True], "number", ()),
        ([0.1, 0.9], None, "number", ()),
        ([1, 0], [0, 1], "label", (0, 1)),
        ([7, 8], [0, 1], "number", ()),
        ([True, False], [False, True], "label", (False, True)),
        (["no", "yes"], ["no", "yes"], "label", ("no", "yes")),
        (["no", "yes"], None, "label", ("no", "yes")),
        ([[0.1, 0.9], [0.5, 0.5]], [False, True], "probability", (False, True)),
        ([[0.1, 0.8, 0.1], [0.2, 0.4, 0.4]], None, "scores", (0, 1, 2)),
        ([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], None, "json", ()),
        ([{"a": 1}, {"a": 2}], None, "json", ()),
        ([[1], [2, 3]], None, "json", ()),
        (pd.Series([0.1, 0.9]), [False, True], "probability", (False, True)),
        (pl.Series([0.1, 0.9]), [False, True], "probability", (False, True)),
        (pa.array([0.1, 0.9]), [False, True], "probability", (False, True)),
    ],
)
def test_what_a_function_answers_is_judged_by_an_example(
    answer: Any, target: Any, output: str, classes: tuple[Any, ...]
) -> None:
    data = {"a": [1, 2]} | ({} if target is None else {"y": target})
    found = learn_signature(data, lambda _: answer, target=None if target is None else "y")
    assert (found.output, found.classes) == (output, classes)


def test_a_boosters_classes_are_the_targets() -> None:
    import lightgbm as lgb
    import xgboost as xgb

    frame = flights()
    names, codes = np.unique(frame["carrier"], return_inverse=True)
    params = {"objective": "multiclass", "num_class": 4, "verbose": -1, "num_threads": 1}
    model = lgb.train(params, lgb.Dataset(frame[NUMBERS], codes), 3)
    found = learn_signature(frame, model, target="carrier")
    assert (found.output, found.classes) == ("scores", tuple(names))
    rows = xgb.DMatrix(frame[NUMBERS], codes)
    softmax = {"objective": "multi:softmax", "num_class": 4, "nthread": 1}
    found = learn_signature(frame, xgb.train(softmax, rows, 3))
    assert (found.output, found.classes) == ("label", (0, 1, 2, 3))
    found = learn_signature(frame, xgb.train({"nthread": 1}, rows, 3))
    assert found.output == "number"


def fitted(names: list[str]) -> Any:
    frame = flights()
    return lightgbm_classifier().fit(frame[names], frame["late"])


def unfitted() -> Any:
    return lightgbm_classifier()


@pytest.mark.parametrize(
    ("model", "data", "options", "said", "hint"),
    [
        (
            lambda: fitted(["delay", "hour"]),
            lambda: flights().rename(columns={"hour": "hours"}),
            {},
            "fitted on 'hour', which the data lacks",
            "Did you mean 'hours'?",
        ),
        (
            lambda: fitted(NUMBERS),
            flights,
            {"target": "lat"},
            "no target column 'lat'",
            "Did you mean 'late'?",
        ),
        (
            lambda: fitted([*NUMBERS, "late"]),
            flights,
            {"target": "late"},
            "fitted on its own target 'late'",
            "Leave it out",
        ),
        (
            lambda: half,
            flights,
            {"exclude": ["carriers"]},
            "no column 'carriers' to exclude",
            "Did you mean 'carrier'?",
        ),
        (
            lambda: sklearn_on_numpy()[0],
            flights,
            {"target": "late"},
            "takes 3 inputs and does not say which, but the data has 4 columns besides 'late'",
            "say target=",
        ),
        (
            lambda: half,
            lambda: pl.DataFrame({"a": [[1], [2]]}),
            {},
            "Column 'a' is .*list.*can't be an input",
            "leave it out",
        ),
        (lambda: half, lambda: {"late": [1]}, {"target": "late"}, "no columns", ""),
        (unfitted, flights, {}, "LGBMClassifier is not fitted", "fit()"),
        (lambda: type(unfitted()), flights, {}, "LGBMClassifier is a class", "instance"),
        (lambda: {"a": 1}, flights, {}, "A dict is not a model", "predict method"),
        (
            lambda: pipeline().fit(flights().drop(columns="late"), flights()["late"]),
            lambda: flights().assign(delay="late"),
            {},
            "can't predict the rows that it is registered with",
            "encoded in the same way",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    model: Any, data: Any, options: dict[str, Any], said: str, hint: str
) -> None:
    with pytest.raises(Invalid, match=said) as caught:
        learn_signature(data(), model(), **options)
    assert hint in caught.value.hint


def test_a_class_of_ones_own_that_raises_is_registered_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def needs_a_gpu(rows: Any) -> Any:
        raise RuntimeError("no GPU here")

    found = learn_signature(flights(), needs_a_gpu)
    assert (found.output, found.frame) == ("json", "pandas")
    assert "RuntimeError: no GPU here" in caplog.text


def test_data_without_rows_is_refused() -> None:
    with pytest.raises(Invalid, match="no rows"):
        learn_signature(coded(flights()).iloc[:0], half)
