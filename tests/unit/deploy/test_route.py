"""Routes and endpoints on a real store: revisions, the champion, rollback, and who wins a race."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

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
from upturn.core.schema import Profile, Signature
from upturn.core.time import instant
from upturn.deploy.endpoint import create_endpoint, get_endpoint
from upturn.deploy.route import current_route, rollback, set_route
from upturn.stores.workspace import Workspace, open_workspace

NOW = instant("2013-04-01")


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
                signature=Signature(inputs=(), output="number"),
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


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "-x", "x" * 64, "ü"])
def test_names_that_are_no_part_of_an_address_are_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(Invalid, match="can't name"):
        create_endpoint(workspace, Endpoint(name), now=NOW)
