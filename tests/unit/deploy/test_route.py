"""Routes and endpoints on a real store: revisions, the champion, rollback, and who wins a race."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from upturn.core.errors import Conflict, Invalid, NotFound
from upturn.core.lineage import downstream
from upturn.core.records import (
    Alias,
    Arm,
    Edge,
    Endpoint,
    Environment,
    Route,
    Version,
)
from upturn.core.schema import Field, Profile, Signature
from upturn.core.time import instant
from upturn.deploy.endpoint import create_endpoint, get_endpoint
from upturn.deploy.route import current_route, rollback, set_route
from upturn.stores.workspace import Workspace, open_workspace

NOW = instant("2013-04-01")
INPUTS = tuple(Field(name=name, type="float") for name in ("a", "b", "email"))


def one(version: int) -> Arm:
    return Arm(name="champion", version=version, share=1.0)


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    workspace = open_workspace()
    for _ in range(3):
        workspace.meta.put(
            Version(
                model="delays",
                artifact="0" * 64,
                data=None,
                signature=Signature(inputs=INPUTS, output="number"),
                profile=Profile(rows=0, columns=()),
                environment=Environment(python="3.11", distributions={}),
                run=None,
                task=None,
                at=NOW,
            )
        )
    create_endpoint(workspace, Endpoint("delays"), now=NOW)
    yield workspace
    workspace.close()


def champion(workspace: Workspace) -> int | None:
    alias = workspace.meta.find(Alias, "delays", "champion")
    return alias.number if alias else None


def test_a_change_is_a_new_revision_and_moves_the_champion(workspace: Workspace) -> None:
    assert current_route(workspace, "delays") is None
    first = set_route(workspace, "delays", [one(1)], why="first", now=NOW)
    canary = [Arm(name="champion", version=1, share=0.9), Arm(name="new", version=2, share=0.1)]
    second = set_route(workspace, "delays", canary, why="canary", now=NOW)
    assert champion(workspace) == 1
    third = set_route(workspace, "delays", [one(2)], why="full", now=NOW)
    assert [first.revision, second.revision, third.revision] == [1, 2, 3]
    assert champion(workspace) == 2
    assert len(workspace.meta.select(Alias, model="delays", name="champion")) == 2
    assert current_route(workspace, "delays") == third
    assert {route.salt for route in workspace.meta.select(Route, endpoint="delays")} == {"delays"}


def test_lineage_leads_from_a_version_to_its_routes(workspace: Workspace) -> None:
    set_route(workspace, "delays", [one(1)], why="", now=NOW)
    found = downstream("version/delays:1", lambda path: workspace.meta.select(Edge, source=path))
    assert [node.path for node in found] == ["version/delays:1", "route/delays/1"]


def test_rollback_goes_back_over_revisions_with_the_same_arms(workspace: Workspace) -> None:
    for version in (1, 2, 2):
        set_route(workspace, "delays", [one(version)], why="", now=NOW)
    route = rollback(workspace, "delays", now=NOW)
    assert (route.revision, route.arms) == (4, (one(1),))
    assert "revision 1" in route.why
    assert champion(workspace) == 1
    assert rollback(workspace, "delays", why="again", now=NOW).arms == (one(2),)


def test_rollback_ends_a_rollout_and_then_leads_to_the_champion_before(
    workspace: Workspace,
) -> None:
    canary = [
        Arm(name="champion", version=2, share=0.8),
        Arm(name="candidate", version=3, share=0.2),
    ]
    for arms in ([one(1)], [one(2)], canary):
        set_route(workspace, "delays", arms, why="", now=NOW)
    assert rollback(workspace, "delays", now=NOW).arms == (one(2),)
    set_route(workspace, "delays", canary, why="", now=NOW)
    set_route(workspace, "delays", [one(3)], why="promoted", now=NOW)
    assert rollback(workspace, "delays", now=NOW).arms == (one(2),)


def test_there_must_be_something_to_go_back_to(workspace: Workspace) -> None:
    with pytest.raises(Invalid, match="no route"):
        rollback(workspace, "delays", now=NOW)
    set_route(workspace, "delays", [one(1)], why="", now=NOW)
    with pytest.raises(Invalid, match="No other version has answered"):
        rollback(workspace, "delays", now=NOW)


def test_of_writers_who_decided_on_the_same_revision_one_wins(workspace: Workspace) -> None:
    set_route(workspace, "delays", [one(1)], why="", now=NOW)

    def write(version: int) -> bool:
        try:
            set_route(workspace, "delays", [one(version)], why="", now=NOW, after=1)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write, [1, 2, 3, 1, 2, 3])) == 1


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ([], "needs an arm"),
        ([Arm(name="a", version=1, share=0.5)], "sum to 1"),
        ([Arm(name="a", version=1, share=0.5), Arm(name="a", version=2, share=0.5)], "same name"),
    ],
)
def test_arms_that_are_no_route_are_refused(
    workspace: Workspace, arms: list[Arm], message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        set_route(workspace, "delays", arms, why="", now=NOW)


def test_unknown_names_are_not_found(workspace: Workspace) -> None:
    with pytest.raises(NotFound):
        set_route(workspace, "delays", [one(9)], why="", now=NOW)
    with pytest.raises(NotFound, match="Did you mean 'delays'"):
        set_route(workspace, "dealys", [one(1)], why="", now=NOW)
    assert champion(workspace) is None


def test_an_endpoint_changes_by_a_newer_record(workspace: Workspace) -> None:
    assert create_endpoint(workspace, Endpoint("delays"), now=NOW).seq == 1
    assert create_endpoint(workspace, Endpoint("delays", unit="tail"), now=NOW).seq == 2
    assert get_endpoint(workspace, "delays").unit == "tail"
    with pytest.raises(Invalid, match="serves model"):
        create_endpoint(workspace, Endpoint("delays", model="other"), now=NOW)


def test_what_is_said_of_the_log_is_kept_until_it_is_said_anew(workspace: Workspace) -> None:
    said = Endpoint("delays", redact=("b", "a", "b"), log_rates={"*": 0.1}, keep_log="90d")
    first = create_endpoint(workspace, said, now=NOW)
    assert (first.seq, first.redact) == (2, ("a", "b"))
    # Code that only names the endpoint, as a loop's does, undoes nothing.
    again = create_endpoint(workspace, Endpoint("delays"), now=NOW)
    assert again == first
    shorter = create_endpoint(workspace, Endpoint("delays", keep_log="30d"), now=NOW)
    assert (shorter.seq, shorter.redact, shorter.keep_log) == (3, ("a", "b"), "30d")
    bare = create_endpoint(workspace, Endpoint("delays"), now=NOW, exactly=True)
    assert (bare.redact, bare.log_rates, bare.keep_log) == ((), {}, None)


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ({"redact": ("emial",)}, "no field 'emial'.*Did you mean 'email'"),
        ({"log_rates": {"champion": 0.0}}, "0 is no share"),
        ({"log_rates": {"*": 1.5}}, "1.5 is no share"),
        ({"log_rates": {"*": float("nan")}}, "nan is no share"),
        ({"keep_log": "ninety days"}, "not a duration"),
        ({"keep_log": "0d"}, "can't be kept"),
        ({"keep_log": "99999999999d"}, "longer than any"),
    ],
)
def test_what_can_not_be_meant_of_the_log_is_refused(
    workspace: Workspace, wish: dict[str, Any], why: str
) -> None:
    before = get_endpoint(workspace, "delays")
    with pytest.raises(Invalid) as caught:
        create_endpoint(workspace, Endpoint("delays", unit="tail", **wish), now=NOW)
    assert re.search(why, str(caught.value))
    assert get_endpoint(workspace, "delays") == before


def test_the_unit_may_be_redacted(workspace: Workspace) -> None:
    stored = create_endpoint(workspace, Endpoint("delays", unit="tail", redact=("tail",)), now=NOW)
    assert stored.redact == ("tail",)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "-x", "x" * 64, "ü"])
def test_names_that_are_no_part_of_an_address_are_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(Invalid, match="can't name"):
        create_endpoint(workspace, Endpoint(name), now=NOW)
