"""Webhooks against real receivers: signed, told once each, tried again, in nobody's way."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from contract.processes import kill_after, start
from e2e.folder import Folder
from upturn.adapters.webhooks.duty import HookDuty, may_be_posted_to
from upturn.adapters.webhooks.shelf import deliveries_of, put_hook, remove_hook
from upturn.core.errors import Invalid
from upturn.core.findings import Alert, Decision
from upturn.core.naming import Removal
from upturn.core.notices import Delivery, Hook
from upturn.core.posting import Unreached, post
from upturn.core.records import Alias, Endpoint, Run, RunState
from upturn.core.time import utcnow
from upturn.stores.workspace import Workspace
from waiting import until


class Receiver:
    """What it got, and what it answers: a status, or what it does instead."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: Callable[[int], int | str] = lambda count: 200
        self.got: list[tuple[dict[str, str], bytes]] = []

    def types(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.got]


@contextmanager
def receiver() -> Iterator[Receiver]:
    made, over = Receiver(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.got.append((headers, body))
            answer = made.answers(len(made.got))
            if answer == "hang":
                over.wait(60)
            elif answer == "drip":
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while not over.wait(0.05):
                    try:
                        self.wfile.write(b"x: y\r\n")
                    except OSError:
                        return
            elif isinstance(answer, str):
                self.send_response(307)
                self.send_header("Location", answer)
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.send_response(answer)
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"said")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made.url = f"http://127.0.0.1:{server.server_address[1]}/hook?token=geheim"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            over.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def project(tmp_path: Path) -> Folder:
    return Folder(tmp_path, {})


@pytest.fixture
def workspace(project: Folder) -> Iterator[Workspace]:
    opened = project.open()
    yield opened
    opened.close()


def look_until(duty: HookDuty, workspace: Workspace, condition: Callable[[], object]) -> None:
    def looked() -> object:
        duty.look(workspace, utcnow())
        time.sleep(0.01)
        return condition() and not duty.telling

    until(looked, "they were not told", within_s=30)


def add(workspace: Workspace, name: str, url: str, *events: str) -> Hook:
    return put_hook(workspace, name, url=url, events=events, project="tested", by="t", now=utcnow())


def ended(workspace: Workspace, run: str, status: str = "failed", project: str = "tested") -> None:
    if workspace.meta.find(Run, run) is None:
        workspace.meta.put(
            Run(
                id=run,
                flow="f",
                entry="f.py:f",
                params={"n": 1},
                project=project,
                started_at=utcnow(),
            )
        )
    workspace.meta.put(RunState(run=run, status=status, at=utcnow()))  # type: ignore[arg-type]


def test_a_hook_gets_what_it_asked_for_signed_and_in_order(workspace: Workspace) -> None:
    with receiver() as there:
        hook = add(workspace, "ci", there.url, "run.failed", "alias", "model", "alert", "decision")
        duty = HookDuty()
        duty.look(workspace, utcnow())
        ended(workspace, "r1", "done")
        ended(workspace, "r2")
        ended(workspace, "r3", project="another")
        now = utcnow()
        workspace.meta.put(
            Endpoint("delays"),
            Alias(model="delays", name="champion", number=2, why="better", at=now),
            Alias(model="delays", name="champion", number=3, why="better still", at=now),
            Removal(path="model/delays", removed=True, who="t", at=now),
            Removal(path="run/r1", removed=True, who="t", at=now),
        )
        alert = Alert(
            endpoint="delays", name="drift/x", status="raised", says="x", began_at=now, at=now
        )
        workspace.meta.put(alert, alert)  # it is put again when its channels were told
        for action in ("wait", "promote"):
            workspace.meta.put(
                Decision(
                    loop="delays",
                    action=action,
                    why="so",
                    evidence={},
                    state={},
                    at=now,
                    recorded_at=now,
                    endpoint="delays",
                )
            )
        look_until(duty, workspace, lambda: len(there.got) == 6)
        expected = ["alert.raised", "alias.moved", "alias.moved", "decision.made", "model.removed"]
        assert sorted(there.types()) == [*expected, "run.failed"]
        for headers, body in there.got:
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            key = base64.b64decode(hook.secret.removeprefix("whsec_"))
            digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
            assert headers["webhook-signature"] == f"v1,{digest}"
            assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
            assert "." not in headers["webhook-id"]
        moved = [json.loads(b)["data"] for _, b in there.got if b"alias.moved" in b]
        assert [(one["was"], one["to"]) for one in moved] == [(None, 2), (2, 3)]
        failed = next(json.loads(b) for _, b in there.got if b"run.failed" in b)
        assert failed["data"]["path"] == "run/r2"
        assert {one.status for one in deliveries_of(workspace, "ci", limit=99)} == {"done"}
        duty.look(workspace, utcnow())
        HookDuty().look(workspace, utcnow())  # as after a restart
        assert len(there.got) == 6


