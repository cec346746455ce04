"""Moments of a table are those of its parts, whatever the values, the table's kind and its rows."""

import math
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import upturn as up
from upturn.core.errors import Invalid, NotFound
from upturn.improve.experiment.moments import empty, moments_of
from upturn.improve.experiment.scan import scan
from upturn.improve.experiment.source import open_source
from upturn.improve.experiment.units import Layout, units_of

ARMS = ("control", "new")


def scanned(table: Any, *metrics: Any, unit: str | None = None, at: str | None = None) -> Any:
    with open_source(table) as source:
        layout = Layout(ARMS, "arm", unit, at)
        columns = [one for metric in metrics for one in (*metric.outcomes, *metric.covariates)]
        units = units_of(source, layout, columns)
        return {key[0]: group for key, group in scan(source, units, metrics, ["arm"]).items()}


numbers = arrays(
    np.float64, st.tuples(st.integers(0, 30), st.just(2)), elements=st.floats(-1e6, 1e6, width=32)
)


@given(numbers, st.integers(0, 30))
def test_parts_add_up_to_the_whole(values: Any, cut: int) -> None:
    cut = min(cut, len(values))
    added = moments_of(values[:cut]) + moments_of(values[cut:])
    whole = moments_of(values)
    scale = 1 + np.abs(values).max(initial=0.0)
    assert added.n == whole.n
    np.testing.assert_allclose(added.mean, whole.mean, atol=1e-12 * scale)
    np.testing.assert_allclose(added.scatter, whole.scatter, atol=1e-10 * scale**2)
    assert (whole + empty(2)).n == whole.n


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.sampled_from([0.0, 1e9, 1e9 + 1, -3.5, 1e-9, math.nan, math.inf, None]), min_size=4
    ),
    st.sampled_from([0.0, 1e9, 1e12]),
)
def test_a_scan_agrees_with_exact_sums_on_nasty_values(values: list[Any], offset: float) -> None:
    given = [None if one is None else one + offset for one in values]
    arms = ["control"] * len(given)
    table = pa.table({"arm": arms, "x": pa.array(given, pa.float64(), from_pandas=False)})
    found = scanned(table, up.Mean("x"))["control"]
    known = np.array([v for v in given if v is not None and math.isfinite(v)], np.longdouble)
    moments = found.moments[0]
    assert (found.units, moments.n) == (len(given), len(known))
    if len(known):
        exact = known.mean()
        scatter = float(((known - exact) ** 2).sum())
        size = float(np.abs(known).max())
        assert float(moments.mean[0]) == pytest.approx(float(exact), rel=1e-14, abs=1e-14 * size)
        assert float(moments.scatter[0, 0]) == pytest.approx(scatter, rel=1e-9, abs=1e-9)


def test_values_around_a_billion_keep_their_variance() -> None:
    draw = np.random.default_rng(0)
    # The first rows are far from the others, so that the first look misleads.
    x = np.concatenate([np.zeros(25_000), 1e9 + draw.normal(0, 0.5, 25_000)])[::-1].copy()
    x = np.where(np.arange(50_000) < 25_000, x, 1e9 + draw.normal(0, 0.5, 50_000))
    arms = np.where(np.arange(50_000) % 2 == 0, "control", "new")
    found = scanned({"arm": arms, "x": x}, up.Mean("x"))
    for arm in ARMS:
        own = x[arms == arm].astype(np.longdouble)
        variance = float(((own - own.mean()) ** 2).sum() / (len(own) - 1))
        assert float(found[arm].moments[0].cov[0, 0]) == pytest.approx(variance, rel=1e-9)


def rows(n: int = 600) -> dict[str, Any]:
    draw = np.random.default_rng(7)
    return {
        "arm": np.where(draw.random(n) < 0.5, "new", "control"),
        "user": draw.permutation(n),
        "x": draw.normal(5, 2, n),
        "bought": draw.random(n) < 0.3,
        "day": np.datetime64("2026-03-01", "us") + draw.integers(0, 5, n).astype("timedelta64[D]"),
    }


def test_all_kinds_of_tables_say_the_same(tmp_path: Path) -> None:
    table = pa.table(rows())
    pq.write_table(table.slice(0, 200), tmp_path / "a-1.parquet")
    pq.write_table(table.slice(200), tmp_path / "a-2.parquet")
    pd.DataFrame(rows()).to_csv(tmp_path / "a.csv", index=False)
    experiment = up.Experiment(
        "x", arms=ARMS, unit="user", metrics=[up.Mean("x"), up.Proportion("bought")]
    )
    with duckdb.connect() as connection:
        connection.register("t", table)
        kinds = [
            table,
            rows(),
            pd.DataFrame(rows()),
            pl.DataFrame(rows()),
            tmp_path / "a-*.parquet",
            str(tmp_path / "a.csv"),
            connection.sql("SELECT * FROM t"),
        ]
        found = [experiment.analyze(kind, at="day") for kind in kinds]
    assert {one.verdict for one in found} == {found[0].verdict}
    for one in found[1:]:
        assert one.effects[0].difference.low == pytest.approx(found[0].effects[0].difference.low)
    assert experiment.analyze(table, at="day") == found[0]  # to the last digit


