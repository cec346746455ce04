"""The store's calls: who may make which, and that nothing else gets through them."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upturn.api import store, store_blobs
from upturn.api.operation import Ask, Asker
from upturn.core.access import Audit
from upturn.core.errors import Conflict, Invalid, NotFound, Unapproved, UpturnError
from upturn.core.memos import last_memo
from upturn.core.naming import Description, Group, Model, Protection
from upturn.core.records import (
    KINDS,
    Alias,
    Artifact,
    Edge,
    Endpoint,
    Exhibit,
    Memo,
    Record,
    Run,
    RunState,
    TaskState,
)
from upturn.core.settings import load_settings
from upturn.core.time import utcnow
from upturn.core.tracking import Point, StoredFile
from upturn.deploy.serve.problems import BadRequest, Forbidden
from upturn.stores.groups import make_group
from upturn.stores.remote import wire
from upturn.stores.remote import wire_tracking as asks
from upturn.stores.workspace import open_workspace

NOW = datetime(2013, 4, 1, tzinfo=UTC)


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Return an admin's circumstances."""
    workspace = open_workspace(load_settings(tmp_path, {"UPTURN_HOME": str(tmp_path / "home")}))
    return Ask(workspace, Asker("ana"), utcnow())


def by(ask: Ask, role: Any, *projects: str) -> Ask:
    limits = frozenset(projects) if projects else None
    return replace(ask, asker=Asker("bo", role=role, projects=limits, token="t1"))


def put(ask: Ask, *records: Record, once: str = "") -> Any:
    asked = wire.Put(records=[wire.to_body(record) for record in records], once=once)
    return msgspec.msgpack.decode(store.call(ask, "put", wire.pack(asked)))


def call(ask: Ask, name: str, asked: wire.Asked) -> Any:
    return msgspec.msgpack.decode(store.call(ask, name, wire.pack(asked)))


def run(name: str = "r1", project: str = "p") -> Run:
    return Run(
        id=name, flow="f", entry="f.py:f", params={}, project=project, started_at=NOW, who="bo"
    )


def alias(number: int = 1, model: str = "delays") -> Alias:
    return Alias(model=model, name="champion", number=number, why="", at=NOW)


def test_a_put_counts_once_by_its_id(ask: Ask) -> None:
    state = RunState(run="r1", status="running", at=NOW)
    assert put(ask, run(), state, once="a") == [None, 1]
    assert put(ask, run(), state, once="a") == [None, 1]
    assert put(ask, state, once="b") == [2]
    assert len(ask.workspace.meta.select(RunState)) == 2
    # Somebody else's id is another one, whatever it is.
    assert put(by(ask, "editor"), state, once="b") == [3]


@pytest.mark.parametrize(
    ("role", "record", "may"),
    [
        ("viewer", run(), False),
        ("editor", run(), True),
        ("editor", alias(0), False),
        ("deployer", alias(0), True),
        ("editor", Endpoint("delays", at=NOW), False),
        ("deployer", Endpoint("delays", at=NOW), True),
        ("editor", Description(path="run/r1", text="x", who="bo", at=NOW), True),
        ("editor", Description(path="model/delays", text="x", who="bo", at=NOW), False),
        ("deployer", Protection(model="m", alias="champion", on=False, who="bo", at=NOW), False),
        ("admin", Protection(model="m", alias="champion", on=False, who="bo", at=NOW), True),
    ],
)
def test_what_is_put_takes_its_role(ask: Ask, role: str, record: Record, may: bool) -> None:
    if may:
        put(by(ask, role), record)
        return
    with pytest.raises(Forbidden, match="may not"):
        put(by(ask, role), record)
    assert ask.workspace.meta.select(type(record)) == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.table in store.SECRET])
@pytest.mark.parametrize("name", ["find", "select", "last_each", "read_on", "position"])
def test_secrets_never_go_out_this_way(ask: Ask, kind: type[Record], name: str) -> None:
    bodies = {
        "find": wire.Find(kind=kind.table, key=["x"]),
        "select": wire.Select(kind=kind.table),
        "last_each": wire.LastEach(kind=kind.table),
    }
    with pytest.raises(Forbidden):
        call(ask, name, bodies.get(name, wire.ReadOn(kind=kind.table)))


def test_secrets_never_come_in_this_way(ask: Ask) -> None:
    audit = Audit(at=NOW, who="eve", role="viewer", via="http", action="nothing", status=200)
    with pytest.raises(Forbidden):
        put(ask, audit)
    assert ask.workspace.meta.select(Audit) == []


def test_what_a_deployer_puts_is_in_the_audit_log_and_a_run_tells_its_own_story(ask: Ask) -> None:
    put(by(ask, "deployer"), run(), Endpoint("delays", at=NOW))
    noted = ask.workspace.meta.select(Audit)
    assert [(one.who, one.token, one.action, one.path) for one in noted] == [
        ("bo", "t1", "store.put", "endpoint/delays/1")
    ]


