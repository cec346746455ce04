"""Pace: batches' times from two measurements, at whatever speed the machine goes now."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.deploy.serve.pace import Pace

SECONDS = st.floats(1e-6, 1.0)


@given(fixed=SECONDS, row=SECONDS, speed=st.floats(0.1, 50.0), rows=st.integers(1, 1000))
def test_what_is_seen_of_one_size_tells_of_all(
    fixed: float, row: float, speed: float, rows: int
) -> None:
    pace = Pace([(1, fixed + row), (64, fixed + 64 * row)])
    for _ in range(60):
        pace.observe(7, speed * (fixed + 7 * row))
    assert pace.seconds(rows) == pytest.approx(speed * (fixed + rows * row), rel=1e-3)


@given(fixed=SECONDS | st.just(0.0), row=SECONDS | st.just(0.0), seconds=st.floats(1e-6, 10.0))
def test_as_many_rows_as_fit(fixed: float, row: float, seconds: float) -> None:
    pace = Pace([(1, fixed + row), (256, fixed + 256 * row)])
    rows = pace.rows_in(seconds)
    budget = max(seconds, 2 * pace.seconds(0))
    assert rows == 1 or pace.seconds(rows) <= budget * 1.001
    assert rows == 2**30 or pace.seconds(rows + 1) >= budget * 0.999


def test_a_slow_model_whose_rows_cost_nothing_takes_all_at_once() -> None:
    assert Pace([(1, 0.3), (4, 0.3)]).rows_in(0.025) == 2**30


def test_one_measurement_promises_nothing_of_larger_batches() -> None:
    pace = Pace([(1, 0.2)])
    assert pace.seconds(3) == pytest.approx(0.6)
    assert pace.rows_in(0.05) == 1


def test_without_a_measurement_nothing_is_expected() -> None:
    pace = Pace()
    pace.observe(4, 0.4)
    assert (pace.seconds(10), pace.rows_in(0.01)) == (0.0, 2**30)


def test_a_model_that_takes_no_time_takes_any_number() -> None:
    assert Pace([(1, 0.0), (64, 0.0)]).rows_in(0.02) == 2**30
