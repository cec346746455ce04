"""Files of the Log are merged and removed, and whoever reads or dies, each row is there once."""

import shutil
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.processes import finish, kill_after, run, start
from upturn.core.log import FeedbackBatch, Layout, Matrix, PredictionBatch
from upturn.core.time import micros, utcnow
from upturn.stores.compaction import Tidied, tidy
from upturn.stores.journal import Kind
from upturn.stores.logfile import LogWriter, segments

DAY = timedelta(days=1)
NOW = timedelta(0)
NOON = datetime(2013, 4, 1, 12, tzinfo=UTC)
# Code for other processes.
WRITE = """
from datetime import timedelta
from upturn.core.log import PredictionBatch
from upturn.core.time import micros, utcnow
from upturn.stores.compaction import tidy
from upturn.stores.logfile import LogWriter, segments

def write(directory, *ids):
    now = micros(utcnow())
    writer = LogWriter(directory)
    for name in ids:
        writer.write(PredictionBatch(
            ids=[name], at=now, received_at=now, route=1, arm="champion", version=2, shadow=False,
            units=None, propensity=1.0, features={"x": [1.5]}, scores=[0.5], answers=None,
            latency_s=0.001,
        ))
    writer.close()
"""


def batch(ids: Sequence[str], at: datetime, **features: list[Any]) -> PredictionBatch:
    return PredictionBatch(
        ids=list(ids),
        at=[micros(at) + place for place in range(len(ids))],
        received_at=micros(at),
        route=1,
        arm="champion",
        version=1,
        shadow=False,
        units=None,
        propensity=1.0,
        features=features,
        scores=[0.5] * len(ids),
        answers=None,
        latency_s=0.001,
    )


def write(directory: Path, *batches: PredictionBatch | FeedbackBatch, seal: bool = True) -> None:
    """Write the batches and end, with files sealed or as journals."""
    writer = LogWriter(directory)
    for one in batches:
        writer.write(one)
    writer.close() if seal else writer.stop()


def table(directory: Path, kind: Kind = "predictions") -> pa.Table:
    found = segments(directory, kind)
    tables = [*map(pq.read_table, found.parquet), found.tail]
    return pa.concat_tables(tables, promote_options="permissive")


def ids(directory: Path, kind: Kind = "predictions") -> list[str]:
    return sorted(table(directory, kind)["id"].to_pylist())


