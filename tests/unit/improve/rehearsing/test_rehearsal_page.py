"""The rehearsal's page: whole, safe, the same for the same rehearsal, and true to its figures."""

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import msgspec
import pytest

from unit.improve.loop_world import Flow, make_loop, past
from upturn.core.time import instant
from upturn.improve.rehearsal import Event, Policy, Rehearsal
from upturn.improve.rehearse import rehearse
from upturn.improve.rehearsing.page import rehearsal_page
from upturn.improve.rehearsing.timeline import timeline
from upturn.improve.rehearsing.vary import vary
from upturn.stores.workspace import open_workspace


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    from upturn.core.settings import load_settings

    home = tmp_path_factory.mktemp("page")
    workspace = open_workspace(load_settings(home, {"UPTURN_HOME": str(home)}))
    loop = make_loop(Flow(workspace, past(60)), gate=None, rollout=[])
    loops = vary(loop, {"when.stale.after": ["10d", "60d"]})
    span: dict[str, Any] = {"start": "2013-01-22", "end": "2013-03-11"}
    baselines = ["never", "calendar", "oracle"]
    yield rehearse(workspace, loops, **span, baselines=baselines, calendar=["14d", "28d"])
    workspace.close()


def test_one_page_says_it_all(found: Rehearsal) -> None:
    page = rehearsal_page(found)
    for heading in (
        "Verdict",
        "Policies",
        "Over time",
        "Regret",
        "Decisions",
        "How sensitive it is",
        "By month",
        "How this was had",
    ):
        assert f"<h2>{heading}</h2>" in page
    for policy in found.policies:
        assert policy.name in page
    assert found.conclusion in unescape(page)
    assert found.suggestion is not None
    assert "Suggested: " in page
    assert f"upturn decisions {found.decisions_name}" in page
    assert "<script" not in page
    assert not re.search(r'(src|href)="?https?:', page)
    assert len(page) < 400_000
    assert rehearsal_page(found) == page


def test_each_decision_is_a_mark_of_its_policy(found: Rehearsal) -> None:
    page = rehearsal_page(found)
    for policy in found.policies:
        for event in policy.events:
            if event.action == "promote":
                assert f"{event.at:%Y-%m-%d}: released, version {event.version}" in page


def test_names_that_would_run_are_only_shown(found: Rehearsal) -> None:
    bad = "<script>alert(1)</script>"
    renamed = msgspec.structs.replace(
        found,
        loop=bad,
        policies=tuple(msgspec.structs.replace(one, name=bad) for one in found.policies),
        best=bad,
        conclusion=bad,
        months=(),
        suggestion=None,
    )
    page = rehearsal_page(renamed)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_rehearsal_of_nothing_has_a_page_too(found: Rehearsal) -> None:
    bare = Rehearsal(
        id="x",
        loop="delays",
        endpoint="delays",
        model="delays",
        start=instant("2013-01-01"),
        end=instant("2013-01-02"),
        calendar="",
        metrics=(),
        policies=(Policy(name="loop", retrains=0, changes=0, values={}),),
        conclusion="Nothing can be told.",
    )
    page = rehearsal_page(bare)
    assert "Nothing can be told." in page
    assert "<h2>Regret</h2>" not in page


def test_the_timeline_has_a_row_a_policy(found: Rehearsal) -> None:
    at = instant("2013-01-05")
    events = [
        Event(at=at, action="retrain"),
        Event(at=at + timedelta(days=1), action="refuse", version=2),
        Event(at=at + timedelta(days=2), action="keep"),
    ]
    drawn = timeline(
        [("a", events), ("b", [])], start=instant("2013-01-01"), end=instant("2013-02-01")
    )
    assert "2013-01-05: trained" in drawn
    assert "2013-01-06: refused, version 2" in drawn
    assert "2013-01-07" not in drawn
    assert "b: trained 0, released 0, no 0 times." in drawn
