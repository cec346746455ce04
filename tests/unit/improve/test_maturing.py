"""Early labels are corrected for those that are still out, and rightly so on average."""

import math
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.duration.survfunc import SurvfuncRight

from upturn.core.errors import Invalid, NotFound
from upturn.core.schema import Signature
from upturn.core.time import instant, micros
from upturn.improve.metrics import METRICS
from upturn.improve.monitor.delays import arrivals, labelled_by
from upturn.improve.monitor.labels import completeness_by_age, label_symptoms
from upturn.improve.monitor.maturing import Matured, mature

NOW = instant("2013-06-01")
DAY_S = 86_400.0


def log_of(
    label: np.ndarray, score: np.ndarray, age_s: np.ndarray, delay_s: np.ndarray, **more: object
) -> pa.Table:
    """Rows of the Log as they are known now; a delay of infinity never ends."""
    order = np.argsort(-age_s, kind="stable")
    label, score, age_s, delay_s = label[order], score[order], age_s[order], delay_s[order]
    known = delay_s <= age_s
    at = (micros(NOW) - 1e6 * age_s).astype(np.int64)
    known_at = np.where(known, at + 1e6 * np.where(known, delay_s, 0), 0).astype(np.int64)
    stamp = pa.timestamp("us", "UTC")
    columns = {
        "at": pa.array(at).cast(stamp),
        "score": score,
        "label": pa.array(np.where(known, label, np.nan), from_pandas=True),
        "known_at": pa.array(known_at, mask=~known).cast(stamp),
    }
    return pa.table(columns | more)


def flights(random: np.random.Generator, rows: int, days: float) -> dict[str, np.ndarray]:
    """Positive labels take ten days on average, negative ones two."""
    logit = random.normal(-0.5, 1.2, rows)
    label = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(float)
    return {
        "label": label,
        "score": 1 / (1 + np.exp(-logit)),
        "age_s": random.random(rows) * days * DAY_S,
        "delay_s": random.exponential(np.where(label > 0, 10.0, 2.0)) * DAY_S,
    }


def younger(rows: dict[str, np.ndarray], days: float) -> dict[str, np.ndarray]:
    keep = rows["age_s"] < days * DAY_S
    return {name: values[keep] for name, values in rows.items()}


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=40))
def test_kaplan_and_meier(rows: list[tuple[int, int]]) -> None:
    delay, age = (np.array(one, float) for one in zip(*rows, strict=True))
    seen = delay <= age
    found = labelled_by(np.where(seen, delay, np.nan), age)
    if not seen.any():
        assert found.rows == 0
        assert found.at(age).tolist() == [0.0] * len(age)
        return
    wanted = SurvfuncRight(np.where(seen, delay, age) + 1.0, seen.astype(int))
    for time, left in zip(wanted.surv_times, wanted.surv_prob, strict=True):
        assert found.at(np.array([time - 1.0]))[0] == pytest.approx(1 - left, abs=1e-12)


def test_in_reverse_time_it_is_left_truncation() -> None:
    random = np.random.default_rng(1)
    delay, age = random.integers(0, 30, 2000).astype(float), random.integers(0, 40, 2000) + 1.0
    seen = delay <= age
    delay, age = delay[seen], age[seen]
    found = arrivals(delay, age)
    reverse = SurvfuncRight(100 - delay, np.ones(len(delay)), entry=100 - age - 0.5)
    for time, left in zip(reverse.surv_times, reverse.surv_prob, strict=True):
        # P(reversed > t) = P(delay < 100 - t)
        assert found.at(np.array([100 - time - 0.5]))[0] == pytest.approx(left, abs=1e-12)
    assert arrivals(delay, age, np.full(len(delay), 3.0)).arrived == pytest.approx(found.arrived)
    assert found.at(np.array([9.0]))[0] == pytest.approx(10 / 30, abs=0.05)


