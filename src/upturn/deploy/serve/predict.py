"""The prediction path: POST /v1/endpoints/NAME/predict, on bare ASGI.

One request: its headers, whether there is room for it, its body as rows, the arm of each row, the
batches that its rows are predicted in, its rows in the Log, its answer.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter, time_ns
from typing import Any

import msgspec

from upturn.core.errors import ModelFailed, Unavailable, UpturnError
from upturn.core.ids import prediction_ids
from upturn.deploy.serve.asgi import Receive, Scope, Send
from upturn.deploy.serve.compression import deflated, inflated
from upturn.deploy.serve.live import Live, Served, Share
from upturn.deploy.serve.logged import Entry
from upturn.deploy.serve.metrics import EndpointMetrics, Metrics
from upturn.deploy.serve.problems import (
    Misfit,
    NoSuchMethod,
    Overloaded,
    internal_problem,
    no_endpoint,
    send_problem,
)
from upturn.deploy.serve.request import (
    ARROW_FILE,
    ARROW_STREAM,
    CSV,
    JSON,
    Head,
    Limits,
    check_kind,
    read_body,
    read_head,
)
from upturn.deploy.serve.rows import Block, Rows, take
from upturn.deploy.serve.seen import CLIENT_LEFT, SEEN, Seen
from upturn.deploy.serve.worker import Predicted

_log = logging.getLogger("upturn.serve")
_TABLES = (CSV, ARROW_STREAM, ARROW_FILE)


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


@dataclass(slots=True)
class Ask:
    """A request, decoded: what any protocol makes of it."""

    live: Live
    rows: Rows
    head: Head
    started: float  # on the clock of perf_counter
    seen: Seen | None = None  # where somebody observes requests


@dataclass(frozen=True, slots=True)
class Answered:
    """What is answered, one entry a row."""

    route: int
    ids: list[str]
    answers: list[Any]
    versions: list[str]
    arms: list[str]


def _plain(value: object) -> object:
    """What JSON lacks: a numpy value as Python's, anything else as text."""
    if type(value).__module__ == "numpy":
        return value.tolist()  # pyright: ignore[reportAttributeAccessIssue]
    return str(value)


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


