"""SqliteTrackingStore: what was acknowledged outlives its writers; forks; how much it takes."""

import os
from pathlib import Path

from contract.processes import kill_after, run, start
from upturn.core.tracking import Point
from upturn.stores.tracking.store import SqliteTrackingStore

WRITER = """
    from upturn.core.tracking import Point
    from upturn.stores.tracking.store import SqliteTrackingStore
    store = SqliteTrackingStore(sys.argv[1])
    name = sys.argv[2]
    for call in range(1_000_000):
        points = [Point(f"k{i % 3}", float(call), call * 600 + i, call) for i in range(600)]
        store.log(name, points=points, params={f"p{call}": "x"}, tags={"last": str(call)})
        print(call, flush=True)
"""


def test_what_a_killed_writer_was_told_is_there_whole_and_nothing_half(tmp_path: Path) -> None:
    path = tmp_path / "upturn.db"
    SqliteTrackingStore(path).close()
    writers = [start(WRITER, path, f"r{number}") for number in range(3)]
    told = [kill_after(writer, 25) for writer in writers]
    store = SqliteTrackingStore(path)
    for number, lines in enumerate(told):
        acknowledged = len(lines)
        name = f"r{number}"
        tags, params = store.tags([f"run/{name}"]), store.params([name])
        written = int(tags[f"run/{name}"]["last"]) + 1
        assert acknowledged <= written <= acknowledged + 1
        assert len(params[name]) == written
        for one in store.series([name])[name]:
            points = store.history(name, one.name)
            assert one.count == len(points) == written * 200
            assert one.step == points[-1].step
    store.close()


def test_a_forked_child_reads_and_writes_with_connections_of_its_own(tmp_path: Path) -> None:
    code = """
        from upturn.core.tracking import Point
        from upturn.stores.tracking.store import SqliteTrackingStore
        store = SqliteTrackingStore(sys.argv[1])
        store.log("r", points=[Point("k", 1.0, 0)])
        store.history("r", "k")
        child = os.fork()
        store.log("r", points=[Point("k", 1.0, 1 if child else 2)])
        found = len(store.history("r", "k"))
        if not child:
            os._exit(0 if found >= 2 else 1)
        assert os.waitpid(child, 0)[1] == 0
        print(len(store.history("r", "k")))
    """
    assert run(code, tmp_path / "upturn.db") == "3\n"


def test_a_million_points_take_few_bytes_each(tmp_path: Path) -> None:
    path = tmp_path / "upturn.db"
    store = SqliteTrackingStore(path)
    for begin in range(0, 300_000, 20_000):
        points = [
            Point("k", (i % 97) / 7, i, 10**15 + i * 1_000) for i in range(begin, begin + 20_000)
        ]
        store.log("r", points=points)
    store.close()
    assert os.path.getsize(path) < 300_000 * 8 + 2_000_000