def test_whole_periods_are_the_chain_ladder() -> None:
    triangle = [[50, 30, 20], [60, 30], [40]]  # rows that came in a period, by their labels' delay
    delay = np.concatenate([np.repeat(np.arange(len(row)), row) for row in triangle]).astype(float)
    age = np.repeat([2.0, 1.0, 0.0], [sum(row) for row in triangle])
    found = arrivals(delay, age)
    second, third = (50 + 30 + 60 + 30) / (50 + 60), (50 + 30 + 20) / (50 + 30)
    assert found.arrived == pytest.approx((1 / (second * third), 1 / third, 1.0))
    assert found.age_s(0.7) == 1.0
    assert found.age_s(2.0) == math.inf


def test_a_curve_of_many_delays_is_thinned() -> None:
    delay = np.random.default_rng(2).random(20_000)
    found = arrivals(delay, np.full(20_000, 2.0))
    assert len(found.delays_s) <= 401
    places = np.linspace(0.01, 1.2, 50)
    wanted = np.searchsorted(np.sort(delay), places, side="right") / 20_000
    np.testing.assert_allclose(found.at(places), wanted, atol=0.003)
    assert arrivals(np.empty(0), np.empty(0)).rows == 0


def test_the_correction_is_right_where_early_labels_are_not() -> None:
    random = np.random.default_rng(3)
    metrics = ["auc", "log_loss", "brier", "precision", "recall@0.3"]
    truth = flights(random, 400_000, 1)
    whole = {name: METRICS[name].function(truth["label"], truth["score"]) for name in metrics[:-1]}
    whole["recall@0.3"] = float((truth["score"][truth["label"] > 0] >= 0.3).mean())
    found: list[Matured] = []
    for _ in range(120):
        rows = flights(random, 9000, 90)
        window = log_of(**younger(rows, 21))
        found.append(mature(window, log_of(**rows), known_by=NOW, metrics=metrics))
    for name in metrics:
        corrected = np.array([one.values[name] for one in found])
        naive = np.array([one.naive[name] for one in found])
        error = corrected.std() / math.sqrt(len(found))
        assert abs(corrected.mean() - whole[name]) < 4 * error + 0.003 * whole[name], name
        if name in ("brier", "log_loss", "precision"):
            assert abs(naive.mean() - whole[name]) > 5 * abs(corrected.mean() - whole[name]), name
        covered = np.mean([not one.intervals[name].excludes(whole[name]) for one in found])
        assert covered >= 0.9, name
    assert all(0 < one.left_out < one.rows for one in found)
    assert "label" in found[0].assumes[0]


def test_what_has_not_been_reported_is_not_absent_yet() -> None:
    """Fraud is reported after three weeks on average; who is not reported is no fraud."""
    random = np.random.default_rng(4)
    metrics = ["auc", "log_loss", "recall@0.2", "precision@0.2"]

    def rows(count: int, days: float) -> dict[str, np.ndarray]:
        found = flights(random, count, days)
        slow = random.gamma(3.0, 7.0, count) * DAY_S
        return found | {"delay_s": np.where(found["label"] > 0, slow, np.inf)}

    truth = rows(300_000, 1)
    signature = Signature(inputs=(), output="probability")
    base = mature_truth(truth, metrics)
    found: list[Matured] = []
    for _ in range(50):
        past = rows(12_000, 120)
        window = log_of(**younger(past, 40))
        found.append(
            mature(
                window,
                log_of(**past),
                known_by=NOW,
                metrics=metrics,
                signature=signature,
                absent=0.0,
            )
        )
    for name in metrics:
        corrected = np.array([one.values[name] for one in found])
        naive = np.mean([one.naive[name] for one in found])
        error = corrected.std() / math.sqrt(len(found))
        assert abs(corrected.mean() - base[name]) < 4 * error + 0.01 * base[name], name
        if name in ("log_loss", "precision@0.2"):
            assert abs(naive - base[name]) > 5 * abs(corrected.mean() - base[name]), name
        covered = np.mean([not one.intervals[name].excludes(base[name]) for one in found])
        assert covered >= 0.84, name


def mature_truth(truth: dict[str, np.ndarray], metrics: list[str]) -> dict[str, float]:
    from upturn.improve.metrics import get_metric

    return {name: get_metric(name).function(truth["label"], truth["score"]) for name in metrics}


