"""Requests a second of one endpoint with one row each, against a server that answers a constant.

    python benchmarks/serving.py [--seconds 4] [--connections 32] [--durable]

The floor is the same uvicorn, set up the same way, that reads the same bytes and answers as many.
Client and servers are processes of their own; rounds alternate between the two, so that both see
the same neighbours.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CONTEXT = multiprocessing.get_context("spawn")
ROUNDS = 3


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--durable", action="store_true", help="answers wait for the disk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["UPTURN_HOME"] = home
        body = prepare(Path(home), durable=options.durable)
        upturn = start(serve_upturn)
        floor = start(serve_floor)
        try:
            wait_ready(upturn[1])
            targets = {
                "upturn": (upturn[1], "/v1/endpoints/bench/predict"),
                "floor": (floor[1], "/"),
            }
            figures: dict[str, list[dict[str, float]]] = {name: [] for name in targets}
            for _ in range(ROUNDS):
                for name, (url, path) in targets.items():
                    figures[name].append(
                        load(url + path, body, options.seconds, options.connections)
                    )
        finally:
            for process, _ in (upturn, floor):
                process.terminate()
                process.join()
    report(figures, options.connections)


def report(figures: dict[str, list[dict[str, float]]], connections: int) -> None:
    print(f"{connections} kept connections, one row a request, medians of {ROUNDS} rounds")
    rates: dict[str, float] = {}
    for name, rounds in figures.items():
        rates[name] = statistics.median(one["rate"] for one in rounds)
        p50, p99 = (statistics.median(one[q] for one in rounds) for q in ("p50", "p99"))
        print(
            f"  {name:7} {rates[name]:8,.0f} requests a second   "
            f"p50 {p50 * 1e3:.2f} ms   p99 {p99 * 1e3:.2f} ms"
        )
    print(f"  ratio   {rates['upturn'] / rates['floor']:.2f} of the floor")


def prepare(home: Path, *, durable: bool) -> bytes:
    """A small tree model with ten inputs, registered, deployed; the body of one request."""
    import msgspec
    import numpy as np
    import pandas as pd
    from lightgbm import LGBMClassifier

    from upturn.core.records import Arm, Endpoint
    from upturn.core.time import utcnow
    from upturn.deploy.endpoint import create_endpoint
    from upturn.deploy.example import example_request
    from upturn.deploy.route import set_route
    from upturn.model.registry import register_version
    from upturn.stores.workspace import open_workspace

    random = np.random.default_rng(0)
    data = pd.DataFrame(random.normal(size=(4000, 10)), columns=[f"x{i}" for i in range(10)])
    data["y"] = data.x0 + data.x1 * data.x2 + random.normal(size=4000) > 0
    model = LGBMClassifier(n_estimators=50, num_leaves=15, n_jobs=1, verbose=-1)
    model.fit(data.drop(columns="y"), data.y)
    workspace = open_workspace()
    now = utcnow()
    version = register_version(workspace, "bench", model, data=data, target="y", now=now)
    create_endpoint(workspace, Endpoint("bench", durable=durable), now=now)
    arms = (Arm(name="champion", version=version.number, share=1.0),)
    set_route(workspace, "bench", arms, why="benchmark", now=now)
    workspace.close()
    return msgspec.json.encode(example_request(version.signature, None))


# Servers


def start(target: Callable[[Connection], None]) -> tuple[Any, str]:
    """The process, and the URL that it told."""
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=target, args=(there,))
    process.start()
    if not here.poll(30):
        sys.exit("a server did not start")
    return process, here.recv()


def wait_ready(url: str) -> None:
    from upturn.deploy.running import fetch

    until = time.monotonic() + 30
    while fetch(url, "/health/ready")[0] != 200:
        if time.monotonic() > until:
            sys.exit("the endpoint did not get ready")
        time.sleep(0.05)


def serve_upturn(told: Connection) -> None:
    from upturn.server.process import serve
    from upturn.stores.workspace import open_workspace

    serve(open_workspace(), port=0, on_listening=told.send)


def serve_floor(told: Connection) -> None:
    import socket

    import uvicorn

    answer = b"x" * 150
    headers = [(b"content-type", b"application/json"), (b"content-length", b"150")]

    async def constant(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    told.send(f"http://127.0.0.1:{listener.getsockname()[1]}")
    config = uvicorn.Config(
        constant,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
    )
    uvicorn.Server(config).run(sockets=[listener])


# The client


def load(url: str, body: bytes, seconds: float, connections: int) -> dict[str, float]:
    """Rate and latencies over `seconds`, by a process of its own."""
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=run_client, args=(url, body, seconds, connections, there))
    process.start()
    process.join()
    if not here.poll(0):
        sys.exit("the client failed")
    return here.recv()


def run_client(url: str, body: bytes, seconds: float, connections: int, told: Connection) -> None:
    import uvloop

    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body

    async def measure() -> None:
        loop = asyncio.get_running_loop()
        waits: list[float] = []
        clients = [Client(request, waits) for _ in range(connections)]
        for client in clients:
            await loop.create_connection(lambda one=client: one, parts.hostname, parts.port)
        await asyncio.sleep(0.5)  # warm
        waits.clear()
        begin = time.perf_counter()
        await asyncio.sleep(seconds)
        count, took = len(waits), time.perf_counter() - begin
        for client in clients:
            client.transport.abort()
        latencies = sorted(waits[:count])
        told.send(
            {
                "rate": count / took,
                "p50": latencies[count // 2],
                "p99": latencies[int(count * 0.99)],
            }
        )

    uvloop.run(measure())


class Client(asyncio.Protocol):
    """One kept connection: asks again as soon as it is answered."""

    def __init__(self, request: bytes, waits: list[float]) -> None:
        self.request = request
        self.waits = waits
        self.seen = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._ask()

    def _ask(self) -> None:
        self.began = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.seen += data
        head, found, rest = self.seen.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(rest) < length:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            sys.exit(self.seen.decode())
        self.waits.append(time.perf_counter() - self.began)
        self.seen = b""
        self._ask()


if __name__ == "__main__":
    main()
