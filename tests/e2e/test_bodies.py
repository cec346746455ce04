"""Tables as bodies of predictions: CSV and Arrow, compressed or not, say what JSON says."""

import gzip
import io
import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from e2e.serving import GOOD, Project, Reply, Server, fitted, one, rows_table

PREDICT = "/v1/endpoints/delays/predict"
CSV, STREAM = "text/csv", "application/vnd.apache.arrow.stream"
FILE = "application/vnd.apache.arrow.file"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    from sklearn.linear_model import LogisticRegression

    project = Project(tmp_path_factory.mktemp("bodies") / "project")
    project.register("delays", fitted())
    project.endpoint("delays", unit="tail")
    project.route("delays", one(1))
    data = rows_table()[["delay", "distance", "night", "late"]]
    numbers = LogisticRegression(max_iter=1000).fit(data.drop(columns="late"), data.late)
    project.register("numbers", numbers, data)
    project.endpoint("numbers")
    project.route("numbers", one(1))
    with project.server() as server:
        yield server
    project.workspace.close()


def table(count: int = 300) -> pd.DataFrame:
    return rows_table(count, seed=5).drop(columns="late")


def ask(server: Server, body: bytes, kind: str, name: str = "delays", **headers: str) -> Reply:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return server.ask(
        "POST", f"/v1/endpoints/{name}/predict", body, {"content-type": kind, **named}
    )


def arrow(frame: pd.DataFrame | pa.Table, kind: str = STREAM) -> bytes:
    found = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame)
    sink = io.BytesIO()
    make = pa.ipc.new_stream if kind == STREAM else pa.ipc.new_file
    with make(sink, found.schema) as writer:
        writer.write_table(found)
    return sink.getvalue()


def said(reply: Reply) -> list[Any]:
    assert reply.status == 200, reply.raw
    return [row["prediction"] for row in reply.body["predictions"]]


@pytest.mark.parametrize("name", ["delays", "numbers"])
def test_every_kind_of_body_gets_the_same_answers(server: Server, name: str) -> None:
    frame = table() if name == "delays" else table().drop(columns="carrier")
    rows = json.loads(frame.to_json(orient="records"))
    expected = said(server.predict(name, {"rows": rows}))
    csv = frame.to_csv(index=False).encode()
    assert said(ask(server, csv, CSV, name)) == expected
    assert said(ask(server, arrow(frame), STREAM, name)) == expected
    assert said(ask(server, arrow(frame, FILE), FILE, name)) == expected
    shuffled = frame[frame.columns[::-1]]
    assert said(ask(server, arrow(shuffled), STREAM, name)) == expected
    packed = gzip.compress(csv)
    assert said(ask(server, packed, CSV, name, content_encoding="gzip")) == expected


def test_an_answer_may_be_arrow_too(server: Server) -> None:
    frame = table()
    reply = ask(server, arrow(frame), STREAM, accept=STREAM)
    assert reply.headers["content-type"] == STREAM
    answer = pa.ipc.open_stream(reply.raw).read_all()
    assert answer.column_names == ["id", "prediction", "version", "arm"]
    assert answer["prediction"].to_pylist() == said(ask(server, arrow(frame), STREAM))
    assert answer.schema.metadata == {b"endpoint": b"delays", b"route": b"1"}


def test_a_large_answer_is_compressed_for_who_asks(server: Server) -> None:
    frame = table()
    reply = ask(server, arrow(frame), STREAM, accept_encoding="gzip, br")
    assert reply.headers["content-encoding"] == "gzip"
    rows = json.loads(gzip.decompress(reply.raw))["predictions"]
    assert [row["prediction"] for row in rows] == said(ask(server, arrow(frame), STREAM))
    small = server.predict("delays", {"row": GOOD}, accept_encoding="gzip")
    assert "content-encoding" not in small.headers


def csv(**changes: Any) -> bytes:
    frame = table(3).astype(object)
    for name, value in changes.items():
        frame.loc[1, name] = value
    return frame.to_csv(index=False).encode()


@pytest.mark.parametrize(
    ("body", "kind", "status", "text"),
    [
        (csv(delay="soon"), CSV, 422, "Row 1, field 'delay'"),
        (csv(distance=3.5), CSV, 422, "Row 1, field 'distance'"),
        (csv(night="maybe"), CSV, 422, "Row 1, field 'night'"),
        (csv(delay=None), CSV, 422, "Row 1, field 'delay'"),
        (csv(more=1), CSV, 422, "column 'more' that is no input"),
        (
            table(3).drop(columns="delay").to_csv(index=False).encode(),
            CSV,
            422,
            "'delay' is missing",
        ),
        (table(0).to_csv(index=False).encode(), CSV, 422, "no rows"),
        (table(10_001).to_csv(index=False).encode(), CSV, 422, "10001 rows"),
        (b"", CSV, 400, "no CSV"),
        (b"a,b\n1\n", CSV, 400, "no CSV"),
        (b"\xff\xfe\x00", CSV, 400, "no CSV"),
        (arrow(table(3).drop(columns="delay")), STREAM, 422, "'delay' is missing"),
        (arrow(table(3).assign(delay="x")), STREAM, 422, "column 'delay' is"),
        (arrow(table(3).assign(delay=[1.0, None, 2.0])), STREAM, 422, "Row 1, field 'delay'"),
        (arrow(table(3))[:-40], STREAM, 400, "no Arrow"),
        (b"nothing of the kind", STREAM, 400, "no Arrow"),
        (b"", FILE, 400, "no Arrow"),
    ],
)
def test_a_bad_table_is_the_clients_problem(
    server: Server, body: bytes, kind: str, status: int, text: str
) -> None:
    reply = ask(server, body, kind)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    assert text in reply.body["detail"]
    assert server.predict("delays", {"row": GOOD}).status == 200


def test_a_rejected_value_is_said_with_the_version_that_wants_another(server: Server) -> None:
    problem = server.predict("delays", {"row": {**GOOD, "distance": "three"}}).body
    assert problem["version"] == "delays:1"
    assert problem["errors"] == [
        {"row": 0, "field": "distance", "value": "three", "expected": "a whole number"}
    ]


def test_a_bomb_is_not_unpacked(server: Server) -> None:
    bomb = gzip.compress(b"delay\n" + b"1\n" * 10_000_000)
    assert ask(server, bomb, CSV, content_encoding="gzip").status == 413
