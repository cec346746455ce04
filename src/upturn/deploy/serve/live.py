"""Live endpoints: a route with its versions loaded, swapped whole."""

import concurrent.futures
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from upturn.core.errors import did_you_mean
from upturn.core.log import Features, Layout, Matrix, PredictionBatch
from upturn.core.log_policy import LogPolicy
from upturn.core.records import Arm, Endpoint, Route, Slice, Version
from upturn.core.routing import choose, slices_of
from upturn.core.schema import Signature
from upturn.deploy.serve.chooser import Chooser
from upturn.deploy.serve.decoding import RowDecoder
from upturn.deploy.serve.metrics import EndpointMetrics
from upturn.deploy.serve.problems import BadRequest
from upturn.deploy.serve.rows import EXACT, Block, Rows, is_numeric, take
from upturn.deploy.serve.worker import ModelWorker
from upturn.stores.logfile import LogWriter

_KINDS = {"float": "f", "int": "i", "bool": "b"}


@dataclass(frozen=True, slots=True)
class LiveArm:
    """An arm with its version loaded. `places` are those of its inputs in a client's row."""

    arm: Arm
    version: Version
    worker: ModelWorker
    names: tuple[str, ...]
    places: tuple[int, ...] | None  # None: all, as they come
    layout: Layout | None  # of the matrices that it takes, if its inputs are numbers
    scored: bool  # whether its answers are its scores

    def block(self, block: Block) -> Block:
        """Clients' rows as this version takes them."""
        if self.places is not None:
            if isinstance(block, np.ndarray):
                return np.ascontiguousarray(block[:, self.places])
            block = [tuple(row[place] for place in self.places) for row in block]
        if self.layout is not None and not isinstance(block, np.ndarray) and _is_exact(block):
            return np.array(block, dtype=np.float64)  # of rows with other inputs, which are text
        return block

    def features(self, block: Block, places: Sequence[int] | None) -> Features:
        """The rows at those places (None: all) as the Log keeps what this version sees of them."""
        seen = self.block(block if places is None else take(block, places))
        if isinstance(seen, np.ndarray) and self.layout is not None:
            return Matrix(self.layout, seen.tobytes())
        return {
            name: list(values)
            for name, values in zip(self.names, zip(*seen, strict=True), strict=True)
        }


@dataclass(frozen=True, slots=True)
class Share:
    """The rows of a request that one arm answers, by their places in the request (None: all)."""

    arm: LiveArm
    places: Sequence[int] | None
    propensity: float | list[float]  # one for all, or one a row


@dataclass(frozen=True, slots=True)
class Live:
    """A route revision with its versions loaded and warm. Immutable: a change swaps it whole."""

    endpoint: Endpoint
    route: Route
    signature: Signature  # of the first answering arm: what clients send
    decoder: RowDecoder
    arms: dict[str, LiveArm]
    answering: tuple[LiveArm, ...]
    slices: tuple[Slice, ...]
    alone: Share | None  # the one arm that answers everything, if there is one
    shadows: tuple[LiveArm, ...]
    policy: LogPolicy  # what of the rows is logged
    chooser: Chooser | None = None  # where the route's policy looks at the rows

    def shares(self, rows: Rows, ids: Sequence[str], override: str | None) -> list[Share]:
        """Which arm answers which rows: by each row's unit, or its id where it has none.

        With an override that arm answers them all, with certainty; BadRequest when it is unknown.
        """
        if override is not None:
            return [Share(self._arm(override), None, 1.0)]
        if self.alone is not None:
            return [self.alone]
        if self.chooser is not None:
            chosen = self.chooser.choose(rows, ids).items()
            return [Share(self.arms[name], found, chances) for name, (found, chances) in chosen]
        slices, salt = self.slices, self.route.salt
        places: dict[str, list[int]] = {}
        for place, row_id in enumerate(ids):
            unit = None if rows.units is None else rows.units[place]
            name = choose(slices, row_id if unit is None else unit, salt)
            places.setdefault(name, []).append(place)
        return [
            Share(self.arms[name], found, self.arms[name].arm.share)
            for name, found in places.items()
        ]

    def is_full(self) -> bool:
        """Whether a request that came now would have to wait for too long."""
        return self.answering[0].worker.is_full()

    def _arm(self, name: str) -> LiveArm:
        arm = self.arms.get(name)
        if arm is None:
            raise BadRequest(
                f"Route {self.route.revision} has no arm {name[:100]!r}, which X-Upturn-Arm names.",
                hint=did_you_mean(name, self.arms),
            )
        return arm


@dataclass(frozen=True, slots=True)
class RefusedRoute:
    """A revision that was not taken, and why; the one before stays."""

    revision: int
    reason: str
    at: datetime


@dataclass(slots=True)
class Served:
    """An endpoint as this server knows it. `live` is None until a route of it could be loaded."""

    name: str
    writer: LogWriter
    metrics: EndpointMetrics
    live: Live | None = None
    refused: RefusedRoute | None = None
    seen: tuple[int, int] = (0, 0)  # the numbers of the endpoint and route looked at last

    def write(
        self, live: Live, batch: PredictionBatch, *, durable: bool = False
    ) -> "concurrent.futures.Future[None] | None":
        """Log what the policy of who answers lets through; see LogWriter.write."""
        kept = live.policy.apply(batch)
        return None if kept is None else self.writer.write(kept, durable=durable)


def assemble(
    endpoint: Endpoint,
    route: Route,
    versions: dict[int, Version],
    workers: dict[int, ModelWorker],
    *,
    max_rows: int,
) -> Live:
    """The route with its loaded versions, ready to be swapped in."""
    first = next(arm for arm in route.arms if not arm.shadow)
    signature = versions[first.version].signature
    arms = {
        arm.name: _live_arm(arm, versions[arm.version], workers[arm.version], signature)
        for arm in route.arms
    }
    # An arm that takes nobody answers only by override, or when its share grows.
    answering = tuple(arm for arm in arms.values() if not arm.arm.shadow)
    return Live(
        endpoint=endpoint,
        route=route,
        signature=signature,
        decoder=RowDecoder(signature, endpoint.unit, max_rows=max_rows),
        arms=arms,
        answering=answering,
        slices=slices_of(route),
        alone=Share(answering[0], None, 1.0) if len(answering) == 1 else None,
        shadows=tuple(arm for arm in arms.values() if arm.arm.shadow),
        policy=LogPolicy.of(endpoint),
        chooser=Chooser(route.policy, signature, route.salt) if route.policy else None,
    )


def _live_arm(arm: Arm, version: Version, worker: ModelWorker, clients: Signature) -> LiveArm:
    own = version.signature
    same = own.names == clients.names
    kinds = "".join(_KINDS.get(field.type, "") for field in own.inputs)
    return LiveArm(
        arm=arm,
        version=version,
        worker=worker,
        names=own.names,
        places=None if same else tuple(clients.names.index(name) for name in own.names),
        layout=Layout(own.names, kinds) if is_numeric(own) else None,
        scored=own.output in ("probability", "number"),
    )


def _is_exact(rows: Sequence[tuple[object, ...]]) -> bool:
    return not any(isinstance(value, int) and abs(value) > EXACT for row in rows for value in row)