def test_delays_may_depend_on_a_feature_and_labels_be_numbers() -> None:
    random = np.random.default_rng(5)
    rows = 30_000
    carrier = random.integers(0, 2, rows)
    label = random.normal(10 + 20 * carrier, 5, rows)
    score = label + random.normal(0, 1 + 4 * carrier, rows)
    age = random.random(rows) * 100 * DAY_S
    delay = random.exponential(np.where(carrier > 0, 12.0, 1.0), rows) * DAY_S
    names = np.array(["AA", "UA"])[carrier]
    order = np.argsort(-age, kind="stable")
    past = log_of(label, score, age, delay).append_column(
        "features.carrier", pa.array(names[order])
    )
    recent = past.slice(int((age > 15 * DAY_S).sum()))
    signature = Signature(inputs=(), output="number")
    found = mature(recent, past, known_by=NOW, signature=signature, by=["carrier"])
    truth = (np.sqrt(2 / np.pi) * (1 + 5)) / 2
    assert found.values["mae"] == pytest.approx(truth, rel=0.05)
    assert abs(found.naive["mae"] - truth) > 0.1 * truth
    assert any(name.startswith("UA") for name in found.curves)


def test_what_cannot_be_said() -> None:
    random = np.random.default_rng(6)
    rows = flights(random, 500, 60)
    past = log_of(**rows)
    nothing = mature(past, past.slice(0, 0), known_by=NOW)
    assert math.isnan(nothing.values["auc"])
    assert "fewer than 50" in nothing.unsaid
    fresh = log_of(**younger(rows, 0.01))
    young = mature(fresh, log_of(**flights(random, 3000, 60)), known_by=NOW)
    assert young.unsaid == "no row is old enough"
    assert young.rows == fresh.num_rows
    with pytest.raises(Invalid, match="absent"):
        mature(past, past, known_by=NOW, metrics=["ks"], absent=0.0)
    with pytest.raises(NotFound):
        mature(past, past, known_by=NOW, metrics=["gini"])
    with pytest.raises(Invalid, match="carrier"):
        mature(past, past, known_by=NOW, by=["carrier"])


def test_labels_later_than_the_horizon_do_not_count() -> None:
    random = np.random.default_rng(7)
    past = log_of(**flights(random, 20_000, 90))
    found = mature(past, past, known_by=NOW, horizon="5d")
    assert found.horizon_s == 5 * DAY_S
    assert all(curve.delays_s[-1] <= 5 * DAY_S for curve in found.curves.values())


def test_completeness_by_age() -> None:
    rows = flights(np.random.default_rng(8), 5000, 30)
    bands = completeness_by_age(log_of(**rows), NOW)
    assert sum(band.rows for band in bands) == 5000
    shares = [band.completeness for band in bands if band.rows > 200]
    assert shares == sorted(shares)
    assert all(band.low <= band.completeness <= band.high for band in bands)
    assert completeness_by_age(log_of(**rows).slice(0, 0), NOW) == ()


def test_labels_that_stop_coming_are_seen_and_others_are_not() -> None:
    random = np.random.default_rng(9)
    alarms = 0
    for _ in range(200):
        (found,) = label_symptoms(log_of(**flights(random, 4000, 60)), known_by=NOW)
        alarms += found.severity != "fine"
    assert alarms <= 2
    rows = flights(random, 4000, 60)
    arrives = rows["age_s"] - rows["delay_s"]  # that long ago
    stopped = (arrives > 0) & (arrives < 1.5 * DAY_S)
    rows["delay_s"] = np.where(stopped, np.inf, rows["delay_s"])
    (found,) = label_symptoms(log_of(**rows), known_by=NOW)
    assert (found.severity, found.facts["arrived"]) == ("critical", 0)
    assert "to be expected" in found.says
    (later,) = label_symptoms(log_of(**rows), known_by=NOW, last=timedelta(days=7))
    assert later.severity == "fine"
    (few,) = label_symptoms(log_of(**flights(random, 10, 60)), known_by=NOW)
    assert few.severity == "fine"
    assert "can't be said" in few.says
    assert label_symptoms(log_of(**rows).slice(0, 0), known_by=NOW)[0].severity == "fine"
