"""Models as named things: aliases with a history, approvals, names, removal and coming back."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.model.models import NUMBERS, flights, lightgbm_classifier
from upturn.core.errors import Conflict, Invalid, NotFound, Unapproved
from upturn.core.lineage import upstream
from upturn.core.records import Arm, Edge, Endpoint, Version
from upturn.core.time import instant
from upturn.deploy.endpoint import create_endpoint
from upturn.deploy.route import rollback, set_route
from upturn.model.aliases import (
    alias_history,
    aliases_of,
    answer_proposal,
    propose,
    protect,
    remove_alias,
    set_alias,
)
from upturn.model.catalog import (
    create_model,
    describe,
    description_of,
    find_model,
    get_model,
    remove_model,
    remove_version,
    rename_model,
    restore_model,
    restore_version,
)
from upturn.model.finding import get_version, list_models, list_versions
from upturn.model.registry import register_version
from upturn.stores.workspace import Workspace, open_workspace

NOW = instant("2013-04-01")


@pytest.fixture(scope="module")
def fitted() -> Any:
    frame = flights()
    return frame, lightgbm_classifier().fit(frame[NUMBERS], frame["late"])


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    workspace = open_workspace()
    yield workspace
    workspace.close()


def register(workspace: Workspace, fitted: Any, name: str = "delays", trees: int = 1) -> Version:
    frame, model = fitted
    return register_version(
        workspace,
        name,
        model,
        data=frame,
        target="late",
        params={"trees": trees},
        now=NOW + timedelta(days=trees),
    )


def test_an_alias_has_a_history(workspace: Workspace, fitted: Any) -> None:
    for trees in (1, 2):
        register(workspace, fitted, trees=trees)
    for number, who in ((1, "ada"), (2, "bob"), (2, "eve")):
        set_alias(workspace, "delays", "blue", number, why=f"to {number}", now=NOW, who=who)
    remove_alias(workspace, "delays", "blue", why="away", now=NOW, who="eve")
    moves = alias_history(workspace, "delays")
    assert [(one.before, one.after, one.who, one.why) for one in moves] == [
        (0, 1, "ada", "to 1"),
        (1, 2, "bob", "to 2"),
        (2, 0, "eve", "away"),
    ]
    assert aliases_of(workspace, "delays") == {}
    with pytest.raises(NotFound, match="no alias 'blue'"):
        get_version(workspace, "delays@blue")
    assert remove_alias(workspace, "delays", "blue", why="", now=NOW) is None


def test_a_removed_version_is_not_found_and_goes_on_being_served(
    workspace: Workspace, fitted: Any
) -> None:
    for trees in (1, 2):
        register(workspace, fitted, trees=trees)
    create_endpoint(workspace, Endpoint("delays"), now=NOW)
    set_route(workspace, "delays", [Arm(name="champion", version=2, share=1.0)], why="", now=NOW)
    remove_version(workspace, get_version(workspace, "delays:2"), why="bad", now=NOW)
    assert get_version(workspace, "delays").number == 1
    assert aliases_of(workspace, "delays") == {}
    with pytest.raises(NotFound, match="was removed") as caught:
        get_version(workspace, "delays:2")
    assert caught.value.hint == "upturn models restore delays:2"
    assert workspace.meta.get(Version, "delays", 2).params == {"trees": 2}
    assert register(workspace, fitted, trees=3).number == 3
    assert restore_version(workspace, "delays", 2, now=NOW).number == 2
    assert [one.number for one in list_versions(workspace, "delays")] == [1, 2, 3]


def test_a_removed_model_comes_back_whole_or_begins_anew(workspace: Workspace, fitted: Any) -> None:
    register(workspace, fitted, trees=1)
    set_alias(workspace, "delays", "champion", 1, why="", now=NOW)
    remove_model(workspace, "delays", why="old", now=NOW)
    assert list_models(workspace) == []
    assert list_models(workspace, removed=True) == ["delays"]
    with pytest.raises(NotFound, match="Model 'delays' was removed"):
        get_version(workspace, "delays")
    restore_model(workspace, "delays", now=NOW)
    assert get_version(workspace, "delays@champion").number == 1

    remove_model(workspace, "delays", why="old", now=NOW + timedelta(days=1))
    assert register(workspace, fitted, trees=2).number == 2  # and not 1 again
    assert [one.number for one in list_versions(workspace, "delays")] == [2]
    remove_model(workspace, "delays", why="old", now=NOW + timedelta(days=2))
    assert register(workspace, fitted, trees=2).number == 2  # it was that already
    assert list_models(workspace) == ["delays"]


def test_a_renamed_model_keeps_numbers_aliases_texts_and_lineage(
    workspace: Workspace, fitted: Any
) -> None:
    for trees in (1, 2):
        register(workspace, fitted, trees=trees)
    set_alias(workspace, "delays", "champion", 1, why="first", now=NOW, who="ada")
    describe(workspace, "version/delays:1", "the *first*", now=NOW)
    rename_model(workspace, "delays", "late", now=NOW)
    assert list_models(workspace) == ["late"]
    assert get_version(workspace, "delays@champion").name == "late:1"
    assert get_version(workspace, "delays:2").name == "late:2"
    assert description_of(workspace, "version/late:1") == "the *first*"
    assert alias_history(workspace, "late")[0].who == "ada"
    meta = workspace.meta
    paths = [
        node.path for node in upstream("version/late:1", lambda p: meta.select(Edge, target=p))
    ]
    data = workspace.meta.get(Version, "late", 1).data
    assert {"version/delays:1", f"artifact/{data}"} <= set(paths)
    assert register(workspace, fitted, "late", trees=3).number == 3
    # Code that still says the old name begins a model of its own there, and counts on.
    assert register(workspace, fitted, "delays", trees=4).number == 3
    assert [one.number for one in list_versions(workspace, "delays")] == [3]
    with pytest.raises(Conflict, match="already"):
        rename_model(workspace, "delays", "late", now=NOW)
    with pytest.raises(Invalid, match="can't be the name"):
        rename_model(workspace, "delays", "Late!", now=NOW)


def test_a_model_may_be_made_before_its_versions(workspace: Workspace, fitted: Any) -> None:
    made = create_model(workspace, "delays", project="p", who="ada", now=NOW)
    with pytest.raises(Conflict, match="already"):
        create_model(workspace, "delays", now=NOW)
    with pytest.raises(NotFound, match="has no version yet"):
        get_version(workspace, "delays")
    register(workspace, fitted)
    assert get_model(workspace, "delays") == made
    assert find_model(workspace, "nothing") is None


def test_a_protected_alias_takes_somebody_elses_approval(workspace: Workspace, fitted: Any) -> None:
    for trees in (1, 2, 3):
        register(workspace, fitted, trees=trees)
    create_endpoint(workspace, Endpoint("delays"), now=NOW)
    first = [Arm(name="champion", version=1, share=1.0)]
    set_route(workspace, "delays", first, why="", now=NOW)
    protect(workspace, "delays", "champion", on=True, why="", who="ada", now=NOW)
    second = [Arm(name="champion", version=2, share=1.0)]
    with pytest.raises(Unapproved, match="delays:2 has not been approved") as caught:
        set_route(workspace, "delays", second, why="", now=NOW)
    assert "upturn models request delays:2" in caught.value.hint
    canary = [
        Arm(name="champion", version=1, share=0.9),
        Arm(name="candidate", version=2, share=0.1),
    ]
    with pytest.raises(Unapproved):
        set_route(workspace, "delays", canary, why="", now=NOW)
    shadow = [*first, Arm(name="candidate", version=2, shadow=True)]
    set_route(workspace, "delays", shadow, why="a shadow answers nobody", now=NOW)
    with pytest.raises(Unapproved):
        set_alias(workspace, "delays", "champion", 2, why="", now=NOW)
    with pytest.raises(Unapproved):
        remove_alias(workspace, "delays", "champion", why="", now=NOW)

    with pytest.raises(NotFound, match="Nobody asked"):
        answer(workspace, 2, "approved", "bob")
    propose(workspace, "delays", "champion", 2, why="better", who="ada", now=NOW)
    with pytest.raises(Conflict, match="can't approve it, too"):
        answer(workspace, 2, "approved", "ada")
    answer(workspace, 2, "rejected", "bob")
    with pytest.raises(Unapproved, match="was rejected"):
        set_route(workspace, "delays", second, why="", now=NOW)
    propose(workspace, "delays", "champion", 2, why="better still", who="ada", now=NOW)
    answer(workspace, 2, "approved", "bob")
    set_route(workspace, "delays", second, why="", now=NOW)
    assert rollback(workspace, "delays", now=NOW).arms[0].version == 1  # it was there before
    set_alias(workspace, "delays", "blue", 3, why="of another alias nobody asks", now=NOW)
    protect(workspace, "delays", "champion", on=False, why="", who="ada", now=NOW)
    set_alias(workspace, "delays", "champion", 3, why="", now=NOW)


def answer(workspace: Workspace, number: int, status: Any, who: str) -> None:
    """Say something to what was asked."""
    answer_proposal(
        workspace, "delays", "champion", number, status=status, why="", who=who, now=NOW
    )


@given(moves=st.lists(st.integers(0, 3), max_size=12))
def test_a_history_leads_from_each_move_to_the_next(moves: list[int]) -> None:
    from upturn.core.records import Alias

    workspace = open_workspace()
    try:
        name = f"m{workspace.meta.counts()['alias']}"
        for number in moves:
            workspace.meta.put(Alias(model=name, name="a", number=number, why="", at=NOW))
        history = alias_history(workspace, name)
        assert [one.after for one in history] == moves
        assert [one.before for one in history] == [0, *moves][: len(moves)]
        expected = {"a": moves[-1]} if moves and moves[-1] else {}
        assert aliases_of(workspace, name) == expected
    finally:
        workspace.close()
