"""Wiring: the composition root, where the wings meet, and what a loop does in the real world."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from upturn.core.errors import Invalid
from upturn.core.records import Arm, Endpoint, Route, Version
from upturn.deploy.endpoint import create_endpoint
from upturn.deploy.route import current_route, set_route
from upturn.deploy.running import wait_until_served
from upturn.improve.actions import train, trained_as
from upturn.improve.evidence import Trained, TrainingFailed
from upturn.improve.loop import Loop, Trains
from upturn.stores.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from upturn.improve.log import StoredLog
    from upturn.model.adapters import Predictor

SERVED_WITHIN_S = 30.0  # a server warms a version up before it routes to it


class RealActions:
    """Implements improve's Actions: runs the flow here, routes by revisions that servers follow."""

    def __init__(
        self,
        workspace: Workspace,
        endpoint: Endpoint,
        flow: Trains,
        *,
        served_within_s: float = SERVED_WITHIN_S,
    ) -> None:
        self._workspace = workspace
        self._endpoint = endpoint
        self._flow = flow
        self._served_within_s = served_within_s
        self._predictors: dict[int, Predictor] = {}

    def route(self) -> Route | None:
        """See Actions."""
        return current_route(self._workspace, self._endpoint.name)

    def set_route(self, arms: tuple[Arm, ...], *, after: int, why: str, now: datetime) -> str:
        """See Actions. Without a server the revision is enough: the next one starts with it."""
        create_endpoint(self._workspace, self._endpoint, now=now)
        route = set_route(self._workspace, self._endpoint.name, arms, why=why, now=now, after=after)
        return wait_until_served(self._workspace, route, timeout_s=self._served_within_s)

    def train(self, start: datetime, until: datetime) -> Trained | TrainingFailed:
        """See Actions."""
        return train(self._flow, start, until)

    def version(self, number: int) -> Version:
        """See Actions."""
        return self._workspace.meta.get(Version, self._endpoint.model_name, number)

    def trained(self, number: int) -> Trained:
        """See Actions."""
        return trained_as(self.version(number))

    def score(self, number: int, rows: pa.Table) -> np.ndarray:
        """See Actions."""
        from upturn.model.adapters import load_predictor

        version = self.version(number)
        names = version.signature.names
        missing = [name for name in names if name not in rows.column_names]
        if missing:
            raise Invalid(f"The Log has no {missing[0]!r}, which {version.name} takes.")
        if number not in self._predictors:
            self._predictors[number] = load_predictor(self._workspace, version)
        scores = self._predictors[number].predict(rows.select(list(names))).scores
        if scores is None:
            raise Invalid(f"{version.name} gives answers without scores.")
        return scores


def loop_parts(workspace: Workspace, loop: Loop) -> tuple[StoredLog, RealActions]:
    """What a loop runs on: its endpoint's Log and the real actions."""
    from upturn.improve.log import StoredLog

    actions = RealActions(workspace, loop.endpoint, loop.train)
    return StoredLog(workspace, loop.endpoint.name), actions
