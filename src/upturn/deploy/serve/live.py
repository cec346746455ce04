"""Live endpoints: a route with its versions loaded, swapped whole, and what is counted of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any

from upturn.core.errors import did_you_mean
from upturn.core.log_policy import LogPolicy
from upturn.core.records import Arm, Endpoint, Route, Version
from upturn.core.routing import choose
from upturn.core.schema import Signature
from upturn.deploy.serve.decoding import Row, RowDecoder, Rows
from upturn.deploy.serve.problems import BadRequest
from upturn.deploy.serve.worker import ModelWorker
from upturn.stores.logfile import LogWriter

Pick = Callable[[Row], Row]


@dataclass(frozen=True, slots=True)
class LiveArm:
    """An arm with its version loaded. `pick` takes the version's inputs out of a client's row."""

    arm: Arm
    version: Version
    worker: ModelWorker
    names: tuple[str, ...]
    pick: Pick | None = None

    def rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Clients' rows as this version takes them."""
        return rows if self.pick is None else [self.pick(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Share:
    """The rows of a request that one arm answers, by their places in the request."""

    arm: LiveArm
    places: Sequence[int]
    propensity: float


@dataclass(frozen=True, slots=True)
class Live:
    """A route revision with its versions loaded and warm. Immutable: a change swaps it whole."""

    endpoint: Endpoint
    route: Route
    signature: Signature  # of the first answering arm: what clients send
    decoder: RowDecoder
    arms: dict[str, LiveArm]
    answering: tuple[LiveArm, ...]
    shadows: tuple[LiveArm, ...]
    policy: LogPolicy  # what of the rows is logged

    def shares(self, rows: Rows, ids: Sequence[str], override: str | None) -> list[Share]:
        """Which arm answers which rows: by each row's unit, or its id where it has none.

        With an override that arm answers them all, with certainty; BadRequest when it is unknown.
        """
        everything = range(len(ids))
        if override is not None:
            return [Share(self._arm(override), everything, 1.0)]
        if len(self.answering) == 1:
            return [Share(self.answering[0], everything, 1.0)]
        arms, salt = self.route.arms, self.route.salt
        places: dict[str, list[int]] = {}
        for place, (unit, row_id) in enumerate(zip(rows.units, ids, strict=True)):
            chosen = choose(arms, row_id if unit is None else unit, salt)
            places.setdefault(chosen.name, []).append(place)
        return [
            Share(self.arms[name], found, self.arms[name].arm.share)
            for name, found in places.items()
        ]

    def _arm(self, name: str) -> LiveArm:
        arm = self.arms.get(name)
        if arm is None:
            raise BadRequest(
                f"Route {self.route.revision} has no arm {name[:100]!r}, which X-Upturn-Arm names.",
                hint=did_you_mean(name, self.arms),
            )
        return arm


@dataclass(slots=True)
class Counters:
    """What has happened at an endpoint since the server started."""

    requests: int = 0
    rows: int = 0
    rejected: int = 0  # requests answered with a client's error, or 503
    failed: int = 0  # requests that the model or the server failed
    shadow_rows: int = 0
    shadow_dropped: int = 0  # rows


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
    live: Live | None = None
    refused: RefusedRoute | None = None
    seen: tuple[int, int] = (0, 0)  # the numbers of the endpoint and route looked at last
    counters: Counters = field(default_factory=Counters)


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
    return Live(
        endpoint=endpoint,
        route=route,
        signature=signature,
        decoder=RowDecoder(signature, endpoint.unit, max_rows=max_rows),
        arms=arms,
        answering=tuple(arm for arm in arms.values() if not arm.arm.shadow),
        shadows=tuple(arm for arm in arms.values() if arm.arm.shadow),
        policy=LogPolicy.of(endpoint),
    )


def _live_arm(arm: Arm, version: Version, worker: ModelWorker, clients: Signature) -> LiveArm:
    names = version.signature.names
    pick = (
        None if names == clients.names else _picker([clients.names.index(name) for name in names])
    )
    return LiveArm(arm=arm, version=version, worker=worker, names=names, pick=pick)


def _picker(places: list[int]) -> Pick:
    if len(places) == 1:
        return lambda row: (row[places[0]],)
    return itemgetter(*places)


def features(names: Sequence[str], rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Rows as columns by name, as the Log keeps them."""
    if len(rows) == 1:
        return {name: [value] for name, value in zip(names, rows[0], strict=True)}
    return {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
