"""A model's faster equal form: made, proven and chosen; refused where it is not the same."""

import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.model.models import BINARY, Fitted, flights, own_class_on_polars, served
from upturn.core.errors import ModelFailed
from upturn.core.records import Form, Timing, Version
from upturn.core.time import instant
from upturn.develop.collect import collect, plan_collection
from upturn.model.adapters import Predictor, load_predictor
from upturn.model.choice import crossover, describe_form, describe_uses
from upturn.model.forms import load_forms
from upturn.model.registry import register_version
from upturn.model.trees import as_float32_leq, as_float32_less
from upturn.stores.workspace import Workspace, open_workspace

NOW = instant("2013-04-01")
ROWS = 400


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    workspace = open_workspace()
    yield workspace
    workspace.close()


def table(rows: int = ROWS, *, seed: int = 0, nulls: bool = False) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    found = pd.DataFrame(random.normal(size=(rows, 4)), columns=list("abcd"))
    found["n"] = random.integers(0, 5, rows)
    if nulls:
        found.loc[::7, "b"] = np.nan
    return found


def two(frame: pd.DataFrame) -> Any:
    return frame["a"] + frame["c"] * frame["d"] > 0.2


def three(frame: pd.DataFrame) -> Any:
    return np.array(["low", "mid", "top"])[np.digitize(frame["a"] + 0.3 * frame["n"], [0.0, 1.0])]


def amount(frame: pd.DataFrame) -> Any:
    return 3 * frame["a"] + frame["c"] * frame["d"] + frame["n"]


def register(workspace: Workspace, model: Any, frame: pd.DataFrame, target: Any) -> Version:
    data = frame.assign(target=target)
    return register_version(workspace, "m", model, data=data, target="target", now=NOW)


def linear(name: str, **given: Any) -> Any:
    import sklearn.linear_model

    return getattr(sklearn.linear_model, name)(**given)


def ensemble(name: str, **given: Any) -> Any:
    import sklearn.ensemble

    return getattr(sklearn.ensemble, name)(random_state=0, **given)


def lightgbm(name: str, **given: Any) -> Any:
    import lightgbm

    options = {"n_estimators": 8, "min_child_samples": 5, "n_jobs": 1, "verbose": -1} | given
    return getattr(lightgbm, name)(**options)


def xgboost(name: str, **given: Any) -> Any:
    import xgboost

    return getattr(xgboost, name)(**{"n_estimators": 8, "n_jobs": 1} | given)


def piped(last: Any) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(SimpleImputer(), StandardScaler(), last)


def by_column(last: Any) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    columns = make_column_transformer(
        (OneHotEncoder(categories=[range(5)], handle_unknown="ignore"), ["n"]),
        (SimpleImputer(), ["a", "b", "c", "d"]),
        sparse_threshold=0,
    )
    return make_pipeline(columns, last)


