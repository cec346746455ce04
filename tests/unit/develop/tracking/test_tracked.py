"""Tracked runs: any code says what it does, and it is in the store whatever becomes of it."""

import math
import os
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import upturn as up
from contract.processes import finish, hear, start
from upturn.core.errors import Conflict, Invalid, NotFound
from upturn.core.naming import Description, Group, Removal
from upturn.core.records import Exhibit, Run, RunState
from upturn.core.time import utcnow
from upturn.develop.collect import plan_collection
from upturn.develop.runs import view_run
from upturn.develop.tracking.delivery import JournalDuty, pick_up
from upturn.develop.tracking.tracked import TrackedRun
from upturn.stores import values
from upturn.stores.sqlite import SqliteMetaStore
from upturn.stores.sqlite_tracking import SqliteTrackingStore
from upturn.stores.workspace import Workspace


def history(workspace: Workspace, run: str, name: str) -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in workspace.tracking.history(run, name)]


def journals(workspace: Workspace) -> list[Path]:
    return sorted((workspace.settings.home / "journals").iterdir())


def test_a_run_says_what_it_does(workspace: Workspace) -> None:
    with up.track(
        "churn", name="first", params={"depth": 3, "lr": 0.1}, tags={"team": "ops"}, note="*Try*"
    ) as run:
        assert view_run(workspace, run.id).status == "running"
        for step in range(100):
            up.log(loss=1 / (step + 1), step=step)
        up.log(auc=0.9, worst=math.inf, unknown=math.nan)
        up.tag(reviewed=True, team=None)
    record = workspace.meta.get(Run, run.id)
    assert (record.source, record.name, record.flow) == ("track", "first", "churn")
    assert record.params == {"depth": 3, "lr": 0.1}
    assert workspace.meta.get(Group, record.group).name == "churn"
    assert workspace.meta.get(Description, f"run/{run.id}").text == "*Try*"
    assert view_run(workspace, run.id).status == "done"
    assert history(workspace, run.id, "loss") == [(step, 1 / (step + 1)) for step in range(100)]
    assert history(workspace, run.id, "worst") == [(0, math.inf)]
    assert math.isnan(history(workspace, run.id, "unknown")[0][1])
    assert workspace.tracking.tags([f"run/{run.id}"]) == {f"run/{run.id}": {"reviewed": "true"}}
    assert workspace.tracking.params([run.id]) == {run.id: {"depth": "3", "lr": "0.1"}}
    assert journals(workspace) == []
    up.log(loss=0)  # after it: nowhere
    assert len(history(workspace, run.id, "loss")) == 100


def test_its_end_is_how_the_block_was_left(workspace: Workspace) -> None:
    with pytest.raises(ZeroDivisionError), up.track("ends") as failed:
        up.log(x=1 / 0)
    with pytest.raises(KeyboardInterrupt), up.track("ends") as cancelled:
        raise KeyboardInterrupt
    with pytest.raises(SystemExit), up.track("ends") as left:
        raise SystemExit(0)
    views = [view_run(workspace, run.id) for run in (failed, cancelled, left)]
    assert [view.status for view in views] == ["failed", "cancelled", "done"]
    problem = views[0].state.problem if views[0].state else None
    assert problem is not None
    assert problem.message == "ZeroDivisionError: division by zero"
    assert problem.frames[-1].function == "test_its_end_is_how_the_block_was_left"


def test_runs_nest_and_notebooks_start_and_finish_them(workspace: Workspace) -> None:
    outer = up.track("nest").start()
    up.log(a=1)
    with up.track("nest") as inner:
        up.log(a=2)
        outer.log(a=10, step=1)
    up.log(a=3, step=2)
    outer.tag(done="yes")
    outer.finish()
    outer.finish()
    assert workspace.meta.get(Run, inner.id).parent == outer.id
    assert history(workspace, inner.id, "a") == [(0, 2)]
    assert history(workspace, outer.id, "a") == [(0, 1), (1, 10), (2, 3)]
    assert view_run(workspace, inner.id).status == view_run(workspace, outer.id).status == "done"
    with pytest.raises(Conflict, match="started already"):
        outer.start()
    with pytest.raises(Invalid, match="not started"):
        up.track("nest").log(a=1)


