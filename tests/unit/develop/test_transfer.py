"""Export and import of runs: everything goes, nothing twice, and what is damaged is refused."""

import contextlib
import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import upturn as up
from upturn.cli import cli
from upturn.core.datasets import DatasetUse, ModelUse
from upturn.core.errors import Conflict, Corrupt, Invalid, NotFound, UpturnError
from upturn.core.ids import version_path
from upturn.core.logged_models import LoggedModel, LoggedModelState, Trace
from upturn.core.naming import Description, Group, Removal
from upturn.core.records import (
    KINDS,
    Edge,
    Environment,
    Exhibit,
    Input,
    Memo,
    Pin,
    Run,
    RunState,
    Task,
    TaskState,
    Version,
)
from upturn.core.schema import Profile, Signature
from upturn.core.settings import load_settings
from upturn.core.tracking import Point, StoredFile
from upturn.develop.transfer import export_runs, import_runs
from upturn.develop.transfer.archive import ArchiveReader, ArchiveWriter
from upturn.develop.transfer.kinds import GO, NATIVE, STAY
from upturn.stores import values
from upturn.stores.audit import read_audit
from upturn.stores.groups import make_group
from upturn.stores.workspace import Workspace, open_workspace

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
NAN = float("nan")


@contextlib.contextmanager
def store(folder: Path) -> Generator[Workspace]:
    """Open a store in a directory."""
    opened = open_workspace(dataclasses.replace(load_settings(), home=folder))
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Workspace]:
    with store(tmp_path / "here") as opened:
        yield opened


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Workspace]:
    with store(tmp_path / "there") as opened:
        yield opened


def put_run(
    workspace: Workspace, id: str, *, parent: str | None = None, reuses: str = "", **points: Any
) -> Run:
    """Put a run of one task with one of everything that can be said of it."""
    meta, blobs, tracking = workspace.meta, workspace.blobs, workspace.tracking
    group = make_group(meta, "weather", "storms")
    run = Run(
        id=id,
        flow="storms",
        entry="f.py:storms",
        params={"depth": 3},
        project="weather",
        started_at=NOW,
        parent=parent,
        group=group.id,
        who="ana",
    )
    output = values.save(blobs, {"made by": id})
    shown = values.save(blobs, f"<b>{id}</b>")
    code = values.save(blobs, ["code", id])
    place: dict[str, Any] = {"run": id, "step": "train", "index": 0}
    path = f"run/{id}/train/0"
    inputs = (Input(name="data", digest="ab" * 32, path="data.csv"),)
    task = Task(**place, memo=f"memo-{id}", code=code.digest, inputs=inputs, created_at=NOW)
    began = TaskState(**place, status="running", attempt=1, at=NOW)
    status: Any = "reused" if reuses else "done"
    ended = TaskState(
        **place, status=status, attempt=1, at=NOW, output=output.digest, reused_from=reuses or None
    )
    meta.put(run, RunState(run=id, status="running", at=NOW), output, shown, task, began, ended)
    meta.put(Exhibit(**place, title="t", media="text/html", artifact=shown.digest, at=NOW))
    meta.put(Memo(memo=task.memo, output=output.digest, task=path, at=NOW))
    meta.put(Edge(source=f"file/{'ab' * 32}", target=path, role="input data"))
    meta.put(Edge(source=path, target=f"artifact/{output.digest}", role="output"))
    meta.put(Description(path=f"run/{id}", text="It **works**.", who="ana", at=NOW))
    meta.put(
        DatasetUse(
            run=id,
            group=group.id,
            name="d",
            digest="9",
            source_type="s3",
            source="s3://b",
            tags={},
            at=NOW,
        )
    )
    model = f"m-{id}"
    meta.put(
        LoggedModel(id=model, group=group.id, run=id, name="lm", type="", who="ana", at=NOW),
        LoggedModelState(id=model, status="ready", at=NOW),
        ModelUse(run=id, model=model, role="output", at=NOW),
        trace_of(id, group.id),
        RunState(run=id, status="done", at=NOW + timedelta(minutes=1), result=output.digest),
    )
    for owner, name in ((id, "plots/a.txt"), (model, "MLmodel"), (f"tr-{id}", "spans.json")):
        digest = blobs.put([f"{owner} {name}".encode()])
        tracking.put_file(
            StoredFile(run=owner, path=name, digest=digest, size_bytes=len(owner + name) + 1, at=5)
        )
    tracking.log(id, params={"lr": "0.1"}, tags={"team": "a'b\"ü"})
    tracking.log(model, params={"kind": "tree"}, points=[Point("auc", 0.9, 1, 1)])
    tracking.tag(f"logged/{model}", {"good": "yes"})
    for name, said in (points or {"loss": [1.0, 0.5, NAN]}).items():
        tracking.log(
            id,
            points=[Point(name, value, at, at) for at, value in enumerate(said)],
            scope="train/0",
        )
    log = workspace.output_dir / id / "train" / "0.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"{id} says\n")
    return run


