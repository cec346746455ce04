"""Decoding: the typed way and the thorough way agree on every body."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.errors import UpturnError
from upturn.core.schema import Field, Signature
from upturn.deploy.serve.decoding import RowDecoder

SIGNATURE = Signature(
    inputs=(
        Field(name="on", type="bool"),
        Field(name="count", type="int", nullable=True),
        Field(name="x y", type="float"),
        Field(name="text", type="str", nullable=True, categories=("a", "b")),
        Field(name="day", type="date", nullable=True),
        Field(name="at", type="datetime", nullable=True),
    ),
    output="number",
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "on": st.booleans(),
    "count": st.none() | st.integers(-(2**63), 2**63 - 1) | st.just(3.0),
    "x y": st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False),
    "text": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    "day": st.none() | st.dates().map(str),
    "at": st.none() | st.just("2013-04-01T06:00:00+02:00") | st.just("2013-04-01T06:00:00Z"),
}
ANYTHING = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just([]) | st.floats()
)
GOOD_ROW = st.fixed_dictionaries(VALUES)
ANY_ROW = st.one_of(
    GOOD_ROW,
    st.fixed_dictionaries(dict.fromkeys(VALUES, ANYTHING)),
    st.dictionaries(st.sampled_from([*VALUES, "unit", "other"]), ANYTHING),
)


def decoded(decoder: RowDecoder, body: bytes) -> Any:
    """What was decoded, or the status of the refusal."""
    try:
        rows = decoder.decode(body)
    except UpturnError as error:
        return error.http_status
    kind = type(rows.block).__name__
    # As text: nan is not equal to itself.
    return kind, repr(rows.tuples()), rows.units, rows.at, rows.ids


def thorough(unit: str | None, signature: Signature = SIGNATURE) -> RowDecoder:
    decoder = RowDecoder(signature, unit, max_rows=3)
    decoder._typed = None
    return decoder


@given(
    rows=st.lists(ANY_ROW, max_size=4),
    unit=st.sampled_from([None, "unit", "text", "count"]),
    at=st.none() | st.just("2013-04-01") | ANYTHING,
    ids=st.none() | st.lists(st.sampled_from(["a", "b", "c", "?", 7]), max_size=4) | ANYTHING,
)
def test_the_typed_and_the_thorough_way_agree(
    rows: Any, unit: str | None, at: Any, ids: Any
) -> None:
    body = json.dumps({"rows": rows, "at": at, "ids": ids}).encode()
    typed = decoded(RowDecoder(SIGNATURE, unit, max_rows=3), body)
    assert typed == decoded(thorough(unit), body)
    assert typed in (400, 422) or isinstance(typed, tuple)


NUMBERS = Signature(
    inputs=tuple(field for field in SIGNATURE.inputs if field.type in ("bool", "int", "float")),
    output="number",
)
NUMBER_VALUES = {name: VALUES[name] for name in NUMBERS.names}


@given(
    rows=st.lists(
        st.fixed_dictionaries(NUMBER_VALUES)
        | st.fixed_dictionaries(dict.fromkeys(NUMBER_VALUES, ANYTHING)),
        max_size=4,
    ),
    unit=st.sampled_from([None, "unit", "count"]),
)
def test_numbers_are_a_matrix_whichever_way_they_were_decoded(rows: Any, unit: str | None) -> None:
    body = json.dumps({"rows": rows}).encode()
    typed = decoded(RowDecoder(NUMBERS, unit, max_rows=3), body)
    assert typed == decoded(thorough(unit, NUMBERS), body)
    if isinstance(typed, tuple):
        exact = all(abs(row["count"] or 0) <= 2**53 for row in rows)
        assert typed[0] == ("ndarray" if exact else "list")


def test_a_missing_number_is_nan_in_a_matrix() -> None:
    rows = RowDecoder(NUMBERS, None, max_rows=3).decode(
        b'{"rows": [{"on": true, "x y": 1.5}, {"on": false, "count": 3, "x y": 2}]}'
    )
    assert repr(rows.block.tolist()) == "[[1.0, nan, 1.5], [0.0, 3.0, 2.0]]"


@given(rows=st.lists(GOOD_ROW, min_size=1, max_size=3))
def test_what_fits_is_taken(rows: Any) -> None:
    found = RowDecoder(SIGNATURE, None, max_rows=3).decode(json.dumps({"rows": rows}).encode())
    assert [row[0] for row in found.tuples()] == [row["on"] for row in rows]
    assert [row[3] for row in found.tuples()] == [row["text"] for row in rows]


@given(body=st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_no_bytes_do_anything_but_be_refused(body: bytes) -> None:
    assert decoded(RowDecoder(SIGNATURE, "unit", max_rows=3), body) in (400, 422)


def test_a_field_left_out_is_null_where_that_may_be() -> None:
    decoder = RowDecoder(SIGNATURE, None, max_rows=3)
    assert decoder.decode(b'{"row": {"on": true, "x y": 1}}').tuples() == [
        (True, None, 1.0, None, None, None)
    ]


@pytest.mark.parametrize("name", ['a"b', "a\\b", "naïve ✓", "class", "1st", "row", ""])
def test_any_name_can_be_a_field(name: str) -> None:
    signature = Signature(inputs=(Field(name=name, type="int"),), output="number")
    body = json.dumps({"row": {name: 7}}).encode()
    assert RowDecoder(signature, None, max_rows=3).decode(body).tuples() == [(7,)]


def test_instants_come_in_utc() -> None:
    body = b'{"row": {"on": true, "x y": 1, "at": "2013-04-01T06:00:00+02:00"}}'
    (row,) = RowDecoder(SIGNATURE, None, max_rows=3).decode(body).tuples()
    assert row[5].isoformat() == "2013-04-01T04:00:00+00:00"
