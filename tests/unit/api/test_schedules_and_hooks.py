"""Schedules and hooks as operations: who may see and do what, and what nobody may."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from upturn.api.hooks import (
    GET_HOOK,
    LIST_HOOKS,
    PAST_DELIVERIES,
    PUT_HOOK,
    ListHooks,
    OneHook,
    PastDeliveries,
    PutHook,
)
from upturn.api.hooks import OPERATIONS as HOOKS
from upturn.api.operation import Ask, Asker, ask_here
from upturn.api.paging import cursor_of
from upturn.api.schedules import (
    GET_SCHEDULE,
    LIST_SCHEDULES,
    NEXT_TICKS,
    PAST_TICKS,
    PAUSE_SCHEDULE,
    PUT_SCHEDULE,
    REMOVE_SCHEDULE,
    RESUME_SCHEDULE,
    ListSchedules,
    NextTicks,
    OneSchedule,
    PastTicks,
    PutSchedule,
)
from upturn.api.schedules import OPERATIONS as SCHEDULES
from upturn.core.errors import Invalid, NotFound
from upturn.core.notices import Delivery
from upturn.core.schedules import Tick
from upturn.core.settings import load_settings
from upturn.stores.workspace import open_workspace


@pytest.fixture
def ask(tmp_path: Path):
    (tmp_path / "upturn.toml").write_text('project = "mine"\n')
    (tmp_path / "flows.py").write_text("")
    workspace = open_workspace(load_settings(tmp_path, {}))
    yield ask_here(workspace)
    workspace.close()


def as_(ask: Ask, **who: object) -> Ask:
    return replace(ask, asker=Asker("eve", **who))  # type: ignore[arg-type]


NIGHTLY = PutSchedule(name="nightly", entry="flows.py:nightly", cron="0 3 * * *")


def test_a_schedule_is_put_seen_paused_and_removed(ask: Ask) -> None:
    put = PUT_SCHEDULE(ask, NIGHTLY)
    assert len(put.next) == 5
    assert put.schedule.root == str(ask.workspace.settings.root)
    assert PUT_SCHEDULE(ask, NIGHTLY).schedule.seq == put.schedule.seq
    one = OneSchedule(name="nightly")
    assert PAUSE_SCHEDULE(ask, one).next == ()
    changed = PUT_SCHEDULE(ask, msgspec.structs.replace(NIGHTLY, cron="0 4 * * *"))
    assert changed.schedule.paused
    assert RESUME_SCHEDULE(ask, one).schedule.cron == "0 4 * * *"
    assert len(NEXT_TICKS(ask, NextTicks(name="nightly", count=10**30)).items) == 1000
    assert PAST_TICKS(ask, PastTicks(name="nightly")).items == ()
    assert REMOVE_SCHEDULE(ask, one).schedule.removed
    assert LIST_SCHEDULES(ask, ListSchedules()).items == ()
    with pytest.raises(NotFound):
        GET_SCHEDULE(ask, one)


def test_pages_of_ticks_and_deliveries_are_what_there_is_whatever_goes_on(ask: Ask) -> None:
    PUT_SCHEDULE(ask, NIGHTLY)
    PUT_HOOK(ask, PutHook(name="ci", url="http://ci.example.org/x", events=("run",)))
    names = [f"n{number}" for number in range(7)]
    ticks = [Tick(schedule="nightly", cause=name, at=ask.now) for name in names]
    baseline = Tick(schedule="nightly", cause="none", attempt=0, status="done", at=ask.now)
    sent = [
        Delivery(hook="ci", event=name, type="run.done", path="", status="due", at=ask.now)
        for name in names
    ]
    put = ask.workspace.meta.put
    cases: list[Any] = [
        (PAST_TICKS, PastTicks(name="nightly", limit=3), ticks, "cause"),
        (PAST_DELIVERIES, PastDeliveries(name="ci", limit=3), sent, "event"),
    ]
    for listed, request, records, name in cases:
        put(*records[:4], baseline, *records[4:]) if name == "cause" else put(*records)
        seen: list[str] = []
        cursors: list[str] = []
        while not cursors or request.cursor:
            page = listed(ask, request)
            seen += [getattr(item, name) for item in page.items]
            # What goes on meanwhile moves nothing.
            put(*(msgspec.structs.replace(one, seq=0, status="failed") for one in records[::-1]))
            cursors.append(page.cursor)
            request = msgspec.structs.replace(request, cursor=page.cursor)
        assert seen == names[::-1]
        assert [bool(cursor) for cursor in cursors] == [True, True, False]
        with pytest.raises(Invalid, match="none of this list's"):
            listed(ask, msgspec.structs.replace(request, cursor=cursor_of("else")))


def test_another_projects_are_as_if_they_were_not_there(ask: Ask) -> None:
    PUT_SCHEDULE(ask, NIGHTLY)
    PUT_HOOK(ask, PutHook(name="ci", url="http://ci.example.org/x", events=("run",)))
    stranger = as_(ask, projects=frozenset({"theirs"}))
    assert LIST_SCHEDULES(stranger, ListSchedules()).items == ()
    assert LIST_HOOKS(stranger, ListHooks()).items == ()
    with pytest.raises(NotFound) as of_one_that_is:
        GET_SCHEDULE(stranger, OneSchedule(name="nightly"))
    with pytest.raises(NotFound) as of_one_that_is_not:
        GET_SCHEDULE(stranger, OneSchedule(name="nightlx"))
    said = of_one_that_is.value.problem.message.replace("nightly", "nightlx")
    assert said == of_one_that_is_not.value.problem.message
    assert of_one_that_is_not.value.hint == ""
    for operation, request in (
        (PUT_SCHEDULE, msgspec.structs.replace(NIGHTLY, name="other")),
        (PAUSE_SCHEDULE, OneSchedule(name="nightly")),
        (REMOVE_SCHEDULE, OneSchedule(name="nightly")),
        (PUT_HOOK, PutHook(name="in", url="http://x/y", events=("run",))),
        (GET_HOOK, OneHook(name="ci")),
    ):
        with pytest.raises(NotFound):
            operation.do(stranger, request)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "entry",
    ["../x.py:f", "/etc/passwd:f", "flows.py", "flows.py:", ":f", "no.py:f", "\0:f", "x\ud800:f"],
)
def test_nothing_outside_of_the_project_is_started(ask: Ask, entry: str) -> None:
    with pytest.raises(Invalid):
        PUT_SCHEDULE(ask, msgspec.structs.replace(NIGHTLY, entry=entry))


@pytest.mark.parametrize("path", ["data//etc/passwd", "data/../x", "data/\0"])
def test_only_an_admin_has_files_outside_of_the_project_watched(ask: Ask, path: str) -> None:
    with pytest.raises(Invalid, match="outside"):
        PUT_SCHEDULE(as_(ask, role="deployer"), msgspec.structs.replace(NIGHTLY, after=(path,)))


def test_what_changes_something_takes_a_role_and_a_secret_is_shown_once(ask: Ask) -> None:
    by_role = {each.name: each.role for each in (*SCHEDULES, *HOOKS)}
    assert {name for name, role in by_role.items() if role == "viewer"} == {
        "schedules.list",
        "schedules.get",
        "schedules.next",
        "schedules.ticks",
        "hooks.list",
        "hooks.get",
    }
    request = PutHook(name="ci", url="http://u:p@ci.example.org/x?token=t", events=("run",))
    assert PUT_HOOK(ask, request).secret.startswith("whsec_")
    shown = msgspec.json.encode(
        (PUT_HOOK(ask, request), GET_HOOK(ask, OneHook(name="ci")), LIST_HOOKS(ask, ListHooks()))
    )
    assert b"whsec" not in shown
    assert b"token=t" not in shown
    assert b"u:p" not in shown