def test_a_protected_alias_is_not_moved_past_its_rule(ask: Ask) -> None:
    rule = Protection(model="delays", alias="champion", on=True, who="ana", at=NOW)
    ask.workspace.meta.put(rule)
    for number in (1, 0):
        with pytest.raises(Unapproved):
            put(by(ask, "deployer"), alias(number))
    assert ask.workspace.meta.find(Alias, "delays", "champion") is None


def test_a_field_that_is_unknown_is_refused_at_any_depth(ask: Ask) -> None:
    table, body = wire.to_body(RunState(run="r1", status="running", at=NOW))
    more = msgspec.json.decode(body) | {"sudo": True}
    with pytest.raises(Invalid, match="sudo"):
        store.call(ask, "put", wire.pack(wire.Put(records=[(table, msgspec.json.encode(more))])))
    deep = msgspec.json.decode(body) | {"problem": {"code": "a", "message": "b", "evil": 1}}
    with pytest.raises(Invalid, match="evil"):
        store.call(ask, "put", wire.pack(wire.Put(records=[(table, msgspec.json.encode(deep))])))
    with pytest.raises(Invalid, match="no records"):
        store.call(ask, "put", wire.pack(wire.Put(records=[("sqlite_master", body)])))


def test_a_token_of_a_project_sees_and_puts_its_own_alone(ask: Ask) -> None:
    ask.workspace.meta.put(run("ours"), run("theirs", project="q"))
    ours = by(ask, "deployer", "p")
    found = call(ours, "select", wire.Select(kind="run"))
    assert [msgspec.json.decode(body)["id"] for body in found] == ["ours"]
    assert call(ours, "find", wire.Find(kind="run", key=["theirs"])) is None
    with pytest.raises(NotFound):
        call(ours, "find", wire.Find(kind="run", key=["theirs"], must=True))
    put(ours, RunState(run="ours", status="done", at=NOW))
    put(ours, run("new"), RunState(run="new", status="running", at=NOW))
    for record in (
        run("other", project="q"),
        RunState(run="theirs", status="done", at=NOW),
        RunState(run="nobody's", status="done", at=NOW),
        Model(name="m", project="q", who="bo", created_at=NOW, at=NOW),
        Artifact(digest="0" * 64, codec="json", type="int", size_bytes=1),
    ):
        with pytest.raises(Forbidden):
            put(ours, record)
    for kind in ("decision", "check", "collection"):
        with pytest.raises(Forbidden, match="limited to projects"):
            call(ours, "select", wire.Select(kind=kind))
    with pytest.raises(Forbidden):
        call(ours, "tracking.log", asks.Log(run="theirs", points=[Point("auc", 1.0)]))
    call(ours, "tracking.log", asks.Log(run="ours", points=[Point("auc", 1.0)]))
    assert call(ours, "tracking.series", asks.Names(names=["theirs"])) == {"theirs": []}
    assert [row["id"] for row in call(ours, "tracking.search", asks.Search())["rows"]] == [
        "new",
        "ours",
    ]


def task_state(run: str, output: str) -> TaskState:
    return TaskState(run=run, step="s", index=0, status="done", attempt=1, at=NOW, output=output)


def test_a_digest_is_no_right_to_the_bytes(ask: Ask) -> None:
    ask.workspace.meta.put(run("ours"), run("theirs", project="q"))
    digest = ask.workspace.blobs.put([b"theirs"])
    path = f"artifact/{digest}"
    ask.workspace.meta.put(Edge(source="run/theirs/s/0", target=path, role="output"))
    ours, theirs = by(ask, "deployer", "p"), by(ask, "deployer", "q")
    has = wire.Blob(digest=digest)
    assert call(theirs, "blobs.has", has)
    known = Artifact(digest=digest, codec="json", type="int", size_bytes=1)
    table = Memo(memo="m", output=digest, task="run/ours/s/0", at=NOW)
    exhibit = Exhibit(run="ours", step="s", index=0, title="", media="", artifact=digest, at=NOW)
    file = StoredFile(run="ours", path="a", digest=digest, size_bytes=1, media="", at=0)
    for record in (
        known,
        table,
        exhibit,
        task_state("ours", digest),
        RunState(run="ours", status="done", at=NOW, result=digest),
        Edge(source=path, target="run/ours/s/0", role="input x"),
        Edge(source=f"code/{digest}", target="run/ours/s/0", role="code"),
        Edge(source=path, target="file/x", role="of nobody"),
        Edge(source="run/ours/s/0", target="run/theirs/s/0", role="input x"),
        msgspec.structs.replace(run("more"), parent="theirs"),
        msgspec.structs.replace(run("more"), rerun_of="run/theirs/s/0"),
    ):
        with pytest.raises(Forbidden):
            put(ours, record)
    with pytest.raises(Forbidden):
        call(ours, "tracking.put_file", asks.PutFile(file=file))
    assert not call(ours, "blobs.has", has)
    call(ours, "blobs.delete", has)
    assert ask.workspace.blobs.has(digest)
    # Who has the bytes may have them.
    store_blobs.note_brought(ours, digest)
    put(ours, known, table, exhibit, task_state("ours", digest))
    call(ours, "tracking.put_file", asks.PutFile(file=file))
    assert call(ours, "blobs.has", has)


