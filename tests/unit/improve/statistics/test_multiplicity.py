"""Many tests at once: statsmodels' adjustments, and the error rates that they keep."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from upturn.core.errors import Invalid
from upturn.improve.statistics import multiplicity

PS = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("bonferroni", "bonferroni"),
        ("holm", "holm"),
        ("benjamini_hochberg", "fdr_bh"),
        ("benjamini_yekutieli", "fdr_by"),
    ],
)
@given(PS)
def test_adjusted_p_values_are_statsmodels(name: str, theirs: str, ps: list[float]) -> None:
    ours = getattr(multiplicity, name)(ps)
    assert ours == pytest.approx(multipletests(ps, method=theirs)[1], abs=1e-12)


def test_adjusted_by_name() -> None:
    ps = [0.03, math.nan, 0.01]
    assert multiplicity.adjusted(ps, "holm") == pytest.approx(multiplicity.holm(ps), nan_ok=True)
    by_rate = multiplicity.benjamini_hochberg(ps)
    assert multiplicity.adjusted(ps, "bh") == pytest.approx(by_rate, nan_ok=True)
    assert multiplicity.adjusted(ps, None) == pytest.approx(ps, nan_ok=True)


@given(PS, st.integers(0, 30))
def test_what_can_not_be_said_is_not_counted(ps: list[float], place: int) -> None:
    place = min(place, len(ps))
    with_nan = [*ps[:place], math.nan, *ps[place:]]
    found = multiplicity.holm(with_nan)
    assert math.isnan(found[place])
    assert found[:place] + found[place + 1 :] == multiplicity.holm(ps)
    assert multiplicity.holm([]) == multiplicity.benjamini_yekutieli([]) == []


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=20), st.floats(0.01, 0.5))
def test_e_values_are_those_of_the_definition(es: list[float], alpha: float) -> None:
    ordered = sorted(es, reverse=True)
    count = max(
        (k for k in range(1, len(es) + 1) if k * ordered[k - 1] * alpha >= len(es)), default=0
    )
    least = ordered[count - 1] if count else math.inf
    found = multiplicity.e_benjamini_hochberg(es, alpha)
    margin = any(math.isclose(k * ordered[k - 1] * alpha, len(es)) for k in range(1, len(es) + 1))
    assert margin or found == [e >= least for e in es]


def test_e_values_that_can_not_be_said() -> None:
    assert multiplicity.e_benjamini_hochberg([math.nan, 50.0]) == [False, True]
    assert multiplicity.e_benjamini_hochberg([math.inf, 1.0]) == [True, False]
    assert multiplicity.e_benjamini_hochberg([]) == []
    with pytest.raises(Invalid):
        multiplicity.e_benjamini_hochberg([1.0], alpha=1.0)


def test_the_share_of_false_findings() -> None:
    draw = np.random.default_rng(2)
    z = draw.normal(size=(400, 40)) * np.sqrt(0.5) + draw.normal(size=(400, 1)) * np.sqrt(0.5)
    z[:, :10] += 4
    false = {"bh": 0.0, "e": 0.0, "holm": 0.0}
    for row in z:
        ps = [float(p) for p in 0.5 * np.vectorize(math.erfc)(row / math.sqrt(2))]
        es = np.exp(3 * row - 4.5).tolist()
        found = {
            "bh": np.array(multiplicity.benjamini_hochberg(ps)) <= 0.1,
            "e": np.array(multiplicity.e_benjamini_hochberg(es, 0.1)),
            "holm": np.array(multiplicity.holm(ps)) <= 0.1,
        }
        for name, mask in found.items():
            wrong = mask[10:].sum()
            false[name] += float(wrong > 0) if name == "holm" else wrong / max(mask.sum(), 1)
    assert all(total / 400 <= 0.1 for total in false.values()), false