def test_names_of_columns_are_never_taken_for_our_own() -> None:
    table = rows()
    odd = {
        "arm": table["arm"],
        "c0": table["bought"],
        "c1": table["x"],
        "s0": table["user"] % 2,
        "day": table["day"],
        "unit": table["user"] // 2,
        "mixed": table["x"] * 3,
        'a "b"': table["x"] * 2,
    }
    plain = {f"_{name}": values for name, values in odd.items()} | {"arm": table["arm"]}

    def analyzed(data: dict[str, Any], mark: str) -> Any:
        metrics = [
            up.Mean(f"{mark}c1", covariate=f"{mark}mixed", name="one"),
            up.Proportion(f"{mark}c0", name="two"),
            up.Ratio(f'{mark}a "b"', f"{mark}c1", name="three"),
            up.Quantile(f"{mark}c1", 0.5, name="four"),
        ]
        experiment = up.Experiment(
            "x", arms=ARMS, unit=f"{mark}unit", metrics=metrics, segments=[f"{mark}s0"]
        )
        found = experiment.analyze(data, at=f"{mark}day")
        effects = [*found.effects, *(one.effect for one in found.segments)]
        return [(one.value, one.difference, one.lift) for one in effects]

    assert repr(analyzed(odd, "")) == repr(analyzed(plain, "_"))


@pytest.mark.parametrize("name", ["day", "mixed", "unit", "c0", "s0", "x", "seen_at", "data"])
def test_a_unit_may_have_any_name(name: str) -> None:
    table = rows() | {"kind": rows()["user"] % 2}
    table[name] = table["user"] % 250
    options: dict[str, Any] = {"arms": ARMS, "segments": ["kind"]}
    metrics = [up.Mean("bought"), up.Quantile("bought", 0.5)]
    at = table.pop("day") if name != "day" else rows()["day"]
    table["when"] = at

    def analyzed(unit: str) -> Any:
        experiment = up.Experiment("x", unit=unit, metrics=metrics, **options)
        found = experiment.analyze(table, at="when")
        return repr((found, experiment.novelty(table, at="when", days=3)))

    table["plain"] = table[name]
    assert analyzed(name) == analyzed("plain")


def test_rows_of_a_unit_are_made_one_and_crossed_units_are_counted() -> None:
    table = {
        "arm": ["control", "control", "new", "new", "new", "other", None, "new"],
        "user": ["a", "a", "b", "b", "c", "d", "e", None],
        "x": [1.0, 2.0, 4.0, 6.0, 8.0, 1.0, 1.0, 9.0],
        "at": pd.date_range("2026-01-01", periods=8),
    }
    found = scanned(table, up.Mean("x"), up.Count(), unit="user")
    assert found["control"].moments[0].mean.tolist() == [3.0]
    assert found["new"].moments[0].mean.tolist() == [9.0]  # of 10 and 8
    assert found["new"].moments[1].mean.tolist() == [1.5]

    crossed = table | {"arm": ["control", "new", "new", "new", "new", "other", None, "new"]}
    experiment = up.Experiment("x", arms=ARMS, unit="user", metrics=[up.Mean("x")])
    first = experiment.analyze(crossed, at="at")
    assert [one.units for one in first.arms] == [1, 2]
    assert (first.mixed, first.no_unit, first.other_arms) == (1, 1, 2)
    left = experiment.analyze(crossed)
    assert [one.units for one in left.arms] == [0, 2]
    assert "left out" in left.notes[0]


def test_what_does_not_fit_is_said_with_a_way_out() -> None:
    table = rows() | {"plan": ["a"] * 600}

    def analyze(metric: Any, **options: Any) -> None:
        up.Experiment("x", arms=ARMS, metrics=[metric], **options).analyze(table, at=None)

    with pytest.raises(NotFound, match=r"no column 'boght'.*Did you mean 'bought'"):
        analyze(up.Proportion("boght"))
    with pytest.raises(Invalid, match=r"'plan'.*holds no numbers"):
        analyze(up.Mean("plan"))
    with pytest.raises(Invalid, match="other than 0 and 1"):
        analyze(up.Proportion("x"))
    with pytest.raises(NotFound, match="No file"):
        up.Experiment("x", arms=ARMS, metrics=[up.Mean("x")]).analyze("nowhere.parquet")
    with pytest.raises(Invalid, match="not a table"):
        up.Experiment("x", arms=ARMS, metrics=[up.Mean("x")]).analyze(3)
    with pytest.raises(Invalid, match="holds no times"):
        up.Experiment("x", arms=ARMS, metrics=[up.Mean("x")]).analyze(table, at="x")
