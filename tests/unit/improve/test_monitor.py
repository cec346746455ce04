"""A report says how an endpoint is doing, is stored, and comes out the same when asked again."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from upturn.cli.monitor import command
from upturn.cli.monitored import show
from upturn.core.errors import Invalid, NotFound
from upturn.core.log import FeedbackBatch, PredictionBatch
from upturn.core.records import Arm, Check, Endpoint, Environment, Route, Version
from upturn.core.schema import ColumnProfile, Field, Profile, Signature
from upturn.core.settings import load_settings
from upturn.core.time import instant, micros
from upturn.improve.log import StoredLog
from upturn.improve.monitor.report import MonitorReport, as_json, look, monitor
from upturn.stores.logfile import LogWriter
from upturn.stores.workspace import Workspace, open_workspace

START, NOW = instant("2013-04-01"), instant("2013-07-01")
DAY = timedelta(days=1)
ROWS = 200  # a day


@pytest.fixture
def workspace(tmp_path: Path, workspace_home: Path) -> Iterator[Workspace]:
    workspace = open_workspace(load_settings(tmp_path))
    workspace.meta.add(Endpoint(name="delays", at=START))
    yield workspace
    workspace.close()


def deploy(workspace: Workspace) -> None:
    bins = {"kind": "number", "count": 1000, "missing": 0}
    profile = Profile(
        rows=1000,
        columns=(
            ColumnProfile(name="hour", edges=(0.25, 0.5, 0.75), counts=(250,) * 4, **bins),
            ColumnProfile(name="wind", edges=(0.25, 0.5, 0.75), counts=(250,) * 4, **bins),
            ColumnProfile(name="prediction", edges=(0.5,), counts=(500, 500), **bins),
        ),
    )
    inputs = (Field(name="hour", type="float"), Field(name="wind", type="float"))
    workspace.meta.add(
        Version(
            model="delays",
            artifact="0" * 64,
            data=None,
            signature=Signature(inputs=inputs, output="probability", classes=(False, True)),
            profile=profile,
            environment=Environment(python="3.12", distributions={}),
            run=None,
            task=None,
            at=START,
        )
    )
    arms = (Arm(name="champion", version=1, share=1.0), Arm(name="next", version=2, shadow=True))
    workspace.meta.add(
        Route(endpoint="delays", model="delays", arms=arms, salt="s", why="first", at=START)
    )


def serve(workspace: Workspace, days: int) -> None:
    """Write predictions of that many days, half of them shadowed, three quarters labelled."""
    random = np.random.default_rng(1)
    writer = LogWriter(workspace.log_dir / "delays")
    for day in range(days):
        at = micros(START + day * DAY)
        scores = random.random(ROWS)
        batch: dict[str, Any] = {
            "ids": [f"{day:014x}{row:014x}" for row in range(ROWS)],
            "at": [at + row for row in range(ROWS)],
            "received_at": at,
            "route": 1,
            "units": [None] * ROWS,
            "propensity": 1.0,
            "features": {
                "hour": random.random(ROWS).tolist(),
                "wind": (random.random(ROWS) ** 3).tolist(),
            },
            "scores": scores.tolist(),
            "answers": scores.tolist(),
        }
        half = {name: v[: ROWS // 2] if isinstance(v, list) else v for name, v in batch.items()}
        half["features"] = {name: v[: ROWS // 2] for name, v in batch["features"].items()}
        writer.write(
            PredictionBatch(**batch, arm="champion", version=1, shadow=False, latency_s=0.002)
        )
        writer.write(PredictionBatch(**half, arm="next", version=2, shadow=True, latency_s=0.004))
        known = 3 * ROWS // 4
        labels = (random.random(known) < scores[:known]).tolist()
        writer.write(FeedbackBatch(batch["ids"][:known], labels, [at + 9] * known, at + 9))
    writer.write(FeedbackBatch(["of nothing"], [True], [micros(START)], micros(START)))
    writer.close()


def report_of(workspace: Workspace, until: datetime) -> MonitorReport:
    return monitor(workspace, "delays", since=START, until=until, now=NOW)


def test_a_report(workspace: Workspace) -> None:
    deploy(workspace)
    serve(workspace, 4)
    report = report_of(workspace, START + 3 * DAY)
    assert report.rows == 3 * ROWS
    champion, shadow = report.arms
    assert (champion.arm, champion.rows, champion.share) == ("champion", 3 * ROWS, 1.0)
    assert champion.latency_s == {"p50": 0.002, "p90": 0.002, "p99": 0.002}
    assert (shadow.arm, shadow.shadow, shadow.share) == ("next", True, 0.5)
    assert report.drift[0].column == "wind"
    assert {one.column for one in report.drift} == {"hour", "wind", "prediction"}
    excess = {one.column: one.excess for one in report.drift}
    assert excess["wind"] > 0.2
    assert excess["hour"] < 0.1
    assert report.performance.completeness == 0.75
    assert 0.75 < report.performance.values["auc"] < 0.9
    assert list(report.periods) == ["2013-04-01", "2013-04-02", "2013-04-03"]
    assert report.unmatched_feedback == 1
    assert report.version == "delays:1"


def test_a_report_is_kept_and_can_be_computed_again(workspace: Workspace) -> None:
    deploy(workspace)
    serve(workspace, 2)
    report = report_of(workspace, START + 2 * DAY)
    (check,) = workspace.meta.select(Check, endpoint="delays")
    assert check.report == json.loads(json.dumps(as_json(report)))
    again = look(workspace, StoredLog(workspace, "delays"), since=check.since, until=check.until)
    assert as_json(again) == check.report


def test_a_long_report_is_by_month(workspace: Workspace) -> None:
    serve(workspace, 40)
    report = report_of(workspace, START + 70 * DAY)
    assert list(report.periods) == ["2013-04", "2013-05"]
    assert report.drift == ()  # nothing is deployed, so there is nothing to drift from
    assert report.version is None


def test_nothing_yet(workspace: Workspace) -> None:
    report = report_of(workspace, START + DAY)
    assert (report.rows, report.arms, report.drift, report.periods) == (0, (), (), {})
    assert (
        workspace.meta.select(Check, endpoint="delays")[0].report["performance"]["completeness"]
        is None
    )
    assert "No predictions of delays" in printed(report)


def test_bad_questions(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="delay"):
        monitor(workspace, "delay", since=START, until=NOW, now=NOW)
    with pytest.raises(Invalid, match="no time between"):
        monitor(workspace, "delays", since=NOW, until=START, now=NOW)


def printed(report: MonitorReport) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        for part in show(report):
            console.print(part)
    return capture.get()


def test_it_is_shown_as_tables(workspace: Workspace) -> None:
    deploy(workspace)
    serve(workspace, 3)
    text = printed(report_of(workspace, START + 3 * DAY))
    for said in (
        "600 predictions",
        "next (shadow)",
        "2.00 ms",
        "drift from delays:1",
        "wind",
        "2013-04-02",
        "450 of 600 predictions have a label. Feedback for 1 id matches no prediction.",
    ):
        assert said in text


def test_the_command_prints_json(workspace: Workspace) -> None:
    deploy(workspace)
    serve(workspace, 2)
    asked = ["delays", "--until", "2013-04-03", "--last", "2d", "--json"]
    result = CliRunner().invoke(command, asked, catch_exceptions=False)
    assert json.loads(result.output)["rows"] == 2 * ROWS
