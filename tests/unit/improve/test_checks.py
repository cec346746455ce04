"""A report looks at service, labels, inputs and what is estimated, from the Log alone."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from upturn.core.log import FeedbackBatch, PredictionBatch
from upturn.core.records import Arm, Endpoint, Environment, Route, Version
from upturn.core.schema import Field, Signature
from upturn.core.settings import load_settings
from upturn.core.time import instant, micros
from upturn.improve.log import StoredLog
from upturn.improve.monitor.page import render
from upturn.improve.monitor.past import hourly, sampled
from upturn.improve.monitor.report import MonitorReport, as_json, look
from upturn.improve.monitor.traffic import traffic
from upturn.model.profile import profile_table
from upturn.stores.logfile import LogWriter
from upturn.stores.workspace import Workspace, open_workspace

START = instant("2013-03-04")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DAYS, EACH = 40, 12  # rows an hour
END = START + DAYS * DAY
STOPS = 3  # hours before the end that nobody asks any more
CHANGES, OUT = 30, 36  # days from which inputs mean something else, from which there are no labels


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as patch:
        home: Path = tmp_path_factory.mktemp("checked")
        patch.setenv("UPTURN_HOME", str(home))
        workspace = open_workspace(load_settings(home))
        fill(workspace)
        yield workspace
        workspace.close()


def fill(workspace: Workspace) -> None:
    random = np.random.default_rng(1)
    workspace.meta.add(Endpoint(name="delays", at=START))
    base = pa.table({"x": random.normal(size=4000), "prediction": random.random(4000)})
    for number in range(5):
        until = START - DAY * (28 - 7 * number)
        workspace.meta.add(
            Version(
                model="delays",
                artifact="0" * 64,
                data=None,
                signature=Signature(
                    inputs=(Field(name="x", type="float", nullable=True),),
                    output="probability",
                    classes=(False, True),
                ),
                profile=profile_table(base),
                environment=Environment(python="3.12", distributions={}),
                run=None,
                task=None,
                params={"end": until.date().isoformat()},
                at=START,
            )
        )
    arm = Arm(name="champion", version=5, share=1.0)
    workspace.meta.add(
        Route(endpoint="delays", model="delays", arms=(arm,), salt="s", why="first", at=START)
    )
    writer = LogWriter(workspace.log_dir / "delays")
    for hour in range(24 * DAYS - STOPS):
        write(writer, random, hour)
    writer.close()


def write(writer: LogWriter, random: np.random.Generator, hour: int) -> None:
    at = micros(START + hour * HOUR)
    x = random.normal(size=EACH)
    score = 1 / (1 + np.exp(-1.5 * x))
    means = 0.1 if hour >= 24 * CHANGES else 1.0
    label = random.random(EACH) < 1 / (1 + np.exp(-means * 1.5 * x))
    ids = [f"{hour:014x}{row:014x}" for row in range(EACH)]
    given = [None if hour > 24 * CHANGES and row < 3 else value for row, value in enumerate(x)]
    writer.write(
        PredictionBatch(
            ids=ids,
            at=[at + 1_000_000 * row for row in range(EACH)],
            received_at=at,
            route=1,
            units=[None] * EACH,
            propensity=1.0,
            features={"x": given},
            scores=score.tolist(),
            answers=score.tolist(),
            arm="champion",
            version=5,
            shadow=False,
            latency_s=0.002,
        )
    )
    if hour < 24 * OUT:
        known = at + 3_600_000_000 * 20
        writer.write(FeedbackBatch(ids, label.tolist(), [known] * EACH, known))


@pytest.fixture(scope="module")
def report(workspace: Workspace) -> MonitorReport:
    since = START + 26 * DAY
    return look(workspace, StoredLog(workspace, "delays"), since=since, until=END)


def test_symptoms_are_of_all_that_is_wrong(report: MonitorReport) -> None:
    found = {one.name: one for one in report.symptoms if one.severity != "fine"}
    assert {name: one.severity for name, one in found.items()} == {
        "traffic": "critical",
        "performance/auc": "critical",
        "performance/log_loss": "critical",
        "performance/brier": "critical",
        "performance/accuracy": "critical",
        "concept/auc": "critical",
        "concept/log_loss": "critical",
        "concept/brier": "critical",
        "concept/accuracy": "critical",
        "labels": "critical",
        "staleness": "critical",
        "quality/x/missing": "critical",
        "drift/x": found["drift/x"].severity,
    } | {name: one.severity for name, one in found.items() if name.startswith("performance/cal")}
    assert report.symptoms[0].name == "traffic"
    assert found["quality/x/missing"].began_at == START + CHANGES * DAY
    assert "what inputs mean has changed" in found["concept/auc"].says
    assert found["staleness"].says.startswith("The training data ends 39 days ago")


def test_estimates_are_beside_what_labels_say(report: MonitorReport) -> None:
    assert report.estimated is not None
    assert report.estimated.reference_rows == 24 * 26 * EACH
    before, after = report.windows[1], report.windows[CHANGES - 26 + 2]
    for one in (before, after):
        assert one.estimated["auc"].said
    assert not before.estimated["auc"].excludes(before.performance.values["auc"])
    assert after.estimated["auc"].excludes(after.performance.values["auc"])
    assert report.windows[-1].performance.labelled == 0
    assert report.windows[-1].estimated["auc"].estimate == pytest.approx(0.84, abs=0.06)
    page = render(report)
    assert "estimated without labels" in page
    assert "labels that are still out" in page
    assert as_json(report)["matured"]["rows"] == report.rows


def test_intervals_are_by_day(report: MonitorReport) -> None:
    assert report.intervals["auc"].method == "jackknife over 10 days"
    assert report.windows[0].intervals["auc"].method == "jackknife over 24 hours"
    assert report.calibration


def test_hours_are_counted_where_the_log_lies(workspace: Workspace) -> None:
    log = StoredLog(workspace, "delays")
    since, until = START - 3 * DAY, END - HOUR / 2
    found = hourly(log, since, until)
    wanted = traffic(log.predictions(errors=True), START, until)
    np.testing.assert_array_equal(found.starts, wanted.starts)
    np.testing.assert_array_equal(found.requests, wanted.requests)
    np.testing.assert_array_equal(found.failed, wanted.failed)
    np.testing.assert_array_equal(found.latency_s["p99"], wanted.latency_s["p99"])
    nothing = hourly(log, END + DAY, END + 2 * DAY)
    assert len(nothing.starts) == 0


def test_a_sample_is_the_same_rows_each_time(workspace: Workspace) -> None:
    log = StoredLog(workspace, "delays")
    whole, each = sampled(log, since=START, until=END, known_by=END)
    joined = log.joined(since=START, until=END, known_by=END)
    assert each == 1
    assert whole["id"].to_pylist() == joined["id"].to_pylist()
    assert whole["label"].to_pylist() == joined["label"].to_pylist()
    assert whole["known_at"].to_pylist() == joined["known_at"].to_pylist()
    early, _ = sampled(log, since=START, until=END, known_by=START + DAY)
    assert early["label"].null_count == joined.num_rows - 4 * EACH - EACH
    part, each = sampled(log, since=START, until=END, known_by=END, most=3000)
    assert each == 4
    assert 2500 < part.num_rows < 3300
    again, _ = sampled(log, since=START, until=END, known_by=END, most=3000)
    assert part.equals(again)


def test_a_log_without_rows_has_nothing_wrong(workspace: Workspace) -> None:
    workspace.meta.add(Endpoint(name="quiet", at=START))
    report = look(workspace, StoredLog(workspace, "quiet"), since=START, until=END)
    assert report.symptoms == ()
    assert report.estimated is None


def test_what_a_release_is_served_is_held_against_its_training(workspace: Workspace) -> None:
    """Version 5 learned on x, and is served x, from its first row on: in a report with that row."""
    log = StoredLog(workspace, "delays")
    with_release = look(workspace, log, since=START - DAY, until=START + 10 * DAY)
    (found,) = [one for one in with_release.symptoms if one.name.startswith("skew/")]
    assert (found.name, found.severity) == ("skew/x", "fine")
    assert found.facts["rows"] == 3 * 24 * EACH
    after = look(workspace, log, since=START + DAY, until=START + 10 * DAY)
    assert not [one for one in after.symptoms if one.name.startswith("skew/")]


def prices(workspace: Workspace, *, served: float) -> StoredLog:
    """Of an endpoint that answers numbers, and gets x in another unit than it learned on."""
    random = np.random.default_rng(2)
    x = random.uniform(0, 10, 4800)
    errors = random.normal(0, 1 + x / 2)  # the greater x, the less sure
    base = pa.table({"x": random.uniform(0, 10, 4000), "prediction": random.random(4000)})
    workspace.meta.add(Endpoint(name="prices", at=START))
    workspace.meta.add(
        Version(
            model="prices",
            artifact="0" * 64,
            data=None,
            signature=Signature(inputs=(Field(name="x", type="float"),), output="number"),
            profile=profile_table(base),
            environment=Environment(python="3.12", distributions={}),
            run=None,
            task=None,
            at=START,
        )
    )
    arm = Arm(name="champion", version=1, share=1.0)
    workspace.meta.add(
        Route(endpoint="prices", model="prices", arms=(arm,), salt="s", why="first", at=START)
    )
    writer = LogWriter(workspace.log_dir / "prices")
    for day in range(20):
        rows = range(day * 240, day * 240 + 240)
        ids = [f"{row:028x}" for row in rows]
        at = micros(START + day * DAY)
        # In the last five days only the greatest x are asked for.
        asked = [float(x[row]) if day < 15 else 8 + float(x[row]) / 5 for row in rows]
        writer.write(
            PredictionBatch(
                ids=ids,
                at=[at + 300_000_000 * place for place in range(240)],
                received_at=at,
                route=1,
                units=[None] * 240,
                propensity=1.0,
                features={"x": [served * one for one in asked]},
                scores=[3 * one for one in asked],
                answers=[3 * one for one in asked],
                arm="champion",
                version=1,
                shadow=False,
                latency_s=0.002,
            )
        )
        if day < 15:
            truth = [3 * one + float(errors[row]) for one, row in zip(asked, rows, strict=True)]
            writer.write(FeedbackBatch(ids, truth, [at + 86_400_000_000] * 240, at))
    writer.close()
    return StoredLog(workspace, "prices")


def test_of_numbers_the_loss_is_estimated_from_features(tmp_path: Path) -> None:
    workspace = open_workspace(load_settings(tmp_path, {"UPTURN_HOME": str(tmp_path / "prices")}))
    log = prices(workspace, served=1.0)
    report = look(workspace, log, since=START + 10 * DAY, until=START + 20 * DAY)
    workspace.close()
    assert report.estimated is not None
    assert report.estimated.method == "DLE"
    known, out = report.windows[2], report.windows[-1]
    assert not known.estimated["mae"].excludes(known.performance.values["mae"])
    assert out.performance.labelled == 0
    # |error| is 0.8 (1 + x / 2) on average: 2.8 over all x, 4.4 over those from 8 to 10.
    assert known.estimated["mae"].estimate == pytest.approx(2.8, abs=0.4)
    assert out.estimated["mae"].estimate == pytest.approx(4.4, abs=0.6)


def test_another_unit_than_in_training_is_skew(tmp_path: Path) -> None:
    workspace = open_workspace(load_settings(tmp_path, {"UPTURN_HOME": str(tmp_path / "prices")}))
    log = prices(workspace, served=2.54)
    report = look(workspace, log, since=START, until=START + 10 * DAY)
    workspace.close()
    (found,) = [one for one in report.symptoms if one.name == "skew/x"]
    assert found.severity == "critical"
    assert "x is unlike training in the first 3d of the release" in found.says
