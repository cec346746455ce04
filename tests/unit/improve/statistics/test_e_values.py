"""e-values: calibrators integrate to one, combinations keep a mean of one, alarms are seldom."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from upturn.core.errors import Invalid
from upturn.improve.statistics.e_values import (
    Detector,
    detector_path,
    e_to_p,
    log_mean,
    log_product,
    p_to_log_e,
)

LOGS = st.lists(st.floats(-50, 50), min_size=1, max_size=20)


@pytest.mark.parametrize("kappa", [0.1, 0.5, 0.9, None])
def test_a_calibrated_p_value_has_a_mean_of_one(kappa: float | None) -> None:
    """Over uniform p; in log p, for most of it lies at the smallest."""
    mean, _ = integrate.quad(
        lambda log_p: math.exp(p_to_log_e(math.exp(log_p), kappa) + log_p), -600, 0, limit=500
    )
    # Of the average, 1 / 600 lies below e^-600.
    assert mean == pytest.approx(1, abs=1e-6 if kappa else 2e-3)
    assert mean <= 1 + 1e-9


@given(st.floats(1e-300, 1), st.floats(1e-300, 1))
def test_calibrators_fall_and_never_say_more_than_the_p_value(p: float, q: float) -> None:
    p, q = sorted((p, q))
    for kappa in (None, 0.3):
        assert p_to_log_e(p, kappa) >= p_to_log_e(q, kappa) - 1e-9
        assert e_to_p(p_to_log_e(p, kappa)) >= p * (1 - 1e-9)


def test_the_average_calibrator_by_hand_and_near_one() -> None:
    assert math.exp(p_to_log_e(0.05)) == pytest.approx(
        (1 - 0.05 + 0.05 * math.log(0.05)) / (0.05 * math.log(0.05) ** 2)
    )
    assert p_to_log_e(1.0) == pytest.approx(math.log(0.5))
    assert p_to_log_e(0.9989) == pytest.approx(p_to_log_e(0.99900001), abs=1e-3)
    assert p_to_log_e(0.0) == math.inf
    assert math.isnan(p_to_log_e(math.nan))


@given(LOGS)
def test_means_and_products(log_es: list[float]) -> None:
    es = np.exp(log_es)
    assert log_mean(log_es) == pytest.approx(math.log(es.mean()), abs=1e-9)
    assert log_product([*log_es, math.nan]) == pytest.approx(sum(log_es))
    assert log_mean([*log_es, math.nan]) == log_mean(log_es)


def test_combining_what_is_nothing_or_everything() -> None:
    assert math.isnan(log_mean([]))
    assert log_product([]) == 0.0
    assert log_mean([math.inf, 0.0]) == math.inf
    assert log_mean([-math.inf, -math.inf]) == -math.inf
    assert log_product([math.inf, -math.inf]) == -math.inf


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.booleans())
def test_a_detector_sums_or_takes_the_best_of_all_begins(log_es: list[float], cusum: bool) -> None:
    """Shin, Ramdas & Rinaldo, definition: over every window from which one might have begun."""
    begun = [math.exp(sum(log_es[start:])) for start in range(len(log_es))]
    found = Detector(cusum=cusum).after(log_es)
    assert math.exp(found.log_statistic) == pytest.approx(max(begun) if cusum else sum(begun))
    assert detector_path(log_es, cusum=cusum)[-1] == pytest.approx(found.log_statistic)
    assert found.windows == len(log_es)


def test_alarms_come_late_without_a_change_and_soon_after_one() -> None:
    draw = np.random.default_rng(9)
    x = draw.normal(size=(1500, 1200))
    paths = detector_path(0.5 * x - 0.125) >= math.log(100)
    first = np.where(paths.any(axis=1), paths.argmax(axis=1) + 1, 1200)
    assert first.mean() > 100  # cut at 1,200, so more in truth
    changed = detector_path(0.5 * (x[:, :100] + 1) - 0.125) >= math.log(100)
    assert np.median(changed.argmax(axis=1) + 1) < 20


def test_refusals() -> None:
    for wrong in (
        lambda: p_to_log_e(1.5),
        lambda: p_to_log_e(0.5, kappa=1.0),
        lambda: Detector(alpha=0.0).after([1.0]),
    ):
        with pytest.raises(Invalid):
            wrong()
    assert Detector().after([math.nan, math.nan]).log_statistic == pytest.approx(math.log(2))
