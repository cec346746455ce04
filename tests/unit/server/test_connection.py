"""Connections: what clients may do to one, over real sockets; the application is a small one."""

import asyncio
import contextlib
import http.client
import itertools
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from upturn.server.host import Host
from upturn.server.patience import Patience
from waiting import until

T = TypeVar("T")
QUICK = Patience(head_s=0.3, body_s=0.3, idle_s=0.6, last_s=0.3, head_bytes=8192)
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\nretry-after: 1\r\n\r\nbusy"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Tells back how many bytes the body had; /early does not read it; /raises raises."""
    path = scope["path"]
    length = 0
    if path == "/raises":
        raise RuntimeError("no")
    if path == "/slow":
        await asyncio.sleep(0.3)
    if path != "/early":
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            length += len(message["body"])
            if not message["more_body"]:
                break
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if path == "/parts":
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"part ", "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    if path == "/large":
        await send({"type": "http.response.body", "body": b"x" * 8_000_000})
        return
    answer = json.dumps({"path": path, "length": length}).encode()
    await send({"type": "http.response.body", "body": answer})


class Served:
    """A host in a thread of its own, and the clients that it has."""

    def __init__(self, patience: Patience, gate: Callable[[bytes], bytes | None] | None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.address = self._listener.getsockname()
        self._patience, self._gate = patience, gate
        self._begun = threading.Event()
        self._clients: list[socket.socket] = []
        self.adopted: list[socket.socket] = []
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()))
        self._thread.start()
        assert self._begun.wait(10)

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.host = Host(app, patience=self._patience, gate=self._gate)
        self._ended = asyncio.Event()
        tasks = [asyncio.create_task(self._accept()), asyncio.create_task(self._sweep())]
        self._begun.set()
        await self._ended.wait()
        for task in tasks:
            task.cancel()
        await self.host.end()
        await asyncio.sleep(0)

    async def _accept(self) -> None:
        while True:
            sock, _ = await self.loop.sock_accept(self._listener)
            self.adopted.append(sock)
            self.host.adopt(sock)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            self.host.sweep()

    def do(self, what: Callable[[], T]) -> T:
        """Run it on the loop."""

        async def run() -> T:
            return what()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def wait(self, what: Callable[[], Awaitable[T]]) -> T:
        async def run() -> T:
            return await what()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def client(self) -> socket.socket:
        client = socket.create_connection(self.address, timeout=10)
        self._clients.append(client)
        return client

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)
        for sock in (self._listener, *self._clients):
            sock.close()


@contextlib.contextmanager
def serving(
    patience: Patience | None = None, gate: Callable[[bytes], bytes | None] | None = None
) -> Iterator[Served]:
    served = Served(patience or Patience(), gate)
    try:
        yield served
    finally:
        served.end()


