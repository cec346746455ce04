"""The Open Inference Protocol, asked by Triton's own client and by nobody's."""

import gzip
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tritonclient.http as triton
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from e2e.serving import GOOD, Project, Server, fitted, one, wait_for
from upturn.core.records import Arm

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    project = Project(tmp_path_factory.mktemp("oip") / "project")
    random = np.random.default_rng(0)
    data = pd.DataFrame(random.normal(size=(300, 3)), columns=list(NAMES))
    data["late"] = data.a + data.b > 0
    for strength in (1.0, 0.01):
        model = LogisticRegression(C=strength).fit(data[list(NAMES)], data.late)
        project.register("numbers", model, data)
    project.endpoint("numbers", unit="who")
    project.route("numbers", one(1), Arm(name="shadow", version=2, shadow=True))
    project.register("delays", fitted())
    project.endpoint("delays")
    project.route("delays", one(1))
    kinds = pd.DataFrame({"x": random.normal(size=300)})
    kinds["late"] = np.where(kinds.x > 0.5, "high", np.where(kinds.x < -0.5, "low", "mid"))
    scores = DecisionTreeClassifier(max_depth=3).fit(kinds[["x"]], kinds.late)
    project.register("kinds", scores, kinds)
    project.endpoint("kinds")
    project.route("kinds", one(1))
    yield project
    project.workspace.close()


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Server]:
    with project.server() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        yield client


def matrix(rows: int = 4) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(rows, 3))


def tensor(name: str, values: np.ndarray, datatype: str, *, binary: bool = True) -> Any:
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def native(server: Server, name: str, rows: list[dict[str, Any]]) -> list[Any]:
    found = server.predict(name, {"rows": rows}).body["predictions"]
    return [row["prediction"] for row in found]


def as_rows(values: np.ndarray) -> list[dict[str, Any]]:
    return [dict(zip(NAMES, row, strict=True)) for row in values.tolist()]


