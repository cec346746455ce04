"""Alarms come when a column has drifted for good, and while nothing drifts they hardly ever do."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from upturn.core.errors import Invalid
from upturn.improve.monitor.alarms import Alarm, alarms, evidence, habits, judge, raised
from upturn.improve.monitor.drift import Drift, drift
from upturn.model.profile import profile_table

START = datetime(2024, 1, 1, tzinfo=UTC)
BINS = 20


def days(count: int) -> list[datetime]:
    return [START + timedelta(days=day) for day in range(count)]


def one_drift(psi: float, noise: float = 0.0) -> Drift:
    table = pa.table({"x": [1.0, 2.0]})
    (found,) = drift(profile_table(table), table)
    return msgspec.structs.replace(found, psi=psi, psi_noise=noise)


def watched(psis: list[float], **options: Any) -> Alarm:
    windows = [(day, {"x": one_drift(psi)}) for day, psi in zip(days(len(psis)), psis, strict=True)]
    (found,) = alarms(windows, **options)
    return found


def test_a_column_that_has_drifted_is_raised_and_it_says_since_when() -> None:
    found = watched([0.01] * 30 + [0.25] * 10)
    assert found.raised
    assert found.began_at == START + timedelta(days=30)
    assert found.evidence > 1000
    assert found.windows == 40


def test_what_matters_little_or_not_for_long_is_not_raised() -> None:
    assert not watched([0.04] * 400).raised
    assert not watched([0.01] * 30 + [2.0] + [0.01] * 5).raised
    assert not watched([0.3, 0.3, 0, 0, 0, 0, 0] * 20).raised
    over = watched([0.01] * 10 + [0.5] * 10 + [0.01] * 10)
    assert not over.raised
    assert over.began_at is None


def test_what_a_column_is_used_to_is_no_drift() -> None:
    used = [(day, {"x": one_drift(0.2 + 0.02 * (place % 2))}) for place, day in enumerate(days(20))]
    found = watched([0.22] * 60, reference=used)
    assert not found.raised
    assert 0.21 < found.limit < 0.25
    assert watched([0.22] * 60, reference=used[:6]).raised  # six windows are no habit
    assert watched([1.0] * 30, reference=used).raised


def test_windows_and_columns_that_are_not_there_say_nothing() -> None:
    assert alarms([]) == []
    windows = [
        (day, {"x": one_drift(0.5)} if place % 2 else {}) for place, day in enumerate(days(20))
    ]
    (found,) = alarms(windows)
    assert found.windows == 10
    assert found.raised
    nothing = [(day, {"x": one_drift(float("nan"))}) for day in days(9)]
    assert not alarms(nothing)[0].raised
    for options in ({"limit": 0.0}, {"patience": 0.5}):
        with pytest.raises(Invalid, match="make no alarm"):
            alarms(windows, **options)


FIGURES = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 12)),
    elements=st.one_of(st.floats(0, 5), st.just(float("nan"))),
)


@given(FIGURES)
def test_more_drift_is_more_evidence(psi: Any) -> None:
    limits, chance = np.full(len(psi), 0.05), np.zeros(psi.shape)
    found = evidence(psi, chance, limits)
    more = evidence(psi + 0.1, chance, limits)
    assert (more >= found - 1e-9).all()
    # Each window can be looked at as it comes.
    half = psi.shape[1] // 2 + 1
    assert np.allclose(evidence(psi[:, :half], chance[:, :half], limits), found[:, :half])
    assert not (raised(found, 1e6) & ~raised(found, 10)).any()


def test_a_single_false_alarm_takes_patience_at_its_worst() -> None:
    """E-values of mean 1 exactly, that are often great: the run length promised is held."""
    random = np.random.default_rng(6)
    columns, patience, runs, length = 5, 50, 300, 400
    lengths = []
    for _ in range(runs):
        psi = 0.05 * random.exponential(size=(columns, length)) * 1.0
        alarm = raised(
            evidence(psi, np.zeros(psi.shape), np.full(columns, 0.05), patience), patience
        )
        when = alarm.any(axis=0)
        lengths.append(int(when.argmax()) + 1 if when.any() else length)
    assert np.mean(lengths) > patience


def tilted(random: np.random.Generator, rows: int, tilts: Any) -> Any:
    logs = tilts[..., None] * np.linspace(-1, 1, BINS)
    shares = np.exp(logs)
    return random.multinomial(rows, shares / shares.sum(-1, keepdims=True))


def figures(base: Any, counts: Any) -> tuple[Any, Any]:
    n, m = base.sum(-1, keepdims=True), counts.sum(-1, keepdims=True)
    p, q = (base + 0.5) / (n + BINS / 2), (counts + 0.5) / (m + BINS / 2)
    return ((q - p) * np.log(q / p)).sum(-1), ((BINS - 1) * (1 / n + 1 / m))[..., 0]


@pytest.mark.parametrize("rows", [50, 20_000])
@pytest.mark.parametrize("common", [0.0, 0.57])
def test_a_year_of_fifty_columns_without_a_false_alarm(rows: int, common: float) -> None:
    """Rows of a day go together with `common`: their PSI is then 0.1 on average, each day."""
    random = np.random.default_rng(7)
    past = tilted(random, rows, common * random.normal(size=(50, 56)))
    counts = tilted(random, rows, common * random.normal(size=(50, 365)))
    whole = past.sum(1, keepdims=True)
    used = figures(whole - past, past)
    names = [f"x{i}" for i in range(50)]
    now = figures(whole, counts)
    assert not any(one.raised for one in judge(names, days(365), now, used))
    limits = np.maximum(0.05, habits(*used))
    assert not raised(evidence(*now, limits)).any()


def test_a_change_is_found_within_days() -> None:
    random = np.random.default_rng(8)
    tilts = np.zeros((50, 90))
    tilts[0, 60:] = 0.84  # a PSI of 0.25
    base = tilted(random, 50_000, np.zeros((50, 1)))
    now = figures(base, tilted(random, 1000, tilts))
    assert 0.2 < (now[0] - now[1])[0, 60:].mean() < 0.3
    alarm = raised(evidence(*now, np.full(50, 0.05)))
    assert not alarm[:, :60].any()
    assert not alarm[1:].any()
    assert alarm[0].argmax() - 60 <= 10
    (found, *_) = judge([f"x{i:02}" for i in range(50)], days(90), now, (now[0][:, :0],) * 2)
    assert found.began_at == days(90)[60]
