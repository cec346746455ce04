"""A small world for bandits: an endpoint with arms, and customers who buy or do not."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

import upturn as up
from upturn.core.records import Arm, Endpoint, Route
from upturn.core.routing import choose, slices_of
from upturn.core.time import instant, micros
from upturn.deploy.endpoint import create_endpoint
from upturn.deploy.route import current_route, set_route
from upturn.improve.log import MemoryLog
from upturn.model.registry import register_version
from upturn.stores.workspace import Workspace

START = instant("2026-05-01")
HOUR = timedelta(hours=1)
TIME = pa.timestamp("us", "UTC")


class Constant:
    def __init__(self, value: float) -> None:
        self.value = value

    def predict(self, rows: Any) -> np.ndarray:
        return np.full(len(rows), self.value)


class Shop:
    """Versions of 'shop' and its endpoint; `buys` has each arm's chance that a customer buys."""

    def __init__(self, workspace: Workspace, *, versions: int = 2, unit: str | None = None) -> None:
        self.workspace = workspace
        data = pa.table({"x": [0.0, 1.0, 2.0], "bought": [0.0, 1.0, 0.0]})
        for number in range(versions):
            register_version(
                workspace, "shop", Constant(float(number)), data=data, target="bought", now=START
            )
        create_endpoint(workspace, Endpoint("shop", unit=unit), now=START)
        self.log = MemoryLog("shop")
        self.draw = np.random.default_rng(4)
        self.served = 0

    def route(self, *arms: Arm) -> None:
        set_route(self.workspace, "shop", arms, why="by hand", now=START)

    @property
    def present(self) -> Route:
        found = current_route(self.workspace, "shop")
        assert found is not None
        return found

    @property
    def shares(self) -> dict[str, float]:
        return {arm.name: arm.share for arm in self.present.arms}

    def answer(
        self,
        since: datetime,
        buys: dict[str, float],
        *,
        rows: int = 500,
        units: int | None = None,
        labelled: dict[str, float] | None = None,
        delays: dict[str, float] | None = None,
        rate: dict[str, float] | None = None,
        forced: Sequence[str] = (),
    ) -> None:
        """An hour of customers, placed as a server places them, and what they bought."""
        route = self.present
        slices, shares = slices_of(route), self.shares
        at = micros(since) + np.sort(self.draw.integers(0, 3_600_000_000, rows))
        ids = [f"p{self.served + row}" for row in range(rows)]
        unit = [None if units is None else f"u{self.draw.integers(units)}" for _ in ids]
        arms = [
            choose(slices, one or name, route.salt) for one, name in zip(unit, ids, strict=True)
        ]
        propensity = [shares[arm] for arm in arms]
        for row, arm in enumerate(forced):
            arms[row], propensity[row] = arm, 1.0
        bought = self.draw.random(rows) < [buys[arm] for arm in arms]
        told = self.draw.random(rows) < [(labelled or {}).get(arm, 1.0) for arm in arms]
        delay = [(delays or {}).get(arm, 60.0) for arm in arms] * self.draw.uniform(0.9, 1.1, rows)
        rates = [(rate or {}).get(arm, 1.0) for arm in arms]
        kept = self.draw.random(rows) < rates
        table = {
            "id": ids,
            "at": pa.array(at).cast(TIME),
            "route": pa.array([route.revision] * rows, pa.int32()),
            "arm": arms,
            "version": [{a.name: a.version for a in route.arms}[arm] for arm in arms],
            "unit": pa.array(unit, pa.string()),
            "propensity": propensity,
            "rate": rates,
            "features.x": self.draw.random(rows),
        }
        labels = {
            "id": ids,
            "label": bought,
            "known_at": pa.array(at + (delay * 1e6).astype(np.int64)).cast(TIME),
        }
        self.log.append(
            pa.table(table).filter(pa.array(kept)), pa.table(labels).filter(pa.array(told))
        )
        self.served += rows


def bandit(**options: Any) -> up.Bandit:
    return up.Bandit("shop", **({"arms": {"old": 1, "new": 2}} | options))
