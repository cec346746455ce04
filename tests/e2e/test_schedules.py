"""Schedules as people meet them: put, paused and removed by command, started by real duties."""

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from contract.processes import finish, start
from e2e.folder import Folder
from upturn.core.records import Edge, Run, RunState
from upturn.core.schedules import Schedule, Tick
from upturn.core.time import utcnow
from upturn.develop.schedule.duty import ScheduleDuty
from upturn.develop.schedule.shelf import put_schedule, ticks_of
from upturn.stores.workspace import Workspace
from waiting import until

FLOWS = """
from datetime import date, datetime
from pathlib import Path

import upturn as up

HERE = Path(__file__).parent


@up.step(cache=False)
def note(text: str) -> str:
    with open(HERE / "ran", "a") as file:
        file.write(text + "\\n")
    return text


@up.flow(schedule="0 3 * * *", tz="Europe/Madrid")
def nightly(start: date, end: date, depth: int = 3):
    return note(f"nightly {start} {end} {depth}")


@up.flow(after=nightly)
def evening(start: date, extra: str = ""):
    return note(f"evening {start} {extra}")


@up.flow(after=up.new_data("numbers"))
def counting():
    return note("counting " + "".join(sorted(p.name for p in (HERE / "numbers").iterdir())))


@up.flow(schedule="@daily")
def broken(number: int):
    return note(f"never {number}")


@up.flow
def day(day: date):
    if (HERE / "bad").exists() and day == date(2026, 1, 2):
        raise ValueError("a bad day")
    return note(f"day {day}")
"""


@pytest.fixture
def project(tmp_path: Path) -> Folder:
    return Folder(tmp_path, {"flows.py": FLOWS})


def look_until(duty: ScheduleDuty, workspace: Workspace, condition, what: str) -> None:
    """Look as a server does, until something holds."""

    def looked() -> object:
        duty.look(workspace, utcnow())
        time.sleep(0.02)
        return condition()

    until(looked, what, within_s=60)


def backdated(workspace: Workspace, name: str, **changes: object) -> Schedule:
    """The schedule as if it had been put some days ago, when nobody looked since."""
    last = workspace.meta.get(Schedule, name)
    at = utcnow() - timedelta(days=3)
    return workspace.meta.add(msgspec.structs.replace(last, seq=0, at=at, **changes))


def test_what_was_missed_is_caught_up_with_once_and_what_comes_after_it_follows(
    project: Folder,
) -> None:
    said = project.type("schedule", "flows.py:nightly", "--param", "depth=5").stdout
    assert "flows.py:nightly 0 3 * * * Europe/Madrid" in said
    assert said.count(" 03:00:00 CE") == 5
    assert "after flow/nightly" in project.type("schedule", "flows.py:evening").stdout
    workspace = project.open()
    backdated(workspace, "nightly")
    duty = ScheduleDuty()
    look_until(duty, workspace, lambda: len(project.ran()) == 2, "they did not run")
    look_until(duty, workspace, lambda: duty.under_way == 0, "they do not end")
    (run,) = workspace.meta.select(Run, flow="nightly")
    (after,) = workspace.meta.select(Run, flow="evening")
    (tick,) = ticks_of(workspace, "nightly", limit=10)
    due = datetime.fromisoformat(tick.cause)
    assert tick.run == run.id
    assert utcnow() - timedelta(days=1) < due < utcnow()
    day = (due - timedelta(days=1)).date()
    assert run.params == {"start": str(day), "end": str(day), "depth": 5}
    assert after.params["start"] == str(day)
    assert ticks_of(workspace, "evening", limit=10)[0].cause == f"run/{run.id}"
    assert workspace.meta.select(Edge, target=f"run/{after.id}", source=f"run/{run.id}")
    listed = project.type("schedules").stdout
    assert run.id in listed
    assert after.id in listed
    assert "done" in project.type("schedules", "ticks", "nightly").stdout
    workspace.close()


def test_all_that_was_missed_is_started_oldest_first(project: Folder) -> None:
    project.type("schedule", "flows.py:nightly", "--catch-up", "all")
    workspace = project.open()
    backdated(workspace, "nightly")
    duty = ScheduleDuty()
    look_until(duty, workspace, lambda: len(project.ran()) == 3, "they did not run")
    look_until(duty, workspace, lambda: duty.under_way == 0, "they do not end")
    causes = [tick.cause for tick in ticks_of(workspace, "nightly", limit=10)]
    assert causes == sorted(causes, reverse=True)
    assert len(set(causes)) == 3
    workspace.close()