def test_what_happened_while_nobody_looked_is_told_later_once(workspace: Workspace) -> None:
    with receiver() as there:
        add(workspace, "ci", there.url, "run")
        HookDuty().look(workspace, utcnow())
        for number in range(20):
            ended(workspace, f"r{number}")
        look_until(HookDuty(), workspace, lambda: len(there.got) >= 20)
        assert [json.loads(b)["data"]["run"] for _, b in there.got] == [f"r{n}" for n in range(20)]


SERVER = """
    import time
    from upturn.adapters.webhooks.duty import HookDuty
    from upturn.core.settings import load_settings
    from upturn.core.time import utcnow
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace(load_settings(Path(sys.argv[1]), {}))
    duty = HookDuty(delays_s=(0.01,) * 9)
    while True:
        duty.look(workspace, utcnow())
        print("looked", flush=True)
        time.sleep(0.001)
"""


def test_servers_that_are_killed_lose_no_event_and_keep_its_id(
    workspace: Workspace, project: Folder
) -> None:
    with receiver() as there:
        there.answers = lambda count: 500 if count % 3 == 0 else 200
        add(workspace, "ci", there.url, "run")
        HookDuty().look(workspace, utcnow())
        wanted: set[str] = set()
        for killed in range(5):
            server = start(SERVER, project.folder)
            for number in range(10):
                wanted.add(f"r{killed}-{number}")
                ended(workspace, f"r{killed}-{number}")
            kill_after(server, killed + 2)
        look_until(
            HookDuty(delays_s=(0.01,) * 9),
            workspace,
            lambda: {one.status for one in deliveries_of(workspace, "ci", limit=99)} == {"done"},
        )
        ids: dict[str, set[str]] = {}
        for headers, body in there.got:
            ids.setdefault(json.loads(body)["data"]["run"], set()).add(headers["webhook-id"])
        assert set(ids) == wanted
        assert all(len(same) == 1 for same in ids.values())
        assert len({id for same in ids.values() for id in same}) == len(wanted)


def test_a_receiver_that_hangs_or_fails_holds_up_no_other(workspace: Workspace) -> None:
    with receiver() as hangs, receiver() as drips, receiver() as fails, receiver() as well:
        hangs.answers, drips.answers = lambda count: "hang", lambda count: "drip"
        fails.answers = lambda count: 500
        for name, there in (("a", hangs), ("b", drips), ("c", fails), ("d", well)):
            add(workspace, name, there.url, "run.failed")
        duty = HookDuty(timeout_s=1.0, delays_s=(0.01, 0.01))
        duty.look(workspace, utcnow())
        began = time.monotonic()
        ended(workspace, "r1")
        ended(workspace, "r2")
        while len(well.got) < 2:
            duty.look(workspace, utcnow())
            assert time.monotonic() - began < 0.9, "it waited for the others"
            time.sleep(0.01)

        def all_failed() -> bool:
            found = [one for name in "abc" for one in deliveries_of(workspace, name, limit=9)]
            return [one.status for one in found] == ["failed"] * 6

        look_until(duty, workspace, all_failed)
        assert len(fails.got) == 6  # three attempts for each of two
        assert {one.attempts for one in deliveries_of(workspace, "c", limit=9)} == {3}
        assert deliveries_of(workspace, "c", limit=1)[0].response == "500 said"
        assert "can't be reached" in deliveries_of(workspace, "b", limit=1)[0].response


def test_it_is_tried_again_later_and_later(workspace: Workspace) -> None:
    with receiver() as there:
        there.answers = lambda count: 503
        add(workspace, "ci", there.url, "run")
        duty = HookDuty(delays_s=(100.0, 1000.0))
        duty.look(workspace, utcnow())
        ended(workspace, "r1")
        look_until(duty, workspace, lambda: deliveries_of(workspace, "ci", limit=1)[0].attempts)
        (first,) = deliveries_of(workspace, "ci", limit=9)
        assert first.next_at is not None
        assert 79 < (first.next_at - first.at).total_seconds() < 121
        duty.look(workspace, utcnow())
        assert len(there.got) == 1
        late = utcnow() + timedelta(seconds=130)
        until(lambda: duty.look(workspace, late) or len(there.got) == 2, "not tried again")
        until(lambda: not duty.telling, "it does not end")
        (second,) = deliveries_of(workspace, "ci", limit=9)
        assert second.attempts == 2
        assert second.status == "due"


