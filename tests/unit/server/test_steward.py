"""The steward: each duty is looked at by one server at a time, whatever the duties do."""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from upturn.core.settings import load_settings
from upturn.server.steward import do_duties
from upturn.stores.workspace import Workspace, open_workspace


class Looks:
    """A duty that notes who looks, and may take its time or fail."""

    def __init__(self, name: str, seen: list[str], do: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.every_s = 0.01
        self._seen = seen
        self._do = do

    def look(self, workspace: Workspace, now: datetime) -> None:
        assert now.tzinfo is not None
        assert workspace.meta.lease(f"duty/{self.name}") is not None
        self._seen.append(self.name)
        self._do()


class Steward:
    """One in this process, as each server has one in a process of its own."""

    def __init__(self, home: Path, owner: str, *duties: Looks) -> None:
        self.workspace = open_workspace(load_settings(home, {"UPTURN_HOME": str(home)}))
        self.ending = threading.Event()
        arguments = (self.workspace, duties, owner, self.ending)
        self.thread = threading.Thread(target=do_duties, args=arguments)
        self.thread.start()

    def end(self) -> None:
        self.ending.set()
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.workspace.close()


def until(is_so: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_one_of_two_does_it_and_the_other_goes_on_when_it_ends(tmp_path: Path) -> None:
    mine: list[str] = []
    theirs: list[str] = []
    first = Steward(tmp_path, "a", Looks("d", mine))
    until(lambda: len(mine) > 3)
    second = Steward(tmp_path, "b", Looks("d", theirs), Looks("e", theirs))
    until(lambda: theirs.count("e") > 3)
    assert theirs.count("d") == 0
    first.end()
    until(lambda: theirs.count("d") > 3)
    count = len(mine)
    second.end()
    assert len(mine) == count
    workspace = open_workspace(load_settings(tmp_path, {"UPTURN_HOME": str(tmp_path)}))
    assert workspace.meta.leases("duty/") == []
    workspace.close()


def test_a_duty_that_fails_or_takes_long_keeps_no_other_from_its_turn(tmp_path: Path) -> None:
    seen: list[str] = []
    free = threading.Event()

    def fail() -> None:
        raise ValueError("no")

    steward = Steward(
        tmp_path,
        "a",
        Looks("failing", seen, fail),
        Looks("slow", seen, lambda: free.wait(20) and None),
        Looks("fine", seen),
    )
    until(lambda: seen.count("fine") > 5 and seen.count("failing") > 5)
    assert seen.count("slow") == 1
    workspace = steward.workspace

    def failure() -> str:
        lease = workspace.meta.lease("duty/failing")
        return lease.payload["failed"] if lease is not None else ""

    until(lambda: failure() == "ValueError: no")
    free.set()
    steward.end()
