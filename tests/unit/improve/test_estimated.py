"""Estimates hold where inputs shift; where their meaning does they can't, and say so."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from upturn.core.errors import Invalid
from upturn.core.schema import Signature
from upturn.core.time import from_micros, instant, micros
from upturn.improve.measures.isotonic import isotonic
from upturn.improve.measures.trees import fit_trees
from upturn.improve.metrics import get_metric
from upturn.improve.monitor.changes import estimated_symptoms, performance_symptoms, surprises
from upturn.improve.monitor.estimated import Estimated, expected, fit_estimator
from upturn.improve.monitor.performance import Performance, performance

START = micros(instant("2013-01-01"))
DAY = 86_400_000_000
METRICS = ["auc", "log_loss", "brier", "accuracy", "f1", "recall@0.3"]


def classifier(
    random: np.random.Generator, days: int, *, shift: float = 0.0, concept: float = 0.0
) -> pa.Table:
    """150 rows a day of a model that is too sure of itself; days have shifts of their own."""
    day = np.repeat(np.arange(days), 150)
    x = random.normal(shift, 1.0, len(day))
    own = random.normal(0, 0.2, days)[day]
    logit = 1.3 * x - 0.4
    label = random.random(len(day)) < 1 / (1 + np.exp(-logit * (1 - concept) - own))
    return table(day, 1 / (1 + np.exp(-1.6 * logit)), label.astype(float), x)


def table(day: np.ndarray, score: np.ndarray, label: np.ndarray, x: np.ndarray) -> pa.Table:
    at = pa.array(START + day * DAY + np.arange(len(day)) % 1000).cast(pa.timestamp("us", "UTC"))
    kind = np.where(x > 0, "up", "down")
    return pa.table(
        {"at": at, "score": score, "label": label, "features.x": x, "features.kind": kind}
    )


def regression(random: np.random.Generator, days: int, *, shift: float = 0.0) -> pa.Table:
    """Errors are greater the greater x is."""
    day = np.repeat(np.arange(days), 150)
    x = random.normal(shift, 1.0, len(day))
    score = 10 + 3 * x
    own = np.exp(random.normal(0, 0.05, days))[day]
    return table(day, score, score + random.normal(0, (0.5 + np.abs(x)) * own), x)


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(-3, 3), st.integers(0, 3)), min_size=1, max_size=40
    )
)
def test_isotonic_is_what_scikit_learn_says(rows: list[tuple[int, int, int]]) -> None:
    x, y, w = (np.array(one, float) for one in zip(*rows, strict=True))
    if not w.any():
        with pytest.raises(ValueError, match="no points"):
            isotonic(x, y, w)
        return
    wanted = IsotonicRegression(out_of_bounds="clip").fit(x, y, sample_weight=w)
    places = np.linspace(-1, 9, 41)
    np.testing.assert_allclose(isotonic(x, y, w).at(places), wanted.predict(places), atol=1e-9)


def test_isotonic_of_many_points() -> None:
    random = np.random.default_rng(1)
    x = random.random(20_000)
    y = (random.random(20_000) < x**2).astype(float)
    found = isotonic(x, y)
    wanted = IsotonicRegression(out_of_bounds="clip").fit(x, y)
    np.testing.assert_allclose(found.at(x), wanted.predict(x), atol=1e-9)
    assert float(found.at(x).mean()) == pytest.approx(y.mean())


def test_expected_metrics_are_means_over_all_labels() -> None:
    score, chance = np.array([0.9, 0.6, 0.2]), np.array([0.8, 0.5, 0.3])
    for name in ("accuracy", "brier", "log_loss"):
        metric, mean = get_metric(name), 0.0
        for place in range(8):
            label = np.array([place >> bit & 1 for bit in range(3)], float)
            weight = np.prod(np.where(label > 0, chance, 1 - chance))
            mean += weight * metric.function(label, score)
        assert expected(metric, score, chance, np.ones(3)) == pytest.approx(mean)
    # Pairs of a positive and a negative row, each counted by its probability.
    pairs = won = 0.0
    for one in range(3):
        for other in range(3):
            if one != other:
                weight = chance[one] * (1 - chance[other])
                pairs += weight
                won += weight * (score[one] > score[other])
    assert expected(get_metric("auc"), score, chance, np.ones(3)) == pytest.approx(won / pairs)


def test_intervals_hold_what_labels_say_later_though_inputs_shift() -> None:
    random = np.random.default_rng(2)
    inside = dict.fromkeys(METRICS, 0)
    off = dict.fromkeys(METRICS, 0.0)
    for _ in range(12):
        fitted = fit_estimator(classifier(random, 40), metrics=METRICS)
        for shift in (0.0, 0.4, -0.3, 0.2, 0.0, 0.3, -0.2, 0.1):
            rows = classifier(random, 10, shift=shift)
            found, real = fitted.estimate(rows), performance(rows, METRICS)
            for name in METRICS:
                inside[name] += not found.intervals[name].excludes(real.values[name])
                off[name] += (real.values[name] - found.values[name]) / 96
    for name in METRICS:
        assert inside[name] / 96 >= 0.9, name
        assert abs(off[name]) < 0.01, name


def test_what_inputs_mean_it_cannot_see_and_labels_can() -> None:
    random = np.random.default_rng(3)
    fitted = fit_estimator(classifier(random, 40), metrics=["auc", "log_loss"])
    rows = classifier(random, 10, concept=0.8)
    found, real = fitted.estimate(rows), performance(rows)
    assert real.values["auc"] < found.values["auc"] - 0.1
    assert all(one.severity == "fine" for one in estimated_symptoms(found))
    said = {one.name: one for one in surprises(found, real)}
    assert said["concept/auc"].severity == "critical"
    assert "what inputs mean has changed" in said["concept/auc"].says
    same = classifier(random, 10)
    calm = surprises(fitted.estimate(same), performance(same))
    assert [one.severity for one in calm] == ["fine", "fine"]


def test_a_shift_that_makes_cases_harder_is_seen_without_labels() -> None:
    random = np.random.default_rng(4)
    fitted = fit_estimator(classifier(random, 40), metrics=["log_loss", "brier"])
    hard = classifier(random, 20)
    middle = np.abs(np.asarray(hard["features.x"].combine_chunks()) - 0.3) < 0.5
    found = fitted.estimate(hard.filter(pa.array(middle)))
    said = {one.name: one for one in estimated_symptoms(found)}
    assert said["estimated/brier"].severity != "fine"
    assert "would not show" in said["estimated/brier"].says


def test_losses_of_numbers_are_learned_from_features() -> None:
    random = np.random.default_rng(5)
    signature = Signature(inputs=(), output="number")
    inside = total = 0
    for _ in range(3):
        reference = regression(random, 30)
        fitted = fit_estimator(reference, signature=signature)
        for shift in (0.0, 0.7, -0.7, 0.3):
            rows = regression(random, 10, shift=shift)
            found = fitted.estimate(rows)
            real = performance(rows, signature=signature)
            before = performance(reference, signature=signature).values["mae"]
            total += 2
            for name in ("mae", "rmse"):
                inside += not found.intervals[name].excludes(real.values[name])
            if shift == 0.7:  # half of what changed is seen, at least
                moved = real.values["mae"] - before
                assert found.values["mae"] - before > 0.5 * moved > 0
    assert found.method == "DLE"
    assert inside / total >= 0.8


def test_trees_learn_what_there_is_to_learn() -> None:
    random = np.random.default_rng(6)
    rows = 4000
    x, color = random.normal(size=rows), random.choice(["red", "blue", "green"], rows)
    target = np.where(x > 0.5, 2.0, 0.0) + np.where(color == "blue", 1.0, 0.0)
    target = target + random.normal(0, 0.1, rows)
    odd = pa.array([[1]] * rows)
    data = pa.table(
        {
            "x": pa.array(np.where(x < -1.5, np.nan, x), from_pandas=True),
            "color": pa.array(color).dictionary_encode(),
            "flag": x > 0,
            "odd": odd,
            "none": pa.nulls(rows, pa.float64()),
        }
    )
    fitted = fit_trees(data, data.column_names, target, np.ones(rows))
    found = fitted.predict(data)
    assert found.mean() == pytest.approx(target.mean())
    assert 1 - np.var(target - found) / np.var(target) > 0.95
    # Categories that were not there, columns that are missing or of another type: no traceback.
    other = pa.table({"x": ["a", None], "color": ["mauve", None]})
    assert np.isfinite(fitted.predict(other)).all()
    nothing = fit_trees(data.select(["odd"]), ["odd"], target, np.ones(rows))
    assert nothing.predict(data).tolist() == [pytest.approx(target.mean())] * rows


def test_what_cannot_be_estimated() -> None:
    random = np.random.default_rng(7)
    rows = classifier(random, 10)
    few = fit_estimator(rows.slice(0, 100)).estimate(rows)
    assert math.isnan(few.values["auc"])
    assert "too few" in few.unsaid
    one_class = rows.set_column(2, "label", pa.array(np.ones(rows.num_rows)))
    assert "one class" in fit_estimator(one_class).estimate(rows).unsaid
    empty = fit_estimator(rows).estimate(rows.slice(0, 0))
    assert empty.unsaid == "no rows with a score"
    with pytest.raises(Invalid, match="ece"):
        fit_estimator(rows, metrics=["ece"])
    with pytest.raises(Invalid, match="mae"):
        fit_estimator(rows, metrics=["mae"])
    with pytest.raises(Invalid, match="r2"):
        fit_estimator(rows, metrics=["r2"], signature=Signature(inputs=(), output="number"))
    with pytest.raises(Invalid, match="label"):
        fit_estimator(rows, signature=Signature(inputs=(), output="label"))
    assert estimated_symptoms(few) == []
    assert surprises(few, performance(rows)) == []
    assert isinstance(few, Estimated)


def by_day(values: list[float], completeness: float = 1.0) -> list[tuple]:
    return [
        (
            from_micros(START + place * DAY),
            Performance(
                rows=100, labelled=100, completeness=completeness, values={"auc": value, "mae": 1.0}
            ),
        )
        for place, value in enumerate(values)
    ]


def test_a_metric_that_falls_is_a_symptom_and_noise_is_none() -> None:
    random = np.random.default_rng(8)
    usual = random.normal(0.8, 0.01, 20).tolist()
    fallen, mae = performance_symptoms(by_day([*usual, 0.7, 0.69]))
    assert (fallen.name, fallen.severity) == ("performance/auc", "critical")
    assert fallen.began_at == from_micros(START + 20 * DAY)
    assert mae.severity == "fine"
    risen, _ = performance_symptoms(by_day([*usual, 0.9]))
    assert risen.severity == "fine"
    assert performance_symptoms(by_day(usual[:4])) == []
    assert performance_symptoms(by_day(usual, completeness=0.2)) == []
    alarms = sum(
        performance_symptoms(by_day(random.normal(0.8, 0.05, 12).tolist()))[0].severity != "fine"
        for _ in range(3000)
    )
    assert alarms <= 10  # three are expected
