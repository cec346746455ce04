"""The Log of a server as its owner meets it: what it holds, questions, full disks, housekeeping."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import upturn as up
from e2e.serving import GOOD, Project, Server, fitted, one, wait_for
from upturn.core.log import PredictionBatch
from upturn.core.records import Arm, Endpoint
from upturn.core.time import micros, utcnow
from upturn.stores.logfile import LogWriter

SECRET = "a name that nobody may ever read again"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "project")
    made.register("late", fitted())
    yield made
    made.workspace.close()


def everything_under(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def housekeeping(project: Project) -> str:
    """Run it as the supervisor does, and return what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "upturn.deploy.housekeeping"],
        cwd=project.root,
        env=project.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_redacted_field_is_in_no_file(project: Project) -> None:
    project.endpoint("late", unit="carrier", redact=("carrier",))
    project.route("late", one(1), Arm(name="next", version=1, shadow=True))
    with project.server() as server:
        row = {**GOOD, "carrier": SECRET}
        answer = server.predict("late", {"rows": [row, GOOD]})
        assert answer.status == 200
        wait_for(lambda: project.log("late").num_rows == 4, "the rows and their shadows")
    found = project.log("late")
    assert "features.carrier" not in found.column_names
    assert found["features.delay"].null_count == 0
    assert found["unit"].null_count == found.num_rows
    housekeeping(project)
    assert not list((project.workspace.log_dir / "late").glob("*.journal"))
    assert SECRET.encode() not in everything_under(project.home)


def test_sampled_rows_say_their_rate_and_shadows_stay_with_them(project: Project) -> None:
    project.endpoint("late", log_rates={"champion": 0.25, "*": 0.5})
    project.route("late", one(1), Arm(name="next", version=1, shadow=True))
    with project.server() as server:
        answer = server.predict("late", {"rows": [GOOD] * 400})
        assert len(answer.body["predictions"]) == 400
        wait_for(lambda: server.page("late")["counters"]["shadow_rows"] == 400, "the shadow")
    log = up.read_log("late", project.workspace)
    arms = log.sql("SELECT arm, rate, count(*) AS n FROM predictions GROUP BY ALL ORDER BY arm")
    assert arms["rate"].to_pylist() == [0.25, 0.5]
    champion, shadow = arms["n"].to_pylist()
    assert 50 < champion < 150 < shadow < 250
    pairs = "SELECT count(*) AS n FROM predictions p SEMI JOIN predictions s ON p.id = s.id"
    asked = f"{pairs} AND s.shadow WHERE NOT p.shadow"
    assert log.sql(asked)["n"].to_pylist() == [champion]


def test_the_log_answers_while_it_is_written_and_tidied(project: Project) -> None:
    project.endpoint("late")
    project.route("late", one(1))
    with project.server() as server:
        stop = threading.Event()
        answered: list[str] = []

        def ask() -> None:
            while not stop.is_set():
                body = server.predict("late", {"rows": [GOOD, GOOD]}).body
                answered.extend(one["id"] for one in body["predictions"])
            server.hang_up()

        client = threading.Thread(target=ask)
        client.start()
        try:
            wait_for(lambda: len(answered) >= 40, "some answers")
            before = list(answered)
            wait_for(lambda: set(before) <= ids(project), "their rows")
            housekeeping(project)
            query = "SELECT arm, count(*) AS n FROM predictions GROUP BY arm"
            shown = project.command("log", "late", "--sql", query)
            assert shown.returncode == 0, shown.stderr
            assert shown.stdout.split()[:3] == ["arm", "n", "champion"]
            assert int(shown.stdout.split()[3]) >= len(before)
            table = project.command("log", "late", "--limit", "3", "--json")
            assert table.stdout.count('"id":') == 3
        finally:
            stop.set()
            client.join()
    assert ids(project) == set(answered)
    housekeeping(project)
    assert ids(project) == set(answered)
    assert not list((project.workspace.log_dir / "late").glob("*.journal"))


def ids(project: Project) -> set[str]:
    found = up.read_log("late", project.workspace).sql("SELECT id FROM predictions")["id"]
    assert len(set(found.to_pylist())) == len(found)
    return set(found.to_pylist())