def test_nothing_is_started_while_it_is_paused_nor_for_that_time(project: Folder) -> None:
    project.type("schedule", "flows.py:nightly")
    workspace = project.open()
    backdated(workspace, "nightly")
    assert "is paused" in project.type("schedules", "pause", "nightly").stdout
    assert "It is paused." in project.type("schedules", "next", "nightly").stdout
    duty = ScheduleDuty()
    duty.look(workspace, utcnow())
    assert project.type("schedules", "resume", "nightly").stdout.count("03:00:00") == 5
    duty.look(workspace, utcnow())
    assert ticks_of(workspace, "nightly", limit=10) == []
    assert "removed" in project.type("schedules", "remove", "nightly").stdout
    assert "Nothing is scheduled" in project.type("schedules").stdout
    gone = project.type("schedules", "next", "nightly")
    assert gone.returncode == 1
    assert "No schedule 'nightly'" in gone.stderr
    workspace.close()


def test_data_with_another_content_start_a_flow_and_the_same_content_does_not(
    project: Folder,
) -> None:
    numbers = project.folder / "numbers"
    numbers.mkdir()
    (numbers / "a").write_text("1")
    project.type("schedule", "flows.py:counting")
    workspace = project.open()
    duty = ScheduleDuty()
    old = time.time() - 60  # as if it had been written long ago
    (numbers / "a").write_text("1")
    os.utime(numbers / "a", (old, old))
    (numbers / "b").write_text("2")
    look_until(duty, workspace, lambda: project.ran() == ["counting ab"], "it did not run")
    look_until(duty, workspace, lambda: duty.under_way == 0, "it does not end")
    (numbers / "b").unlink()
    look_until(duty, workspace, lambda: len(project.ran()) == 2, "it did not run again")
    look_until(duty, workspace, lambda: duty.under_way == 0, "it does not end")
    first, second = ticks_of(workspace, "counting", limit=10)[::-1]
    assert first.cause.startswith("data/numbers@")
    assert second.cause.endswith("#2")  # it is again what it was when the schedule was put
    workspace.close()


def test_what_can_not_be_started_fails_once_and_says_why(project: Folder) -> None:
    project.type("schedule", "flows.py:broken")
    workspace = project.open()
    backdated(workspace, "broken")
    duty = ScheduleDuty()
    look_until(
        duty,
        workspace,
        lambda: [t.status for t in ticks_of(workspace, "broken", limit=5)] == ["failed"],
        "it did not fail",
    )
    (tick,) = ticks_of(workspace, "broken", limit=5)
    assert "needs a value for 'number'" in tick.why
    assert tick.attempt == 1
    assert workspace.meta.select(Run) == []
    duty.look(workspace, utcnow())
    assert duty.under_way == 0
    workspace.close()


KILLED = """
    import signal
    from upturn.core.settings import load_settings
    from upturn.core.time import utcnow
    from upturn.develop.schedule.duty import ScheduleDuty
    from upturn.stores.workspace import open_workspace

    def killed(*args, **more):
        os.kill(os.getpid(), signal.SIGKILL)

    workspace = open_workspace(load_settings(Path(sys.argv[1]), {}))
    ScheduleDuty(launch=killed, ttl_s=1.0).look(workspace, utcnow())
"""


def test_a_tick_whose_claimer_was_killed_before_it_started_the_run_is_taken_up_again(
    project: Folder,
) -> None:
    project.type("schedule", "flows.py:nightly")
    workspace = project.open()
    backdated(workspace, "nightly")
    finish(start(KILLED, project.folder), status=-signal.SIGKILL)
    (claimed,) = ticks_of(workspace, "nightly", limit=5)
    assert (claimed.status, claimed.attempt) == ("claimed", 1)
    assert workspace.meta.find(Run, claimed.run) is None
    until(lambda: not workspace.meta.leases("tick/"), "its lease does not end")
    duty = ScheduleDuty()
    look_until(duty, workspace, project.ran, "it was not taken up")
    look_until(duty, workspace, lambda: duty.under_way == 0, "it does not end")
    (tick,) = ticks_of(workspace, "nightly", limit=5)
    assert (tick.cause, tick.run, tick.attempt) == (claimed.cause, claimed.run, 2)
    assert [run.id for run in workspace.meta.select(Run)] == [claimed.run]
    assert workspace.meta.find(RunState, claimed.run).status == "done"  # type: ignore[union-attr]
    workspace.close()


SERVER = """
    import time
    from upturn.core.settings import load_settings
    from upturn.core.time import utcnow
    from upturn.develop.schedule.duty import ScheduleDuty
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace(load_settings(Path(sys.argv[1]), {}))
    duty = ScheduleDuty(ttl_s=2.0)
    print("looks", flush=True)
    while True:
        duty.look(workspace, utcnow())
        time.sleep(0.01)
"""


