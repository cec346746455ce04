"""Requests: whatever a query or a body says becomes the typed request, or a client's error."""

from datetime import UTC, datetime
from typing import Annotated, Literal
from urllib.parse import quote_plus, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.api.operation import Request
from upturn.deploy.serve.problems import BadRequest, Misfit
from upturn.server.requests import from_body, from_query, read_query


class Part(msgspec.Struct, frozen=True):
    name: str
    share: float


class Every(Request, frozen=True):
    """One field of each kind."""

    name: str
    number: Annotated[int, msgspec.Meta(ge=0)] = 0
    share: float | None = None
    yes: bool = False
    kind: Literal["a", "b"] = "a"
    since: datetime | None = None
    names: tuple[str, ...] = ()
    numbers: list[int] | None = None
    parts: tuple[Part, ...] = ()
    params: dict[str, str] = {}


def asked(query: str) -> Every:
    return from_query(Every, {"name": "x"}, read_query(query.encode()))


def test_each_kind_of_field_from_a_query() -> None:
    request = asked(
        "number=3&share=1e-2&yes=true&kind=b&since=2013-04-01T02:00:00%2B02:00&names=a&names=b+c"
        "&numbers=1&parts=[{%22name%22:%22a%22,%22share%22:1}]&params={%22a%22:%22b%22}"
    )
    assert request == Every(
        name="x",
        number=3,
        share=0.01,
        yes=True,
        kind="b",
        since=datetime(2013, 4, 1, tzinfo=UTC),
        names=("a", "b c"),
        numbers=[1],
        parts=(Part("a", 1.0),),
        params={"a": "b"},
    )
    assert asked("") == Every(name="x")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("number=-1", "number"),
        ("number=1.5", "number"),
        ("yes=perhaps", "yes"),
        ("kind=c", "kind"),
        ("since=2013-04-01T00:00:00", "since"),
        ("since=yesterday", "since"),
        ("numbers=1&numbers=x", "numbers[1]"),
        ("parts=[{]", "parts"),
        ("parts=[{%22name%22:3,%22share%22:1}]", "parts[0].name"),
        ("params=[]", "params"),
        ("name=y", "name"),
        ("numbr=1", "numbr"),
    ],
)
def test_the_field_that_does_not_fit_is_named(query: str, field: str) -> None:
    with pytest.raises(Misfit) as caught:
        asked(query)
    (error,) = caught.value.fields["errors"]
    assert error.field == field


def test_every_wrong_field_of_a_body_is_named() -> None:
    with pytest.raises(Misfit) as caught:
        from_body(Every, {}, b'{"number": "3", "yes": 1, "knd": "a"}', b"application/json")
    assert {error.field for error in caught.value.fields["errors"]} == {
        "number",
        "yes",
        "knd",
        "name",
    }


names = st.sampled_from([*Every.__struct_fields__, "other"])
values = st.text(max_size=12) | st.sampled_from(
    ["1", "-1", "1e999", "nan", "true", "null", "[]", "{}", "a", "2013-04-01", "9" * 40, "\0"]
)


@given(st.lists(st.tuples(names, values), max_size=6))
def test_whatever_a_query_says(pairs: list[tuple[str, str]]) -> None:
    try:
        request = asked(urlencode(pairs))
    except (Misfit, BadRequest):
        return
    assert isinstance(request, Every)


@given(st.dictionaries(st.text(min_size=1), st.lists(st.text(), min_size=1, max_size=3)))
def test_a_query_is_read_as_it_was_written(query: dict[str, list[str]]) -> None:
    pairs = [f"{quote_plus(name)}={quote_plus(each)}" for name in query for each in query[name]]
    assert read_query("&".join(pairs).encode()) == query


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(names, anything, max_size=5) | anything, st.booleans())
def test_whatever_a_body_says(value: object, packed: bool) -> None:
    try:
        body = msgspec.msgpack.encode(value) if packed else msgspec.json.encode(value)
    except OverflowError:
        return
    media = b"application/msgpack" if packed else b"application/json"
    try:
        request = from_body(Every, {}, body, media)
    except (Misfit, BadRequest):
        return
    assert isinstance(request, Every)