def test_what_a_run_of_theirs_refers_to_is_theirs_to_read(ask: Ask) -> None:
    workspace = ask.workspace
    workspace.meta.put(run("ours"))
    output, shown, file, none = (workspace.blobs.put([bytes([n])]) for n in range(4))
    workspace.meta.put(
        Edge(source="run/ours/s/0", target=f"artifact/{output}", role="output"),
        Edge(source="run/ours/s/0", target=f"artifact/{shown}", role="shown"),
    )
    workspace.tracking.put_file(
        StoredFile(run="ours", path="a", digest=file, size_bytes=1, media="", at=0)
    )
    ours = by(ask, "viewer", "p")
    found = [call(ours, "blobs.has", wire.Blob(digest=d)) for d in (output, shown, file, none)]
    assert found == [True, True, True, False]


def test_what_a_token_of_a_project_remembers_holds_there_alone(ask: Ask) -> None:
    meta = ask.workspace.meta
    meta.put(run("ours"), run("theirs", project="q"))
    trusted, made_up = (ask.workspace.blobs.put([data]) for data in (b"true", b"made up"))
    meta.put(
        Memo(memo="m", output=trusted, task="run/theirs/s/0", at=NOW),
        Edge(source="run/theirs/s/0", target=f"artifact/{trusted}", role="output"),
    )
    ours, theirs = by(ask, "editor", "p"), by(ask, "editor", "q")
    store_blobs.note_brought(ours, made_up)
    lie = Memo(memo="m", output=made_up, task="run/ours/s/0", at=NOW, only="q")
    put(ours, lie)
    put(ours, msgspec.structs.replace(lie, task="env/numpy"))
    for task in ("run/theirs/s/0", "loop/l", "run/nobody/s/0"):
        with pytest.raises(Forbidden):
            put(ours, msgspec.structs.replace(lie, task=task))
    assert [memo.only for memo in meta.select(Memo)] == ["", "p", "p"]
    for project, output in (("p", made_up), ("q", trusted), ("", trusted)):
        found = last_memo(meta, "m", project)
        assert found is not None
        assert found.output == output
    # Neither sees the other's, whichever is the last.
    for asker, output in ((ours, made_up), (theirs, trusted)):
        body = call(asker, "find", wire.Find(kind="memo", key=["m"]))
        assert msgspec.json.decode(body)["output"] == output
        bodies = call(asker, "select", wire.Select(kind="memo"))
        assert {msgspec.json.decode(body)["output"] for body in bodies} == {output}


def test_groups_of_others_do_not_keep_a_project_from_its_own(ask: Ask) -> None:
    for name in "abcdef":
        make_group(ask.workspace.meta, "q", name)
    with pytest.raises(Conflict):
        put(by(ask, "editor", "p"), group("3", seq=1))
    with pytest.raises(Forbidden):
        put(by(ask, "editor", "p"), group("3"))
    put(by(ask, "editor", "p"), group("7", seq=1))


def group(id: str, seq: int = 0) -> Group:
    return Group(id=id, seq=seq, name="a", project="p", who="bo", created_at=NOW, at=NOW)


def test_leases_take_a_role(ask: Ask) -> None:
    asked = wire.Claim(name="run/r1", owner="me", ttl_s=60.0)
    assert call(by(ask, "editor"), "claim", asked)
    for role, name in (("viewer", "run/r2"), ("editor", "loop/l"), ("deployer", "server")):
        with pytest.raises(Forbidden):
            call(by(ask, role), "claim", wire.Claim(name=name, owner="me", ttl_s=60.0))


def test_an_editor_removes_damaged_blobs_alone(ask: Ask) -> None:
    blobs = ask.workspace.blobs
    digest = blobs.put([b"x" * 100])
    call(by(ask, "editor"), "blobs.delete", wire.Blob(digest=digest))
    assert blobs.has(digest)
    file = ask.workspace.settings.home / "blobs" / digest[:2] / digest[2:]
    file.chmod(0o644)
    file.write_bytes(b"y" * 100)
    call(by(ask, "editor"), "blobs.delete", wire.Blob(digest=digest))
    assert not blobs.has(digest)


@given(name=st.sampled_from(sorted(store.CALLS)), body=st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_that_are_no_call_are_refused(ask: Ask, name: str, body: bytes) -> None:
    with pytest.raises(BadRequest):
        store.call(ask, name, b"\xc1" + body)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_no_call_fails_in_an_unforeseen_way(ask: Ask, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(store.CALLS)))
    kind = store.CALLS[name].asks
    fields = {field.name: values for field in msgspec.structs.fields(kind)}
    known = {"kind": st.sampled_from([kind.table for kind in KINDS]) | st.text(max_size=5)}
    body = data.draw(
        st.fixed_dictionaries({name: known.get(name, value) for name, value in fields.items()})
    )
    try:
        store.call(ask, name, msgspec.msgpack.encode(body))
    except UpturnError as error:
        if error.http_status >= 500:
            raise
