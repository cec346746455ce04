"""Models of every kind, registered and loaded as users do: their own, ONNX, PyTorch, and what they
answer: several values, labels, nonsense."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from lightgbm import LGBMClassifier
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import upturn as up
from upturn.core.errors import Invalid, ModelFailed
from upturn.core.ids import artifact_path, version_path
from upturn.core.keeping import reachable, references
from upturn.core.schema import Output
from upturn.deploy.serve.openapi import prediction_schema
from upturn.model.adapters import load_predictor
from upturn.model.forms import load_forms
from upturn.stores.workspace import Workspace, open_workspace

DRAW = np.random.default_rng(5)
TABLE = pd.DataFrame({"a": DRAW.normal(size=200), "b": DRAW.normal(size=200)})
INPUTS = TABLE.assign()
TABLE["late"] = TABLE.a + TABLE.b + DRAW.normal(size=200) > 0
TABLE["cost"] = 2 * TABLE.a
TABLE["time"] = TABLE.a - TABLE.b
SOME = np.array([[1.0, 2.0], [-3.0, 0.5], [0.0, 0.0]])


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    workspace = open_workspace()
    yield workspace
    workspace.close()


def both(workspace: Workspace, version: up.Version, rows: np.ndarray = SOME) -> list[Any]:
    """What the loaded model answers, the same by way of a table and of a matrix."""
    predictor = load_predictor(workspace, version)
    assert predictor.predict_matrix is not None
    found = predictor.predict_matrix(rows).answers
    table = pa.table(dict(zip(version.signature.names, rows.T, strict=True)))
    assert predictor.predict(table).answers == found
    return found


# Models of one's own


class Weighted(up.Model):
    def load(self, files: Any) -> None:
        self.weights = np.load(files["weights"])
        self.words = (files["words"] / "all" / "en.txt").read_text().split()

    def pre(self, rows: Any) -> Any:
        return rows.to_numpy()

    def predict(self, rows: Any) -> Any:
        return rows @ self.weights

    def post(self, answers: Any) -> Any:
        return [self.words[int(answer > 0)] for answer in answers]


def files(folder: Path) -> dict[str, Path]:
    (folder / "words" / "all").mkdir(parents=True)
    (folder / "words" / "all" / "en.txt").write_text("down up")
    (folder / "words" / "empty").write_bytes(b"")
    np.save(folder / "w.npy", np.array([1.0, -1.0]))
    return {"weights": folder / "w.npy", "words": folder / "words"}


def test_a_model_of_ones_own_is_loaded_with_its_files_wherever_they_were(
    workspace: Workspace, tmp_path: Path
) -> None:
    given = files(tmp_path / "here")
    version = up.register("own", Weighted(), data=INPUTS, files=given)
    for path in given.values():
        path.rename(path.with_name("elsewhere-" + path.name))
    assert version.signature.output == "label"
    assert both(workspace, version) == ["down", "down", "down"]
    assert both(workspace, version, np.array([[2.0, 1.0]])) == ["up"]


def test_files_are_kept_with_the_version_and_other_files_make_another(
    workspace: Workspace, tmp_path: Path
) -> None:
    given = files(tmp_path / "one")
    first = up.register("own", Weighted(), data=INPUTS, files=given)
    assert up.register("own", Weighted(), data=INPUTS, files=given).number == first.number
    np.save(given["weights"], np.array([5.0, 1.0]))
    second = up.register("own", Weighted(), data=INPUTS, files=given)
    assert second.number == first.number + 1
    assert both(workspace, first, np.array([[1.0, 3.0]])) == ["down"]
    assert both(workspace, second, np.array([[1.0, 3.0]])) == ["up"]
    kept = reachable([version_path("own", 1)], references([first]))
    assert {artifact_path(one.digest) for one in first.files} <= kept
    assert len(first.files) == 3


def test_what_load_sets_is_not_stored(workspace: Workspace, tmp_path: Path) -> None:
    model = Weighted()
    up.register("own", model, data=INPUTS, files=files(tmp_path / "x"))
    assert vars(model) == {}


def test_a_model_that_cant_be_loaded_or_lacks_a_file_is_not_registered(
    workspace: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(ModelFailed, match=r"Weighted\.load raised KeyError: 'weights'"):
        up.register("own", Weighted(), data=INPUTS)
    with pytest.raises(Invalid, match="'weights' is not there"):
        up.register("own", Weighted(), data=INPUTS, files={"weights": tmp_path / "none"})
    with pytest.raises(Invalid, match="can't be the name of a file"):
        up.register("own", Weighted(), data=INPUTS, files={"../w": tmp_path})
    with pytest.raises(Invalid, match="function is not loaded with files"):
        up.register("own", lambda rows: rows, data=INPUTS, files=files(tmp_path / "y"))
    assert workspace.meta.find(up.Version, "own") is None


def test_a_model_of_a_script_answers_in_another_process(
    workspace: Workspace, tmp_path: Path
) -> None:
    script = tmp_path / "notebook.py"
    script.write_text(
        "import numpy as np, pandas as pd, upturn as up\n"
        "from pathlib import Path\n"
        "class Scaled(up.Model):\n"
        "    def load(self, files):\n"
        "        self.by = float(files['by'].read_text())\n"
        "    def predict(self, rows):\n"
        "        return rows['a'].to_numpy() * self.by\n"
        "Path('by.txt').write_text('4')\n"
        "data = pd.DataFrame({'a': [1.0, 2.5]})\n"
        "up.register('scaled', Scaled(), data=data, files={'by': 'by.txt'})\n"
    )
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True)
    version = workspace.meta.get(up.Version, "scaled", 1)
    assert both(workspace, version, np.array([[1.5]])) == [6.0]


# ONNX


def fitted() -> Any:
    return LogisticRegression().fit(TABLE[["a", "b"]].to_numpy(), TABLE.late)


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("by_path", [True, False])
def test_a_classifier_in_onnx(
    workspace: Workspace, tmp_path: Path, zipmap: bool, by_path: bool
) -> None:
    model = fitted()
    given = to_onnx(model, SOME.astype(np.float32)[:1], options={id(model): {"zipmap": zipmap}})
    if by_path:
        (tmp_path / "m.onnx").write_bytes(given.SerializeToString())
        given = tmp_path / "m.onnx"
    version = up.register("o", given, data=TABLE[["a", "b", "late"]], target="late")
    assert (version.signature.output, version.signature.classes) == ("probability", (False, True))
    expected = model.predict_proba(SOME)[:, 1]
    np.testing.assert_allclose(both(workspace, version), expected, atol=1e-6)
    assert load_forms(workspace, version).predict_matrix is not None


def test_an_onnx_model_with_an_input_a_column(workspace: Workspace) -> None:
    table = TABLE[["a"]].assign(word=np.where(TABLE.b > 0, "yes", "no"))
    encode = make_column_transformer((OneHotEncoder(), ["word"]), remainder="passthrough")
    model = make_pipeline(encode, LinearRegression()).fit(table, TABLE.cost)
    types = [("a", FloatTensorType([None, 1])), ("word", StringTensorType([None, 1]))]
    given = to_onnx(model, initial_types=types)
    version = up.register("o", given, data=table.assign(cost=TABLE.cost), target="cost")
    assert version.signature.names == ("a", "word")
    found = load_predictor(workspace, version).predict(pa.Table.from_pandas(table)).answers
    np.testing.assert_allclose(found, model.predict(table), atol=1e-5)


def graph(nodes: list[Any], inputs: list[str], outputs: list[str]) -> Any:
    def of(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None])

    made = helper.make_graph(nodes, "g", [of(one) for one in inputs], [of(one) for one in outputs])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_an_onnx_model_of_several_outputs(workspace: Workspace) -> None:
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["gap"]),
    ]
    version = up.register("o", graph(nodes, ["b", "a"], ["sum", "gap"]), data=INPUTS)
    assert version.signature.outputs == (Output("sum", "float"), Output("gap", "float"))
    assert version.signature.names == ("b", "a")
    assert both(workspace, version, np.array([[1.0, 3.0]])) == [{"sum": 4.0, "gap": 2.0}]


def test_an_onnx_model_is_served_without_onnx(workspace: Workspace, tmp_path: Path) -> None:
    up.register("o", to_onnx(fitted(), SOME.astype(np.float32)[:1]), data=INPUTS)
    code = (
        "import sys; sys.modules['onnx'] = None; sys.modules['sklearn'] = None\n"
        "import numpy as np, upturn as up\n"
        "from upturn.model.forms import load_forms\n"
        "w = up.open_workspace(); v = w.meta.get(up.Version, 'o', 1)\n"
        "assert len(load_forms(w, v).predict_matrix(np.zeros((2, 2))).answers) == 2\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_no_onnx_model_is_said(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(Invalid, match="can't be opened by onnxruntime"):
        up.register("o", tmp_path / "bad.onnx", data=INPUTS)
    with pytest.raises(Invalid, match="can't be read: No such file"):
        up.register("o", tmp_path / "none.onnx", data=INPUTS)
    with pytest.raises(Invalid, match="can't be opened"):
        up.register("o", onnx.ModelProto(), data=INPUTS)


def test_onnxruntime_that_is_missing_is_said_with_the_way_to_it(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from pathlib import Path\n"
        "import upturn as up\n"
        "try:\n"
        "    up.register('o', Path('m.onnx'), data={'a': [1.0]})\n"
        "except up.UpturnError as error:\n"
        "    assert error.hint == \"pip install 'upturn[onnx]'\", error\n"
        "else:\n"
        "    raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


# Several answers a row


def test_a_regressor_of_several_targets_answers_them_by_name(workspace: Workspace) -> None:
    model = LinearRegression().fit(TABLE[["a", "b"]].to_numpy(), TABLE[["cost", "time"]])
    version = up.register(
        "several", model, data=TABLE.drop(columns="late"), target=["cost", "time"]
    )
    signature = version.signature
    assert signature.outputs == (Output("cost", "float"), Output("time", "float"))
    assert signature.names == ("a", "b")
    for answer, (a, b) in zip(both(workspace, version), SOME.tolist(), strict=True):
        assert answer == pytest.approx({"cost": 2 * a, "time": a - b}, abs=1e-9)
    assert list(prediction_schema(signature)["properties"]) == ["cost", "time"]


SEVERAL: dict[str, Callable[[Any], Any]] = {
    "dict": lambda rows: {"n": rows.a.to_numpy() > 0, "word": ["x"] * len(rows)},
    "pandas": lambda rows: pd.DataFrame({"n": rows.a > 0, "word": "x"}),
    "polars": lambda rows: pl.DataFrame({"n": rows.a.to_numpy() > 0, "word": ["x"] * len(rows)}),
    "arrow": lambda rows: pa.table({"n": rows.a.to_numpy() > 0, "word": ["x"] * len(rows)}),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_columns_of_any_kind_are_an_object_a_row(workspace: Workspace, kind: str) -> None:
    version = up.register("several", SEVERAL[kind], data=INPUTS)
    assert version.signature.outputs == (Output("n", "bool"), Output("word", "str"))
    found = both(workspace, version, np.array([[1.0, 0.0], [-1.0, 0.0]]))
    assert found == [{"n": True, "word": "x"}, {"n": False, "word": "x"}]


# Labels and probabilities


@pytest.mark.parametrize("make", [LogisticRegression, LGBMClassifier])
def test_a_classifier_answers_as_it_is_wished(workspace: Workspace, make: Any) -> None:
    more = {"verbose": -1, "n_jobs": 1} if make is LGBMClassifier else {}
    model = make(**more).fit(TABLE[["a", "b"]].to_numpy(), TABLE.late)
    data = TABLE[["a", "b", "late"]]
    label = up.register("c", model, data=data, target="late", answer="label")
    each = up.register("c", model, data=data, target="late", answer="probabilities")
    assert (label.signature.output, each.signature.output) == ("label", "scores")
    assert both(workspace, label) == model.predict(SOME).tolist()
    found = both(workspace, each)
    shares = model.predict_proba(SOME)
    for answer, share in zip(found, shares.tolist(), strict=True):
        assert answer == pytest.approx({"false": share[0], "true": share[1]}, abs=1e-9)


def test_a_booster_answers_with_the_likelier_class(workspace: Workspace) -> None:
    model = LGBMClassifier(verbose=-1, n_jobs=1).fit(TABLE[["a", "b"]].to_numpy(), TABLE.late)
    data = TABLE[["a", "b", "late"]]
    version = up.register("c", model.booster_, data=data, target="late", answer="label")
    assert both(workspace, version) == (model.predict_proba(SOME)[:, 1] > 0.5).tolist()


def test_models_without_classes_have_no_labels(workspace: Workspace) -> None:
    model = LinearRegression().fit(TABLE[["a", "b"]], TABLE.cost)
    data = TABLE[["a", "b", "cost"]]
    with pytest.raises(Invalid, match="can't answer with a label: it answers numbers"):
        up.register("r", model, data=data, target="cost", answer="label")
    with pytest.raises(Invalid, match="'odds' is no answer"):
        up.register("r", model, data=data, target="cost", answer="odds")  # type: ignore[arg-type]


# Nonsense


class Moody:
    """A function that answers as it should until it is told something else."""

    def __init__(self, good: Any) -> None:
        self.good = good
        self.mood: Any = None

    def __call__(self, rows: Any) -> Any:
        if isinstance(self.mood, BaseException):
            raise self.mood
        if self.mood is not None:
            return self.mood
        return self.good(len(rows))


NONSENSE: dict[str, tuple[Callable[[int], Any], Any, str]] = {
    "raised": (np.zeros, KeyError("w"), "raised KeyError: 'w'"),
    "exit": (np.zeros, SystemExit("bye"), "raised SystemExit: bye"),
    "few": (np.zeros, np.zeros(1), "1 prediction for 2 rows"),
    "matrix": (np.zeros, np.zeros((2, 3)), r"shape \(2, 3\) for 2 rows"),
    "scalar": (np.zeros, 3.0, "for 2 rows"),
    "imaginary": (np.zeros, np.zeros(2, complex), "complex numbers"),
    "text": (np.zeros, ["a", "b"], "'a', where a number was expected"),
    "ragged": (np.zeros, [[1], [1, 2]], "rows of different lengths"),
    "object": (lambda n: [{"v": 1}] * n, [object(), 1], "JSON can't hold: a object"),
    "complex": (lambda n: [{"v": 1}] * n, [1j, 1], "JSON can't hold: a complex"),
    "one": (lambda n: [{"v": 1}] * n, {"v": 1}, "answered a dict"),
    "lacks": (lambda n: {"x": [1] * n}, {"y": [1, 2]}, "did not answer 'x'"),
    "uneven": (lambda n: {"x": [1] * n}, {"x": [1]}, "1 of 'x' for 2 rows"),
    "shape": (lambda n: {"x": [1] * n}, np.zeros((2, 2)), "1 values a row"),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_a_failure_of_the_model(kind: str) -> None:
    from upturn.model.adapters import predictor_for
    from upturn.model.signature import learn_signature

    good, mood, message = NONSENSE[kind]
    model = Moody(good)
    predictor = predictor_for(model, learn_signature(INPUTS, model))
    assert predictor.predict_matrix is not None
    assert len(predictor.predict_matrix(SOME).answers) == len(SOME)
    model.mood = mood
    with pytest.raises(ModelFailed, match=message):
        predictor.predict_matrix(SOME[:2])
    with pytest.raises(ModelFailed, match=message):
        predictor.predict(pa.table({"a": [0.0, 1.0], "b": [0.0, 1.0]}))


def test_values_of_numpy_inside_of_answers_are_plain(workspace: Workspace) -> None:
    version = up.register("n", _with_numpy, data=INPUTS)
    assert both(workspace, version, SOME[:1]) == [{"x": 1.5, "all": [0, 1], "of": {"1": True}}]


def _with_numpy(rows: Any) -> Any:
    one = {"x": np.float32(1.5), "all": np.arange(2), "of": {1: np.True_}}
    return [one] * len(rows)


def test_a_classifier_of_several_targets_answers_a_class_of_each(workspace: Workspace) -> None:
    from sklearn.ensemble import RandomForestClassifier

    data = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 2)), columns=["a", "b"])
    data["up"], data["right"] = (data.a > 0).astype(int), (data.b > 0).astype(int)
    targets = ["up", "right"]
    model = RandomForestClassifier(n_estimators=3).fit(data[["a", "b"]], data[targets])
    version = up.register("quadrant", model, data=data, target=targets)
    found = load_predictor(workspace, version).predict(pa.Table.from_pandas(data[:9])).answers
    wanted = model.predict(data[["a", "b"]][:9]).tolist()
    assert found == [dict(zip(targets, row, strict=True)) for row in wanted]
