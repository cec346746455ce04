"""Bounded means: every sequence of a few tosses, the capital by its definition, and coverage."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upturn.core.errors import Invalid
from upturn.improve.statistics.bounded import (
    betting_interval,
    empirical_bernstein,
    empirical_bernstein_path,
)

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=40)


def capital(x: list[float], m: float, alpha: float, sign: int) -> float:
    """The log of the capital against m of arXiv 2010.09686, eq. 24 to 27, a step at a time."""
    log = total = squares = 0.0
    mean, variance = 0.5, 0.25
    for t, value in enumerate(x, 1):
        bet = math.sqrt(2 * math.log(2 / alpha) / (variance * t * math.log(t + 1)))
        room = m if sign > 0 else 1 - m
        bet = min(bet, 0.5 / room) if room > 0 else bet
        log += math.log1p(sign * bet * (value - m))
        total += value
        mean = (0.5 + total) / (t + 1)
        squares += (value - mean) ** 2
        variance = (0.25 + squares) / (t + 1)
    return log


@settings(max_examples=60)
@given(VALUES, st.floats(0.001, 0.999))
def test_an_interval_holds_the_means_that_are_not_ruled_out(x: list[float], m: float) -> None:
    found = betting_interval(x, alpha=0.1, null=m)
    log_e = max(capital(x, m, 0.1, 1), capital(x, m, 0.1, -1)) - math.log(2)
    assert found.p_value == pytest.approx(min(math.exp(-log_e), 1.0), rel=1e-9)
    if abs(log_e - math.log(10)) > 1e-6:
        assert found.excludes(m) == (log_e > math.log(10))


@pytest.mark.parametrize("chance", [0.5, 0.9])
def test_every_sequence_of_eight_tosses(chance: float) -> None:
    """How likely it is that the truth is left out at any toss, exactly: less than alpha."""
    out = {"betting": set[tuple[float, ...]](), "bernstein": set[tuple[float, ...]]()}
    for n in range(1, 9):
        for tosses in product([0.0, 1.0], repeat=n):
            for name, method in (("betting", betting_interval), ("bernstein", empirical_bernstein)):
                found = method(tosses, alpha=0.4, null=chance).p_value < 0.4
                if found or tosses[:-1] in out[name]:
                    out[name].add(tosses)
    wrong = {
        name: sum(
            math.prod(chance if x else 1 - x - chance for x in one) for one in at if len(one) == 8
        )
        for name, at in out.items()
    }
    assert 0 < wrong["betting"] <= 0.4
    assert wrong["bernstein"] <= 0.4


@given(VALUES, st.floats(-5, 5), st.floats(0.1, 10), st.floats(0.01, 0.99))
def test_a_range_is_a_matter_of_units(x: list[float], low: float, span: float, at: float) -> None:
    values = low + span * np.clip(np.array(x), 1e-9, 1 - 1e-9)
    null = low + span * at
    for method in (betting_interval, empirical_bernstein):
        one = method(np.clip(x, 1e-9, 1 - 1e-9), null=at)
        other = method(values, low=low, high=low + span, null=null)
        assert (other.low, other.high) == pytest.approx(
            (low + span * one.low, low + span * one.high), abs=1e-6
        )
        assert other.p_value == pytest.approx(one.p_value, rel=1e-4)
        assert one.low - 1e-12 <= one.estimate <= one.high + 1e-12
        margin = abs(one.p_value / 0.05 - 1) < 1e-6
        assert margin or one.excludes(at) == (one.p_value < 0.05)


def test_coverage_and_which_is_narrower() -> None:
    draw = np.random.default_rng(6)
    x = draw.beta(2, 8, (200, 400))
    wrong = sum(betting_interval(row, null=0.2).p_value < 0.05 for row in x)
    paths = [empirical_bernstein_path(row) for row in x]
    wrong_path = sum(bool(((low > 0.2) | (high < 0.2)).any()) for low, high in paths)
    assert wrong / 200 <= 0.05
    assert wrong_path / 200 <= 0.05
    bet, bernstein = betting_interval(x[0]), empirical_bernstein(x[0])
    assert bet.high - bet.low < bernstein.high - bernstein.low < 0.2
    assert (paths[0][0][-1], paths[0][1][-1]) == (bernstein.low, bernstein.high)


def test_a_constant_is_not_known_for_sure() -> None:
    found = betting_interval([0.3] * 20)
    assert found.low < 0.3 < found.high
    assert found.high - found.low > 0.05


def test_refusals_and_nothing() -> None:
    assert not betting_interval([]).said
    assert not empirical_bernstein([math.nan]).said
    assert empirical_bernstein([math.nan, 0.5]).estimate == 0.5
    assert betting_interval([0.5], null=1.5).p_value == 0.0
    for values, low, high in [([1.5], 0, 1), ([0.5], 1, 0), ([math.inf], 0, 1), ([1], 0, math.inf)]:
        with pytest.raises(Invalid):
            betting_interval(values, low=low, high=high)