class PredictionPath:
    """Answers predictions of the endpoints in `served`, a dict that others may change meanwhile."""

    def __init__(self, served: dict[str, Served], limits: Limits, metrics: Metrics) -> None:
        self._served = served
        self._limits = limits
        self._none = metrics.endpoint("")  # requests to endpoints that there are not
        self._shadowing: set[asyncio.Task[None]] = set()

    async def __call__(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request to the endpoint `name`."""
        started = perf_counter()
        served = self._served.get(name)
        seen: Seen | None = scope.get(SEEN)
        if seen is not None:
            seen.endpoint = name if served else ""
        try:
            if served is None:
                raise no_endpoint(name, self._served)
            served.metrics.begun()
            if scope["method"] != "POST":
                raise NoSuchMethod(
                    f"{scope['method']} can't predict.", hint="Use POST.", allow="POST"
                )
            head = read_head(scope["headers"], self._limits, started)
            live = self.admit(served, head)
            check_kind(head, *_TABLES)
            body = await read_body(receive, self._limits.body_bytes)
            if seen is not None:
                seen.mark("read")
            if head.encoding:
                body = inflated(body, head.encoding, self._limits)
            rows = live.decoder.decode(body) if head.kind == JSON else self._table(live, head, body)
            answered = await self.answer(served, Ask(live, rows, head, started, seen))
            await _send_answer(send, name, head, answered)
            served.metrics.finished()
        except UpturnError as error:
            if isinstance(error, Misfit) and served is not None and served.live is not None:
                error.fields["version"] = served.live.answering[0].version.name
            self.count(served, error, seen)
            await send_problem(send, error)
        except asyncio.CancelledError:  # its client has gone
            self._metrics_of(served).rejected(CLIENT_LEFT)
            raise
        except Exception:  # noqa: BLE001 (the one place that reports what nobody foresaw)
            _log.exception("A prediction of endpoint %s failed.", name)
            self._metrics_of(served).rejected(500)
            await send_problem(send, internal_problem())

    def count(self, served: Served | None, error: UpturnError, seen: Seen | None) -> None:
        """Note that a request was answered with the error, in whatever form that takes."""
        _log_failure(error)
        if served is None:
            self._none.begun()
        metrics = self._metrics_of(served)
        metrics.rejected(error.http_status)
        if isinstance(error, Overloaded):
            metrics.shed(error.fields["shed"])
        if seen is not None:
            seen.code = error.code

    def _table(self, live: Live, head: Head, body: bytes) -> Rows:
        from upturn.deploy.serve.bodies import table_rows

        return table_rows(head.kind, body, live.signature, live.endpoint.unit, self._limits)

    def _metrics_of(self, served: Served | None) -> EndpointMetrics:
        return self._none if served is None else served.metrics

    def admit(self, served: Served, head: Head) -> Live:
        """Who answers now, held until the answer: a swap meanwhile changes nothing for a request.

        Raises Unavailable when nobody does, and Overloaded when it could not be answered in time:
        before the body is read, as refusing must cost next to nothing.
        """
        live = served.live
        if live is None:
            raise _not_ready(served)
        worker = live.answering[0].worker
        if live.is_full():
            raise worker.overloaded()
        if worker.wait_s() > head.deadline - perf_counter():
            raise worker.overloaded("deadline")
        return live

    async def answer(self, served: Served, ask: Ask) -> Answered:
        """Predict and log the rows. Raises Overloaded, ModelFailed, and Unavailable for the Log."""
        live, rows, seen = ask.live, ask.rows, ask.seen
        ids = rows.ids or prediction_ids(len(rows))
        shares = live.shares(rows, ids, ask.head.arm)
        request = ask.head.request
        if seen is not None:
            seen.mark("decode")
            seen.request = request = request or seen.trace
        entry = Entry(live.route.revision, ids, rows, request, time_ns() // 1000)
        # Taken before the model is called: it may write to what it is given.
        inputs = [entry.features(share) for share in shares]
        try:
            predicted = await _predict(shares, rows.block, ask.head.deadline)
        except ModelFailed as error:
            for share, given in zip(shares, inputs, strict=True):
                served.write(live, entry.failed(share, given, error))
            raise
        latency_s = perf_counter() - ask.started
        if seen is not None:
            arms = [share.arm for share in shares]
            seen.answered(
                [arm.arm.name for arm in arms],
                [arm.version.name for arm in arms],
                rows=len(ids),
                model_s=max(one.seconds for one in predicted),
            )
        waits: list[asyncio.Future[None]] = []
        for share, given, found in zip(shares, inputs, predicted, strict=True):
            batch = entry.batch(share, given, found, latency_s)
            written = served.write(live, batch, durable=live.endpoint.durable)
            if written is not None:
                waits.append(asyncio.wrap_future(written))
            arm = share.arm
            served.metrics.answered(arm.arm.name, arm.version.number, len(batch.ids), latency_s)
        if waits:
            await _on_disk(waits)
        if seen is not None:
            seen.mark("log")
        if live.shadows:
            own_s = latency_s - max(one.seconds for one in predicted)
            self._shadow(served, live, entry, own_s)
        return _answered(live, ids, shares, predicted)

    async def drain(self, timeout_s: float) -> None:
        """Wait for the shadows of what has been answered, but no longer than that."""
        if self._shadowing:
            await asyncio.wait(self._shadowing, timeout=timeout_s)

    def _shadow(self, served: Served, live: Live, entry: Entry, own_s: float) -> None:
        for arm in live.shadows:
            future = arm.worker.shadow(arm.block(entry.rows.block))
            if future is None:
                served.metrics.shed("shadow", len(entry.ids))
                continue
            task = asyncio.create_task(
                _log_shadow(served, live, entry, Share(arm, None, 0.0), future, own_s)
            )
            self._shadowing.add(task)
            task.add_done_callback(self._shadowing.discard)


async def _predict(shares: Sequence[Share], block: Block, deadline: float) -> list[Predicted]:
    if len(shares) == 1:
        arm = shares[0].arm
        return [await arm.worker.submit(arm.block(block), deadline)]
    futures: list[asyncio.Future[Predicted]] = []
    try:
        for share in shares:
            part = block if share.places is None else take(block, share.places)
            futures.append(share.arm.worker.submit(share.arm.block(part), deadline))
    except Overloaded:
        for future in futures:
            future.cancel()  # the whole request is refused: nobody waits for its other rows
        raise
    return await asyncio.gather(*futures)


async def _on_disk(waits: Sequence["asyncio.Future[None]"]) -> None:
    for written in waits:
        try:
            await written
        except UpturnError as error:
            raise Unavailable(
                "The prediction could not be logged, and this endpoint is durable.",
                hint=str(error),
                retry_after_s=1,
            ) from error


async def _log_shadow(
    served: Served,
    live: Live,
    entry: Entry,
    share: Share,
    future: "asyncio.Future[Predicted]",
    own_s: float,
) -> None:
    """Log what a shadow says. Its latency is what the answer would have taken, had it answered."""
    features = entry.features(share)
    try:
        predicted = await future
    except UpturnError as error:
        _log_failure(error)
        served.metrics.shed("shadow", len(entry.ids))
        if isinstance(error, ModelFailed):
            served.write(live, entry.failed(share, features, error))
        return
    latency_s = own_s + predicted.seconds
    served.write(live, entry.batch(share, features, predicted, latency_s))
    arm, rows = share.arm, len(entry.ids)
    served.metrics.answered(arm.arm.name, arm.version.number, rows, latency_s, shadow=True)


def _answered(
    live: Live, ids: list[str], shares: Sequence[Share], predicted: Sequence[Predicted]
) -> Answered:
    count, route = len(ids), live.route.revision
    if len(shares) == 1:
        arm = shares[0].arm
        names = [arm.version.name] * count, [arm.arm.name] * count
        return Answered(route, ids, predicted[0].answers, *names)
    answers: list[Any] = [None] * count
    versions, arms = [""] * count, [""] * count
    for share, found in zip(shares, predicted, strict=True):
        for place, value in zip(share.places or (), found.answers, strict=True):
            answers[place] = value
            versions[place] = share.arm.version.name
            arms[place] = share.arm.arm.name
    return Answered(route, ids, answers, versions, arms)


async def _send_answer(send: Send, endpoint: str, head: Head, answered: Answered) -> None:
    if ARROW_STREAM in head.accept:
        kind, body = ARROW_STREAM, _arrow(endpoint, answered)
    else:
        kind = JSON
        rows = map(Prediction, answered.ids, answered.answers, answered.versions, answered.arms)
        body = _encode(Answer(endpoint, answered.route, list(rows)))
    headers = [(b"content-type", kind)]
    if head.accept_encoding:
        body, coding = deflated(body, head.accept_encoding)
        headers += coding
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _arrow(endpoint: str, answered: Answered) -> bytes:
    from upturn.deploy.serve.bodies import arrow_answer

    columns: dict[str, list[Any]] = {
        "id": answered.ids,
        "prediction": answered.answers,
        "version": answered.versions,
        "arm": answered.arms,
    }
    return arrow_answer(endpoint, answered.route, columns)


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


_told: dict[str, tuple[float, int]] = {}  # by message: when, and how often since then
_TELL_EVERY_S = 10.0
_MAX_TOLD = 1000


def _log_failure(error: UpturnError) -> None:
    """Tell of a failure with its frames, but not of each: a model may fail all day."""
    if error.http_status < 500 or isinstance(error, Unavailable):
        return
    said = f"{error} {error.fields.get('reason', '')}"
    now = perf_counter()
    told_at, since = _told.get(said, (-1e9, 0))
    if now - told_at < _TELL_EVERY_S:
        _told[said] = (told_at, since + 1)
        return
    if len(_told) >= _MAX_TOLD:  # reasons that differ each time
        _told.clear()
    _told[said] = (now, 0)
    again = f" ({since} more times since it was told last)" if since else ""
    _log.error("%s%s", error, again, exc_info=error.__cause__)