def trace_of(run: str, group: str) -> Trace:
    trace = f"tr-{run}"
    info = {
        "trace_id": trace,
        "trace_metadata": {"mlflow.sourceRun": run},
        "tags": {"mlflow.artifactLocation": f"mlflow-artifacts:/{group}/traces/{trace}/artifacts"},
    }
    return Trace(id=trace, group=group, info=json.dumps(info), at=NOW)


def put_version(workspace: Workspace, run: str, model: str = "storm", number: int = 1) -> Version:
    saved = values.save(workspace.blobs, ["a model", run])
    version = Version(
        model=model,
        number=number,
        artifact=saved.digest,
        data=None,
        signature=Signature(inputs=(), output="scores"),
        profile=Profile(rows=0, columns=()),
        environment=Environment(python="3.11", distributions={}),
        run=run,
        task=f"run/{run}/train/0",
        metrics={"auc": NAN},
        at=NOW,
    )
    path = version_path(model, number)
    edge = Edge(source=f"artifact/{saved.digest}", target=path, role="model")
    workspace.meta.put(saved, version, edge)
    workspace.tracking.tag(path, {"by": run})
    return version


def contents(file: Path) -> dict[str, Any]:
    """Return what an export holds, with the ids of groups, which each store has its own of."""
    found: dict[str, Any] = {}
    with file.open("rb") as opened:
        reader = ArchiveReader(opened)
        for member in reader:
            data = reader.read(member)
            if member.kind == "records":
                text = re.sub(r'"group":"\d+"', '"group":"G"', data.decode())
                text = re.sub(r"mlflow-artifacts:/\d+/", "mlflow-artifacts:/G/", text)
                text = re.sub(r'\{"kind":"(group|trace)".*', r"\1", text)  # see below, by name
                found[member.name] = text
            elif member.kind == "metrics":
                found[member.name] = pa.parquet.read_table(io.BytesIO(data)).to_pylist()  # pyright: ignore[reportAttributeAccessIssue]
            elif member.kind == "blob":
                found[member.name] = data
    return dict(sorted(found.items()))


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # NaN is NaN


# Everything


def test_every_kind_of_record_goes_or_stays_for_a_reason() -> None:
    go, stay = {kind.table for kind in GO}, set(STAY)
    assert not go & stay
    assert go | stay == {kind.table for kind in KINDS}
    assert all(STAY.values())


