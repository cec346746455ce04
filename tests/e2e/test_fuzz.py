"""Fuzz: requests as the live description allows them, and what accident or spite makes of them.

None gets a 500, every error has its protocol's form, and the next good request is answered.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2e.serving import GOOD, Project, Reply, Server, fitted, one, rows_table
from upturn.core.records import Arm

NAMES = ("delays", "numbers")
PREDICT, FEEDBACK, INFER = (
    "/v1/endpoints/{}/predict",
    "/v1/endpoints/{}/feedback",
    "/v2/models/{}/infer",
)
JSON = "application/json"
STREAM = "application/vnd.apache.arrow.stream"
FILE = "application/vnd.apache.arrow.file"
few = settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    from sklearn.linear_model import LogisticRegression

    project = Project(tmp_path_factory.mktemp("fuzz") / "project")
    project.register("delays", fitted())
    data = rows_table().drop(columns="carrier")
    project.register(
        "numbers", LogisticRegression().fit(data.drop(columns="late"), data.late), data
    )
    for name in NAMES:
        project.endpoint(name, unit="tail")
        project.route(name, one(1), Arm(name="shadow", version=1, shadow=True))
    yield project
    project.workspace.close()


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Server]:
    with project.server() as server:
        for name in NAMES:
            server.wait_route(name, 1)
        yield server


@pytest.fixture(scope="module")
def description(server: Server) -> dict[str, Any]:
    return Description(server.get("/openapi.json").body)


class Description(dict[str, Any]):
    """Not shown whole with each failure."""

    def __repr__(self) -> str:
        return "the description"


def good(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if name == "delays" or key != "carrier"}


def check(server: Server, path: str, reply: Reply) -> Reply:
    """The answer is one, or a client's error in the protocol's form; and the server goes on."""
    assert reply.status < 500, reply
    if reply.status >= 400:
        if path.startswith("/v2/"):
            assert set(reply.body) == {"error"}
            assert reply.body["error"]
        else:
            assert reply.headers["content-type"] == "application/problem+json"
            assert reply.body["status"] == reply.status
            assert reply.body["detail"]
    assert server.predict("delays", {"row": good("delays")}).status == 200
    return reply


# What the description allows

SIMPLE: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "number": st.floats(-1e300, 1e300),  # a model takes no more, which the last test is about
}
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
ANYTHING = st.recursive(
    st.one_of(*SIMPLE.values(), TEXT, st.integers()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def allowed(schema: dict[str, Any], whole: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema of the description allows."""
    if "$ref" in schema:
        return allowed(whole["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], whole)
    if "anyOf" in schema:
        return st.one_of([allowed(one, whole) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return st.one_of([allowed({**schema, "type": one}, whole) for one in kind])
    return ANYTHING if kind is None else of_kind(kind, schema, whole)


def of_kind(kind: str, schema: dict[str, Any], whole: dict[str, Any]) -> st.SearchStrategy[Any]:
    if kind == "object":
        return objects(schema, whole)
    if kind == "array":
        return st.lists(
            allowed(schema["items"], whole), min_size=schema.get("minItems", 0), max_size=3
        )
    if kind == "string":
        return texts(schema)
    if kind == "integer" and "minimum" in schema:
        return st.integers(schema["minimum"], 2**40)
    return SIMPLE[kind]


def texts(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    if "pattern" in schema:
        return st.from_regex(schema["pattern"].replace("$", r"\Z"))
    if schema.get("format") == "date-time":
        return st.datetimes().map(lambda at: at.isoformat() + "Z")
    return TEXT


def objects(schema: dict[str, Any], whole: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    made = {name: allowed(each, whole) for name, each in schema.get("properties", {}).items()}
    choices = schema.get("oneOf", [{"required": []}])
    exclusive = {name for choice in choices for name in choice["required"]}
    found: list[st.SearchStrategy[dict[str, Any]]] = []
    for choice in choices:
        required = {*schema.get("required", ()), *choice["required"]}
        optional = made.keys() - required - exclusive
        found.append(
            st.fixed_dictionaries(
                {name: made[name] for name in sorted(required)},
                optional={name: made[name] for name in sorted(optional)},
            )
        )
    return st.one_of(found)


def body_schema(description: dict[str, Any], path: str) -> dict[str, Any]:
    return description["paths"][path]["post"]["requestBody"]["content"][JSON]["schema"]


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@few
def test_rows_that_the_description_allows_are_predicted(
    server: Server, description: dict[str, Any], name: str, data: st.DataObject
) -> None:
    path = PREDICT.format(name)
    body = data.draw(allowed(body_schema(description, path), description))
    rows = body.get("rows") or [body["row"]]
    fits = (
        ("id" not in body or ("ids" not in body and len(rows) == 1))
        and ("ids" not in body or len(body["ids"]) == len(set(body["ids"])) == len(rows))
        and (not isinstance(body.get("at"), list) or len(body["at"]) == len(rows))
    )
    reply = check(server, path, server.post(path, body))
    assert reply.status == (200 if fits else 422), reply
    if fits:
        assert len(reply.body["predictions"]) == len(rows)


@given(data=st.data())
@few
def test_feedback_that_the_description_allows_is_taken(
    server: Server, description: dict[str, Any], data: st.DataObject
) -> None:
    path = FEEDBACK.format("delays")
    body = data.draw(allowed(body_schema(description, path), description))
    assert check(server, path, server.post(path, body)).status in (202, 422), body


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@few
def test_what_the_description_of_infer_allows_is_answered_or_refused(
    server: Server, description: dict[str, Any], name: str, data: st.DataObject
) -> None:
    path = INFER.format(name)
    body = data.draw(allowed(body_schema(description, path), description))
    check(server, path, server.post(path, body))


# What nobody allows


def infer_body(name: str) -> dict[str, Any]:
    kinds = {float: "FP64", int: "INT64", bool: "BOOL", str: "BYTES"}
    inputs = [
        {"name": key, "datatype": kinds[type(value)], "shape": [1], "data": [value]}
        for key, value in good(name).items()
    ]
    return {"id": "a", "inputs": inputs, "outputs": [{"name": "prediction"}]}


GOODS: dict[str, Callable[[str], dict[str, Any]]] = {
    PREDICT: lambda name: {"rows": [good(name), good(name)], "at": "2013-04-01T06:00:00Z"},
    FEEDBACK: lambda _: {
        "feedback": [{"id": "order-1", "label": True, "known_at": "2013-04-01T06:00:00Z"}]
    },
    INFER: infer_body,
}
# As they stand in a document: some of them are no JSON at all.
ODD = st.sampled_from(
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-0",
        "-0.0",
        "1e-400",
        "9" * 400,
        "0.1" + "1" * 400,
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "1E5",
        "01",
        "+1",
        '"\\ud800"',
        '"\\udfff\\ud800"',
        '"\\u0000"',
        '"\x00"',
        '"\U0010ffff"',
        '"' + "x" * 3000 + '"',
        "[" * 1200 + "]" * 1200,
        '{"a":' * 1200 + "1" + "}" * 1200,
        "[]",
        "{}",
        "null",
        '""',
        "undefined",
        '{"__proto__": 1}',
        '"9999-12-31T23:59:59.999999Z"',
        '"0001-01-01T00:00:00+23:59"',
        '"2013-04-01"',
        '{"delay": 1, "delay": 2}',
        "[[[]]]",
        "true",
        "'a'",
        "/**/1",
    ]
)


@st.composite
def twisted(draw: st.DrawFn, document: dict[str, Any]) -> bytes:
    """The document with one of its values, or of its names, replaced by something odd."""
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        found = cast("Any", value.items() if isinstance(value, dict) else enumerate(value))
        for key, inner in found:
            places.append((value, key))
            if isinstance(inner, dict | list):
                walk(inner)

    walk(document)
    holder, key = draw(st.sampled_from(places))
    odd = draw(ODD | ANYTHING.map(json.dumps))
    if isinstance(holder, dict) and draw(st.booleans()):
        inner = cast("dict[str, Any]", holder)
        kept = inner[key]
        if draw(st.booleans()):  # twice the same name
            inner["@twice@"] = kept
            return text_of(document).replace(b"@twice@", key.encode()).replace(b"@", b"")
        inner[draw(TEXT)] = inner.pop(key)
        return text_of(document)
    holder[key] = "@here@"
    return text_of(document).replace(b'"@here@"', odd.encode("utf-8", "surrogatepass"))


def text_of(document: Any) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")


def mangled(body: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with some of them changed, left out or repeated."""
    place = st.integers(0, len(body) - 1)
    byte = st.integers(0, 255)
    return st.one_of(
        place.map(lambda at: body[:at]),
        st.tuples(place, place).map(lambda pair: body[: pair[0]] + body[pair[1] :]),
        st.lists(st.tuples(place, byte), min_size=1, max_size=6).map(lambda some: set_(body, some)),
        st.tuples(place, st.integers(0, 2**64 - 1)).map(
            lambda pair: body[: pair[0]] + pair[1].to_bytes(8, "little") + body[pair[0] + 8 :]
        ),
    )


def set_(body: bytes, changes: list[tuple[int, int]]) -> bytes:
    found = bytearray(body)
    for at, value in changes:
        found[at] = value
    return bytes(found)


@pytest.mark.parametrize("form", list(GOODS))
@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@few
def test_documents_with_something_odd_in_them(
    server: Server, name: str, form: str, data: st.DataObject
) -> None:
    document = GOODS[form](name)
    body = data.draw(twisted(document) | mangled(text_of(document)))
    check(server, form.format(name), server.post(form.format(name), body))


def arrow(kind: str) -> bytes:
    """Rows in Arrow; the text is a dictionary's."""
    table = pa.Table.from_pandas(rows_table(5).drop(columns="late"), preserve_index=False)
    sink = pa.BufferOutputStream()
    new = pa.ipc.new_stream if kind == STREAM else pa.ipc.new_file
    with new(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


CSV_BODY = rows_table(5).drop(columns="late").to_csv(index=False).encode()


@pytest.mark.parametrize("kind", [STREAM, FILE, "text/csv"])
@given(data=st.data())
@few
def test_tables_that_are_mangled(server: Server, kind: str, data: st.DataObject) -> None:
    body = data.draw(mangled(CSV_BODY if kind == "text/csv" else arrow(kind)))
    path = PREDICT.format("delays")
    check(server, path, server.ask("POST", path, body, {"content-type": kind}))


def binary_infer() -> tuple[bytes, int]:
    document = infer_body("numbers")
    data = b""
    for one_, value in zip(document["inputs"], (8, 8, 1), strict=True):
        del one_["data"]
        one_["parameters"] = {"binary_data_size": value}
        data += bytes(value)
    head = text_of(document)
    return head + data, len(head)


@given(data=st.data())
@few
def test_binary_tensors_that_are_mangled(server: Server, data: st.DataObject) -> None:
    body, length = binary_infer()
    path = INFER.format("numbers")
    said = data.draw(
        st.just(str(length)) | st.integers().map(str) | st.text("-+ 0123x", max_size=9)
    )
    sent = data.draw(st.just(body) | mangled(body))
    headers = {"Inference-Header-Content-Length": said, "Content-Type": "application/octet-stream"}
    check(server, path, server.ask("POST", path, sent, headers))


@given(
    names=st.dictionaries(
        st.sampled_from(
            [
                "X-Upturn-Arm",
                "X-Request-Id",
                "X-Deadline-Ms",
                "Content-Type",
                "Content-Encoding",
                "Accept",
                "Accept-Encoding",
                "Inference-Header-Content-Length",
                "Traceparent",
            ]
        ),
        st.binary(max_size=60).map(lambda raw: raw.translate(None, b"\r\n\0"))
        | st.sampled_from(
            [b"gzip", b"deflate", b"1e999", b"-1", b"nan", b"application/json; a=\xff"]
        ),
        max_size=4,
    ),
    path=st.sampled_from([PREDICT, FEEDBACK, INFER]),
)
@few
def test_headers_with_anything_in_them(server: Server, names: dict[str, bytes], path: str) -> None:
    headers = {
        "Content-Type": JSON,
        **{name: value.decode("latin-1") for name, value in names.items()},
    }
    where = path.format("delays")
    reply = server.ask("POST", where, text_of(GOODS[path]("delays")), headers)
    if reply.headers.get("connection") == "close":
        server.hang_up()
    if reply.status == 503:  # a deadline of nearly nothing can't be kept
        assert "X-Deadline-Ms" in names
        return
    if reply.status < 400 or reply.headers["content-type"] == "application/problem+json":
        where = PREDICT  # the connection itself has refused it, in the form of all
    check(server, where, reply)


@pytest.mark.parametrize("rows", [1, 3000])
def test_a_number_that_the_model_raises_on_is_the_clients_problem(
    server: Server, rows: int
) -> None:
    """However many come with it: the plain model answers where they are more, or its other form."""
    path = PREDICT.format("delays")
    sent = [{**GOOD, "delay": -1.75e308}] * rows
    reply = check(server, path, server.post(path, {"rows": sent}))
    assert (reply.status, reply.body["detail"]) == (
        422,
        "The model takes no numbers beyond 1.7e+308.",
    )
