"""Two tables are compared by column, window and segment, the same in memory and from files."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

import upturn as up
from upturn.core.errors import Invalid, NotFound
from upturn.improve.monitor import tables
from upturn.improve.monitor.classifier import clustered_auc, placements, tell_apart
from upturn.improve.monitor.tables_page import render


def rows(count: int, *, seed: int, day: str, days: int, shift: float = 0.0) -> pa.Table:
    random = np.random.default_rng(seed)
    region = random.choice(["east", "west"], count, p=[0.7, 0.3])
    moved = np.where(region == "west", shift, 0.0)
    at = np.datetime64(day, "us") + (random.random(count) * days * 86_400e6).astype(int)
    some = random.random(count) < 0.05
    return pa.table(
        {
            "wind": pa.array(random.normal(size=count) + moved, mask=some),
            "size": random.normal(size=count).astype(np.float32),
            "kind": random.choice(["a", "b", "c"], count),
            "good": random.random(count) < 0.4,
            "region": region,
            "at": at,
            "only": random.random(count),
        }
    )


BEFORE = rows(8000, seed=1, day="2024-01-01", days=28)
NOW = pa.concat_tables(
    [
        rows(4000, seed=2, day="2024-02-01", days=14),
        rows(6000, seed=3, day="2024-02-15", days=14, shift=1.5),
    ]
)


def test_what_drifted_since_when_and_where() -> None:
    found = up.compare_tables(
        BEFORE, NOW.drop_columns("only"), time="at", every="1d", segments=["region"]
    )
    assert found.drift[0].column == "wind"
    assert (found.rows_before, found.rows, found.left_out) == (8000, 10_000, ("at", "only"))
    worst, *others = found.symptoms
    assert (worst.name, worst.severity) == ("drift/wind", "warning")
    assert worst.began_at == datetime(2024, 2, 15, tzinfo=UTC)
    assert worst.p_value is not None
    assert worst.p_value < 1e-50
    assert worst.facts["segments"].keys() == {"region=west"}
    assert {one.severity for one in others} == {"fine"}
    (raised,) = [one for one in found.alarms if one.raised]
    assert raised.column == "wind"
    assert len(found.windows) == 28
    assert sum(window.rows for window in found.windows) == 10_000
    assert found.windows[20].psi["wind"] > 0.1 > found.windows[3].psi["wind"]
    west = next(one for one in found.segments if one.name == "region=west")
    east = next(one for one in found.segments if one.name == "region=east")
    assert west.drift[0].column == "wind"
    assert west.drift[0].excess > 0.5
    assert east.drift[0].excess < 0.02  # against the same segment, not against all rows


def test_files_profiles_and_tables_say_the_same(tmp_path: Path, monkeypatch: Any) -> None:
    pq.write_table(BEFORE, tmp_path / "before.parquet", row_group_size=1500)
    pq.write_table(NOW, tmp_path / "now.parquet", row_group_size=700)
    options = {"time": "at", "segments": ["kind"], "every": "7d"}
    whole = up.compare_tables(BEFORE, NOW, **options)
    read = up.compare_tables(tmp_path / "before.parquet", tmp_path / "now.parquet", **options)
    assert read == whole
    saved = up.compare_tables(up.profile(BEFORE), tmp_path / "now.parquet")
    exact = {one.column: one for one in whole.drift}
    assert {one.column for one in saved.drift} == set(exact)
    for one in saved.drift:
        assert (one.psi, one.hellinger) == (exact[one.column].psi, exact[one.column].hellinger)
        if one.kind == "number":
            assert exact[one.column].ks_error == exact[one.column].wasserstein_error == 0
            assert one.ks <= exact[one.column].ks <= one.ks + one.ks_error
            assert abs(one.wasserstein - exact[one.column].wasserstein) <= one.wasserstein_error
    monkeypatch.setattr(tables, "EXACT", 100)  # as of tables that are too long
    binned = up.compare_tables(BEFORE, NOW)
    assert {one.column: one for one in binned.drift} == {one.column: one for one in saved.drift}


def test_distances_are_those_of_scipy() -> None:
    found = up.compare_tables(BEFORE, NOW, columns=["wind"]).drift[0]
    before, now = (table["wind"].drop_null().to_numpy() for table in (BEFORE, NOW))
    assert found.ks == pytest.approx(stats.ks_2samp(before, now).statistic)
    area = stats.wasserstein_distance(before, now) / np.std(before)
    assert found.wasserstein == pytest.approx(area)


def test_a_label_is_a_column_like_any_other() -> None:
    now = {"label": [1] * 300 + [0] * 700, "at": [datetime(2024, 1, 1, tzinfo=UTC)] * 1000}
    before = {"label": [1] * 600 + [0] * 400, "at": [datetime(2023, 1, 1, tzinfo=UTC)] * 1000}
    found = up.compare_tables(before, now)
    assert [(one.name, one.severity) for one in found.symptoms] == [("drift/label", "critical")]
    named = up.compare_tables(before, now, columns=["label", "at"])
    assert {one.column for one in named.drift} == {"label", "at"}


def test_what_cannot_be_compared_is_said() -> None:
    for options, error, says in (
        ({"columns": ["none"]}, NotFound, "no column 'none'"),
        ({"columns": ["x"]}, NotFound, "table before has no column"),
        ({"time": "kind"}, Invalid, "holds no times"),
        ({"time": "gone"}, NotFound, "no column 'gone', which is the time"),
        ({"every": "1d"}, Invalid, "need a time"),
        ({"segments": ["gone"]}, NotFound, "which is a segment"),
        ({"limit": -1.0}, Invalid, "make no alarm"),
    ):
        with pytest.raises(error, match=says):
            up.compare_tables(BEFORE, NOW.append_column("x", pa.nulls(len(NOW))), **options)
    with pytest.raises(Invalid, match="no column in common"):
        up.compare_tables({"a": [1]}, {"b": [1]})
    with pytest.raises(Invalid, match="no rows to train"):
        up.compare_tables(up.profile(BEFORE), NOW, classifier=True)


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(pa.table({"x": pa.array([], pa.float64())}), id="no rows"),
        pytest.param(pa.table({"x": [1.0]}), id="one row"),
        pytest.param(pa.table({"x": pa.nulls(50)}), id="only null"),
        pytest.param(pa.table({"x": [np.inf, -np.inf, np.nan] * 20}), id="nothing finite"),
        pytest.param(pa.table({"x": ["a", "b"] * 30}), id="text"),
    ],
)
def test_poor_tables_give_no_confident_lie(now: pa.Table) -> None:
    constant, varied = pa.table({"x": [3.0] * 40}), pa.table({"x": np.arange(40.0)})
    for before in (constant, varied):
        found = up.compare_tables(before, now)
        assert len(found.drift) == 1
        if len(now) < 30:
            assert found.symptoms[0].severity == "fine"
        assert str(render(found)).startswith("<!doctype html>")


def test_the_page_names_what_drifted_and_is_small() -> None:
    found = up.compare_tables(
        BEFORE, NOW, time="at", segments=["region"], every="1d", classifier=True
    )
    page = render(found, before="january", now="february <b>")
    assert "february &lt;b&gt; against january" in page
    assert "wind drifted" in page
    assert "Told apart by a classifier" in page
    assert len(page) < 120_000
    assert render(found, before="january", now="february <b>") == page


def test_a_classifier_finds_the_column_that_gives_away() -> None:
    columns = ["wind", "size", "kind", "good"]
    found = tell_apart(BEFORE, NOW.slice(4000), columns=columns, time="at")
    assert found.blocks == "days"
    assert found.clues[0].column == "wind"
    assert found.auc.low > 0.55
    assert found.auc.p_value < 1e-6
    again = tell_apart(BEFORE, NOW.slice(4000), columns=columns, time="at")
    assert again == found
    quiet = tell_apart(BEFORE, NOW.slice(0, 4000), columns=columns, time="at")
    assert quiet.auc.low < 0.5 < quiet.auc.high
    assert abs(quiet.clues[0].drop) < 0.02


def test_days_that_are_alike_within_are_no_drift() -> None:
    """Each day has a value of its own: rows are told apart perfectly, other days not at all."""
    random = np.random.default_rng(5)

    def table(first: int) -> pa.Table:
        day = np.repeat(np.arange(20), 50)
        at = np.datetime64("2024-01-01", "us") + (first + day) * np.timedelta64(1, "D")
        return pa.table({"x": random.normal(size=20)[day], "at": at})

    before, now = table(0), table(100)
    assert tell_apart(before, now, columns=["x"]).auc.low > 0.95
    honest = tell_apart(before, now, columns=["x"], time="at").auc
    assert honest.low < 0.5 < honest.high


def test_too_little_is_no_answer() -> None:
    few = tell_apart({"x": [1.0, 2.0]}, {"x": [1.0]})
    assert np.isnan(few.auc.estimate)
    assert "fewer than 30" in few.note.lower()
    day = pa.table({"x": np.arange(40.0), "at": [datetime(2024, 1, 1, tzinfo=UTC)] * 40})
    assert "two days" in tell_apart(day, day, time="at").note
    page = render(up.compare_tables({"x": [1.0]}, {"x": [2.0]}, classifier=True))
    assert "be said: Fewer than 30 rows on one side." in page


def test_an_auc_by_rows_is_delongs() -> None:
    """Structural components as DeLong, DeLong & Clarke-Pearson (1988) have them."""
    random = np.random.default_rng(6)
    label = (random.random(200) < 0.4).astype(np.int64)
    scores = random.normal(size=200) + label
    placed = placements(scores, label)
    found = clustered_auc(placed, label, np.arange(200))
    ones, zeros = scores[label == 1], scores[label == 0]
    wins = (ones[:, None] > zeros[None, :]).astype(float)
    assert found.estimate == pytest.approx(wins.mean())
    variance = wins.mean(1).var(ddof=1) / len(ones) + wins.mean(0).var(ddof=1) / len(zeros)
    reach = (found.high - found.low) / 2
    df = min(len(ones), len(zeros)) - 1
    assert reach == pytest.approx(stats.t.ppf(0.975, df) * np.sqrt(variance))


def test_the_interval_covers_where_days_go_together() -> None:
    random = np.random.default_rng(9)
    covered = 0
    runs = 400
    for _ in range(runs):
        day = np.repeat(np.arange(40), 10)
        label = (day >= 20).astype(np.int64)
        scores = random.normal(size=40)[day] + random.normal(size=400) + label
        found = clustered_auc(placements(scores, label), label, day)
        covered += found.low <= stats.norm.cdf(1 / 2) <= found.high
    assert 0.92 <= covered / runs <= 0.98
