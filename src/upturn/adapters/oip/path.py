"""The protocol's addresses: infer on bare ASGI, what there is to read by Starlette."""

import logging
from collections.abc import Iterable, Sequence
from importlib.metadata import version as installed
from time import perf_counter
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upturn.adapters.oip.infer import (
    DATATYPES,
    HEADER_LENGTH,
    PREDICTION,
    PREDICTION_ID,
    decode_request,
    encode_response,
    output_type,
    rows_of,
)
from upturn.core.errors import NotFound, Unavailable, UpturnError
from upturn.deploy.serve.app import ServingApp
from upturn.deploy.serve.asgi import Receive, Scope, Send
from upturn.deploy.serve.compression import deflated, inflated
from upturn.deploy.serve.live import Live, LiveArm, Served
from upturn.deploy.serve.predict import Ask
from upturn.deploy.serve.problems import (
    BadRequest,
    Forbidden,
    NoSuchMethod,
    internal_problem,
    no_endpoint,
)
from upturn.deploy.serve.request import Head, Limits, read_body, read_head
from upturn.deploy.serve.rows import is_numeric
from upturn.deploy.serve.seen import SEEN, Seen

INFER_ROUTE = "/v2/models/{name}/infer"
_PREFIX, _SUFFIX = "/v2/models/", "/infer"
_JSON, _BINARY = b"application/json", b"application/octet-stream"
_log = logging.getLogger("upturn.serve")


class OpenInference:
    """The protocol, for the endpoints of a ServingApp: a model's name is an endpoint's."""

    def __init__(self, serving: ServingApp, limits: Limits) -> None:
        self._serving = serving
        self._limits = limits

    @staticmethod
    def takes(path: str) -> bool:
        """Whether the path is one of `infer`, which does not go through the router."""
        return path.endswith(_SUFFIX) and path.startswith(_PREFIX)

    async def infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one inference request."""
        started = perf_counter()
        name, number = _model(scope["path"][len(_PREFIX) : -len(_SUFFIX)])
        served = self._serving.served.get(name)
        seen: Seen | None = scope.get(SEEN)
        path = await self._serving.path()
        if seen is not None:
            seen.endpoint = name if served else ""
        try:
            if served is None:
                raise no_endpoint(name, self._serving.served)
            served.metrics.begun()
            if scope["method"] != "POST":
                raise NoSuchMethod(
                    f"{scope['method']} can't infer.", hint="Use POST.", allow="POST"
                )
            head = read_head(scope["headers"], self._limits, started)
            live = path.admit(served, head)
            _check_origin(head, scope["headers"])
            if number is not None:
                head.arm = _arm(live, name, number).arm.name
            body = inflated(
                await read_body(receive, self._limits.body_bytes), head.encoding, self._limits
            )
            asked = decode_request(body, _header_length(scope["headers"]))
            rows = rows_of(
                asked.tensors, live.signature, live.endpoint.unit, max_rows=self._limits.rows
            )
            head.request = head.request or asked.id[:128]
            answered = await path.answer(served, Ask(live, rows, head, started, seen))
            signature = live.arms[answered.arms[0]].version.signature
            response = encode_response(name, asked, answered, signature)
            await _send(send, 200, response.body, head, response.header_length)
            served.metrics.finished()
        except UpturnError as error:
            path.count(served, error, seen)
            await _send_error(send, error)
        except Exception:  # noqa: BLE001 (the one place that reports what nobody foresaw)
            _log.exception("An inference of %s failed.", name)
            error = internal_problem()
            path.count(served, error, seen)
            await _send_error(send, error)

    def routes(self) -> list[Route]:
        """What there is to read: the server, its models, and whether they are ready."""
        return [
            Route("/v2", self._server),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._ready),
            Route("/v2/repository/index", self._index, methods=["POST"]),
            Route("/v2/models/{name}", self._model),
            Route("/v2/models/{name}/ready", self._model_ready),
            Route("/v2/models/{name}/versions/{version}", self._model),
            Route("/v2/models/{name}/versions/{version}/ready", self._model_ready),
        ]

    async def _server(self, _: Request) -> Response:
        extensions = ["binary_tensor_data", "model_repository"]
        return _json({"name": "upturn", "version": installed("upturn"), "extensions": extensions})

    async def _live(self, _: Request) -> Response:
        return _json({"live": True})

    async def _ready(self, _: Request) -> Response:
        ready = self._serving.ready
        return _json({"ready": ready}, status=200 if ready else 503)

    async def _index(self, _: Request) -> Response:
        models: list[dict[str, str]] = []
        for name, served in sorted(self._serving.served.items()):
            live = served.live
            for number in _numbers(live) if live else [""]:
                state = ("READY", "") if live else ("UNAVAILABLE", _why_not(served))
                models.append(
                    {"name": name, "version": number, "state": state[0], "reason": state[1]}
                )
        return _json(models)

    async def _model(self, request: Request) -> Response:
        try:
            name, live, arm = self._asked(request)
        except UpturnError as error:
            return error_response(error)
        return _json(describe_model(name, live, arm))

    async def _model_ready(self, request: Request) -> Response:
        try:
            name, _, _ = self._asked(request)
        except UpturnError as error:
            return error_response(error)
        return _json({"name": name, "ready": True})

    def _asked(self, request: Request) -> tuple[str, Live, LiveArm]:
        name = request.path_params["name"]
        served = self._serving.find(name)
        if served.live is None:
            raise Unavailable(f"Model {name!r} has no version that can be served.")
        number = request.path_params.get("version")
        arm = served.live.answering[0] if number is None else _arm(served.live, name, number)
        return name, served.live, arm


def describe_model(name: str, live: Live, arm: LiveArm) -> dict[str, Any]:
    """A model's metadata, as the protocol has it."""
    signature = arm.version.signature
    inputs: list[dict[str, Any]] = [
        {"name": field.name, "datatype": DATATYPES.get(field.type, "BYTES"), "shape": [-1]}
        for field in signature.inputs
    ]
    datatype, sizes = output_type(signature)
    prediction: dict[str, Any] = {"name": PREDICTION, "datatype": datatype, "shape": [-1, *sizes]}
    if signature.classes:
        prediction["parameters"] = {"classes": msgspec.json.encode(signature.classes).decode()}
    page: dict[str, Any] = {
        "name": name,
        "versions": _numbers(live),
        "platform": "upturn",
        "inputs": inputs,
        "outputs": [prediction, {"name": PREDICTION_ID, "datatype": "BYTES", "shape": [-1]}],
    }
    if is_numeric(signature):  # what else is taken: one tensor of them all, under any name
        page["parameters"] = {"matrix_shape": f"[-1, {len(inputs)}]"}
    return page