def files(directory: Path) -> list[str]:
    """Every Parquet file and journal, by its folder and kind."""
    found = [path for path in directory.rglob("*") if path.suffix in {".parquet", ".journal"}]
    return sorted(
        f"{path.parent.relative_to(directory)}/{path.name.split('-')[0]}{path.suffix}"
        for path in found
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "log" / "delays"


def test_a_day_that_is_over_becomes_one_file(directory: Path) -> None:
    for hour in range(3):
        at = NOON + timedelta(hours=hour)
        write(directory, batch([f"{hour}a", f"{hour}b"], at, x=[hour, 0.5]))
        write(directory, FeedbackBatch([f"{hour}a"], [True], [micros(at)], micros(at)))
    write(directory, batch(["last"], NOON + DAY, x=[1.0]), seal=False)
    before = table(directory).sort_by("id")
    done = tidy(directory, now=NOON + 2 * DAY, grace=-DAY * 9999)
    assert done == Tidied(sealed=1, merged=6, into=2)
    assert tidy(directory, now=NOON + 2 * DAY, grace=-DAY * 9999) == Tidied()
    assert files(directory) == [
        "./predictions.parquet",
        "feedback/day=2013-04-01/feedback.parquet",
        "predictions/day=2013-04-01/predictions.parquet",
    ]
    assert table(directory).sort_by("id").equals(before)
    assert ids(directory, "feedback") == ["0a", "1a", "2a"]
    (merged, _) = segments(directory, "predictions").parquet
    assert pq.read_table(merged)["id"].to_pylist() == ["0a", "0b", "1a", "1b", "2a", "2b"]


def test_a_day_that_goes_on_is_merged_when_it_has_many_files(directory: Path) -> None:
    now = utcnow()
    for number in range(7):
        write(directory, batch([f"{number}"], now, x=[1.0]))
    assert tidy(directory, now=now, grace=NOW).merged == 0
    write(directory, batch(["7"], now, x=[1.0]))
    assert tidy(directory, now=now, grace=NOW).merged == 8
    assert ids(directory) == [f"{number}" for number in range(8)]
    assert len(segments(directory, "predictions").parquet) == 1


def test_what_was_replaced_stays_for_its_readers_for_a_while(directory: Path) -> None:
    for name in "ab":
        write(directory, batch([name], NOON, x=[1.0]))
    tidy(directory, now=utcnow())
    assert len(files(directory)) == 3
    assert len(segments(directory, "predictions").parquet) == 1
    assert ids(directory) == ["a", "b"]
    tidy(directory, now=utcnow() + timedelta(minutes=2))
    assert len(files(directory)) == 1
    assert ids(directory) == ["a", "b"]


def test_columns_of_other_types_stay_apart_and_missing_ones_are_null(directory: Path) -> None:
    layout = Layout(["x", "y"], "fi")
    numbers = Matrix(layout, memoryview(bytearray(16)).cast("d").tobytes())
    write(directory, batch(["a"], NOON, x=["text"]))
    write(directory, batch(["b"], NOON, x=[1.5]))
    write(directory, batch(["c"], NOON, x=[None], z=["z"]))
    changed = batch(["d"], NOON)
    write(directory, msgspec.structs.replace(changed, features=numbers))
    assert tidy(directory, now=utcnow(), grace=NOW) == Tidied(merged=4, into=2)
    found = segments(directory, "predictions").parquet
    assert len(found) == 2
    rows = [row for path in found for row in pq.read_table(path).to_pylist()]
    names = ("features.x", "features.y", "features.z")
    assert {row["id"]: tuple(map(row.get, names)) for row in rows} == {
        "a": ("text", None, None),
        "b": (1.5, None, None),
        "c": (None, None, "z"),
        "d": (0.0, 0, None),
    }


def test_rows_that_came_in_too_long_ago_are_removed_and_stay_so(directory: Path) -> None:
    for name, days in (("a", 0), ("b", 0), ("c", 5), ("d", 9)):
        at = NOON + days * DAY
        # A row may be of any time: it is old when it came in long ago.
        one = batch([name], at)
        write(directory, msgspec.structs.replace(one, at=micros(NOON - 99 * DAY)))
    write(directory, FeedbackBatch(["a"], [1], [micros(NOON)], micros(NOON)))
    now = NOON + 10 * DAY
    tidy(directory, now=now, grace=timedelta(days=99))  # the small files are still there
    assert files(directory).count("./predictions.parquet") == 4
    done = tidy(directory, now=now, keep=4 * DAY, grace=timedelta(days=99))
    assert done == Tidied(removed=3, removed_rows=4)
    assert ids(directory) == ["d"]
    assert ids(directory, "feedback") == []
    assert tidy(directory, now=now, keep=4 * DAY) == Tidied()
    assert files(directory) == ["./predictions.parquet"]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("tidy"), st.integers(0, 4), st.booleans()),
    ),
    max_size=14,
)


@given(steps)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_row_is_there_once_after_every_step(
    directory: Path, done: list[tuple[str, int, bool]]
) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    written: dict[str, datetime] = {}
    kept_from = datetime.min.replace(tzinfo=UTC)
    for number, (what, day, yes) in enumerate(done):
        if what == "write":
            name, at = f"{number:02d}", NOON + day * DAY
            write(directory, batch([name], at, **{f"f{day}": [1.0]}), seal=yes)
            written[name] = at
        elif directory.exists():
            now = NOON + day * DAY
            keep = timedelta(hours=36) if yes else None
            # Nothing was replaced before 2013, and everything before tomorrow.
            tidy(directory, now=now, keep=keep, grace=NOW if number % 2 else -DAY * 9999)
            kept_from = max(kept_from, now - keep) if keep else kept_from
        found = ids(directory)
        assert len(found) == len(set(found))
        if not kept_from.year > 1:
            assert found == sorted(written)
        assert set(found) <= set(written)


