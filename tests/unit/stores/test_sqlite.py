"""SqliteMetaStore: what can go wrong with its file, and what a call may cost."""

import shutil
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contract.processes import run
from upturn.core.errors import Corrupt, Unavailable
from upturn.core.records import Edge, RunState
from upturn.stores.sqlite import SqliteMetaStore

EDGE = Edge(source="a", target="b", role="c")
STATE = RunState(run="r", status="running", at=datetime(2013, 4, 1, tzinfo=UTC))


def test_a_store_that_another_process_holds_is_unavailable(tmp_path: Path) -> None:
    store = SqliteMetaStore(tmp_path / "meta.db", busy_s=0.05)
    other = sqlite3.connect(tmp_path / "meta.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable) as caught:
        store.put(EDGE)
    assert "try again" in caught.value.hint
    assert store.find(Edge, "a", "b", "c") is None
    other.execute("ROLLBACK")
    other.close()
    store.put(EDGE)
    store.close()


def test_a_full_disk_is_unavailable_and_nothing_is_half_written(tmp_path: Path) -> None:
    code = """
        import resource
        from upturn.core.errors import Unavailable
        from upturn.core.records import Edge
        from upturn.stores.sqlite import SqliteMetaStore
        store = SqliteMetaStore(sys.argv[1])
        store.put(Edge(source="a", target="b", role="c"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, -1))
        many = [Edge(source=str(i), target="b" * 100, role="c") for i in range(5000)]
        try:
            store.put(*many)
        except Unavailable as error:
            print(error.hint)
        assert store.counts()["edge"] == 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        store.put(*many)
        assert store.counts()["edge"] == 5001
    """
    assert "disk" in run(code, tmp_path / "meta.db")


def test_a_directory_that_is_missing_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        SqliteMetaStore(tmp_path / "no" / "meta.db")
    assert "directory" in caught.value.hint


def test_damage_inside_the_file_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    store = SqliteMetaStore(path)
    store.put(*[Edge(source=str(i), target="b" * 100, role="c") for i in range(500)])
    store.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(Corrupt):
        SqliteMetaStore(path).select(Edge)


def test_a_body_that_is_no_record_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    store = SqliteMetaStore(path)
    store.put(EDGE)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("UPDATE edge SET body = '{\"source\": 1}'")
    other.close()
    with pytest.raises(Corrupt, match="edge"):
        store.get(Edge, "a", "b", "c")
    store.close()


def test_a_closed_store_says_so_and_may_be_closed_again(tmp_path: Path) -> None:
    store = SqliteMetaStore(tmp_path / "meta.db")
    store.close()
    store.close()
    with pytest.raises(Unavailable, match="closed"):
        store.put(EDGE)
    with pytest.raises(Unavailable, match="closed"):
        store.stamp()


def test_an_interrupted_put_leaves_nothing_and_the_store_usable(tmp_path: Path) -> None:
    store = SqliteMetaStore(tmp_path / "meta.db")

    class Interrupting(Edge, frozen=True, kw_only=True):
        """An edge whose encoding is interrupted, as by Ctrl-C."""

        extra: object = None

    class Hits:
        """Something whose encoding raises what Ctrl-C raises."""

        @property
        def item(self) -> object:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put(EDGE, Interrupting(source="x", target="y", role="z", extra=Hits()))
    assert store.counts()["edge"] == 0
    store.put(EDGE)
    store.close()


def test_leases_follow_the_clock(tmp_path: Path) -> None:
    now = [100.0]
    store = SqliteMetaStore(tmp_path / "meta.db", clock=lambda: now[0])
    assert store.claim("a", "me", ttl_s=10)
    now[0] = 110.0
    assert not store.claim("a", "you", ttl_s=10)  # until the last moment
    now[0] = 110.1
    assert store.claim("a", "you", ttl_s=10)
    lease = store.lease("a")
    assert lease is not None
    assert lease.left_s == pytest.approx(10.0)
    now[0] = 120.2
    assert store.lease("a") is None
    store.close()


def test_opening_and_writing_are_cheap(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    SqliteMetaStore(path).close()

    def cost_s(times: int, work: object) -> float:
        begin = time.thread_time()
        for _ in range(times):
            work()  # type: ignore[operator]
        return (time.thread_time() - begin) / times

    store = SqliteMetaStore(path)
    assert cost_s(20, lambda: SqliteMetaStore(path).close()) < 0.005
    assert cost_s(200, lambda: store.add(STATE)) < 0.001
    assert cost_s(200, lambda: store.find(RunState, "r")) < 0.0005
    assert cost_s(200, store.stamp) < 0.0002
    store.close()
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0])
def test_setting_the_clock_moves_no_lease(
    jump_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteMetaStore(tmp_path / "meta.db")
    assert store.claim("a", "me", ttl_s=60)
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + jump_s)
    assert not store.claim("a", "you", ttl_s=60)
    lease = store.lease("a")
    assert lease is not None
    assert 50 < lease.left_s <= 60
    store.close()


def test_a_lease_from_before_the_machine_was_started_again_holds_nobody_up(tmp_path: Path) -> None:
    store = SqliteMetaStore(tmp_path / "meta.db")
    assert store.claim("a", "me", ttl_s=1e6)
    connection = sqlite3.connect(tmp_path / "meta.db")
    connection.execute("UPDATE lease SET boot = 'another'")
    connection.commit()
    connection.close()
    assert store.lease("a") is None
    assert store.claim("a", "you", ttl_s=60)
    store.close()
