"""What changed is said first, with its page: by window and segment, small, safe and repeatable."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

import upturn as up
from unit.improve.alerts.receivers import hook
from upturn.cli.monitor import command
from upturn.core.errors import Conflict, Invalid, NotFound
from upturn.core.log import FeedbackBatch, PredictionBatch
from upturn.core.records import Arm, Check, Endpoint, Environment, Route, Version
from upturn.core.schema import Field, Signature
from upturn.core.settings import load_settings
from upturn.core.time import instant, micros
from upturn.improve.log import StoredLog
from upturn.improve.monitor.monitor import check
from upturn.improve.monitor.page import render
from upturn.improve.monitor.report import MonitorReport, as_json, look
from upturn.improve.monitor.windows import pieces, windows
from upturn.improve.runner import sole_runner
from upturn.improve.watch import run_forever, run_once
from upturn.model.profile import profile_table
from upturn.stores.logfile import LogWriter
from upturn.stores.workspace import Workspace, open_workspace

START = instant("2013-04-01")
DAY = timedelta(days=1)
DAYS, ROWS = 8, 300
END = START + DAYS * DAY
EVIL = "<script>alert(1)</script>"
ORIGINS = np.array(["JFK", "LGA", "EWR", EVIL])


def features(random: np.random.Generator, rows: int, *, moved: bool) -> dict[str, Any]:
    """Half way through, the wind turns at JFK alone."""
    origin = ORIGINS[random.integers(0, 4, rows)]
    wind = random.normal(size=rows) + np.where(moved & (origin == "JFK"), 3.0, 0.0)
    return {"hour": random.random(rows).tolist(), EVIL: wind.tolist(), "origin": origin.tolist()}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("monitored")
        patch.setenv("UPTURN_HOME", str(home))
        workspace = open_workspace(load_settings(home))
        fill(workspace)
        yield workspace
        workspace.close()


def fill(workspace: Workspace) -> None:
    random = np.random.default_rng(1)
    workspace.meta.add(Endpoint(name="delays", at=START))
    base = features(random, 4000, moved=False) | {"prediction": random.random(4000).tolist()}
    inputs = (
        Field(name="hour", type="float"),
        Field(name=EVIL, type="float"),
        Field(name="origin", type="str"),
    )
    workspace.meta.add(
        Version(
            model="delays",
            artifact="0" * 64,
            data=None,
            signature=Signature(inputs=inputs, output="probability", classes=(False, True)),
            profile=profile_table(pa.table(base)),
            environment=Environment(python="3.12", distributions={}),
            run=None,
            task=None,
            at=START,
        )
    )
    arm = Arm(name="champion", version=1, share=1.0)
    workspace.meta.add(
        Route(endpoint="delays", model="delays", arms=(arm,), salt="s", why="first", at=START)
    )
    writer = LogWriter(workspace.log_dir / "delays")
    for day in range(DAYS):
        at = micros(START + day * DAY)
        scores = random.random(ROWS)
        ids = [f"{day:014x}{row:014x}" for row in range(ROWS)]
        writer.write(
            PredictionBatch(
                ids=ids,
                at=[at + row for row in range(ROWS)],
                received_at=at,
                route=1,
                units=[None] * ROWS,
                propensity=1.0,
                features=features(random, ROWS, moved=day >= DAYS // 2),
                scores=scores.tolist(),
                answers=scores.tolist(),
                arm="champion",
                version=1,
                shadow=False,
                latency_s=0.002,
            )
        )
        labels = (random.random(ROWS) < scores).tolist()
        writer.write(FeedbackBatch(ids, labels, [at + 9] * ROWS, at + 9))
    writer.close()


def report_of(workspace: Workspace, **asked: Any) -> MonitorReport:
    return look(workspace, StoredLog(workspace, "delays"), since=START, until=END, **asked)


def test_the_worst_comes_first_with_since_when_and_where(workspace: Workspace) -> None:
    report = report_of(workspace, segments=["origin"])
    outside, worst = report.symptoms[:2]
    assert outside.name == f"quality/{EVIL}/outside"
    assert worst.name == f"drift/{EVIL}"
    assert worst.severity in ("warning", "critical")
    assert worst.began_at == START + DAYS // 2 * DAY
    assert list(worst.facts["segments"]) == ["origin=JFK"]
    assert {one.severity for one in report.symptoms[2:]} == {"fine"}


def test_windows_and_segments_add_up(workspace: Workspace) -> None:
    report = report_of(workspace, segments=["origin"], every="3d")
    assert [one.name for one in report.windows] == ["2013-04-01", "2013-04-04", "2013-04-07"]
    assert sum(one.rows for one in report.windows) == report.rows == DAYS * ROWS
    assert sum(one.rows for one in report.segments) == report.rows
    assert sum(one.performance.labelled for one in report.windows) == report.rows
    for one in report.distributions:
        assert sum(one.now) + one.missing[1] + one.other[1] == report.rows
    finer = report_of(workspace, every="1h")
    assert finer.distributions == report.distributions
    assert finer.drift == report.drift
    assert finer.performance == report.performance


def test_values_beyond_the_most_frequent_are_one_segment(workspace: Workspace) -> None:
    hours = report_of(workspace, segments=["hour"]).segments
    assert len(hours) == 11
    assert hours[-1].value is None
    assert hours[-1].rows == DAYS * ROWS - sum(one.rows for one in hours[:-1])


def test_pieces_are_all_rows_once_and_in_order(workspace: Workspace) -> None:
    log = StoredLog(workspace, "delays")

    def joined(since: datetime, until: datetime) -> pa.Table:
        return log.joined(since=since, until=until, known_by=END, features=True)

    read = list(pieces(joined, START, END))
    assert len(read) > 1
    whole = log.joined(since=START, until=END, known_by=END, features=True)
    assert pa.concat_tables(read).equals(whole)


def test_its_page_is_safe_small_and_the_same_again(workspace: Workspace) -> None:
    report = report_of(workspace, segments=["origin"])
    document = render(report)
    assert "<script" not in document
    assert document.count("&lt;script&gt;") > 5
    assert len(document.encode()) < 200_000
    assert document == render(report_of(workspace, segments=["origin"]))
    for said in ("What changed", "Distributions", "Segments", "Traffic", "2013-04-05"):
        assert said in document


def run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, *asked: str) -> Result:
    monkeypatch.setenv("UPTURN_HOME", str(workspace.settings.home))
    return CliRunner().invoke(command, asked)


LAST = ("delays", "--last", "8d", "--until", "2013-04-09")


def test_the_command(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    result = run(workspace, monkeypatch, *LAST, "--by", "origin", "--html", str(file))
    assert result.exit_code == 0, result.output
    assert "Since 2013-04-05." in result.output
    assert "origin=JFK" in result.output
    assert "&lt;script&gt;" in file.read_text("utf-8")
    asked = run(workspace, monkeypatch, *LAST, "--every", "7d", "--json")
    assert [one["rows"] for one in json.loads(asked.output)["windows"]] == [7 * ROWS, ROWS]


def test_its_status_is_for_scripts(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(workspace, monkeypatch, *LAST, "--fail-on", "warning").exit_code == 3
    quiet = ("delays", "--last", "3d", "--until", "2013-04-04", "--fail-on", "warning")
    found = run(workspace, monkeypatch, *quiet)
    assert found.exit_code == 0, found.output
    assert "fine" in found.output


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        (("delays", "--by", "orign"), NotFound, "origin"),
        (("delays", "--every", "0d"), Invalid, "length"),
        (("delays", "--every", "1s"), Invalid, "more than 2,000"),
        (("delays", "--every", "soon"), Invalid, "not a duration"),
        (("delays", "--baseline", "delays"), Invalid, "names no version"),
        (("delays", "--baseline", "delays:9"), NotFound, "delays"),
        (("delays", "--once"), Invalid, "FILE:MONITOR"),
        (("delays", "--html", "/nowhere/report.html"), Invalid, "can't be written"),
        (("x.py:monitor", "--last", "7d"), Invalid, "says itself"),
        (("x.py:monitor",), NotFound, "No file"),
    ],
)
def test_bad_questions(
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    asked: tuple[str, ...],
    error: type[Exception],
    says: str,
) -> None:
    result = run(workspace, monkeypatch, *asked)
    assert isinstance(result.exception, error)
    assert says in str(result.exception)


def test_a_monitor_looks_keeps_and_tells(workspace: Workspace) -> None:
    before = len(workspace.meta.select(Check, endpoint="delays"))
    with hook() as got:
        monitor = up.Monitor(
            "delays",
            window="8d",
            segments=["origin"],
            owner="ann@example.org",
            alerts=[up.Webhook(got.url)],
        )
        report = run_once(workspace, monitor, END)
        run_once(workspace, monitor, END)  # nothing changed, so nobody is told again
    assert report == report_of(workspace, segments=["origin"])
    first, _ = workspace.meta.select(Check, endpoint="delays")[before:]
    assert first.report == as_json(report)
    bad = {one.name for one in report.symptoms if one.severity != "fine"}
    assert bad
    ((_, body),) = got.got
    told = json.loads(body)
    assert {one["name"] for one in told["alerts"]} == bad
    assert {one["owner"] for one in told["alerts"]} == {"ann@example.org"}
    assert {one["check"] for one in told["alerts"]} == {first.seq}


def test_one_runner_a_monitor(workspace: Workspace) -> None:
    monitor = up.Monitor("delays")
    with (
        sole_runner(workspace.meta, "delays", kind="monitor"),
        pytest.raises(Conflict, match="The monitor 'delays' is being run"),
    ):
        run_once(workspace, monitor, END)
    with sole_runner(workspace.meta, "delays"):  # a loop of that name is another thing
        run_once(workspace, monitor, END)


def test_a_monitor_looks_when_it_is_due(workspace: Workspace) -> None:
    now = END
    heard: list[Any] = []

    class Enough(Exception):
        """The test has seen enough."""

    def wait(seconds: float) -> None:
        nonlocal now
        now += timedelta(seconds=seconds)
        if now > END + 2 * DAY:
            raise Enough

    monitor = up.Monitor("delays", window="1d")
    with pytest.raises(Enough):
        run_forever(workspace, monitor, heard=heard.append, clock=lambda: now, wait=wait)
    assert [one.until for one in heard] == [END, END + DAY, END + 2 * DAY]


def test_a_monitor_in_a_file(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "watch.py"
    file.write_text("import upturn as up\nwatch = up.Monitor('delays', window='8d')\n", "utf-8")
    result = run(
        workspace, monkeypatch, f"{file}:watch", "--at", "2013-04-09", "--fail-on", "warning"
    )
    assert result.exit_code == 3, result.output
    assert "2,400 predictions" in result.output


def test_a_monitor_that_can_not_be() -> None:
    with pytest.raises(Invalid, match="has a length"):
        up.Monitor("delays", every="0d")
    with pytest.raises(Invalid, match="not several names"):
        up.Monitor("delays", segments="origin")


def test_a_baseline_that_is_not_there(workspace: Workspace) -> None:
    with pytest.raises(NotFound):
        check(workspace, up.Monitor("delays", baseline="delays:7"), END)


def test_windows_of_many_lengths() -> None:
    assert windows(START, END).every == "1d"
    assert windows(START, START + 62 * DAY).every == "month"
    late = windows(START + DAY / 2, START + 2 * DAY)
    assert [late.name(place) for place in range(len(late))] == ["2013-04-01", "2013-04-02"]
    assert len(windows(START, START + DAY, "6h")) == 4
    assert windows(START, START + DAY, "6h").name(1) == "2013-04-01 06:00"
