"""The journal: nothing that was logged is lost by a death, and nothing half-written is read."""

import math
import os
import resource
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.processes import finish, start
from upturn.core.errors import Corrupt, Invalid
from upturn.core.tracking import Point
from upturn.develop.tracking.journal import SLOT, Journal, Reader


def read(path: Path) -> tuple[list[Point], list[dict[str, Any]]]:
    reader = Reader(path)
    points: list[Point] = []
    notes: list[dict[str, Any]] = []
    while (batch := reader.read()) is not None:
        points += batch.points
        notes += batch.notes
        reader.keep(batch.end)
    reader.close()
    return points, notes


def said(points: list[Point]) -> list[tuple[str, float, int]]:
    return [(point.name, point.value, max(0, point.step)) for point in points]


def test_what_is_logged_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.points"
    journal = Journal(path, {"run": "k3f9x2"})
    journal.log({"loss": 0.5, "val/acc": 1}, 3)
    journal.note({"tags": {"team": "ops"}})
    journal.log({"loss": math.inf}, None)
    reader = Reader(path)
    assert reader.about == {"run": "k3f9x2"}
    with pytest.raises(BlockingIOError):  # its writer lives
        Reader(path, locked=True)
    journal.close()
    Reader(path, locked=True).close()
    points, notes = read(path)
    assert said(points) == [("loss", 0.5, 3), ("val/acc", 1.0, 3), ("loss", math.inf, 0)]
    assert notes == [{"tags": {"team": "ops"}}]
    assert read(path) == ([], []), "a store has it"
    reader.close()


