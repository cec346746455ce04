"""Tables that strangers send: read for what they are, refused for what they only claim to be."""

import datetime as dt
import io
import itertools
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upturn.core.errors import UpturnError
from upturn.core.schema import Field, Signature
from upturn.deploy.serve.bodies import table_rows
from upturn.deploy.serve.problems import TooLarge
from upturn.deploy.serve.request import ARROW_FILE, ARROW_STREAM, CSV, Limits

SIGNATURE = Signature(
    inputs=(
        Field(name="a", type="float", nullable=True),
        Field(name="t", type="str", nullable=True),
        Field(name="d", type="date", nullable=True),
        Field(name="w", type="datetime", nullable=True),
        Field(name="i", type="int", nullable=True),
        Field(name="b", type="bool", nullable=True),
    ),
    output="number",
)
NUMBERS = Signature(
    inputs=(Field(name="x", type="float"), Field(name="i", type="int", nullable=True)),
    output="number",
)
DAY, INSTANT = dt.date(2020, 1, 2), dt.datetime(2020, 1, 2, 3, tzinfo=dt.UTC)
ROW = (1.5, "x", DAY, INSTANT, 3, True)


def rows_of(kind: bytes, body: bytes, signature: Signature = SIGNATURE) -> list[Any]:
    return table_rows(kind, body, signature, None, Limits()).tuples()


def status_of(kind: bytes, body: bytes, signature: Signature = SIGNATURE) -> int:
    """200, or the status of the refusal; whatever else is raised is a bug."""
    try:
        rows_of(kind, body, signature)
    except UpturnError as error:
        return error.http_status
    return 200


def arrow(table: pa.Table, *, file: bool = False, **options: Any) -> bytes:
    sink = io.BytesIO()
    new = pa.ipc.new_file if file else pa.ipc.new_stream
    with new(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def table(count: int = 1, **columns: Any) -> pa.Table:
    plain: dict[str, Any] = {
        "a": [1.5] * count,
        "t": ["x"] * count,
        "d": [DAY] * count,
        "w": [INSTANT] * count,
        "i": [3] * count,
        "b": [True] * count,
    }
    return pa.table({**plain, **columns})


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("file", [True, False])
def test_streams_and_files_are_read(file: bool, compression: str | None) -> None:
    body = arrow(table(2), file=file, compression=compression)
    assert rows_of(ARROW_FILE if file else ARROW_STREAM, body) == [ROW, ROW]


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_what_polars_writes_is_read(compression: Any) -> None:
    frame = pl.from_arrow(table(2, t=["a text that is not short", None]))
    assert isinstance(frame, pl.DataFrame)
    stream, file = io.BytesIO(), io.BytesIO()
    frame.write_ipc_stream(stream, compression=compression)
    frame.write_ipc(file, compression=compression)
    first = (1.5, "a text that is not short", *ROW[2:])
    assert rows_of(ARROW_STREAM, stream.getvalue()) == [first, (1.5, None, *ROW[2:])]
    assert rows_of(ARROW_FILE, file.getvalue()) == rows_of(ARROW_STREAM, stream.getvalue())


@pytest.mark.parametrize(
    "column",
    [
        {"a": pa.array([Decimal("1.5")], pa.decimal128(10, 2))},
        {"i": pa.array([3]).dictionary_encode()},
        {"b": pa.array([True]).dictionary_encode()},
        {"t": pa.array(["x"]).dictionary_encode()},
        {"t": pa.array(["x"], pa.large_string())},
        {"t": pa.array(["x"], pa.string_view())},
        {"d": pa.array([DAY], pa.date64())},
        {"w": pa.array([INSTANT], pa.timestamp("ns", "Europe/Oslo"))},
        {"w": pa.array([INSTANT], pa.timestamp("s", "Mars/Olympus"))},
        {"i": pa.array([3.0])},
    ],
)
def test_a_column_of_another_type_that_says_the_same_is_taken(column: dict[str, Any]) -> None:
    assert rows_of(ARROW_STREAM, arrow(table(**column))) == [ROW]


@pytest.mark.parametrize(
    "column",
    [
        {"a": pa.array([np.inf])},
        {"i": pa.array([2**64 - 1], pa.uint64())},
        {"i": pa.array([0.5])},
        {"d": pa.array([2**31 - 1], pa.int32()).cast(pa.date32())},
        {"w": pa.array([2**62], pa.int64()).cast(pa.timestamp("us", "UTC"))},
        {"w": pa.array([0], pa.timestamp("us"))},
        {"t": pa.array([b"x"])},
        {"a": pa.array([[1.0]])},
    ],
)
def test_values_that_no_field_has_are_the_clients_problem(column: dict[str, Any]) -> None:
    assert status_of(ARROW_STREAM, arrow(table(**column))) == 422


@pytest.mark.parametrize("kind", [ARROW_STREAM, ARROW_FILE])
def test_a_compressed_buffer_is_not_unpacked_beyond_the_limit(kind: bytes) -> None:
    long = table(3, t=["x" * 4_000_000] * 3)
    body = arrow(long, file=kind == ARROW_FILE, compression="zstd")
    assert len(body) < 10_000
    before = pa.total_allocated_bytes()
    with pytest.raises(TooLarge):
        rows_of(kind, body)
    assert pa.total_allocated_bytes() - before < 1_000_000


def test_a_long_text_is_not_repeated_beyond_the_limit() -> None:
    codes = pa.array([0] * 5000, pa.int32())
    words = pa.array(["y" * 2_000_000])
    body = arrow(table(5000, t=pa.DictionaryArray.from_arrays(codes, words)))
    assert status_of(ARROW_STREAM, body) == 413
    short = pa.DictionaryArray.from_arrays(codes, pa.array(["y" * 1000]))
    assert status_of(ARROW_STREAM, arrow(table(5000, t=short))) == 200


BODIES = [
    arrow(table(2), file=True),
    arrow(table(2), file=True, compression="lz4"),
    arrow(table(2)),
    arrow(table(2), compression="lz4"),
    arrow(table(2, t=pa.array(["x", "y"]).dictionary_encode())),
    arrow(table(2, t=pa.array(["long enough to be outside", "y"], pa.string_view()))),
]


@settings(max_examples=300)
@given(st.data())
def test_a_broken_stream_is_the_clients_problem(data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from(BODIES)))
    kind = ARROW_FILE if body.startswith(b"ARROW1") else ARROW_STREAM
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)) | st.just(len(body)))
    assert status_of(kind, bytes(body[:cut])) in (200, 400, 413, 422)


