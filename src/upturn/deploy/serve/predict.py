"""The prediction path: POST /v1/endpoints/NAME/predict, on bare ASGI."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from time import perf_counter, time_ns
from typing import Any

import msgspec

from upturn.core.errors import NotFound, Unavailable, UpturnError, did_you_mean
from upturn.core.ids import prediction_ids
from upturn.core.log import PredictionBatch
from upturn.deploy.serve.decoding import Row, Rows
from upturn.deploy.serve.live import Live, LiveArm, Served, Share, features
from upturn.deploy.serve.problems import (
    BadRequest,
    NoSuchMethod,
    Send,
    TooLarge,
    internal_problem,
    send_problem,
)
from upturn.deploy.serve.worker import Predicted

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_log = logging.getLogger("upturn.serve")
_JSON_KIND = b"application/json"
_JSON = (b"content-type", _JSON_KIND)
_MAX_REQUEST_ID = 128
_DIGITS = 20  # of a length that a number holds; httptools has refused what is none


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may ask for."""

    body_bytes: int = 8 * 2**20
    rows: int = 10_000


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """One row's answer."""

    id: str
    prediction: Any
    version: str
    arm: str


class Answer(msgspec.Struct, frozen=True):
    """A request's answer, rows in the order in which they were sent."""

    endpoint: str
    route: int
    predictions: list[Prediction]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, decoded, with all that the Log wants of it."""

    live: Live
    rows: Rows
    ids: list[str]
    received_at: int
    request: str
    started: float

    def at(self, place: int) -> int:
        return self.received_at if self.rows.at is None else self.rows.at[place]


def _plain(value: object) -> object:
    """What JSON lacks: a numpy value as Python's, anything else as text."""
    if type(value).__module__ == "numpy":
        return value.tolist()  # pyright: ignore[reportAttributeAccessIssue]
    return str(value)


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