def test_threads_log_into_the_run_of_their_process(workspace: Workspace) -> None:
    with up.track("threads") as run:

        def work(number: int) -> None:
            for step in range(500):
                up.log(**{f"m{number}": step}, step=step)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number in range(4):
        assert len(history(workspace, run.id, f"m{number}")) == 500


def test_forked_children_log_into_the_run_of_their_parent(workspace: Workspace) -> None:
    with up.track("forks") as run:
        up.log(parent=1)
        children: list[int] = []
        for number in range(2):
            child = os.fork()
            if not child:
                for step in range(50):
                    up.log(child=step, step=100 * number + step)
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        up.log(parent=2, step=1)
    assert history(workspace, run.id, "parent") == [(0, 1), (1, 2)]
    assert [step for step, _ in history(workspace, run.id, "child")] == [
        *range(50),
        *range(100, 150),
    ]
    assert journals(workspace) == []
    assert [state.status for state in workspace.meta.select(RunState, run=run.id)] == [
        "running",
        "done",
    ]


LOGS = """
    import upturn as up
    with up.track("killed", tags={"who": "me"}) as run:
        print(run.id, flush=True)
        for step in range(2_000):
            up.log(loss=step, step=step)
        up.save("the last words", "words.txt")
        print("logged", flush=True)
        sys.stdin.readline()
"""


def killed(lines: int = 2) -> str:
    """Kill -9 a process that tracks a run, and return the run's id."""
    process = start(LOGS, talk=True)
    run = hear(process)
    for _ in range(lines - 1):
        hear(process)
    process.kill()
    process.communicate()
    return run


def test_a_killed_run_is_lost_and_has_all_that_it_logged(workspace: Workspace) -> None:
    run = killed()
    up.log(nothing=1)
    with up.track("next"):
        pass  # the next run on the store picks it up
    picked = pick_up(workspace)
    assert picked.journals == 0
    assert history(workspace, run, "loss") == [(step, step) for step in range(2_000)]
    assert workspace.tracking.tags([f"run/{run}"])[f"run/{run}"] == {"who": "me"}
    (file,) = workspace.tracking.files(run)
    assert bytes(workspace.blobs.get(file.digest)) == b"the last words"
    assert journals(workspace) == []
    workspace.meta.release(f"run/{run}", getattr(workspace.meta.lease(f"run/{run}"), "owner", ""))
    assert view_run(workspace, run).status == "lost"


def test_a_pick_up_that_is_killed_half_way_leaves_nothing_twice(workspace: Workspace) -> None:
    run = killed()
    before = journals(workspace)
    assert len(before) == 1
    code = """
        from upturn.develop.tracking import delivery
        from upturn.develop.tracking.journal import Reader
        from upturn.stores.workspace import open_workspace
        keep = Reader.keep
        def killing(self, position):  # the store has it, and the journal does not say so yet
            os.kill(os.getpid(), 9)
        Reader.keep = killing
        delivery.pick_up(open_workspace())
    """
    finish(start(code), status=-9)
    finish(start(code), status=-9)
    assert journals(workspace) == before
    JournalDuty().look(workspace, None)
    assert history(workspace, run, "loss") == [(step, step) for step in range(2_000)]
    assert journals(workspace) == []
    assert len(workspace.meta.select(RunState, run=run)) == 1