HEAD = b"a,t,d,w,i,b\n"


@pytest.mark.parametrize(
    ("line", "row"),
    [
        (b"1.5,x,2020-01-02,2020-01-02T04:00:00+01:00,3,true", ROW),
        (b'1.5,"x",2020-01-02,2020-01-02T03:00:00Z,3,1', ROW),
        (b'nan,"x\ny",,,NA,', (None, "x\ny", None, None, None, None)),
        (b",NA,,,,false", (None, "NA", None, None, None, False)),
        (b',"",,,,', (None, "", None, None, None, None)),
    ],
)
def test_csv_is_typed_by_the_signature(line: bytes, row: tuple[Any, ...]) -> None:
    assert rows_of(CSV, HEAD + line + b"\n") == [row]


def test_a_line_may_be_long() -> None:
    assert len(rows_of(CSV, HEAD + b"1," + b"z" * 3_000_000 + b",,,3,1\n")[0][1]) == 3_000_000


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\0\0", 400),
        (HEAD, 422),
        (HEAD + b"1,x\n", 400),
        (HEAD + b"1,\xff,,,3,1\n", 400),
        (HEAD + b"inf,x,,,3,1\n", 422),
        (HEAD + b"1,x,9999999-01-01,,3,1\n", 422),
        (HEAD + b"1,x,,2020-01-02T03:00:00,3,1\n", 422),
        (HEAD + b"1,x,,,99999999999999999999,1\n", 422),
        (b"a,a,t,d,w,i,b\n1,1,x,,,3,1\n", 422),
        (b",".join(b"c%d" % n for n in range(300_000)) + b"\n1\n", 400),
    ],
)
def test_csv_that_does_not_fit_is_the_clients_problem(body: bytes, status: int) -> None:
    assert status_of(CSV, body) == status


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.none() | st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(FLOATS, WHOLE), min_size=1, max_size=5))
def test_numbers_come_through_every_kind_of_body(rows: list[tuple[float, int | None]]) -> None:
    xs, whole = (list(column) for column in zip(*rows, strict=True))
    sent = pa.table({"x": pa.array(xs, pa.float64()), "i": pa.array(whole, pa.int64())})
    lines = [f"{x!r},{'' if i is None else i}" for x, i in rows]
    bodies = [
        (ARROW_STREAM, arrow(sent)),
        (ARROW_FILE, arrow(sent, file=True)),
        (CSV, "\n".join(["x,i", *lines, ""]).encode()),
    ]
    for kind, body in bodies:
        for (x, i), (given_x, given_i) in zip(rows, rows_of(kind, body, NUMBERS), strict=True):
            assert x == given_x
            assert i == given_i or (i is None and given_i != given_i)


def test_errors_name_at_most_twenty_values() -> None:
    lines = itertools.repeat(b"x,1\n", 100)
    with pytest.raises(UpturnError) as raised:
        rows_of(CSV, b"x,i\n" + b"".join(lines), NUMBERS)
    assert len(raised.value.fields["errors"]) == 20
    first = raised.value.fields["errors"][0]
    assert (first.row, first.field, first.value, first.expected) == (0, "x", "x", "a number")