class PredictionPath:
    """Answers predictions of the endpoints in `served`, a dict that others may change meanwhile."""

    def __init__(self, served: dict[str, Served], limits: Limits) -> None:
        self._served = served
        self._limits = limits
        self._shadowing: set[asyncio.Task[None]] = set()

    async def __call__(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request to the endpoint `name`."""
        started = perf_counter()
        served = self._served.get(name)
        try:
            if served is None:
                raise no_endpoint(name, self._served)
            served.counters.requests += 1
            if scope["method"] != "POST":
                raise NoSuchMethod(
                    f"{scope['method']} can't predict.", hint="Use POST.", allow="POST"
                )
            await self._answer(served, started, scope, receive, send)
        except UpturnError as error:
            _count(served, error)
            await send_problem(send, error)
        except Exception:  # noqa: BLE001 (the one place that reports what nobody foresaw)
            _log.exception("A prediction of endpoint %s failed.", name)
            if served is not None:
                served.counters.failed += 1
            await send_problem(send, internal_problem())

    async def drain(self, timeout_s: float) -> None:
        """Wait for the shadows of what has been answered, but no longer than that."""
        if self._shadowing:
            await asyncio.wait(self._shadowing, timeout=timeout_s)

    async def _answer(
        self, served: Served, started: float, scope: Scope, receive: Receive, send: Send
    ) -> None:
        override, request = read_headers(scope["headers"], self._limits.body_bytes)
        body = await read_body(receive, self._limits.body_bytes)
        live = (
            served.live
        )  # held until the answer: a swap meanwhile changes nothing for this request
        if live is None:
            raise _not_ready(served)
        rows = live.decoder.decode(body)
        ids = prediction_ids(len(rows.values))
        asked = _Asked(
            live=live,
            rows=rows,
            ids=ids,
            received_at=time_ns() // 1000,
            request=request or ids[0],
            started=started,
        )
        shares = live.shares(rows, ids, override)
        predicted = await _predict(shares, rows.values)
        latency_s = perf_counter() - started
        body = _encode(_answer_of(asked, shares, predicted))
        await self._log_answers(served, asked, shares, predicted, latency_s)
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [_JSON, length]})
        await send({"type": "http.response.body", "body": body})
        served.counters.rows += len(ids)
        if live.shadows:
            own_s = latency_s - max(one.seconds for one in predicted)
            self._shadow(served, asked, own_s)

    async def _log_answers(
        self,
        served: Served,
        asked: _Asked,
        shares: Sequence[Share],
        predicted: Sequence[Predicted],
        latency_s: float,
    ) -> None:
        durable = asked.live.endpoint.durable
        waits: list[asyncio.Future[None]] = []
        for share, answer in zip(shares, predicted, strict=True):
            batch = asked.live.policy.apply(_batch(asked, share, answer, latency_s))
            if batch is None:
                continue
            written = served.writer.write(batch, durable=durable)
            if written is not None:
                waits.append(asyncio.wrap_future(written))
        for written in waits:
            try:
                await written
            except UpturnError as error:
                raise Unavailable(
                    "The prediction could not be logged, and this endpoint is durable.",
                    hint=str(error),
                    retry_after_s=1,
                ) from error

    def _shadow(self, served: Served, asked: _Asked, own_s: float) -> None:
        for arm in asked.live.shadows:
            future = arm.worker.shadow(arm.rows(asked.rows.values))
            if future is None:
                served.counters.shadow_dropped += len(asked.ids)
                continue
            task = asyncio.create_task(_log_shadow(served, asked, arm, future, own_s))
            self._shadowing.add(task)
            task.add_done_callback(self._shadowing.discard)


async def _predict(shares: Sequence[Share], values: list[Row]) -> list[Predicted]:
    if len(shares) == 1:
        arm = shares[0].arm
        return [await arm.worker.submit(arm.rows(values))]
    futures = [
        share.arm.worker.submit(share.arm.rows([values[place] for place in share.places]))
        for share in shares
    ]
    return await asyncio.gather(*futures)


async def _log_shadow(
    served: Served,
    asked: _Asked,
    arm: LiveArm,
    future: "asyncio.Future[Predicted]",
    own_s: float,
) -> None:
    """Log what a shadow says. Its latency is what the answer would have taken, had it answered."""
    try:
        predicted = await future
    except UpturnError as error:
        _log_failure(error)
        served.counters.shadow_dropped += len(asked.ids)
        return
    share = Share(arm, range(len(asked.ids)), 0.0)
    batch = _batch(asked, share, predicted, own_s + predicted.seconds)
    if (logged := asked.live.policy.apply(batch)) is not None:
        served.writer.write(logged)
    served.counters.shadow_rows += len(asked.ids)


def _answer_of(asked: _Asked, shares: Sequence[Share], predicted: Sequence[Predicted]) -> Answer:
    found: list[Any] = [None] * len(asked.ids)
    for share, answer in zip(shares, predicted, strict=True):
        version, arm = share.arm.version.name, share.arm.arm.name
        for place, value in zip(share.places, answer.answers, strict=True):
            found[place] = Prediction(asked.ids[place], value, version, arm)
    return Answer(asked.live.endpoint.name, asked.live.route.revision, found)


def _batch(asked: _Asked, share: Share, predicted: Predicted, latency_s: float) -> PredictionBatch:
    arm, rows, ids = share.arm, asked.rows, asked.ids
    places = share.places
    return PredictionBatch(
        ids=ids if len(places) == len(ids) else [ids[place] for place in places],
        at=[asked.at(place) for place in places],
        received_at=asked.received_at,
        route=asked.live.route.revision,
        arm=arm.arm.name,
        version=arm.version.number,
        shadow=arm.arm.shadow,
        units=[rows.units[place] for place in places],
        propensity=share.propensity,
        features=features(arm.names, arm.rows([rows.values[place] for place in places])),
        scores=list(predicted.scores),
        answers=list(predicted.answers),
        latency_s=latency_s,
        request=asked.request,
    )


async def read_body(receive: Receive, limit: int) -> bytes:
    """The request's body. Raises TooLarge, and BadRequest when the client went away."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("The client went away.")
        body += message.get("body", b"")
        if len(body) > limit:
            raise too_large(limit)
        if not message.get("more_body", False):
            return body


def too_large(limit: int) -> TooLarge:
    """The error for a body of more than `limit` bytes."""
    return TooLarge(
        f"The body is larger than {limit / 2**20:g} MiB.",
        hint="Send fewer rows at a time, or use: upturn score.",
    )


def no_endpoint(name: str, known: Iterable[str]) -> NotFound:
    """The error for an endpoint that this server does not know."""
    return NotFound(f"No endpoint {name[:100]!r}.", hint=did_you_mean(name, known))


def read_headers(headers: Iterable[tuple[bytes, bytes]], limit: int) -> tuple[str | None, str]:
    """The arm that is asked for, and the client's own id of the request ('' for none).

    Raises TooLarge for a body that is said to be that, and BadRequest unless it is said to be JSON:
    a page in a browser can send other kinds to any address without asking, and this kind only with
    the server's leave, which it does not give.
    """
    arm: str | None = None
    kind, request = b"", ""
    for name, value in headers:
        if name == b"content-type":
            kind = value
        elif name == b"content-length" and len(value) < _DIGITS and int(value) > limit:
            raise too_large(limit)
        elif name == b"x-upturn-arm":
            arm = value.decode("latin-1")
        elif name == b"x-request-id":
            request = value.decode("latin-1")[:_MAX_REQUEST_ID]
    if kind != _JSON_KIND and kind.partition(b";")[0].strip().lower() != _JSON_KIND:
        said = repr(kind.decode("latin-1")) if kind else "nothing"
        raise BadRequest(
            f"The body is to be JSON, and its Content-Type says {said}.",
            hint="Send the header: Content-Type: application/json",
        )
    return arm, request


def _not_ready(served: Served) -> UpturnError:
    if served.refused is not None:
        return Unavailable(
            f"Endpoint {served.name!r} has no version that can be served: {served.refused.reason}",
            hint="Deploy another version.",
        )
    return Unavailable(
        f"Endpoint {served.name!r} has no route yet.",
        hint=f"upturn deploy {served.name}",
        retry_after_s=1,
    )


def _count(served: Served | None, error: UpturnError) -> None:
    _log_failure(error)
    if served is None:
        return
    if error.http_status < 500 or isinstance(error, Unavailable):
        served.counters.rejected += 1
    else:
        served.counters.failed += 1


def _log_failure(error: UpturnError) -> None:
    if error.http_status >= 500 and not isinstance(error, Unavailable):
        _log.error("%s", error, exc_info=error.__cause__)
