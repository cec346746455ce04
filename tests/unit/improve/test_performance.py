"""Performance is of the labelled rows, and says how many they are."""

import json
import math
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as reference

from upturn.core.errors import NotFound
from upturn.core.schema import Signature
from upturn.core.time import instant
from upturn.improve.monitor.performance import (
    days,
    outcomes,
    performance,
    performance_by,
    ranking_performance,
    scores,
)

AT = [instant("2013-04-30T23:00:00Z"), *[instant("2013-05-01T01:00:00Z")] * 3]
TABLE = pa.table(
    {
        "at": pa.array(AT, pa.timestamp("us", "UTC")),
        "score": [0.9, 0.1, 0.6, None],
        "label": [1.0, 0.0, None, 1.0],
        "answer": ["true", "false", "true", "null"],
    }
)


def test_metrics_are_of_rows_with_label_and_score() -> None:
    found = performance(TABLE)
    assert (found.rows, found.labelled, found.completeness) == (4, 3, 0.75)
    assert found.values["auc"] == 1.0
    assert found.values["base_rate"] == 0.5
    assert found.values["log_loss"] == pytest.approx(-math.log(0.9))
    assert set(performance(TABLE, ["brier"]).values) == {"base_rate", "brier"}
    with pytest.raises(NotFound):
        performance(TABLE, ["gini"])


def test_without_rows_or_labels_there_is_nan() -> None:
    empty = performance(TABLE.slice(0, 0))
    assert (empty.rows, empty.labelled) == (0, 0)
    assert math.isnan(empty.completeness)
    assert all(math.isnan(value) for value in empty.values.values())
    assert math.isnan(performance(TABLE.slice(2, 1)).values["auc"])


def test_by_day_and_month() -> None:
    assert list(performance_by(TABLE, "day")) == ["2013-04-30", "2013-05-01"]
    found = performance_by(TABLE, "month")
    assert {name: one.rows for name, one in found.items()} == {"2013-04": 1, "2013-05": 3}
    assert performance_by(TABLE.slice(0, 0), "day") == {}
    assert days(TABLE).tolist() == [15825, 15826, 15826, 15826]


@pytest.mark.parametrize(
    ("classes", "labels", "expected"),
    [
        (("in time", "late"), ["late", "in time", "early", None], [1, 0, math.nan, math.nan]),
        ((False, True), [True, False, None, True], [1, 0, math.nan, 1]),
        ((0, 1), [1.0, 0.0, 0.5, None], [1, 0, math.nan, math.nan]),
        ((1, 2), [1, 2, 2, 0], [0, 1, 1, math.nan]),
        ((1, 2), ["1", "2", "x", "2"], [0, 1, math.nan, 1]),
        (("1", "2"), [1.0, 2.0, None, 2.0], [0, 1, math.nan, 1]),
        ((), ["1", "0.5", "x", None], [1, 0.5, math.nan, math.nan]),
        (("in time", "late"), [1.0, 0.0, None, 1.0], [1, 0, math.nan, 1]),
    ],
)
def test_labels_are_read_by_the_models_classes(
    classes: tuple[str | int | bool, ...], labels: list[object], expected: list[float]
) -> None:
    signature = Signature(inputs=(), output="probability", classes=classes)
    np.testing.assert_array_equal(outcomes(pa.table({"label": labels}), signature), expected)


def test_a_model_that_answers_labels_is_judged_by_its_answers() -> None:
    signature = Signature(inputs=(), output="label", classes=("a", "b", "c"))
    table = pa.table({"label": ["a", "b", None], "answer": ['"a"', '"c"', '"c"']})
    found = performance(table, signature=signature).values
    assert found == {"accuracy": 0.5, "macro_f1": pytest.approx(1 / 3)}
    numbers = pa.table({"label": [1.0, 2.0], "answer": ["1", "3"]})
    assert performance(numbers, ["accuracy"], signature=signature).values == {"accuracy": 0.5}
    odd = pa.table({"label": ["a", "b"], "answer": ["[1]", "no JSON"]})
    assert performance(odd, ["accuracy"], signature=signature).values == {"accuracy": 0.0}
    with pytest.raises(NotFound):
        performance(table, ["gini"], signature=signature)