def test_what_is_wrong_with_a_question_is_said(project: Project) -> None:
    project.endpoint("late")
    empty = project.command("log", "late")
    assert (empty.returncode, empty.stdout) == (0, "There are no such rows.\n")
    for words, said in (
        (("lat",), "Did you mean 'late'?"),
        (("late", "--sql", "SELECT nothing FROM predictions"), "tables predictions, labels"),
        (("late", "--sql", "CREATE TABLE t (x int)"), "not one query"),
        (("late", "--sql", "SELECT 1", "--since", "2026-01-01"), "--sql says by itself"),
        (("late", "--since", "yesterday"), "not a date"),
    ):
        done = project.command("log", *words)
        assert done.returncode != 0
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_deploy_says_what_is_logged(project: Project) -> None:
    options = ["--redact", "carier", "--log-rate", "champion=0.5", "--keep-log", "90d"]
    wrong = project.command("deploy", "late", "--background", *options)
    assert wrong.returncode == 2
    assert "no field 'carier' to redact.\nDid you mean 'carrier'?" in wrong.stderr
    assert "is no rate" in project.command("deploy", "late", "--log-rate", "half").stderr
    assert "not a duration" in project.command("deploy", "late", "--keep-log", "long").stderr
    options[1] = "carrier"
    with project.server():
        assert project.command("deploy", "late", *options).returncode == 0
        stored = project.workspace.meta.get(Endpoint, "late")
        assert (stored.redact, stored.log_rates) == (("carrier",), {"champion": 0.5})
        assert project.command("deploy", "late", "--unit", "carrier").returncode == 0
        stored = project.workspace.meta.get(Endpoint, "late")
        assert (stored.redact, stored.keep_log) == (("carrier",), "90d")
        done = project.command("deploy", "late", "--redact", "", "--keep-log", "0")
        assert done.returncode == 0
        stored = project.workspace.meta.get(Endpoint, "late")
        assert (stored.redact, stored.keep_log, stored.unit) == ((), None, "carrier")


def test_old_rows_go_and_it_is_said(project: Project) -> None:
    from upturn.deploy.housekeeping import is_needed, keep_logs

    project.endpoint("late", keep_log="30d")
    writer = LogWriter(project.workspace.log_dir / "late")
    writer.write(three_rows())
    writer.flush()
    assert not is_needed(project.workspace)
    writer.stop()
    assert is_needed(project.workspace)
    assert said(keep_logs(project.workspace, now=utcnow())) == ["late: 1 journal sealed"]
    assert not is_needed(project.workspace)
    soon, late = (utcnow() + timedelta(days=days) for days in (29, 31))
    assert said(keep_logs(project.workspace, now=soon)) == []
    assert said(keep_logs(project.workspace, now=late)) == [
        "late: 3 rows in 1 file removed, which came in more than 30d ago"
    ]
    assert ids(project) == set()


def said(kept: Iterable[object]) -> list[str]:
    return list(map(str, kept))


def three_rows() -> PredictionBatch:
    now = micros(utcnow())
    return PredictionBatch(
        ids=["a", "b", "c"],
        at=now,
        received_at=now,
        route=1,
        arm="champion",
        version=1,
        shadow=False,
        units=None,
        propensity=1.0,
        features=None,
        scores=[0.1, 0.2, 0.3],
        answers=None,
        latency_s=0.001,
    )


def test_feedback_is_by_any_id_that_a_client_may_have_given(project: Project) -> None:
    project.endpoint("late")
    project.route("late", one(1))
    with project.server() as server:
        path = "/v1/endpoints/late/feedback"
        good = server.post(path, {"feedback": [{"id": "order-17/2:x", "label": True}]})
        assert good.status == 202
        for wrong in ("two words", "", "x" * 129, "é", 5):
            bad = server.post(path, {"feedback": [{"id": wrong, "label": True}]})
            assert bad.status == 422
            assert bad.body["errors"][0]["field"] == "id"
    found = up.read_log("late", project.workspace).sql("SELECT id, label FROM labels").to_pylist()
    assert found == [{"id": "order-17/2:x", "label": 1.0}]


@pytest.fixture
def small_disk(project: Project) -> Iterator[Callable[[str], None]]:
    """Put the Log on a disk of its own, and return what gives that another size."""
    directory = project.workspace.log_dir
    directory.mkdir()

    def mount(*options: str) -> int:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(directory)]
        return subprocess.run(command, check=False, capture_output=True).returncode

    if mount("size=512k"):
        pytest.skip("this user may not mount a disk")
    yield lambda size: mount("remount", f"size={size}") and None
    subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_full_disk_stops_no_answer_and_the_gap_is_said(
    project: Project, small_disk: Callable[[str], None]
) -> None:
    project.endpoint("late")
    project.route("late", one(1))
    with project.server() as server:
        answered = 0
        lost = 0
        while not lost:
            assert server.predict("late", {"rows": [GOOD] * 10_000}).status == 200
            answered += 10_000
            lost = log_lost(server)
        assert server.predict("late", {"row": GOOD}).status == 200
        answered += 1
        small_disk("200m")
        log = up.read_log("late", project.workspace)
        wait_for(lambda: log.gaps().num_rows == 1, "the gap")
        lost = log_lost(server)
        gap = log.gaps().to_pylist()[0]
        assert gap["rows"] == lost > 0
        assert gap["began_at"] <= gap["ended_at"] <= utcnow()
        assert gap["why"] == "No space left on device"
        assert len(ids(project)) == answered - lost
        shown = project.command("log", "late", "--limit", "1")
        assert f"{lost:,} rows lost {gap['began_at']:%Y-%m-%d %H:%M:%S} to" in shown.stderr
        assert server.predict("late", {"row": GOOD}).status == 200
    housekeeping(project)
    assert up.read_log("late", project.workspace).gaps().to_pylist() == [gap]


def log_lost(server: Server) -> int:
    return server.page("late")["counters"]["log_lost"]