def test_every_table_goes_or_stays_for_a_reason(here: Workspace) -> None:
    import sqlite3

    with contextlib.closing(sqlite3.connect(here.settings.home / "upturn.db")) as connection:
        tables = {
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
    own = {name for name in tables if not name.startswith("sqlite_") and name != "migration"}
    assert own - {kind.table for kind in KINDS} <= set(NATIVE)


def test_everything_of_a_run_comes_with_it(
    here: Workspace, there: Workspace, tmp_path: Path
) -> None:
    put_run(here, "aaa111")
    put_version(here, "aaa111")
    make_group(there.meta, "weather", "another")  # so that numbers of groups differ
    file = tmp_path / "runs.tar.zst"
    done = export_runs(["aaa"], file, workspace=here)
    assert (done.runs, done.points, done.missing) == (("aaa111",), 4, 0)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tar", "--zstd", "-xf", str(file), "-C", folder], check=True)
        assert json.loads(Path(folder, "manifest.json").read_text())["format"] == "upturn-runs"

    came = import_runs(file, workspace=there)
    assert came.new == ("aaa111",)
    for kind in GO:
        if kind is Group:
            continue
        one, other = here.meta.select(kind), there.meta.select(kind)
        assert len(one) == len(other) > 0, kind.table
    handle = up.Run("aaa", workspace=there)
    assert handle.note == "It **works**."
    assert handle.tags == {"team": "a'b\"ü"}
    assert there.tracking.params(["aaa111", "m-aaa111"]) == here.tracking.params(
        ["aaa111", "m-aaa111"]
    )
    assert same(there.tracking.history("aaa111", "loss"), here.tracking.history("aaa111", "loss"))
    assert handle["train"].logs == "aaa111 says\n"
    assert handle.result() == {"made by": "aaa111"}
    assert handle.open("plots/a.txt").read() == b"aaa111 plots/a.txt"
    group = there.meta.get(Group, handle.record.group)
    assert (group.name, group.project, group.id) == ("storms", "weather", "2")
    trace = there.meta.get(Trace, "tr-aaa111")
    assert trace.group == "2"
    assert "mlflow-artifacts:/2/traces/" in trace.info
    assert there.tracking.tags(["version/storm:1"])["version/storm:1"] == {"by": "aaa111"}
    found = there.tracking.search(None, projects=["weather"]).rows
    assert [(row.id, row.status) for row in found] == [("aaa111", "done")]

    again = import_runs(file, workspace=there)
    assert not again.changed
    back = tmp_path / "back.tar.zst"
    export_runs(["aaa"], back, workspace=there)
    assert same(contents(back), contents(file))


def test_a_run_comes_with_those_that_it_needs(
    here: Workspace, there: Workspace, tmp_path: Path
) -> None:
    put_run(here, "source")
    put_run(here, "parent")
    put_run(here, "child1", parent="parent", reuses="run/source/train/0")
    put_run(here, "child2", parent="parent")
    put_run(here, "other1")
    file = tmp_path / "runs.tar.zst"
    assert set(export_runs(["parent"], file, workspace=here).runs) == {
        "parent", "child1", "child2", "source",
    }  # fmt: skip
    assert export_runs(["parent"], file, children=False, workspace=here).runs == ("parent",)
    one = export_runs(["child1"], file, workspace=here).runs
    assert set(one) == {"parent", "child1", "source"}
    assert one.index("parent") < one.index("child1")
    import_runs(file, project="elsewhere", workspace=there)
    assert {run.project for run in there.meta.select(Run)} == {"elsewhere"}
    assert up.Run("child1", workspace=there)["train"].logs == "source says\n"


def test_runs_are_chosen_by_what_they_are(here: Workspace, tmp_path: Path) -> None:
    put_run(here, "aaa111", loss=[1.0])
    put_run(here, "bbb222", loss=[2.0])
    file = tmp_path / "runs.tar.zst"
    assert export_runs(where="metric.loss > 1.5", to=file, workspace=here).runs == ("bbb222",)
    assert len(export_runs(group="storms", to=file, workspace=here).runs) == 2
    with pytest.raises(NotFound, match="No run fits"):
        export_runs(group="sun", to=file, workspace=here)
    with pytest.raises(Invalid, match="Which runs"):
        export_runs(to=file, workspace=here)
    put_run(here, "ccc333")
    here.meta.put(RunState(run="ccc333", status="running", at=NOW))
    here.meta.claim("run/ccc333", "me", ttl_s=60)
    with pytest.raises(Conflict, match="goes on"):
        export_runs(["ccc333"], file, workspace=here)
    assert not list(tmp_path.glob(".runs*"))


def test_large_values_stay_behind_when_asked(here: Workspace, tmp_path: Path) -> None:
    run = put_run(here, "aaa111")
    large = values.save(here.blobs, os.urandom(2**21))
    here.meta.put(
        large,
        TaskState(
            run=run.id, step="load", index=0, status="done", attempt=1, at=NOW, output=large.digest
        ),
    )
    file = tmp_path / "runs.tar.zst"
    assert export_runs(["aaa"], file, workspace=here).blob_bytes > 2**21
    assert export_runs(["aaa"], file, artifacts=False, workspace=here).blob_bytes < 2**20


# What is there already


def test_another_content_is_refused_before_anything_is_written(
    here: Workspace, there: Workspace, tmp_path: Path
) -> None:
    put_run(here, "aaa111")
    put_run(here, "bbb222")
    file = tmp_path / "runs.tar.zst"
    export_runs(["aaa", "bbb"], file, workspace=here)
    put_run(there, "bbb222")
    there.meta.put(RunState(run="bbb222", seq=3, status="failed", at=NOW))
    state = RunState(run="bbb222", seq=3, status="done", at=NOW)
    here.meta.put(state)
    export_runs(["aaa", "bbb"], file, workspace=here)
    before = there.meta.counts()
    with pytest.raises(Conflict, match="Run bbb222 is here already, with another run state"):
        import_runs(file, workspace=there)
    assert there.meta.counts() == before
    assert there.tracking.series(["aaa111"]) == {"aaa111": []}


def test_what_happened_to_a_run_since_is_added_and_own_words_stay(
    here: Workspace, there: Workspace, tmp_path: Path
) -> None:
    put_run(here, "aaa111")
    file = tmp_path / "runs.tar.zst"
    export_runs(["aaa"], file, workspace=here)
    import_runs(file, workspace=there)
    there.meta.put(Description(path="run/aaa111", text="Mine.", who="bo", at=NOW))
    there.tracking.log("aaa111", tags={"team": "b"})
    here.tracking.log("aaa111", points=[Point("loss", 0.1, 9, 9)], scope="train/0")
    here.tracking.log("aaa111", tags={"new": "1"})
    export_runs(["aaa"], file, workspace=here)
    assert import_runs(file, workspace=there).points == 1
    handle = up.Run("aaa", workspace=there)
    assert (handle.note, handle.tags) == ("Mine.", {"team": "b", "new": "1"})
    assert len(there.tracking.history("aaa111", "loss")) == 4
    assert there.tracking.series(["aaa111"])["aaa111"][0].count == 4


def test_a_version_keeps_its_number_if_it_is_free(
    here: Workspace, there: Workspace, tmp_path: Path
) -> None:
    put_run(here, "aaa111")
    put_version(here, "aaa111", number=1)
    put_version(here, "aaa111", number=7)
    put_run(there, "ccc333")
    put_version(there, "ccc333", number=1)
    own = there.meta.get(Version, "storm", 1)
    file = tmp_path / "runs.tar.zst"
    export_runs(["aaa"], file, workspace=here)
    came = import_runs(file, workspace=there)
    assert came.versions == {"storm:1": "storm:2", "storm:7": "storm:7"}
    assert there.meta.get(Version, "storm", 1).run == own.run == "ccc333"
    assert there.meta.get(Version, "storm", 2).run == "aaa111"
    edges = there.meta.select(Edge, target="version/storm:2")
    (source,) = [edge.source for edge in edges if edge.role == "imported"]
    assert source.endswith("/storm:1")
    assert there.tracking.tags(["version/storm:2"])["version/storm:2"] == {"by": "aaa111"}
    again = import_runs(file, workspace=there)
    assert (again.changed, again.versions) == (False, came.versions)


def test_what_is_not_a_runs_stays_where_it_is(
    here: Workspace, there: Workspace, tmp_path: Path
) -> None:
    put_run(here, "aaa111")
    here.meta.put(Removal(path="run/aaa111", removed=True, who="ana", at=NOW))
    here.meta.put(Pin(path="run/aaa111", pinned=True, who="ana", at=NOW))
    file = tmp_path / "runs.tar.zst"
    export_runs(["aaa"], file, workspace=here)
    import_runs(file, workspace=there)
    assert there.meta.select(Removal) == []
    assert there.meta.select(Pin) == []
    assert [row.id for row in there.tracking.search(None).rows] == ["aaa111"]


def test_what_was_removed_does_not_come_back_unasked(here: Workspace, tmp_path: Path) -> None:
    put_run(here, "parent")
    put_run(here, "child1", parent="parent")
    put_version(here, "parent")
    for path in ("run/child1", "version/storm:1", "logged/m-parent"):
        here.meta.put(Removal(path=path, removed=True, who="ana", at=NOW))
    file = tmp_path / "runs.tar.zst"
    assert export_runs(["parent"], file, workspace=here).runs == ("parent",)
    text = contents(file)["runs/parent/records.jsonl"]
    assert '"kind":"version"' not in text
    assert '"kind":"logged_model"' not in text
    assert set(export_runs(["child1"], file, workspace=here).runs) == {"parent", "child1"}


# Files that are not as they were written


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return an export of one run."""
    folder = tmp_path_factory.mktemp("whole")
    with store(folder / "home") as workspace:
        put_run(workspace, "aaa111")
        export_runs(["aaa"], folder / "runs.tar.zst", workspace=workspace)
    return (folder / "runs.tar.zst").read_bytes()


@pytest.fixture(scope="module")
def nothing_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with store(tmp_path_factory.mktemp("nothing") / "home") as workspace:
        yield workspace


def untouched(workspace: Workspace) -> bool:
    return not any(workspace.meta.counts().values()) and not list(workspace.blobs.entries())


@given(st.data())
@settings(max_examples=40)
def test_a_file_cut_short_or_changed_is_refused(
    whole: bytes, nothing_here: Workspace, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        broken = whole[:at]
    else:
        bit = 1 << data.draw(st.integers(0, 7))
        broken = whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :]
    if unpacked(broken) == unpacked(whole):
        return  # a byte of the packing that says nothing
    with pytest.raises((Corrupt, Invalid)) as caught:
        import_runs(io.BytesIO(broken), workspace=nothing_here)
    assert caught.value.hint
    assert untouched(nothing_here)


def unpacked(data: bytes) -> bytes | None:
    try:
        return pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
    except OSError:
        return None


def packed(*members: "tuple[str, bytes] | tarfile.TarInfo") -> io.BytesIO:
    """Return a file with these members."""
    file = io.BytesIO()
    out = ArchiveWriter(file)
    for member in members:
        if isinstance(member, tarfile.TarInfo):
            write: Any = getattr(out, "_put")  # noqa: B009  # what no writer writes
            write(member.tobuf(tarfile.GNU_FORMAT))
        else:
            out.add(*member)
    out.close(whole=True)
    return file


def link(name: str, to: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = tarfile.SYMTYPE, to
    return made


def large(name: str, size: int) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = size
    return made


MANIFEST = ("manifest.json", b'{"format":"upturn-runs","version":1}')
RUN = b'{"kind":"run","value":{"id":"%b","flow":"f","entry":"","params":{},"project":"p",' + (
    b'"started_at":"2026-11-01T12:00:00Z","parent":null}}\n'
)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([("../../etc/passwd", b"x")], "no place"),
        ([("/etc/passwd", b"x")], "no place"),
        ([("runs/../x/records.jsonl", b"x")], "no place"),
        ([link("blobs/ab/" + "0" * 62, "/etc/passwd")], "no place"),
        ([link("manifest.json", "/etc/passwd")], "no place"),
        ([large("runs/a/records.jsonl", 2**40)], "more than there can be"),
        ([large("blobs/ab/" + "0" * 62, 2**60)], "no room"),
        ([("blobs/ab/" + "0" * 62, b"x")], "not what was written"),
        ([("runs/a/records.jsonl", RUN % b"b")], "does not hold the run a"),
        ([("runs/a/records.jsonl", b"[" * 100_000)], "not understood"),
        ([("runs/a/records.jsonl", RUN % b"a" + b'{"kind":"token","value":{}}')], "has no 'token'"),
        (
            [("runs/a/records.jsonl", RUN % b"a" + RUN.replace(b"run", b"tag", 1) % b"c")],
            "not understood",
        ),
        (
            [
                (
                    "runs/a/records.jsonl",
                    RUN % b"a" + b'{"kind":"param","value":{"run":"z","name":"n","value":"v"}}',
                )
            ],
            "not its own",
        ),
        (
            [
                (
                    "runs/a/records.jsonl",
                    RUN % b"a"
                    + b'{"kind":"file","value":{"run":"a","path":"../x","digest":"",'
                    + b'"size_bytes":1,"media":"","at":0}}',
                )
            ],
            "no name",
        ),
        ([("runs/a/metrics-00000.parquet", b"PAR1 nothing PAR1")], "points can't be read"),
        ([("runs/a/records.jsonl", RUN % b"a")], "cut short"),
        ([("end.json", b"{}")], "what it says of itself"),
        ([("manifest.json", b"{}")], "twice"),
    ],
)
def test_a_hostile_file_is_refused(nothing_here: Workspace, members: list[Any], says: str) -> None:
    with pytest.raises(UpturnError, match=says):
        import_runs(packed(MANIFEST, *members), workspace=nothing_here)
    assert untouched(nothing_here)


def test_a_file_of_a_newer_form_says_so(nothing_here: Workspace) -> None:
    newer = packed(("manifest.json", b'{"format":"upturn-runs","version":2,"more":1}'))
    with pytest.raises(Invalid, match="form 2") as caught:
        import_runs(newer, workspace=nothing_here)
    assert "Upgrade" in caught.value.hint
    with pytest.raises(Corrupt, match="no export"):
        import_runs(io.BytesIO(b"something else"), workspace=nothing_here)
    with pytest.raises(NotFound, match="There is no file"):
        import_runs("nowhere.tar.zst", workspace=nothing_here)


# Properties

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
POINTS = st.lists(
    st.builds(
        Point,
        st.sampled_from(["loss", "val/ü", "a b"]),
        st.floats(width=64),
        st.integers(-3, 3),
        st.integers(0, 3),
    ),
    max_size=12,
)


@given(
    points=POINTS,
    scopes=st.sampled_from(["", "train/0"]),
    params=st.dictionaries(TEXTS, TEXTS, max_size=3),
    tags=st.dictionaries(TEXTS, TEXTS, max_size=3),
    result=st.none() | st.lists(st.floats() | TEXTS, max_size=3),
)
@settings(max_examples=8)
def test_what_is_exported_again_is_the_same(
    points: list[Point], scopes: str, params: Any, tags: Any, result: Any
) -> None:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        one, other = (stack.enter_context(store(folder / each)) for each in ("one", "other"))
        run = Run(
            id="aaa111",
            flow="f",
            entry="",
            params={"n": result},
            project="p",
            started_at=NOW,
            group=make_group(one.meta, "p", "f").id,
        )
        saved = values.save(one.blobs, result)
        one.meta.put(saved, run, RunState(run=run.id, status="done", at=NOW, result=saved.digest))
        one.tracking.log(run.id, points=points, params=params, tags=tags, scope=scopes)
        export_runs(["aaa111"], folder / "1", workspace=one)
        import_runs(folder / "1", workspace=other)
        assert not import_runs(folder / "1", workspace=other).changed
        export_runs(["aaa111"], folder / "2", workspace=other)
        assert same(contents(folder / "1"), contents(folder / "2"))


# Bad days

KILLED = """
import os, signal, sys
from upturn.develop.transfer import import_runs
from upturn.stores.workspace import open_workspace

workspace = open_workspace()
left = int(sys.argv[2])

def counted(kind, name):
    write = getattr(kind, name)
    def writes(*given, **named):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(*given, **named)
    setattr(kind, name, writes)

for name in ("log", "put_file", "tag"):
    counted(type(workspace.tracking), name)
counted(type(workspace.meta), "put")
import_runs(sys.argv[1], workspace=workspace)
"""


def test_killed_on_its_way_it_is_done_again(here: Workspace, tmp_path: Path) -> None:
    put_run(here, "parent", loss=[1.0 / (i + 1) for i in range(25_000)])
    put_run(here, "child1", parent="parent")
    put_version(here, "parent")
    file = tmp_path / "runs.tar.zst"
    export_runs(["parent"], file, workspace=here)
    home = tmp_path / "there"
    environ = {**os.environ, "UPTURN_HOME": str(home)}
    for left in (1, 9):  # in the middle of the points, and of the child
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(file), str(left)],
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        with store(home) as there:
            for run in there.meta.select(Run):  # what is seen is whole
                kept = there.tracking.series([run.id])[run.id]
                assert [one.count for one in kept] == [
                    one.count for one in here.tracking.series([run.id])[run.id]
                ]
                assert up.Run(run.id, workspace=there).status == "done"
    with store(home) as there:
        assert import_runs(file, workspace=there).changed
        assert not import_runs(file, workspace=there).changed
        back = tmp_path / "back.tar.zst"
        export_runs(["parent"], back, workspace=there)
        assert same(contents(back), contents(file))


# As it is typed


def test_the_commands_say_what_they_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPTURN_HOME", str(tmp_path / "one"))
    with store(tmp_path / "one") as one:
        put_run(one, "aaa111")
    file = str(tmp_path / "a.tar.zst")
    said = CliRunner().invoke(cli, ["runs", "export", "aaa", "-o", file])
    assert said.exit_code == 0, said.output
    assert said.output.startswith("Exported 1 run with 4 points and ")
    monkeypatch.setenv("UPTURN_HOME", str(tmp_path / "two"))
    said = CliRunner().invoke(cli, ["runs", "import", file])
    assert said.output.startswith("Imported 1 run with 4 points and "), said.output
    said = CliRunner().invoke(cli, ["runs", "import", file])
    assert said.output == "1 run: everything was here already.\n"
    with store(tmp_path / "two") as two:
        assert [one.action for one in read_audit(two.meta)] == ["runs.import"]


def test_a_blob_that_gc_removed_is_missed_and_said(
    here: Workspace, there: Workspace, tmp_path: Path
) -> None:
    put_run(here, "aaa111")
    here.blobs.delete(here.meta.select(Exhibit)[0].artifact)
    assert export_runs(["aaa"], tmp_path / "f", workspace=here).missing == 1
    assert import_runs(tmp_path / "f", workspace=there).new == ("aaa111",)
