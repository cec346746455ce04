"""The search language: what texts mean, where they are wrong, and that nothing else is raised."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upturn.core.errors import Invalid
from upturn.core.query import parse_order, parse_where
from upturn.core.time import instant, micros
from upturn.core.tracking import Both, Either, Not, Order, Term
from upturn.stores.sqlite_tracking import SqliteTrackingStore

NOW = instant("2026-11-08")


def term(of: str, name: str, op: str, value: object = None, part: str = "last") -> Term:
    return Term(of=of, name=name, op=op, value=value, part=part)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("metric.auc > 0.9", term("metric", "auc", ">", 0.9)),
        ("metrics.auc.max >= 1", term("metric", "auc", ">=", 1, "max")),
        ("metric.`val loss`.min<-.5e1", term("metric", "val loss", "<", -5.0, "min")),
        ('metric."a ""b""" = 3', term("metric", 'a "b"', "=", 3)),
        ("metric.val/loss = 3", term("metric", "val/loss", "=", 3)),
        ("param.a.b = 'it''s'", term("param", "a.b", "=", "it's")),
        ('tag.mlflow.user <> "x"', term("tag", "mlflow.user", "!=", "x")),
        ("params.depth in (3, 'x')", term("param", "depth", "IN", [3, "x"])),
        ("tag.t NOT IN ('a')", term("tag", "t", "NOT IN", ["a"])),
        ("tag.t is not null", term("tag", "t", "IS NOT NULL")),
        ("name NOT LIKE 'n%'", term("run", "name", "NOT LIKE", "n%")),
        ("status = 'failed'", term("run", "status", "=", "failed")),
        (
            "started_at > '2026-11-01'",
            term("run", "started_at", ">", micros(instant("2026-11-01"))),
        ),
        ("started_at > '7d'", term("run", "started_at", ">", micros(instant("2026-11-01")))),
        ("seconds > '10m'", term("run", "seconds", ">", 600.0)),
        ("model:delays:7", term("model", "", "=", "delays:7")),
        ("input:abc", term("input", "", "=", "abc")),
        ("model = 'delays'", term("model", "", "=", "delays")),
        (
            "group = 'g'",
            Either((term("run", "group_name", "=", "g"), term("run", "group", "=", "g"))),
        ),
        (
            "flow='a' AND who='b' OR NOT (flow='c')",
            Either(
                (
                    Both((term("run", "flow", "=", "a"), term("run", "who", "=", "b"))),
                    Not(term("run", "flow", "=", "c")),
                )
            ),
        ),
    ],
)
def test_a_text_means_a_condition(text: str, means: object) -> None:
    assert parse_where(text, now=NOW) == means


def test_an_order_is_a_list_of_things() -> None:
    assert parse_order("metric.auc.max DESC, group, param.`x y` asc") == (
        Order(of="metric", name="auc", part="max", descending=True),
        Order(of="run", name="group_name"),
        Order(of="param", name="x y"),
    )
    assert parse_order(" ") == ()


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("metric.auc > 'high'", 13, "'high' is text"),
        ("metric.auc >", 12, "a value is missing"),
        ("metric.auc", 10, "a comparison is missing"),
        ("statsu = 'done'", 0, "Did you mean 'status'"),
        ("status = 'faild'", 9, "Did you mean 'failed'"),
        ("status = failed", 9, "Write 'failed'"),
        ("(flow = 'a'", 11, "is missing"),
        ("flow = 'a' who = 'b'", 11, "AND or OR"),
        ("flow = 'a", 7, "not closed"),
        ("flow ~ 'a'", 5, "means nothing"),
        ("started_at > 'soon'", 13, "not a date"),
        ("param.x.`", 8, "not closed"),
        ("metric.`a`.mean > 1", 0, "no part"),
        ("model > 'a'", 8, "compared with"),
    ],
)
def test_an_error_points_at_the_place_and_says_what_would_fit(
    text: str, at: int, says: str
) -> None:
    with pytest.raises(Invalid) as caught:
        parse_where(text, now=NOW)
    assert says in str(caught.value)
    assert caught.value.fields["at"] == at


WORDS = ["AND", "OR", "NOT", "(", ")", "metric.a", "param.b", "tag.`c`", "status", "'done'", "1"]
WORDS += [
    "=",
    ">",
    "IN",
    "LIKE",
    "IS",
    "NULL",
    ",",
    "'7d'",
    "started_at",
    "model:m",
    "group",
    "1e999",
]


@settings(max_examples=150, deadline=None)
@given(
    text=st.one_of(
        st.text(max_size=40), st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)
    )
)
def test_any_text_is_a_condition_or_invalid_and_no_condition_breaks_a_search(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    try:
        parse_order(text)
    except Invalid:
        pass
    try:
        where = parse_where(text, now=NOW)
    except Invalid:
        return
    try:
        STORE.setdefault("store", _opened(tmp_path_factory.mktemp("query"))).search(where)
    except Invalid:
        pass


STORE: dict[str, SqliteTrackingStore] = {}


def _opened(path: Path) -> SqliteTrackingStore:
    return STORE.get("store") or SqliteTrackingStore(path / "upturn.db")


def test_what_is_nested_too_deep_is_invalid() -> None:
    with pytest.raises(Invalid, match="nested"):
        parse_where("(" * 5_000 + "flow = 'a'", now=NOW)
    with pytest.raises(Invalid, match="characters"):
        parse_where("NOT " * 9_000, now=NOW)