def answer(client: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one answer."""
    response = http.client.HTTPResponse(client)
    response.begin()
    body = response.read()
    return response.status, {k.lower(): v for k, v in response.getheaders()}, body


def closed(client: socket.socket) -> bool:
    """Read what there is, and whether the other side then ends."""
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        return True
    return True


def get(path: str = "/", **headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def post(body: bytes, path: str = "/", **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def test_no_answer_waits_for_an_acknowledgement() -> None:
    with serving() as served:
        client = served.client()
        client.sendall(get())
        answer(client)
        (sock,) = served.adopted
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 400), max_size=6),
    bodies=st.lists(st.binary(max_size=100), min_size=1, max_size=4),
)
def test_requests_are_answered_in_order_however_their_bytes_come(
    one_server: Served, cuts: list[int], bodies: list[bytes]
) -> None:
    sent = b"".join(post(body, f"/{number}") for number, body in enumerate(bodies))
    places = [0, *sorted({min(cut, len(sent)) for cut in cuts}), len(sent)]
    with socket.create_connection(one_server.address, timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for begin, end in itertools.pairwise(places):
            client.sendall(sent[begin:end])
        reader = client.makefile("rb")
        for number, body in enumerate(bodies):
            assert reader.readline().startswith(b"HTTP/1.1 200 ")
            length = 0
            while line := reader.readline().strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            said = json.loads(reader.read(length))
            assert said == {"path": f"/{number}", "length": len(body)}
        reader.close()


@pytest.fixture(scope="module")
def one_server() -> Iterator[Served]:
    with serving() as served:
        yield served


def test_bodies_in_chunks_large_ones_and_answers_in_parts() -> None:
    with serving() as served:
        connection = http.client.HTTPConnection(*served.address, timeout=10)
        connection.request(
            "POST",
            "/",
            iter([b"abc", b"defg"]),
            encode_chunked=True,
            headers={"Transfer-Encoding": "chunked"},
        )
        assert json.loads(connection.getresponse().read())["length"] == 7
        connection.request("POST", "/", b"x" * 3_000_000)
        assert json.loads(connection.getresponse().read())["length"] == 3_000_000
        connection.request("GET", "/parts")
        assert connection.getresponse().read() == b"part part part "
        connection.request("HEAD", "/")
        head = connection.getresponse()
        assert head.read() == b""
        connection.request("GET", "/raises")
        failed = connection.getresponse()
        assert (failed.status, json.loads(failed.read())["code"]) == (500, "error")
        connection.request("GET", "/large")
        assert len(connection.getresponse().read()) == 8_000_000
        connection.close()


def test_a_client_that_waits_is_told_to_go_on() -> None:
    with serving() as served:
        client = served.client()
        head, _, body = post(b"12345", Expect="100-continue").partition(b"12345")
        client.sendall(head)
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"12345" + body)
        assert json.loads(answer(client)[2])["length"] == 5


def test_a_client_that_sends_no_more_is_answered_all_the_same() -> None:
    with serving() as served:
        client = served.client()
        client.sendall(get("/slow"))
        client.shutdown(socket.SHUT_WR)
        assert answer(client)[0] == 200
        assert closed(client)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 20_000,
        get("/" + "u" * 20_000),
        get(X_Long="v" * 20_000),
        get(**{f"X_{number}": "1" for number in range(200)}),
        get(**{f"X_{number}": "1" * 100 for number in range(90)}),
    ],
    ids=["endless", "target", "one", "many", "together"],
)
def test_headers_that_are_too_large_are_refused(sent: bytes) -> None:
    with serving(QUICK) as served:
        client = served.client()
        with contextlib.suppress(ConnectionError):
            client.sendall(sent)
        assert answer(client)[0] == 431
        assert closed(client)


def test_what_is_no_http_is_refused_after_what_came_before_it() -> None:
    with serving() as served:
        client = served.client()
        client.sendall(get("/slow") + b"\x16\x03\x01 hello")
        assert answer(client)[0] == 200
        assert closed(client)
        other = served.client()
        other.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert answer(other)[0] == 400
        assert closed(other)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (b"GET / HTTP/1.1\r\nHo", 408),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", 408),
    ],
)
def test_a_request_that_does_not_come_ends_the_connection(sent: bytes, status: int | None) -> None:
    with serving(QUICK) as served:
        client = served.client()
        client.sendall(sent)
        if status is not None:
            assert answer(client)[0] == status
        assert closed(client)
        until(lambda: not served.host.connections, "the connection to be gone")


def test_an_idle_connection_is_closed_and_one_that_takes_no_answer_too() -> None:
    with serving(QUICK) as served:
        idle, deaf = served.client(), served.client()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        idle.sendall(get())
        deaf.sendall(get("/large") + get("/large"))
        answer(idle)
        assert closed(idle)
        until(lambda: not served.host.connections, "both to be gone")


def test_trailers_without_end_are_refused() -> None:
    with serving() as served:
        client = served.client()
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: "
        )
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                client.sendall(b"y" * 65536)
        assert answer(client)[0] == 400


def test_an_answer_before_the_body_keeps_a_short_one_and_ends_with_a_long_one() -> None:
    with serving() as served:
        client = served.client()
        client.sendall(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        assert "connection" not in answer(client)[1]
        client.sendall(b"0123456789" + get("/next"))
        assert json.loads(answer(client)[2])["path"] == "/next"
        client.sendall(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
        assert answer(client)[1]["connection"] == "close"
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                client.sendall(b"x" * 65536)
        assert closed(client)


def test_the_gate_answers_in_the_place_of_the_application_and_keeps_the_connection() -> None:
    shut = threading.Event()
    shut.set()
    with serving(gate=lambda _: BUSY if shut.is_set() else None) as served:
        client = served.client()
        for _ in range(3):
            client.sendall(post(b"x" * 300_000))
            assert answer(client)[0] == 503
        client.sendall(get())
        assert answer(client)[0] == 200
        shut.clear()
        client.sendall(post(b"abc"))
        assert json.loads(answer(client)[2])["length"] == 3
        shut.set()
        waiting = served.client()
        waiting.sendall(post(b"", Expect="100-continue"))
        assert answer(waiting)[1]["connection"] == "close"
        assert closed(waiting)


def test_a_host_that_drains_answers_and_closes_only_what_is_quiet() -> None:
    with serving() as served:
        idle, busy, late = (served.client() for _ in range(3))
        for client in (idle, busy, late):
            client.sendall(get())
            answer(client)
        busy.sendall(get("/slow"))
        until(lambda: served.do(lambda: len(served.host.tasks)) == 1, "the request")
        served.do(lambda: served.host.drain(hand_back=False))
        served.do(lambda: served.host.close_quiet(10.0))
        late.sendall(get("/late"))
        for client in (busy, late):
            status, headers, _ = answer(client)
            assert (status, headers["connection"]) == (200, "close")
        served.do(lambda: served.host.close_quiet(0.0))
        assert closed(idle)


def test_idle_connections_are_handed_back_open_with_what_their_clients_send() -> None:
    with serving() as served:
        idle, fresh, busy = (served.client() for _ in range(3))
        for client in (idle, busy):
            client.sendall(get())
            answer(client)
        until(lambda: served.do(lambda: len(served.host.connections)) == 3, "all three")
        busy.sendall(get("/slow"))
        until(lambda: served.do(lambda: len(served.host.tasks)) == 1, "the request")
        served.do(lambda: served.host.drain(hand_back=True))
        back = served.do(lambda: served.host.hand_back(10))
        assert len(back) == 2
        assert "connection" not in answer(busy)[1]
        for client in (idle, fresh):
            client.sendall(get("/again"))
        with serving() as other:
            for sock in back:
                other.do(lambda sock=sock: other.host.adopt(sock))
            for client in (idle, fresh):
                assert json.loads(answer(client)[2])["path"] == "/again"
        assert served.do(lambda: (served.host.taken, served.host.rid)) == (3, 2)
