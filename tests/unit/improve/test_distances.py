"""Distances of binned counts, against scipy and by their properties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from upturn.improve.monitor.distances import hellinger, jensen_shannon, total_variation

ALL = [total_variation, hellinger, jensen_shannon]
COUNTS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=2, max_size=20)


@pytest.mark.parametrize("distance", ALL)
@given(pairs=COUNTS)
def test_bounded_symmetric_and_no_greater_when_bins_are_merged(distance, pairs):
    before, after = np.array(pairs, np.int64).T
    found = distance(before, after)
    if not before.sum() or not after.sum():
        assert math.isnan(found)
        return
    assert 0 <= found <= 1 + 1e-12
    assert found == pytest.approx(distance(after, before), abs=1e-7)
    assert distance(before, before) == pytest.approx(0, abs=1e-7)
    merged = [np.concatenate(([one[0] + one[1]], one[2:])) for one in (before, after)]
    assert distance(*merged) <= found + 1e-7


def test_jensen_shannon_is_scipys():
    before, after = np.array([5, 0, 70, 25]), np.array([0, 10, 300, 90])
    assert jensen_shannon(before, after) == pytest.approx(jensenshannon(before, after, base=2))