HIST = "HistGradientBoosting"
Kind = tuple[Callable[[], Any], Callable[[pd.DataFrame], Any], bool]
KINDS: dict[str, Kind] = {
    "logistic": (lambda: linear("LogisticRegression"), two, False),
    "logistic of 3": (lambda: linear("LogisticRegression"), three, False),
    "ridge": (lambda: linear("Ridge"), amount, False),
    "forest": (lambda: ensemble("RandomForestClassifier", n_estimators=5), two, True),
    "forest of 3": (lambda: ensemble("ExtraTreesClassifier", n_estimators=5), three, False),
    "forest of numbers": (lambda: ensemble("RandomForestRegressor", n_estimators=5), amount, True),
    "boosted": (lambda: ensemble("GradientBoostingClassifier", n_estimators=5), two, False),
    "boosted exponentially": (
        lambda: ensemble("GradientBoostingClassifier", n_estimators=5, loss="exponential"),
        two,
        False,
    ),
    "boosted of 3": (lambda: ensemble("GradientBoostingClassifier", n_estimators=5), three, False),
    "boosted numbers": (
        lambda: ensemble("GradientBoostingRegressor", n_estimators=5),
        amount,
        False,
    ),
    "hist": (lambda: ensemble(HIST + "Classifier", max_iter=8), two, True),
    "hist of 3": (lambda: ensemble(HIST + "Classifier", max_iter=4), three, True),
    "hist of counts": (
        lambda: ensemble(HIST + "Regressor", max_iter=8, loss="poisson"),
        lambda frame: np.abs(amount(frame)),
        True,
    ),
    "lightgbm": (lambda: lightgbm("LGBMClassifier"), two, True),
    "lightgbm of 3": (lambda: lightgbm("LGBMClassifier"), three, False),
    "lightgbm numbers": (lambda: lightgbm("LGBMRegressor"), amount, True),
    "lightgbm as a forest": (
        lambda: lightgbm("LGBMClassifier", boosting_type="rf", bagging_freq=1, subsample=0.5),
        two,
        False,
    ),
    "xgboost": (lambda: xgboost("XGBClassifier"), two, True),
    "xgboost of 3": (
        lambda: xgboost("XGBClassifier"),
        lambda frame: np.unique(three(frame), return_inverse=True)[1],
        False,
    ),
    "xgboost numbers": (lambda: xgboost("XGBRegressor"), amount, True),
    "xgboost counts": (
        lambda: xgboost("XGBRegressor", objective="count:poisson"),
        lambda frame: np.abs(amount(frame)),
        False,
    ),
    "xgboost as a forest": (lambda: xgboost("XGBRFClassifier"), two, False),
    "pipeline to hist": (lambda: piped(ensemble(HIST + "Classifier", max_iter=4)), two, True),
    "pipeline to lightgbm": (lambda: piped(lightgbm("LGBMClassifier")), two, True),
    "pipeline to logistic": (lambda: piped(linear("LogisticRegression")), three, True),
    "columns to a forest": (
        lambda: by_column(ensemble("RandomForestClassifier", n_estimators=5)),
        two,
        True,
    ),
    "columns to numbers": (lambda: by_column(linear("Ridge")), amount, True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_form_of_every_kind_of_model_is_equal(workspace: Workspace, kind: str) -> None:
    make, target, nulls = KINDS[kind]
    frame = table(nulls=nulls)
    version = register(workspace, make().fit(frame, target(frame)), frame, target(frame))
    form = version.form
    assert form is not None
    assert form.equal, form.why
    assert form.rows > 2 * ROWS
    assert version.form_artifact is not None
    rows = served(table(ROWS, seed=1, nulls=nulls), version.signature.names)
    plain = load_predictor(workspace, version)
    found = load_forms(workspace, only_form(version))
    assert describe_uses(found.forms) == "onnx for any number of rows"
    assert_same(found.predict(rows), plain.predict(rows))
    assert found.predict_matrix is not None
    matrix = rows.to_pandas()[list(version.signature.names)].to_numpy(np.float64)
    assert_same(found.predict_matrix(matrix), plain.predict(rows))
    assert_same(found.predict_matrix(matrix[:1]), plain.predict(rows.slice(0, 1)))
    assert found.predict_matrix(matrix[:0]).answers == []


@pytest.mark.parametrize("fitted", BINARY[:10], ids=lambda one: one.__name__)
def test_text_and_categories_reach_the_form(workspace: Workspace, fitted: Fitted) -> None:
    model, data, _ = fitted()
    version = register_version(workspace, "m", model, data=data, target="late", now=NOW)
    assert version.form is not None
    assert version.form.equal, version.form.why
    frame = flights(seed=3)
    if not any(field.nullable for field in version.signature.inputs):
        frame = frame.fillna(0.0)
    frame.loc[5, "carrier"] = "ZZ"  # a category that nobody has seen
    rows = served(frame, version.signature.names)
    found = load_forms(workspace, only_form(version))
    assert found.forms[0].form == "onnx"
    assert_same(found.predict(rows), load_predictor(workspace, version).predict(rows))


def only_form(version: Version) -> Version:
    """The version as if its form had been faster with any number of rows."""
    assert version.form is not None
    timings = tuple(Timing(rows, 1e-6, 1e-3) for rows in (1, 1024))
    return msgspec.structs.replace(
        version, form=msgspec.structs.replace(version.form, timings=timings)
    )


def assert_same(found: Any, wanted: Any) -> None:
    if wanted.scores is not None:
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-5, atol=1e-5)
        assert found.answers == found.scores.tolist()
    elif isinstance(wanted.answers[0], dict):
        assert [list(one) for one in found.answers] == [list(one) for one in wanted.answers]
        values = [[list(one.values()) for one in both.answers] for both in (found, wanted)]
        np.testing.assert_allclose(*values, atol=1e-5)
    else:
        assert found.answers == wanted.answers


# Refused


def test_labels_are_the_same_too(workspace: Workspace) -> None:
    from sklearn.svm import LinearSVC

    frame = table()
    model = LinearSVC(dual=False).fit(frame, three(frame))
    version = register(workspace, model, frame, three(frame))
    assert version.form is not None
    assert version.form.equal, version.form.why
    rows = served(table(seed=1), version.signature.names)
    found = load_forms(workspace, only_form(version))
    assert_same(found.predict(rows), load_predictor(workspace, version).predict(rows))


def test_a_form_that_rounds_its_inputs_too_far_is_refused(workspace: Workspace) -> None:
    """The operator for support vectors takes float32, too coarse for seconds since 1970."""
    from sklearn.svm import SVR

    frame = pd.DataFrame({"at": 1.7e9 + np.arange(ROWS) / 4})
    wanted = np.sin(np.arange(ROWS) / 40)
    version = register(workspace, SVR(gamma=0.01).fit(frame, wanted), frame, wanted)
    assert version.form is not None
    assert not version.form.equal
    assert version.form.differ > 0
    assert version.form.largest > version.form.tolerance
    assert f"{version.form.differ:,} of {version.form.rows:,} rows differ" in version.form.why
    assert version.form_artifact is None
    found = load_forms(workspace, version)
    assert [(use.form, use.why) for use in found.forms] == [("plain", version.form.why)]
    np.testing.assert_array_equal(found.predict(served(frame, ("at",))).scores.shape, (ROWS,))


def test_a_model_of_ones_own_has_no_other_form(workspace: Workspace) -> None:
    model, data, _ = own_class_on_polars()
    version = register_version(workspace, "m", model, data=data, target="late", now=NOW)
    assert describe_form(version.form) == (
        "no ONNX form: OwnModel is no model of a library that is converted"
    )
    assert load_forms(workspace, version).forms[0].form == "plain"


def test_a_subclass_that_answers_otherwise_is_not_taken_for_its_parent(
    workspace: Workspace,
) -> None:
    from sklearn.linear_model import LogisticRegression

    class Doubter(LogisticRegression):
        def predict_proba(self, X: Any) -> Any:
            return np.full((len(X), 2), 0.5)

    frame = table()
    version = register(workspace, Doubter().fit(frame, two(frame)), frame, two(frame))
    assert version.form is not None
    assert not version.form.equal


def test_without_the_extra_the_model_itself_answers(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = table()
    model = linear("LogisticRegression").fit(frame, two(frame))
    made = register(workspace, model, frame, two(frame))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = load_forms(workspace, made)
    assert found.forms[0].form == "plain"
    assert "can't be loaded here" in found.forms[0].why
    model = linear("LogisticRegression", C=0.5).fit(frame, two(frame))
    version = register(workspace, model, frame, two(frame))
    assert version.number == 2
    assert version.form is not None
    assert "pip install 'upturn[onnx]'" in version.form.why


# What the model raises on


def test_numbers_that_the_model_raises_on_are_refused_by_its_form(workspace: Workspace) -> None:
    frame = table()
    for model, limit in (
        (ensemble("RandomForestClassifier", n_estimators=3), float(np.finfo(np.float32).max)),
        (linear("LogisticRegression"), 1.7e308),
    ):
        version = register(workspace, model.fit(frame, two(frame)), frame, two(frame))
        assert version.form is not None
        assert version.form.limit == limit
        found = load_forms(workspace, only_form(version))
        assert found.predict_matrix is not None
        row = np.zeros((2, 5))
        row[1, 2] = np.inf
        with pytest.raises(ModelFailed, match="The model takes no numbers beyond"):
            found.predict_matrix(row)
        with pytest.raises(ModelFailed):
            load_predictor(workspace, version).predict(served(frame.assign(c=np.inf), tuple(frame)))
        row[1, 2] = -limit if limit < 1e300 else 1e200
        assert len(found.predict_matrix(row).answers) == 2
    lenient = register(
        workspace, lightgbm("LGBMClassifier").fit(frame, two(frame)), frame, two(frame)
    )
    assert lenient.form is not None
    assert lenient.form.limit is None


def test_text_that_the_model_raises_on_is_refused_by_its_form(workspace: Workspace) -> None:
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = flights()[["carrier", "hour", "late"]]
    columns = make_column_transformer((OneHotEncoder(), ["carrier"]), remainder="passthrough")
    model = make_pipeline(columns, linear("LogisticRegression", max_iter=500))
    inputs = frame.drop(columns="late")
    version = register(workspace, model.fit(inputs, frame["late"]), inputs, frame["late"])
    assert version.form is not None
    assert version.form.equal, version.form.why
    assert version.form.known_text
    found = load_forms(workspace, only_form(version))
    rows = served(inputs, ("carrier", "hour"))
    assert_same(found.predict(rows), load_predictor(workspace, version).predict(rows))
    with pytest.raises(ModelFailed, match="has seen no carrier 'ZZ'"):
        found.predict(served(inputs.assign(carrier="ZZ"), ("carrier", "hour")))


# Chosen


def test_the_faster_form_is_chosen_by_the_number_of_rows() -> None:
    assert crossover(figures(form=[7, 70, 700], plain=[200, 210, 230])) == 128
    assert crossover(figures(form=[7, 70, 700], plain=[200, 210, 800])) is None
    assert crossover(figures(form=[70, 70, 70], plain=[7, 7, 7])) == 0
    # 1.3 times faster is worth choosing, but not a second model in memory.
    near = figures(form=[7, 70, 1300], plain=[200, 210, 1000])
    assert crossover(near) is not None
    assert crossover(near, gain=1.5) is None
    assert crossover(()) is None


def figures(form: list[float], plain: list[float]) -> list[Timing]:
    pairs = zip((1, 64, 256), form, plain, strict=True)
    return [Timing(rows, a * 1e-6, b * 1e-6) for rows, a, b in pairs]


micros = st.floats(1.0, 1e6)


@given(
    form=st.lists(micros, min_size=3, max_size=3), plain=st.lists(micros, min_size=3, max_size=3)
)
def test_no_other_border_has_a_smaller_product_of_times(
    form: list[float], plain: list[float]
) -> None:
    limit = crossover(figures(form, plain))

    def cost(border: float) -> float:
        return float(
            np.sum(
                [
                    np.log(a if rows <= border else b)
                    for rows, a, b in zip((1, 64, 256), form, plain, strict=True)
                ]
            )
        )

    best = cost(np.inf if limit is None else limit)
    assert all(best <= cost(border) + 1e-9 for border in (0, 8, 128, np.inf))


def test_a_model_that_is_faster_for_many_rows_is_loaded_and_timed_again(
    workspace: Workspace,
) -> None:
    frame = table()
    version = register(
        workspace, xgboost("XGBClassifier").fit(frame, two(frame)), frame, two(frame)
    )
    assert version.form is not None
    slow = tuple(Timing(rows, rows * 1e-5, 1e-4) for rows in (1, 16, 256, 1024))
    other = msgspec.structs.replace(version.form, timings=slow)
    found = load_forms(workspace, msgspec.structs.replace(version, form=other))
    assert found.forms[0].rows_from == 1
    assert found.forms[-1].rows_to is None
    for one, other_ in zip(found.forms, found.forms[1:], strict=False):
        assert one.rows_to is not None
        assert other_.rows_from == one.rows_to + 1
    rows = served(table(2000, seed=1), version.signature.names)
    plain = load_predictor(workspace, version)
    for count in (1, 30, 300, 2000):
        assert_same(found.predict(rows.slice(0, count)), plain.predict(rows.slice(0, count)))


# Recorded


def test_what_is_recorded_of_a_form(workspace: Workspace) -> None:
    frame = table()
    model = linear("LogisticRegression").fit(frame, two(frame))
    version = register(workspace, model, frame, two(frame))
    form = version.form
    assert form is not None
    assert [timing.rows for timing in form.timings] == [1, 4, 16, 64, 256, 1024]
    assert form.largest <= form.tolerance == 1e-5
    assert {"onnx", "onnxruntime"} <= set(form.libraries)
    assert describe_form(form).startswith(f"ONNX form: the same on {form.rows:,} rows within 1e-05")
    assert register(workspace, model, frame, two(frame)) == version
    assert workspace.meta.find(Version, "m", 1) == version


def test_gc_keeps_the_form_of_a_version(workspace: Workspace) -> None:
    frame = table()
    version = register(
        workspace, linear("LogisticRegression").fit(frame, two(frame)), frame, two(frame)
    )
    assert version.form_artifact is not None
    orphan = workspace.blobs.put([b"nothing refers to this"])
    for path in (workspace.settings.home / "blobs").rglob("*"):
        if path.is_file():
            os.utime(path, (0, 0))
    collect(workspace, plan_collection(workspace, older_than=timedelta(0)))
    assert not workspace.blobs.has(orphan)
    assert workspace.blobs.has(version.form_artifact)
    assert load_forms(workspace, version).forms[0].form == "onnx"


def test_a_version_of_before_there_were_forms_is_served_as_it_is(workspace: Workspace) -> None:
    frame = table()
    model = linear("LogisticRegression").fit(frame, two(frame))
    version = register(workspace, model, frame, two(frame))
    old = msgspec.structs.replace(version, form=None, form_artifact=None)
    found: Predictor = load_forms(workspace, old)
    assert describe_uses(found.forms) == "plain for any number of rows"
    assert describe_form(old.form) == ""
    assert msgspec.json.decode(msgspec.json.encode(version.form), type=Form) == version.form


def test_serving_a_form_imports_no_other_library(workspace: Workspace) -> None:
    import subprocess

    frame = table()
    version = register(
        workspace,
        ensemble(HIST + "Classifier", max_iter=4).fit(frame, two(frame)),
        frame,
        two(frame),
    )
    answers = (
        load_predictor(workspace, version).predict(served(frame.head(2), tuple(frame))).answers
    )
    only = msgspec.json.encode(only_form(version).form).decode()
    code = f"""
import sys, json, msgspec, numpy as np
from upturn.core.records import Form
from upturn.model.forms import load_forms
from upturn.model.registry import get_version
from upturn.stores.workspace import open_workspace
workspace = open_workspace()
version = get_version(workspace, "m:1")
form = msgspec.json.decode({only!r}, type=Form)
found = load_forms(workspace, msgspec.structs.replace(version, form=form))
matrix = np.array({frame.head(2).to_numpy(np.float64).tolist()!r})
print(json.dumps(found.predict_matrix(matrix).answers))
heavy = ("sklearn", "lightgbm", "xgboost", "pandas", "polars", "scipy", "onnx", "skl2onnx")
print([name for name in heavy if name in sys.modules])
workspace.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told, imported = done.stdout.splitlines()
    np.testing.assert_allclose(msgspec.json.decode(told), answers, rtol=1e-12)
    assert imported == "[]"
    assert done.stderr == ""


# Trees


doubles = st.floats(-3e38, 3e38)


@given(threshold=doubles, near=st.integers(-3, 3), x=doubles)
def test_float64_thresholds_part_values_as_float32_ones_do(
    threshold: float, near: int, x: float
) -> None:
    wide = np.array([threshold])
    narrow = wide.astype(np.float32)
    values = [x, float(as_float32_leq(wide)[0]), threshold, float(narrow[0])]
    for value in values:
        for _ in range(abs(near)):
            value = np.nextafter(value, np.copysign(np.inf, near))
        with np.errstate(over="ignore"):
            seen = np.float64(value).astype(np.float32)
        assert (value <= as_float32_leq(wide)[0]) == (seen <= np.float64(threshold))
        assert (value <= as_float32_less(narrow)[0]) == (seen < narrow[0])