def test_several_servers_of_which_some_are_killed_start_each_tick_once(project: Folder) -> None:
    """Nobody's duty lease keeps them apart here: the ticks themselves have to."""
    workspace = project.open()
    put_schedule(
        workspace,
        Schedule(
            name="often",
            entry="flows.py:day",
            cron="@every 2s",
            params={"day": "2026-01-01"},
            catch_up="all",
            project="tested",
            root=str(project.folder),
            who="t",
            at=utcnow(),
        ),
    )
    servers = [start(SERVER, project.folder) for _ in range(3)]
    for server in servers:
        assert server.stdout is not None
        assert server.stdout.readline() == "looks\n"
    until(lambda: len(workspace.meta.select(Tick)) >= 2, "nothing was claimed", within_s=60)
    servers[0].kill()
    until(lambda: len(ticks_of(workspace, "often", limit=99)) >= 4, "too few", within_s=60)
    project.type("schedules", "pause", "often")
    ticks = ticks_of(workspace, "often", limit=99)

    def all_done() -> bool:
        states = [workspace.meta.find(RunState, tick.run) for tick in ticks]
        return all(state is not None and state.status == "done" for state in states)

    until(all_done, "some ticks have no run", within_s=60)
    for server in servers:
        server.kill()
        server.communicate()
    assert len({tick.cause for tick in ticks}) == len(ticks)
    runs = workspace.meta.select(Run)
    assert {tick.run for tick in ticks} == {run.id for run in runs}
    assert len(project.ran()) == len(runs)
    workspace.close()


def test_a_backfill_runs_each_interval_once_and_goes_on_with_those_that_failed(
    project: Folder,
) -> None:
    words = ("backfill", "flows.py:day", "--start", "2026-01-01", "--end", "2026-01-04")
    words = (*words, "--param", "day")
    assert "day=2026-01-03" in project.type(*words, "--dry-run").stdout
    (project.folder / "bad").touch()
    first = project.type(*words)
    assert first.returncode == 1
    assert "4 intervals, 0 of them done already." in first.stdout
    assert "1 failed" in first.stderr
    (project.folder / "bad").unlink()
    second = project.type(*words)
    assert second.returncode == 0, second.stdout
    assert "4 intervals, 3 of them done already." in second.stdout
    assert "1/1  day=2026-01-02" in second.stdout
    assert sorted(project.ran()) == [f"day 2026-01-0{n}" for n in (1, 2, 3, 4)]
    nobody = project.type("backfill", "flows.py:counting", "--start", "2026-01-01", "--end", "x")
    assert nobody.returncode == 2


def test_a_loop_that_is_scheduled_is_run_for_rounds(project: Folder) -> None:
    (project.folder / "watch.py").write_text(
        "import upturn as up\nwatch = up.Monitor('nothing', every='1s')\n"
    )
    said = project.type("schedule", "watch.py:watch").stdout
    assert "@every 1s" in said
    workspace = project.open()
    duty = ScheduleDuty()
    look_until(
        duty,
        workspace,
        lambda: any(t.status == "failed" for t in ticks_of(workspace, "nothing", limit=50)),
        "no round was made",
    )
    ended = [t for t in ticks_of(workspace, "nothing", limit=50) if t.status == "failed"]
    assert "nothing" in ended[-1].why
    project.type("schedules", "remove", "nothing")
    look_until(duty, workspace, lambda: duty.under_way == 0, "a round does not end")
    workspace.close()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("flows.py:day",), "Nothing says when"),
        (("flows.py:day", "--cron", "7 * *"), "3 fields"),
        (("flows.py:day", "--every", "1h", "--tz", "Mars/Base"), "No time zone"),
        (("flows.py:day", "--after", "day"), "after itself"),
        (("flows.py:day", "--after", "what/ever"), "nothing that a flow can be started after"),
        (("flows.py:nightly", "--param", "depth=x"), "whole number"),
        (("flows.py:nightly", "--param", "dept=1"), "no parameter 'dept'"),
        (("flows.py:HERE", "--every", "1h"), "can't be scheduled"),
        (("flows.py:day", "--every", "1h", "--name", "../x"), "can't be the name"),
    ],
)
def test_what_can_not_be_scheduled_is_said(
    project: Folder, words: tuple[str, ...], says: str
) -> None:
    done = project.type("schedule", *words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr


def test_a_name_belongs_to_one_thing(project: Folder) -> None:
    project.type("schedule", "flows.py:day", "--every", "1h")
    again = project.type("schedule", "flows.py:day", "--every", "1h")
    assert again.returncode == 0
    workspace = project.open()
    assert len(workspace.meta.select(Schedule)) == 1  # what says the same is not put again
    taken = project.type("schedule", "flows.py:nightly", "--name", "day")
    assert taken.returncode == 1
    assert "There is a schedule 'day'" in taken.stderr
    assert datetime.now(UTC) - workspace.meta.get(Schedule, "day").at < timedelta(minutes=5)
    workspace.close()