def infer(server: Server, model: str, body: bytes, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.ask("POST", f"/v2/models/{model}/infer", body, named)


# What there is


def test_the_server_and_its_models_say_how_they_are(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("numbers")
    assert client.is_model_ready("numbers", "2")
    assert not client.is_model_ready("numbers", "3")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata()["name"] == "upturn"
    page = client.get_model_metadata("numbers")
    assert page["versions"] == ["1", "2"]
    assert [one["name"] for one in page["inputs"]] == list(NAMES)
    assert page["parameters"] == {"matrix_shape": "[-1, 3]"}
    assert [one["datatype"] for one in page["outputs"]] == ["FP64", "BYTES"]
    kinds = client.get_model_metadata("kinds", "1")["outputs"][0]
    classes = json.loads(kinds["parameters"]["classes"])
    assert (kinds["shape"], classes) == ([-1, 3], ["high", "low", "mid"])
    index = client.get_model_repository_index()
    assert {(one["name"], one["version"]) for one in index} >= {("numbers", "1"), ("delays", "1")}
    with pytest.raises(InferenceServerException, match="Did you mean 'numbers'"):
        client.get_model_metadata("numbrs")


# What is answered


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
def test_a_matrix_is_answered_as_rows_are(
    server: Server, client: triton.InferenceServerClient, binary: bool, datatype: str
) -> None:
    values = matrix().astype(np.float64 if datatype == "FP64" else np.float32)
    answer = client.infer("numbers", [tensor("input-0", values, datatype, binary=binary)])
    said = answer.as_numpy("prediction").tolist()
    assert said == pytest.approx(native(server, "numbers", as_rows(values)), abs=1e-12)
    assert len(set(answer.as_numpy("prediction_id").tolist())) == len(values)
    response = answer.get_response()
    assert (response["model_name"], response["model_version"]) == ("numbers", "1")
    assert response["parameters"] == {"arm": "champion", "route": 1}


def test_a_tensor_for_each_input_is_answered_as_rows_are(
    server: Server, client: triton.InferenceServerClient
) -> None:
    rows = [GOOD, {**GOOD, "delay": 30.5, "carrier": "UA", "night": False}]
    inputs = [
        tensor("carrier", np.array([[r["carrier"]] for r in rows], dtype=object), "BYTES"),
        tensor("delay", np.array([r["delay"] for r in rows], np.float32), "FP32"),
        tensor("distance", np.array([r["distance"] for r in rows], np.int32), "INT32"),
        tensor("night", np.array([r["night"] for r in rows]), "BOOL", binary=False),
    ]
    answer = client.infer("delays", inputs)
    said = answer.as_numpy("prediction").tolist()
    assert said == pytest.approx(native(server, "delays", rows), abs=1e-12)


def test_scores_of_classes_are_columns(client: triton.InferenceServerClient) -> None:
    answer = client.infer("kinds", [tensor("x", np.array([[2.0], [-2.0]]), "FP64")])
    scores = answer.as_numpy("prediction")
    assert scores.shape == (2, 3)
    assert scores.sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_bodies_may_come_compressed(
    server: Server, client: triton.InferenceServerClient, coding: str
) -> None:
    values = matrix(400)
    answer = client.infer(
        "numbers",
        [tensor("all", values, "FP64")],
        request_compression_algorithm=coding,
        response_compression_algorithm="gzip",
    )
    said = answer.as_numpy("prediction").tolist()
    assert said == pytest.approx(native(server, "numbers", as_rows(values)), abs=1e-12)


def test_outputs_are_those_that_are_named_as_they_are_wanted(server: Server) -> None:
    numbers = {"name": "m", "shape": [2, 3], "datatype": "FP64", "data": [[1, 2, 3], [4, 5, 6]]}
    body = {"id": "mine", "inputs": [numbers], "outputs": [{"name": "prediction"}]}
    reply = infer(server, "numbers", json.dumps(body).encode())
    assert (reply.status, reply.body["id"]) == (200, "mine")
    (output,) = reply.body["outputs"]
    assert (output["shape"], output["datatype"], len(output["data"])) == ([2], "FP64", 2)


def test_a_version_of_an_arm_answers_and_is_logged(
    project: Project, client: triton.InferenceServerClient
) -> None:
    who = tensor("who", np.array(["u7"], dtype=object), "BYTES")
    inputs = [tensor("m", matrix(1), "FP64"), who]
    answer = client.infer("numbers", inputs, model_version="2", request_id="seen-2")
    assert answer.get_response()["model_version"] == "2"

    def rows() -> list[dict[str, Any]]:
        found = project.log("numbers").to_pylist()
        return [row for row in found if row["request"] == "seen-2" and row["version"] == 2]

    wait_for(lambda: bool(rows()), "the row to be in the Log")
    assert (rows()[0]["unit"], rows()[0]["features.a"]) == ("u7", matrix(1)[0, 0])


# What is not


def wrong() -> Iterator[Any]:
    fine = matrix(2)
    yield pytest.param("numbers", [tensor("m", fine[:, :2], "FP64")], "shape", id="narrow")
    yield pytest.param("numbers", [tensor("m", fine.reshape(1, 2, 3), "FP64")], "missing", id="3-d")
    yield pytest.param("numbers", [tensor("a", fine[:, 0], "FP64")], "'b' is missing", id="one")
    texts = np.array([["x"] * 3] * 2, dtype=object)
    yield pytest.param("numbers", [tensor("m", texts, "BYTES")], "expected numbers", id="texts")
    for name, value in (("nan", np.nan), ("infinity", np.inf)):
        holes = fine.copy()
        holes[1, 1] = value
        sent = tensor("m", holes, "FP64")
        yield pytest.param("numbers", [sent], "Row 1, field 'b'", id=name)
    yield pytest.param("numbers", [tensor("m", fine[:0], "FP64")], "no rows", id="empty")
    yield pytest.param("kinds", [tensor("y", fine[:, :1], "FP64")] * 2, "same name", id="twice")
    numbers = [tensor(name, fine[:, 0], "FP64") for name in ("delay", "distance", "night")]
    yield pytest.param("delays", numbers, "'carrier' is missing", id="lacking")
    carrier = tensor("carrier", np.array(["AA", "AA"], dtype=object), "BYTES")
    yield pytest.param("delays", [*numbers, carrier], "'night' is FP64", id="a number for a bool")


@pytest.mark.parametrize(("model", "inputs", "said"), list(wrong()))
def test_what_does_not_fit_is_a_bad_request(
    client: triton.InferenceServerClient, model: str, inputs: list[Any], said: str
) -> None:
    with pytest.raises(InferenceServerException, match=said) as refused:
        client.infer(model, inputs)
    assert refused.value.status() == "400"


GOOD_TENSOR = {"name": "m", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}


def inputs_of(**changes: Any) -> bytes:
    return json.dumps({"inputs": [{**GOOD_TENSOR, **changes}]}).encode()


@pytest.mark.parametrize(
    ("model", "body", "status", "said"),
    [
        ("nobody", b"{}", 404, "No endpoint"),
        ("numbers/versions/9", b"{}", 404, "serves no version"),
        ("numbers", b"{", 400, "can't be read"),
        ("numbers", b"[" * 50_000, 400, ""),
        ("numbers", b"{}", 400, "inputs"),
        ("numbers", inputs_of(datatype="FP8"), 400, "FP8"),
        ("numbers", inputs_of(shape=[2, 3]), 400, "elements"),
        ("numbers", inputs_of(shape=[-1, 3]), 400, "shape"),
        ("numbers", inputs_of(data=[1, 2, "x"]), 400, "'x'"),
        (
            "numbers",
            json.dumps({"inputs": [GOOD_TENSOR], "outputs": [{"name": "predicton"}]}).encode(),
            400,
            "Did you mean 'prediction'",
        ),
    ],
)
def test_errors_have_the_protocols_form(
    server: Server, model: str, body: bytes, status: int, said: str
) -> None:
    reply = infer(server, model, body)
    assert (reply.status, list(reply.body)) == (status, ["error"])
    assert said in reply.body["error"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v2/models/numbers/config", {}, 404),
        ("GET", "/v2/nothing", {}, 404),
        ("GET", "/v2/models/nobody", {}, 404),
        ("GET", "/v2/models/numbers/versions/9/ready", {}, 404),
        ("GET", "/v2/repository/index", {}, 405),
        ("DELETE", "/v2/models/numbers", {}, 405),
        ("GET", "/v2", {"host": "example.org"}, 401),
        ("POST", "/v2/models/numbers/infer", {"host": "example.org"}, 401),
    ],
)
def test_every_address_of_the_protocol_has_its_form_of_errors(
    server: Server, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    reply = server.ask(method, path, b"{}" if method == "POST" else None, headers)
    assert (reply.status, list(reply.body)) == (status, ["error"])


def test_a_page_in_a_browser_needs_leave_to_ask(server: Server) -> None:
    """What a form of another page could send, and its browser would not ask us about before."""
    page = {"origin": "http://example.org"}
    for kind in ({"content_type": "text/plain"}, {}, {"content_type": "application/json"}):
        assert infer(server, "numbers", inputs_of(), **page, **kind).status == 403
    assert infer(server, "numbers", inputs_of(), content_type="text/plain").status == 200


def test_methods_and_compressed_bodies_that_are_none(server: Server) -> None:
    wrong_method = server.get("/v2/models/numbers/infer")
    assert (wrong_method.status, wrong_method.headers["allow"]) == (405, "POST")
    bomb = gzip.compress(b" " * 50_000_000)
    assert infer(server, "numbers", bomb, content_encoding="gzip").status == 413
    assert infer(server, "numbers", b"no", content_encoding="gzip").status == 400
    assert infer(server, "numbers", b"{}", content_encoding="br").status == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
ELEMENT = st.floats(allow_nan=False) | st.booleans() | st.text(max_size=3)
TENSOR = st.fixed_dictionaries(
    {
        "name": st.sampled_from([*NAMES, "m", "x", "carrier", ""]) | JSON,
        "shape": st.lists(st.integers(0, 4), max_size=3) | JSON,
        "datatype": st.sampled_from(["FP64", "INT8", "UINT64", "BOOL", "BYTES", "FP16"]) | JSON,
    },
    optional={
        "data": st.lists(ELEMENT, max_size=6) | JSON,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 40)}) | JSON,
    },
)
OUTPUT = st.fixed_dictionaries({"name": st.sampled_from(["prediction", "prediction_id", "x"])})
REQUEST = st.fixed_dictionaries(
    {"inputs": st.lists(TENSOR, max_size=4) | JSON},
    optional={
        "id": st.text(max_size=5) | JSON,
        "parameters": st.just({"binary_data_output": True}) | JSON,
        "outputs": st.lists(OUTPUT, max_size=2) | JSON,
    },
)
OVER_HTTP = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(
    request=REQUEST,
    tail=st.binary(max_size=60),
    length=st.none() | st.integers(-2, 200) | st.just("exact"),
    model=st.sampled_from(["numbers", "delays", "kinds"]),
)
@OVER_HTTP
def test_no_request_is_more_than_a_bad_one(
    server: Server, request: Any, tail: bytes, length: Any, model: str
) -> None:
    head = json.dumps(request).encode()
    headers: dict[str, str] = {}
    if length is not None:
        said = len(head) if length == "exact" else length
        headers["inference_header_content_length"] = str(said)
    reply = infer(server, model, head + tail, **headers)
    assert reply.status in (200, 400, 413)
    assert reply.status == 200 or list(reply.body) == ["error"]


@given(
    values=st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 3), min_size=1, max_size=8),
    datatype=st.sampled_from(["FP64", "FP32", "FP16", "INT64", "INT32", "INT8", "UINT8", "BOOL"]),
)
@OVER_HTTP
def test_every_type_of_number_is_taken_for_what_it_is(
    server: Server, client: triton.InferenceServerClient, values: Any, datatype: str
) -> None:
    sent = np.array(values).clip(0, 100).astype(triton_to_np_dtype(datatype))
    answer = client.infer("numbers", [tensor("m", sent, datatype)])
    wanted = native(server, "numbers", as_rows(sent.astype(np.float64)))
    assert answer.as_numpy("prediction").tolist() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(
    "tail", [struct.pack("<I", 9) + b"AA", b"\x01\x00", struct.pack("<I", 2) + b"\xff\xfe"]
)
def test_a_text_that_is_cut_off_is_a_bad_request(server: Server, tail: bytes) -> None:
    carrier = {
        "name": "carrier",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(tail)},
    }
    head = json.dumps({"inputs": [carrier]}).encode()
    length = str(len(head))
    reply = infer(server, "delays", head + tail, inference_header_content_length=length)
    assert (reply.status, "carrier" in reply.body["error"]) == (400, True)