def test_a_model_that_answers_several_probabilities_is_judged_by_them() -> None:
    random = np.random.default_rng(4)
    classes = ("early", "in time", "late")
    shares = random.dirichlet(np.ones(3), 200)
    truth = np.array([random.choice(3, p=one) for one in shares])
    answers = [json.dumps(dict(zip(classes, one, strict=True))) for one in shares.tolist()]
    answers[7], answers[8], answers[9] = "null", '{"early": 1}', '{"early": "x"}'
    labels = [classes[one] for one in truth]
    labels[10] = "cancelled"
    table = pa.table({"label": labels, "answer": answers})
    signature = Signature(inputs=(), output="scores", classes=classes)
    metrics = ["accuracy", "macro_f1", "log_loss", "brier"]
    found = performance(table, metrics, signature=signature)
    keep = np.ones(200, bool)
    keep[7:11] = False
    y, p = truth[keep], shares[keep]
    assert (found.rows, found.labelled) == (200, 200)
    assert found.values["accuracy"] == pytest.approx(reference.accuracy_score(y, p.argmax(1)))
    assert found.values["macro_f1"] == pytest.approx(
        reference.f1_score(y, p.argmax(1), average="macro")
    )
    assert found.values["log_loss"] == pytest.approx(reference.log_loss(y, p))
    assert found.values["brier"] == pytest.approx(np.square(p - np.eye(3)[y]).sum(axis=1).mean())


def test_rows_of_a_sampled_log_count_by_what_they_stand_for() -> None:
    rows = 400
    random = np.random.default_rng(5)
    label = (random.random(rows) < 0.5).astype(float)
    score = np.round(0.2 * label + 0.6 * random.random(rows), 3)
    rate = np.where(random.random(rows) < 0.5, 0.25, 1.0)
    table = pa.table({"label": label, "score": score, "rate": rate})
    found = performance(table, ["auc", "log_loss", "f1"])
    times = (1 / rate).astype(int)
    many = pa.table({"label": np.repeat(label, times), "score": np.repeat(score, times)})
    assert found.sampled
    assert not performance(many).sampled
    assert found.values == pytest.approx(performance(many, ["auc", "log_loss", "f1"]).values)
    alike = pa.table({"label": label, "score": score, "rate": np.full(rows, 0.1)})
    assert performance(alike).values == performance(alike.drop_columns("rate")).values
    nonsense = pa.table({"label": label, "score": score, "rate": np.zeros(rows)})
    assert performance(nonsense).values == performance(alike).values


def test_intervals_are_by_day() -> None:
    random = np.random.default_rng(6)
    start = instant("2013-04-01T00:00:00Z")
    at = [start + timedelta(hours=int(hour)) for hour in range(24 * 10)]
    label = (random.random(240) < 0.4).astype(float)
    score = 0.3 * label + 0.6 * random.random(240)
    table = pa.table(
        {"at": pa.array(at, pa.timestamp("us", "UTC")), "label": label, "score": score}
    )
    found = performance(table, level=0.9)
    assert set(found.intervals) == set(found.values) - {"base_rate"}
    for name, one in found.intervals.items():
        assert one.estimate == pytest.approx(found.values[name])
        assert one.low < one.estimate < one.high
        assert one.level == 0.9
        assert one.method == "jackknife over 10 days"
    by_day = performance_by(table, "day", level=0.95)
    assert by_day["2013-04-03"].intervals["auc"].method == "jackknife over 24 hours"
    assert performance(table.slice(0, 0), level=0.95).intervals["auc"].method.startswith("can't")


def test_a_ranking_is_judged_query_by_query() -> None:
    start = instant("2013-04-01T00:00:00Z")
    queries, each = 60, 5
    random = np.random.default_rng(7)
    relevance = (random.random((queries, each)) < 0.4).astype(float)
    score = random.random((queries, each))
    at = [start + timedelta(hours=4 * query) for query in range(queries) for _ in range(each)]
    table = pa.table(
        {
            "at": pa.array(at, pa.timestamp("us", "UTC")),
            "request": [f"r{query}" for query in range(queries) for _ in range(each)],
            "label": relevance.ravel(),
            "score": score.ravel(),
        }
    )
    some = relevance.any(axis=1)
    found = ranking_performance(table, k=3)
    wanted = [
        reference.ndcg_score(y[None], s[None], k=3)
        for y, s in zip(relevance[some], score[some], strict=True)
    ]
    assert found.values["ndcg"] == pytest.approx(np.mean(wanted))
    assert set(found.values) == {"ndcg", "map", "mrr", "ranking_recall"}
    assert found.intervals["ndcg"].low < np.mean(wanted) < found.intervals["ndcg"].high
    nothing = ranking_performance(table.slice(0, 0))
    assert math.isnan(nothing.values["ndcg"])


def test_a_model_that_answers_numbers_is_judged_by_its_errors() -> None:
    table = pa.table({"label": [10.0, 20.0], "score": [11.0, 22.0]})
    found = performance(table, signature=Signature(inputs=(), output="number"))
    assert found.values["mae"] == 1.5
    assert found.values["rmse"] == pytest.approx(math.sqrt(2.5))
    assert scores(table).tolist() == [11.0, 22.0]