def test_redirects_are_not_followed_and_who_is_gone_is_told_no_more(workspace: Workspace) -> None:
    with receiver() as there, receiver() as elsewhere, receiver() as gone:
        there.answers = lambda count: elsewhere.url
        gone.answers = lambda count: 410
        add(workspace, "ci", there.url, "run")
        add(workspace, "old", gone.url, "run")
        duty = HookDuty(delays_s=())
        duty.look(workspace, utcnow())
        ended(workspace, "r1")
        look_until(duty, workspace, lambda: workspace.meta.get(Hook, "old").paused)
        look_until(
            duty,
            workspace,
            lambda: deliveries_of(workspace, "ci", limit=1)[0].status == "failed",
        )
        assert deliveries_of(workspace, "ci", limit=1)[0].response == "307"
        assert elsewhere.got == []
        ended(workspace, "r2")
        look_until(duty, workspace, lambda: len(there.got) == 2)
        assert len(gone.got) == 1
        assert len(workspace.meta.select(Delivery, hook="old")) == 2  # due, and failed


def test_what_a_removed_hook_was_to_be_told_is_not_told_to_its_successor(
    workspace: Workspace,
) -> None:
    with receiver() as old, receiver() as new:
        old.answers = lambda count: 500
        add(workspace, "ci", old.url, "run")
        duty = HookDuty(delays_s=(0.01,) * 9)
        duty.look(workspace, utcnow())
        ended(workspace, "r1")
        until(lambda: duty.look(workspace, utcnow()) or old.got, "it was not told")
        remove_hook(workspace, "ci", by="t", now=utcnow())
        add(workspace, "ci", new.url, "run")
        ended(workspace, "r2")
        look_until(duty, workspace, lambda: new.got)
        assert [json.loads(body)["data"]["run"] for _, body in new.got] == ["r2"]
        assert [one.status for one in deliveries_of(workspace, "ci", limit=9)] == ["done", "failed"]


def test_a_hook_by_command(project: Folder) -> None:
    with receiver() as there:
        added = project.type("hooks", "add", "ci", there.url, "--on", "version, run.failed")
        assert "Its secret, which is not shown again: whsec_" in added.stdout
        secret = added.stdout.partition("whsec_")[2].split()[0]
        assert "It was taken: 200 said" in project.type("hooks", "test", "ci").stdout
        assert there.types() == ["hook.test"]
        listed = project.type("hooks").stdout + project.type("hooks", "--json").stdout
        assert "version, run.failed" in listed
        again = project.type("hooks", "add", "ci", there.url, "--on", "alert").stdout
        assert "geheim" not in listed + again
        assert secret not in listed + again
        assert "Nothing was sent" in project.type("hooks", "deliveries", "ci").stdout
        assert "paused" in project.type("hooks", "pause", "ci").stdout
        assert "told again" in project.type("hooks", "resume", "ci").stdout
        there.answers = lambda count: 500
        refused = project.type("hooks", "test", "ci")
        assert refused.returncode == 1
        assert "answered 500 said" in refused.stderr
        assert "removed" in project.type("hooks", "remove", "ci").stdout
        assert "Nobody is told" in project.type("hooks").stdout
        private = project.type("hooks", "add", "in", there.url, "--on", "run")
        assert private.returncode == 0
        closed = project.type("hooks", "test", "in", UPTURN_HOOKS="public")
        assert "may not post to" in closed.stderr


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"url": "ftp://x/y"}, "not an address"),
        ({"url": "http://x/\r\nHost: y"}, "not an address"),
        ({"events": ("run.fialed",)}, "There are no events"),
        ({"events": ()}, "is told of some events"),
        ({"secret": "geheim"}, "no secret"),
        ({"secret": "whsec_AAAA"}, "no secret"),
        ({"name": "../x"}, "can't be the name"),
    ],
)
def test_what_can_not_be_a_hook_is_said(
    workspace: Workspace, changes: dict[str, object], says: str
) -> None:
    given = {"name": "ci", "url": "http://x/y", "events": ("run",), "secret": "", **changes}
    name = given.pop("name")
    with pytest.raises(Invalid, match=says):
        put_hook(workspace, name, **given, project="tested", by="t", now=utcnow())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "anywhere", "public"),
    [
        ("93.184.216.34", True, True),
        ("127.0.0.1", True, False),
        ("10.0.0.1", True, False),
        ("::1", True, False),
        ("::ffff:10.0.0.1", True, False),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("fd00:ec2::254", False, False),
        ("fe80::1%eth0", False, False),
        ("0.0.0.0", False, False),
        ("224.0.0.1", False, False),
        ("what", False, False),
    ],
)
def test_where_may_be_posted_to(address: str, anywhere: bool, public: bool) -> None:
    assert may_be_posted_to(address, public_only=False) is anywhere
    assert may_be_posted_to(address, public_only=True) is public


def test_nobody_there() -> None:
    with pytest.raises(Unreached, match="can't be reached"):
        post("http://127.0.0.1:9/x", b"{}", {}, timeout_s=1.0)