def test_killed_at_any_step_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """A process ends itself, as kill -9 would, before its n-th change of a file, for every n."""
    code = """
        import shutil
        import pyarrow.parquet as pq

        CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "open"}
        root = Path(sys.argv[1])
        later = utcnow() + timedelta(days=2)

        def ids(directory):
            found = segments(directory, "predictions")
            tables = [*map(pq.read_table, found.parquet), found.tail]
            return sorted(name for each in tables for name in each["id"].to_pylist())

        def die_before(number):
            left = [number]
            def hook(event, args):
                if event in CHANGES and str(root) in str(args[0]):
                    left[0] -= 1
                    if left[0] < 0:
                        os._exit(9)
            sys.addaudithook(hook)

        for name in ("a", "b", "c"):
            write(root / "fresh", name)
        tidy(root / "fresh", now=later, grace=timedelta(days=1))
        write(root / "fresh", "d")
        number, status = 0, 9
        while status == 9:
            work = root / f"work{number}"
            shutil.copytree(root / "fresh", work)
            child = os.fork()
            if child == 0:
                die_before(number)
                tidy(work, now=later, grace=timedelta(0))
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert status in (0, 9), status
            assert ids(work) == ["a", "b", "c", "d"], (number, ids(work))
            tidy(work, now=later, grace=timedelta(0))
            assert ids(work) == ["a", "b", "c", "d"], (number, ids(work))
            assert len(segments(work, "predictions").parquet) == 1
            number += 1
        print(number)
    """
    assert int(run(WRITE + dedent(code), tmp_path)) > 8


def test_readers_see_each_row_once_while_files_are_written_merged_and_killed(
    directory: Path,
) -> None:
    code = """
        directory, own = Path(sys.argv[1]), sys.argv[2]
        number = 0
        while True:
            write(directory, f"{own}-{number:04d}")
            print(number, flush=True)
            number += 1
    """
    tidying = """
        directory = Path(sys.argv[1])
        while True:
            tidy(directory, now=utcnow() + timedelta(days=2), grace=timedelta(seconds=0.5))
            print("x", flush=True)
    """
    directory.mkdir(parents=True)
    writers = [start(WRITE + dedent(code), directory, own) for own in "ab"]
    seen: list[int] = [0]
    stop = threading.Event()
    wrong: list[str] = []

    def keep_reading() -> None:
        while not stop.is_set():
            try:
                found = ids(directory)
            except FileNotFoundError:
                continue
            if len(found) != len(set(found)) or len(found) < seen[0]:
                wrong.append(f"{len(found)} rows, {len(set(found))} different, {seen[0]} before")
            seen[0] = len(found)

    reader = threading.Thread(target=keep_reading)
    reader.start()
    for rounds in (3, 1, 5, 2):
        kill_after(start(WRITE + dedent(tidying), directory), rounds)
    said = [kill_after(process, 5) for process in writers]
    stop.set()
    reader.join()
    assert wrong == []
    tidy(directory, now=utcnow() + 2 * DAY, grace=NOW)
    found = ids(directory)
    assert len(found) == len(set(found))
    acknowledged = {
        f"{own}-{int(n):04d}" for own, all_ in zip("ab", said, strict=True) for n in all_
    }
    assert acknowledged <= set(found)
    assert len(segments(directory, "predictions").parquet) == 1


def test_two_do_not_tidy_at_once(directory: Path) -> None:
    write(directory, batch(["a"], NOON), batch(["b"], NOON), seal=False)
    code = """
        import fcntl
        lock = open(Path(sys.argv[1]) / ".housekeeping", "w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        print("locked", flush=True)
        sys.stdin.readline()
    """
    other = start(code, directory, talk=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    assert tidy(directory, now=NOON) == Tidied()
    finish(other)
    assert tidy(directory, now=NOON).sealed == 1