def test_it_grows_and_notes_of_any_size_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.points"
    journal = Journal(path, {})
    expected: list[tuple[str, float, int]] = []
    sizes: list[int] = []
    for step in range(70_000):
        journal.log({"x": step / 7}, step)
        expected.append(("x", step / 7, step))
        if step % 9_000 == 0:
            size = (0, 31, 70_000, 1_500_000, 1 << 20, 32, 65_000, 3)[step // 9_000]
            journal.note({"tags": {"n": "y" * size}})
            sizes.append(size)
    end = journal.end
    journal.close()
    points, notes = read(path)
    assert said(points) == expected
    assert [len(note["tags"]["n"]) for note in notes] == sizes
    assert end <= path.stat().st_size < end + (2 << 20)


def test_what_is_no_number_is_refused_and_nothing_of_it_is_written(tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "a.points"
    journal = Journal(path, {})
    for metrics, step in (({"a": 1.0, "b": "high"}, 1), ({"a": None}, 1), ({"a": 1.0}, 1.5)):
        with pytest.raises(Invalid):
            journal.log(metrics, step)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="not a number"):
        journal.log({"a": 10**400}, 1)
    with pytest.raises(Invalid, match="not a whole number"):
        journal.log({"a": 1}, 2**63)
    journal.log({"a": np.float32(0.5), "b": True, "c": "0.25"}, np.int64(7))  # type: ignore[arg-type]
    journal.close()
    assert said(read(path)[0]) == [("a", 0.5, 7), ("b", 1.0, 7), ("c", 0.25, 7)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[tuple[int, Any]]]:
    """Return a journal's bytes, and what was written with the byte after it, in order."""
    path = tmp_path_factory.mktemp("journal") / "a.points"
    journal = Journal(path, {"run": "r"})
    items: list[tuple[int, Any]] = []
    for step in range(60):
        name = f"metric {step % 5}"
        journal.log({name: step / 3}, step)
        items.append((journal.end, (name, step / 3, step)))
        if step % 11 == 0:
            note = {"tags": {"n": "x" * (step * 7)}}
            journal.note(note)
            items.append((journal.end, note))
    end = journal.end
    journal.close()
    return path.read_bytes()[: end + 256], items


@given(data=st.data())
def test_a_journal_that_is_cut_or_garbled_gives_what_was_before_and_no_half_record(
    data: st.DataObject,
    written: tuple[bytes, list[tuple[int, Any]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    whole, items = written
    place = data.draw(st.integers(SLOT * 4, len(whole)))
    garbage = data.draw(st.one_of(st.just(b""), st.binary(max_size=200)))
    cut = data.draw(st.booleans())
    damaged = whole[:place] + garbage + (b"" if cut else whole[place + len(garbage) :])
    path = tmp_path_factory.mktemp("journal") / "b.points"
    path.write_bytes(damaged)
    points, notes = read(path)
    everything = [item for _, item in items]
    before = [item for end, item in items if end <= place]
    assert all(point in everything for point in said(points))
    assert all(note in everything for note in notes)
    assert said(points)[: sum(isinstance(item, tuple) for item in before)] == [
        item for item in before if isinstance(item, tuple)
    ]
    assert notes[: sum(isinstance(item, dict) for item in before)] == [
        item for item in before if isinstance(item, dict)
    ]


def test_what_is_no_journal_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "a.points"
    for data in (b"", b"x" * 100):
        path.write_bytes(data)
        with pytest.raises(Corrupt):
            Reader(path)


@pytest.mark.parametrize("pause_s", [0.0, 0.003, 0.02])
def test_killed_at_any_moment_it_has_all_that_log_returned_from(
    tmp_path: Path, pause_s: float
) -> None:
    code = """
        from pathlib import Path
        from upturn.develop.tracking.journal import Journal
        journal = Journal(Path(sys.argv[1]), {})
        counter = open(sys.argv[2], "r+b", buffering=0)
        import mmap
        done = memoryview(mmap.mmap(counter.fileno(), 8)).cast("Q")
        print("ready", flush=True)
        for step in range(1, 10_000_000):
            journal.log({"a": step, "b": -step}, step)
            done[0] = step
    """
    path, counter = tmp_path / "a.points", tmp_path / "counter"
    counter.write_bytes(bytes(8))
    process = start(code, path, counter)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    while int.from_bytes(counter.read_bytes(), "little") < 5000:
        process.poll()
    threading.Event().wait(pause_s)
    process.kill()
    process.communicate()
    returned = int.from_bytes(counter.read_bytes(), "little")
    points = said(read(path)[0])
    steps = len(points) // 2
    assert returned <= steps <= returned + 1
    assert points[: 2 * returned] == [
        item for step in range(1, returned + 1) for item in (("a", step, step), ("b", -step, step))
    ]


def test_threads_share_it(tmp_path: Path) -> None:
    path = tmp_path / "a.points"
    journal = Journal(path, {})

    def work(number: int) -> None:
        for step in range(3_000):
            journal.log({f"m{step % 7}": number, "all": step}, step)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    points, _ = read(path)
    assert len(points) == 4 * 3_000 * 2
    assert sorted(point.step for point in points if point.name == "all") == sorted(
        [*range(3_000)] * 4
    )


def test_a_forked_child_lets_go_of_it_and_its_parent_keeps_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "a.points"
    journal = Journal(path, {})
    journal.log({"a": 1}, 1)
    child = os.fork()
    if not child:
        journal.forget()
        journal.log({"a": 2}, 2)  # goes nowhere
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(BlockingIOError):
        Reader(path, locked=True)
    journal.log({"a": 3}, 3)
    journal.close()
    Reader(path, locked=True).close()
    assert said(read(path)[0]) == [("a", 1.0, 1), ("a", 3.0, 3)]


def test_another_process_reads_along(tmp_path: Path) -> None:
    path = tmp_path / "a.points"
    journal = Journal(path, {})
    reader = Reader(path)
    found: list[Point] = []
    for step in range(20):
        journal.log({"a": step}, step)
        while (batch := reader.read(living=True)) is not None:
            found += batch.points
            reader.keep(batch.end)
    assert [point.step for point in found] == list(range(20))
    reader.close()
    journal.close()


def test_on_a_full_disk_points_wait_in_memory(tmp_path: Path) -> None:
    code = """
        import resource, signal
        from pathlib import Path
        from upturn.develop.tracking.journal import Journal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        journal = Journal(Path(sys.argv[1]), {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
        for step in range(5_000):
            journal.log({"a": step}, step)
        journal.note({"tags": {"full": "yes"}})
        journal.log({"b": 1}, 0)
        assert journal.spilled > 2_900, journal.spilled
        journal.unspill()
        assert journal.spilled > 2_900, journal.spilled
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        journal.unspill()
        assert not journal.spilled
        journal.log({"b": 2}, 1)
        journal.close()
    """
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    path = tmp_path / "a.points"
    finish(start(code, path))
    points, notes = read(path)
    assert said(points) == [("a", step, step) for step in range(5_000)] + [("b", 1, 0), ("b", 2, 1)]
    assert notes == [{"tags": {"full": "yes"}}]
