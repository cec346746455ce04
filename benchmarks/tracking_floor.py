"""A server that keeps nothing: how fast MLflow's client is when its server takes no time at all.

    python benchmarks/tracking_floor.py PORT

It answers what the sections of tracking.py ask as a server would, out of its memory, so that a
server's figures can be read beside the client's own.
"""

import asyncio
import json
import sys
from typing import Any, cast
from urllib.parse import unquote

import httptools
import uvloop

RUN = "f" * 32
POINTS = 100_000  # of a history
_INFO = {
    "run_id": RUN,
    "run_uuid": RUN,
    "run_name": "floor",
    "experiment_id": "1",
    "user_id": "",
    "status": "RUNNING",
    "start_time": 1,
    "artifact_uri": f"mlflow-artifacts:/1/{RUN}/artifacts",
    "lifecycle_stage": "active",
}
_EXPERIMENT = {"experiment_id": "1", "name": "floor", "lifecycle_stage": "active"}
_JSON: dict[str, Any] = {
    "runs/create": {"run": {"info": _INFO, "data": {}}},
    "runs/get": {"run": {"info": _INFO, "data": {}}},
    "experiments/create": {"experiment_id": "1"},
    "experiments/get-by-name": {"experiment": _EXPERIMENT},
    "experiments/get": {"experiment": _EXPERIMENT},
    "metrics/get-history": {
        "metrics": [
            {"key": "loss", "value": 1 / (n + 1), "timestamp": n, "step": n} for n in range(POINTS)
        ]
    },
}
_ANSWERS = {path: json.dumps(answer).encode() for path, answer in _JSON.items()}


class Floor(asyncio.Protocol):
    """One connection. Of a file only the size is kept, and so many bytes are given back."""

    sizes: dict[str, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._got = 0

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._got = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._url += url

    def on_body(self, body: bytes) -> None:
        """A part of the body, which is dropped."""
        self._got += len(body)

    def on_message_complete(self) -> None:
        """The whole request is there: answer it."""
        path = unquote(self._url.decode().partition("?")[0])
        name = path.partition("/mlflow-artifacts/artifacts/")[2]
        method = self._parser.get_method()
        if name and method == b"PUT":
            self.sizes[name] = self._got
            body = b"{}"
        elif name:
            body = bytes(self.sizes.get(name, 0))
        elif path.endswith("mlflow-artifacts/artifacts"):
            body = b'{"files": []}'
        else:
            body = _ANSWERS.get(path.partition("/mlflow/")[2], b"{}")
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        self._transport.write(head.encode() + b"\r\n\r\n")
        self._transport.write(body)


async def main() -> None:
    """Answer until it is killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Floor, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
