"""MLflow's filters: what they mean, and what is said when they mean nothing."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.adapters.mlflow.errors import MlflowError
from upturn.adapters.mlflow.experiments import EXPERIMENTS
from upturn.adapters.mlflow.grammar import Clause, holds, like, parse_filter, parse_order
from upturn.adapters.mlflow.run_search import RUNS


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("", []),
        ("params.'p' = 'v'", [("parameter", "p", "=", "v")]),
        ("metrics.auc > 0.9", [("metric", "auc", ">", 0.9)]),
        ("metric.auc>=-1e-3", [("metric", "auc", ">=", -0.001)]),
        ("metrics.`a/b c` != 2", [("metric", "a/b c", "!=", 2.0)]),
        ("params.\"my p\" = 'a'", [("parameter", "my p", "=", "a")]),
        ("parameters.p LIKE '%x_'", [("parameter", "p", "LIKE", "%x_")]),
        ('param.p ilike "X%"', [("parameter", "p", "ILIKE", "X%")]),
        ("tags.`mlflow.source.name` = 'it'", [("tag", "mlflow.source.name", "=", "it")]),
        ("tags.mlflow.parentRunId = 'x'", [("tag", "mlflow.parentRunId", "=", "x")]),
        ("tags.x IS NULL", [("tag", "x", "IS NULL", None)]),
        ("params.x is not null", [("parameter", "x", "IS NOT NULL", None)]),
        ("run_id in ('a', 'b')", [("attribute", "run_id", "IN", ("a", "b"))]),
        ("attribute.run_id NOT IN ('a')", [("attribute", "run_id", "NOT IN", ("a",))]),
        ("attributes.status = 'FINISHED'", [("attribute", "status", "=", "FINISHED")]),
        ("attr.start_time < 17", [("attribute", "start_time", "<", 17)]),
        ("run.`Run name` = 'é'", [("attribute", "Run name", "=", "é")]),
        ("dataset.name IN ('x')", [("dataset", "name", "IN", ("x",))]),
        ("datasets.context='AND'", [("dataset", "context", "=", "AND")]),
        (
            "metrics.a > 1 and params.b = 'x;y' AND tags.c != ''",
            [
                ("metric", "a", ">", 1.0),
                ("parameter", "b", "=", "x;y"),
                ("tag", "c", "!=", ""),
            ],
        ),
        ("metrics.a = 1;", [("metric", "a", "=", 1.0)]),
    ],
)
def test_what_filters_mean(text: str, clauses: list[tuple[object, ...]]) -> None:
    assert list(parse_filter(text, RUNS)) == [Clause(*clause) for clause in clauses]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("metric.acc = LR", "Expected numeric value type for metric. Found LR"),
        ("metric.acc = 'LR'", "Expected numeric value type for metric. Found 'LR'"),
        ("params.acc = LR", "value is either not quoted or unidentified quote types"),
        ("params.acc = 5", "Expected a quoted string value for parameter"),
        ("tags.acc = 5", "Expected a quoted string value for tag"),
        ("attribute.status = 5", "Expected a quoted string value for attributes"),
        ("attribute.start_time = 'x'", "Expected numeric value type for numeric attribute"),
        ("dataset.name = 5", "Expected a quoted string value for dataset attributes"),
        ("acc = 2", "Invalid attribute key 'acc' specified"),
        ("dataset.foo = 'x'", "Invalid dataset key 'foo' specified"),
        ("m.acc >= 0.94", "Invalid entity type 'm'"),
        ("acc LR !=", "Invalid clause(s) in filter string"),
        ("metric.acc !=", "Invalid clause(s) in filter string"),
        ("   ", "Invalid filter '   '. Could not be parsed."),
        ("metrics.a > 1 OR metrics.b > 2", "Invalid clause(s) in filter string: 'OR'"),
        ("NOT metrics.a > 1", "Invalid clause(s) in filter string: 'NOT'"),
        ("metrics.a > +1", "Invalid clause(s) in filter string"),
        ("metrics.a > 1; metrics.b < 2", "Search filter contained multiple expression"),
        ("1 = 1", "Expected 'Identifier' found '1'"),
        ("metrics.a LIKE 1", "Invalid comparator 'LIKE'"),
        ("params.a > 'x'", "Invalid comparator '>'"),
        ("metrics.a == 1", "Invalid comparator '=='"),
        ("status IN ('FINISHED')", "Only ['run_id'] attributes support comparison with a list"),
        ("run_id IN ()", "expected a non-empty list of string values, but got empty list"),
        ("run_id IN (1, 2)", "got different type in list"),
        ("run_id IN ('a' 1)", "got ill-formed list"),
        ("run_id = ('a')", "Invalid comparator '='"),
        ("metrics.a IS NULL", "IS NULL / IS NOT NULL is only supported for tags and params"),
    ],
)
def test_what_is_said_of_no_filter(text: str, says: str) -> None:
    with pytest.raises(MlflowError) as caught:
        parse_filter(text, RUNS)
    assert says in caught.value.message
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("metrics.a", ("metric", "a", True)),
        ("metrics.`a b` DESC", ("metric", "a b", False)),
        ("params.x asc", ("parameter", "x", True)),
        ("attribute.start_time desc", ("attribute", "start_time", False)),
        ("end_time", ("attribute", "end_time", True)),
    ],
)
def test_what_orderings_mean(text: str, order: tuple[str, str, bool]) -> None:
    assert parse_order(text, RUNS) == order


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Invalid order_by clause ''. Could not be parsed."),
        ("metrics.a, metrics.b", "Could not be parsed."),
        ("metrics.a asc desc", "Could not be parsed."),
        ("metrics.a sideways", "Invalid ordering key in order_by clause"),
        ("foo", "Invalid attribute key 'foo' specified"),
        ("x.y", "Invalid entity type 'x'"),
    ],
)
def test_what_is_said_of_no_ordering(text: str, says: str) -> None:
    with pytest.raises(MlflowError) as caught:
        parse_order(text, RUNS)
    assert says in caught.value.message


def test_experiments_know_fewer_things() -> None:
    assert parse_filter("name ILIKE 'a%' AND tags.x = 'y'", EXPERIMENTS)[0].op == "ILIKE"
    for text in ("metrics.a > 1", "params.x = 'y'", "status = 'FINISHED'"):
        with pytest.raises(MlflowError):
            parse_filter(text, EXPERIMENTS)


@given(st.text(max_size=80))
def test_no_text_breaks_the_parser(text: str) -> None:
    for grammar in (RUNS, EXPERIMENTS):
        for parse in (parse_filter, parse_order):
            with contextlib.suppress(MlflowError):
                parse(text, grammar)


@given(
    st.lists(
        st.sampled_from(
            [
                "metrics",
                ".",
                "a",
                "=",
                "'x'",
                "1",
                " AND ",
                "(",
                ")",
                "IN",
                " ",
                "`",
                '"',
                "IS NULL",
            ]
        ),
        max_size=12,
    )
)
def test_no_pieces_break_the_parser(pieces: list[str]) -> None:
    with contextlib.suppress(MlflowError):
        parse_filter("".join(pieces), RUNS)


@given(st.text(alphabet="ab%_", max_size=8), st.text(alphabet="abB", max_size=8))
def test_like_is_that_of_sqlite(pattern: str, text: str) -> None:
    import sqlite3

    connection = sqlite3.connect(":memory:")
    with_case = connection.execute("PRAGMA case_sensitive_like = ON")
    with_case.close()
    found = connection.execute("SELECT ? LIKE ?", (text, pattern)).fetchone()[0]
    connection.close()
    assert holds("LIKE", text, pattern) == bool(found)
    assert holds("ILIKE", text, pattern) == bool(like(pattern.lower()).fullmatch(text.lower()))
