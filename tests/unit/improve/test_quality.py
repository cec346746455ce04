"""What is odd about inputs is a symptom; what chance and days explain is none."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from upturn.core.schema import Field, Profile, Signature
from upturn.core.time import instant
from upturn.improve.monitor.quality import QualityTally, quality
from upturn.improve.monitor.staleness import staleness
from upturn.improve.monitor.symptom import Symptom
from upturn.model.profile import profile_table

START = instant("2013-04-01")
SIGNATURE = Signature(
    inputs=(
        Field(name="x", type="float", nullable=True),
        Field(name="n", type="int"),
        Field(name="kind", type="str", categories=("a", "b", "c")),
    ),
    output="probability",
)


def columns(random: np.random.Generator, rows: int) -> dict[str, object]:
    x = random.normal(size=rows)
    return {
        "x": pa.array(np.where(random.random(rows) < 0.02, np.nan, x), from_pandas=True),
        "n": random.integers(0, 40, rows),
        "kind": random.choice(["a", "b", "c"], rows, p=[0.6, 0.3, 0.1]),
    }


def baseline(random: np.random.Generator, rows: int = 5000) -> Profile:
    return profile_table(pa.table(columns(random, rows)))


def log(random: np.random.Generator, rows: int = 3000, **changed: object) -> pa.Table:
    at = [START + timedelta(minutes=10 * row * 1000 // rows) for row in range(rows)]
    found = columns(random, rows) | changed
    features = {f"features.{name}": values for name, values in found.items() if values is not None}
    return pa.table(
        {
            "id": [f"p{row}" for row in range(rows)],
            "at": pa.array(at, pa.timestamp("us", "UTC")),
            "error": pa.nulls(rows, pa.string()),
        }
        | features
    )


def odd(symptoms: list[Symptom]) -> dict[str, str]:
    return {one.name: one.severity for one in symptoms if one.severity != "fine"}


def test_inputs_as_they_should_be() -> None:
    random = np.random.default_rng(1)
    found = quality(SIGNATURE, baseline(random), log(random))
    assert odd(found) == {}
    assert {one.name for one in found} == {
        "quality/x/missing",
        "quality/x/outside",
        "quality/x/type",
        "quality/n/missing",
        "quality/n/outside",
        "quality/n/type",
        "quality/kind/missing",
        "quality/kind/unseen",
        "quality/failed",
        "quality/id/repeated",
    }


def test_what_is_odd() -> None:
    random = np.random.default_rng(2)
    profile = baseline(random)
    half = np.arange(3000) >= 1500
    x = np.where(half & (random.random(3000) < 0.3), np.nan, random.normal(size=3000))
    (found,) = [
        one
        for one in quality(SIGNATURE, profile, log(random, x=pa.array(x, from_pandas=True)))
        if one.name == "quality/x/missing"
    ]
    assert found.severity == "critical"
    assert found.began_at == START + timedelta(days=3)
    assert "of x are missing" in found.says
    assert found.p_value is not None
    assert found.p_value < 1e-3
    late = random.choice(["a", "b", "z"], 3000, p=[0.6, 0.35, 0.05])
    assert odd(quality(SIGNATURE, profile, log(random, kind=late))) == {
        "quality/kind/unseen": "warning"
    }
    far = np.where(random.random(3000) < 0.05, np.inf, random.normal(size=3000))
    assert odd(quality(SIGNATURE, profile, log(random, x=far))) == {"quality/x/outside": "warning"}
    text = random.choice(["1", "2.5", "many"], 3000)
    assert odd(quality(SIGNATURE, profile, log(random, n=text))) == {"quality/n/type": "critical"}
    assert odd(quality(SIGNATURE, profile, log(random, n=np.full(3000, 7)))) == {
        "quality/n/constant": "critical"
    }
    gone = quality(SIGNATURE, profile, log(random, n=None))
    assert odd(gone) == {"quality/n/missing": "critical"}
    nulls = quality(SIGNATURE, profile, log(random, kind=pa.nulls(3000, pa.string())))
    assert odd(nulls) == {"quality/kind/missing": "critical"}


def test_failures_and_ids_that_are_there_twice() -> None:
    random = np.random.default_rng(3)
    profile = baseline(random)
    rows = log(random)
    error = np.where(random.random(3000) < 0.02, "boom", None)
    rows = rows.set_column(2, "error", pa.array(error, pa.string()))
    rows = rows.set_column(0, "id", pa.array([f"p{row // 2}" for row in range(3000)]))
    found = odd(quality(SIGNATURE, profile, rows))
    assert found == {"quality/failed": "warning", "quality/id/repeated": "critical"}


def test_pieces_are_the_whole() -> None:
    random = np.random.default_rng(4)
    profile, rows = baseline(random), log(random, kind=["z"] * 3000)
    tally = QualityTally(SIGNATURE, profile)
    for begin in range(0, 3000, 700):
        tally.add(rows.slice(begin, 700))
    assert tally.symptoms() == quality(SIGNATURE, profile, rows)


@pytest.mark.parametrize("rows", [200, 20_000])
def test_chance_is_no_symptom(rows: int) -> None:
    random = np.random.default_rng(5)
    wrong = 0
    for _ in range(60):
        wrong += bool(odd(quality(SIGNATURE, baseline(random, 1500), log(random, rows))))
    assert wrong <= 2


def test_nothing_to_look_at() -> None:
    random = np.random.default_rng(6)
    profile = baseline(random)
    assert odd(quality(SIGNATURE, profile, log(random).slice(0, 0))) == {}
    assert odd(quality(SIGNATURE, profile, log(random).slice(0, 1))) == {}
    assert quality(SIGNATURE, Profile(rows=0, columns=()), log(random).slice(0, 0)) == []


def test_staleness_is_held_against_the_habit() -> None:
    weekly = [START + timedelta(days=7 * week) for week in range(5)]
    ends, now = weekly[-1], weekly[-1]

    def severity(days: float, **more: object) -> str:
        (found,) = staleness(ends, now + timedelta(days=days), earlier=weekly[:-1], **more)
        return found.severity

    assert [severity(days) for days in (0, 13, 14, 27, 28)] == [
        "fine",
        "fine",
        "warning",
        "warning",
        "critical",
    ]
    assert [severity(days, limit="10d") for days in (9, 10, 20)] == ["fine", "warning", "critical"]
    (found,) = staleness(ends, now + timedelta(days=20), earlier=weekly[:-1])
    assert found.began_at == ends + timedelta(days=14)
    assert (
        found.says == "The training data ends 20 days ago, where a new model is made every 7 days."
    )
    (new,) = staleness(ends, now + timedelta(days=400))
    assert new.severity == "fine"
    assert staleness(None, now) == []