def test_two_at_once_pick_each_journal_up_once(workspace: Workspace) -> None:
    doomed = [start(LOGS, talk=True) for _ in range(3)]
    runs = [hear(process) for process in doomed]
    for process in doomed:
        hear(process)
    for process in doomed:
        process.kill()
        process.communicate()
    code = """
        from upturn.develop.tracking.delivery import pick_up
        from upturn.stores.workspace import open_workspace
        workspace = open_workspace()
        print(pick_up(workspace).journals)
    """
    processes = [start(code) for _ in range(3)]
    assert sum(int(finish(process)) for process in processes) == 3
    for run in runs:
        assert len(history(workspace, run, "loss")) == 2_000


def test_while_the_store_is_held_the_loop_goes_on(workspace: Workspace) -> None:
    import sqlite3

    with up.track("held") as run:
        holder = sqlite3.connect(workspace.settings.home / "upturn.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        for step in range(1_000):
            up.log(loss=step, step=step)
        up.tag(held="yes")
        holder.execute("ROLLBACK")
        holder.close()
    assert len(history(workspace, run.id, "loss")) == 1_000
    assert workspace.tracking.tags([f"run/{run.id}"])[f"run/{run.id}"] == {"held": "yes"}


def test_a_run_that_the_store_never_took_is_picked_up_whole(workspace: Workspace) -> None:
    import sqlite3

    path = workspace.settings.home / "upturn.db"
    impatient = replace(
        workspace,
        meta=SqliteMetaStore(path, busy_s=0.05),
        tracking=SqliteTrackingStore(path, busy_s=0.05),
    )
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with TrackedRun("held", workspace=impatient) as run:
        up.log(loss=1)
        up.save(b"abc", "abc")
        run.finish(patience_s=0.3)
    assert len(journals(workspace)) == 1
    holder.execute("ROLLBACK")
    holder.close()
    assert workspace.meta.find(Run, run.id) is None
    assert pick_up(workspace).runs == {run.id}
    assert history(workspace, run.id, "loss") == [(0, 1)]
    assert content(workspace, run, "abc") == b"abc"
    assert view_run(workspace, run.id).status == "done"
    impatient.close()


def test_a_process_that_ends_without_finish_ends_its_run(workspace: Workspace) -> None:
    good = finish(start('import upturn as up\nprint(up.track("exit").start().id); up.log(a=1)'))
    code = 'import upturn as up\nprint(up.track("exit").start().id)\nraise ValueError("no")'
    bad = finish(start(code), status=1)
    assert view_run(workspace, good.strip()).status == "done"
    assert view_run(workspace, bad.strip()).status == "failed"


# Files


def content(workspace: Workspace, run: TrackedRun, path: str) -> bytes:
    (file,) = workspace.tracking.files(run.id, under=path)
    return bytes(workspace.blobs.get(file.digest))


def test_files_folders_text_and_values_are_saved(workspace: Workspace, tmp_path: Path) -> None:
    import numpy as np

    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.bin").write_bytes(b"\0" * 10)
    with up.track("files") as run:
        assert [file.path for file in up.save(folder)] == ["model/a.txt", "model/sub/b.bin"]
        up.save(folder / "a.txt", "texts/a.txt")
        up.save("not a path", "note.txt")
        up.save(b"123", "raw.dat")
        up.save({"a": [1, None]}, "config")
        up.save(np.arange(3), "numbers")
        up.save({1, 2}, "set")
        up.save("<b>x</b>", "page.html")
        with pytest.raises(NotFound):
            up.save(folder / "missing.txt")
        for name in ("", "/etc/passwd", "../up", "a//b", "a/../b", "a\0b"):
            with pytest.raises(Invalid):
                up.save(b"", name)
    found = {file.path: file.media for file in workspace.tracking.files(run.id)}
    assert found == {
        "model/a.txt": "text/plain",
        "model/sub/b.bin": "application/octet-stream",
        "texts/a.txt": "text/plain",
        "note.txt": "text/plain",
        "raw.dat": "application/octet-stream",
        "config.json": "application/json",
        "numbers.npy": "application/octet-stream",
        "set": "application/x-upturn-value",
        "page.html": "text/html",
    }
    assert content(workspace, run, "texts/a.txt") == b"a"
    assert b'"a": [' in content(workspace, run, "config.json")
    (stored,) = workspace.tracking.files(run.id, under="set")
    assert values.load(workspace.blobs, stored.digest) == {1, 2}
    assert up.save(b"", "outside a run it does nothing") == []


def test_tables_figures_and_images_are_saved(workspace: Workspace) -> None:
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    class Figure:
        def savefig(self, buffer: Any, format: str) -> None:
            buffer.write(f"<{format}/>".encode())

    class Picture:
        def _repr_png_(self) -> bytes:
            return b"png"

    class Page:
        def _repr_html_(self) -> str:
            return "<b>x</b>"

    columns = {"x": [1, 2], "name": ["<a>", "b"]}
    with up.track("tables") as run:
        up.save(pd.DataFrame(columns), "pandas")
        up.save(pl.DataFrame(columns), "polars.parquet")
        up.save(pa.table(columns), "arrow.csv")
        up.save(Figure(), "figure")
        up.save(Figure(), "figure.pdf")
        up.save(Picture(), "picture")
        up.save(Page(), "page")
        up.show("hello", "what")
    for path in ("pandas.parquet", "polars.parquet"):
        table = pq.read_table(pa.BufferReader(content(workspace, run, path)))
        assert table.to_pydict() == columns
    assert content(workspace, run, "arrow.csv").startswith(b'"x","name"')
    assert content(workspace, run, "figure.svg") == b"<svg/>"
    assert content(workspace, run, "figure.pdf") == b"<pdf/>"
    assert content(workspace, run, "picture.png") == b"png"
    assert content(workspace, run, "page.html") == b"<b>x</b>"
    shown = workspace.meta.select(Exhibit, run=run.id)
    assert [exhibit.title for exhibit in shown] == [
        "pandas.parquet",
        "polars.parquet",
        "arrow.csv",
        "what",
    ]
    preview = values.load(workspace.blobs, shown[0].artifact)
    assert b"&lt;a&gt;" in bytes(preview)


def test_gc_keeps_the_files_of_runs_that_are_shown(workspace: Workspace) -> None:
    with up.track("kept") as old:
        up.save(b"old", "file")
    removal = Removal(path=f"run/{old.id}", removed=True, who="me", at=utcnow())
    workspace.meta.put(removal)
    with up.track("kept") as new:
        up.save(b"new", "file")
        new.flush()
        up.save(b"waits in the journal", "other")
        for folder, _, names in os.walk(workspace.settings.home / "blobs"):
            for name in names:
                os.utime(Path(folder, name), (0, 0))
        plan = plan_collection(workspace, older_than=timedelta(0), keep_runs=1)
    (gone,) = plan.blobs
    (file,) = workspace.tracking.files(old.id)
    assert gone == file.digest


def test_what_can_be_no_parameter_is_refused_before_the_run_begins() -> None:
    import numpy as np

    with pytest.raises(Invalid, match="a name"):
        up.track("")
    run = up.track("params", params={"a": np.float32(0.5), "b": Path("x"), "c": [1, (2, 3)]})
    assert run._params == {"a": 0.5, "b": "x", "c": [1, [2, 3]]}


def test_what_the_machine_does_is_logged_beside(workspace: Workspace) -> None:
    with up.track("system", system_metrics=True) as run:
        sum(range(1_000_000))
    found = {series.name: series for series in workspace.tracking.series([run.id])[run.id]}
    for name in ("cpu_percent", "memory_percent", "disk_percent"):
        assert 0 <= found[f"system/{name}"].last <= 100
    assert found["system/process_memory_bytes"].last > 10_000_000
    assert found["system/process_cpu_percent"].count == 1, "of the time between two samples"
    assert found["system/memory_bytes"].count == 2
    with up.track("system") as silent:
        pass
    assert workspace.tracking.series([silent.id]) == {silent.id: []}
