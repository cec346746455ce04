"""Wiring: the composition root, where the wings meet, and what a loop does in the real world."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from upturn.core.duty import Duty
from upturn.core.errors import Invalid
from upturn.core.ids import new_id
from upturn.core.linear_policy import LinearPolicy
from upturn.core.records import Alert, Approval, Arm, Check, Endpoint, Route, Version
from upturn.deploy.endpoint import create_endpoint, get_endpoint
from upturn.deploy.route import current_route, set_route
from upturn.deploy.running import (
    asks_for_tokens,
    reached_at,
    running_server,
    wait_until_served,
)
from upturn.stores.workspace import Workspace

if TYPE_CHECKING:  # a steward that has duties to list needs none of it
    import numpy as np
    import pyarrow as pa

    from upturn.develop.joining import Joining
    from upturn.improve.evidence import AlarmsSeen, ApprovalSeen, Trained, TrainingFailed
    from upturn.improve.log import StoredLog
    from upturn.improve.loop import Loop, Trains
    from upturn.model.adapters import Predictor

SERVED_WITHIN_S = 30.0  # a server warms a version up before it routes to it
_LONGEST_RUN = timedelta(days=90)  # a token of a run that was killed is known to nobody then


class RealActions:
    """Implements improve's Actions: runs the flow here, routes by revisions that servers follow."""

    def __init__(
        self,
        workspace: Workspace,
        endpoint: Endpoint,
        flow: Trains | None,
        *,
        loop: str | None = None,
        served_within_s: float = SERVED_WITHIN_S,
        heard: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`loop` is the name under which people approve; `heard` is told of trainings.

        Without a flow nothing can be trained: enough to look, and to undo.
        """
        self._workspace = workspace
        self._endpoint = endpoint
        self._flow = flow
        self._loop = loop or endpoint.name
        self._heard = heard
        self._served_within_s = served_within_s
        self._predictors: dict[int, Predictor] = {}

    def route(self) -> Route | None:
        """See Actions."""
        return current_route(self._workspace, self._endpoint.name)

    def set_route(
        self,
        arms: tuple[Arm, ...],
        *,
        after: int,
        why: str,
        now: datetime,
        policy: LinearPolicy | None = None,
    ) -> str:
        """See Actions. Without a server the revision is enough: the next one starts with it."""
        create_endpoint(self._workspace, self._endpoint, now=now)
        name = self._endpoint.name
        route = set_route(self._workspace, name, arms, why=why, now=now, after=after, policy=policy)
        return wait_until_served(self._workspace, route, timeout_s=self._served_within_s)

    def train(self, start: datetime, until: datetime) -> Trained | TrainingFailed:
        """See Actions."""
        from upturn.improve.actions import train

        if self._flow is None:
            raise Invalid("There is no flow to train with here.")
        return train(self._flow, start, until, heard=self._heard)

    def version(self, number: int) -> Version:
        """See Actions."""
        return self._workspace.meta.get(Version, self._endpoint.model_name, number)

    def trained(self, number: int) -> Trained:
        """See Actions."""
        from upturn.improve.actions import trained_as

        return trained_as(self.version(number))

    def alarms(self) -> AlarmsSeen | None:
        """See Actions. Where no monitor has ever looked, nobody watches."""
        from upturn.improve.evidence import AlarmsSeen

        last = self._workspace.meta.last_each(Alert, endpoint=self._endpoint.name)
        if not last and self._workspace.meta.find(Check, self._endpoint.name) is None:
            return None
        going_on = {alert.name: alert.says for alert in last if alert.status != "over"}
        return AlarmsSeen(going_on=going_on)

    def approval(self, asked: int) -> ApprovalSeen | None:
        """See Actions. The first answer counts."""
        from upturn.improve.evidence import ApprovalSeen

        said = self._workspace.meta.select(Approval, loop=self._loop)
        for one in said:
            if one.decision == asked:
                return ApprovalSeen(
                    decision=asked, approved=one.approved, who=one.who, why=one.why, at=one.at
                )
        return None

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


def loop_parts(
    workspace: Workspace, loop: Loop, *, heard: Callable[[str], None] = lambda _: None
) -> tuple[StoredLog, RealActions]:
    """What a loop runs on: its endpoint's Log and the real actions."""
    from upturn.improve.log import StoredLog

    actions = RealActions(workspace, loop.endpoint, loop.train, loop=loop.name, heard=heard)
    return StoredLog(workspace, loop.endpoint.name), actions


def route_actions(workspace: Workspace, endpoint: str) -> RealActions:
    """The real actions without a flow: to put a route back."""
    return RealActions(workspace, get_endpoint(workspace, endpoint), None)


def bandit_parts(workspace: Workspace, endpoint: str) -> tuple[StoredLog, RealActions]:
    """What a bandit runs on: its endpoint's Log, and the real routes."""
    from upturn.improve.log import StoredLog

    return StoredLog(workspace, endpoint), route_actions(workspace, endpoint)


@contextmanager
def joining(workspace: Workspace, run: str) -> Generator[Joining]:
    """What tasks of the run find in their environment, so that MLflow's code in them joins it.

    Nothing, when no server of the store runs on this machine. Where such a server asks for a
    token and there is none, the run has one of its own, until its end.
    """
    from functools import partial

    from upturn.adapters.mlflow.joining import joined
    from upturn.develop.joining import no_joining

    settings = workspace.settings
    if workspace.is_remote:
        yield partial(joined, server=settings.server, token=settings.token, environ=os.environ)
        return
    running = running_server(workspace)
    if running is None or not running.is_here:
        yield no_joining
        return
    url = reached_at(running.url)
    with _token_for(workspace, run, url) as token:
        yield partial(joined, server=url, token=token, environ=os.environ)


@contextmanager
def _token_for(workspace: Workspace, run: str, url: str) -> Generator[str]:
    """A token that the server takes of the run; '' where it asks for none."""
    from upturn.core.time import utcnow
    from upturn.core.who import who
    from upturn.stores.tokens import make_token, revoke_token

    if workspace.settings.token or not asks_for_tokens(url):
        yield workspace.settings.token
        return
    project = workspace.settings.project
    token, secret = make_token(
        workspace.meta,
        f"run {run} {new_id()}",
        role="editor",
        who=who(),
        projects=(project,),
        expires_at=utcnow() + _LONGEST_RUN,
    )
    try:
        yield secret
    finally:
        revoke_token(workspace.meta, token, who=who())


def duties() -> tuple[Duty[Workspace], ...]:
    """What a running server does for its store now and then."""
    from upturn.adapters.webhooks.duty import HookDuty
    from upturn.develop.schedule.duty import ScheduleDuty
    from upturn.develop.tracking.delivery import JournalDuty

    return (ScheduleDuty(), HookDuty(), JournalDuty())