def _model(path: str) -> tuple[str, str | None]:
    name, found, number = path.partition("/versions/")
    return unquote(name), number if found else None


def _numbers(live: Live) -> list[str]:
    return [str(n) for n in sorted({arm.version.number for arm in live.arms.values()})]


def _arm(live: Live, name: str, number: str) -> LiveArm:
    for arm in (*live.answering, *live.shadows):
        if str(arm.version.number) == number:
            return arm
    raise NotFound(
        f"Model {name!r} serves no version {number[:100]!r}.",
        hint=f"There is: {', '.join(_numbers(live))}.",
    )


def _why_not(served: Served) -> str:
    return served.refused.reason if served.refused else "no route yet"


def _check_origin(head: Head, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise Forbidden for what a page in a browser can send without the server's leave.

    The protocol's own clients say no Content-Type, so that alone can't be held against anyone; but
    browsers always say whose page it is.
    """
    if head.kind not in (_JSON, _BINARY) and any(name == b"origin" for name, _ in headers):
        raise Forbidden(
            "A page in a browser asks for this, and its Content-Type is not JSON.",
            hint="Send the header: Content-Type: application/json",
        )


def _header_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    for name, value in headers:
        if name == HEADER_LENGTH:
            if not value.isdigit() or len(value) > 12:
                text = value[:100].decode("latin-1")
                raise BadRequest(
                    f"Inference-Header-Content-Length is {text!r}.",
                    hint="It is the number of bytes of JSON before the tensors.",
                )
            return int(value)
    return None


async def _send(
    send: Send, status: int, body: bytes, head: Head | None, header_length: int | None = None
) -> None:
    headers = [(b"content-type", _JSON if header_length is None else _BINARY)]
    if header_length is not None:
        headers.append((HEADER_LENGTH, b"%d" % header_length))
    if head is not None:
        body, coding = deflated(body, head.accept_encoding)
        headers += coding
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_error(send: Send, error: UpturnError) -> None:
    body = msgspec.json.encode({"error": str(error)})
    headers: list[tuple[bytes, bytes]] = [
        (b"content-type", _JSON),
        (b"content-length", b"%d" % len(body)),
        *_hints(error),
    ]
    await send({"type": "http.response.start", "status": _status(error), "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _hints(error: UpturnError) -> Sequence[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    if (seconds := error.fields.get("retry_after_s")) is not None:
        found.append((b"retry-after", str(seconds).encode()))
    if (allow := error.fields.get("allow")) is not None:
        found.append((b"allow", allow.encode()))
    return found


def _status(error: UpturnError) -> int:
    # The protocol knows no 422: a request that does not fit is a bad request.
    return 400 if error.http_status == 422 else error.http_status


def error_response(error: UpturnError) -> Response:
    """The error in the protocol's own form."""
    response = _json({"error": str(error)}, status=_status(error))
    for name, value in _hints(error):
        response.headers[name.decode()] = value.decode()
    return response


def _json(value: Any, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")
