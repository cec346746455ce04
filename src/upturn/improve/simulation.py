"""Simulation: past rows as a world that a loop acts on, with a clock that only goes forward."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import numpy as np
import pyarrow as pa

from upturn.core.errors import Conflict
from upturn.core.records import Arm, Endpoint, Route, Version
from upturn.core.routing import choose, reshare, slices_of
from upturn.improve.actions import trained_as
from upturn.improve.evidence import ApprovalSeen, Trained, TrainingFailed
from upturn.improve.loop import Trains
from upturn.improve.past.log import Answered, Columns, PastLog
from upturn.improve.past.rows import Past
from upturn.improve.past.scores import Scores
from upturn.improve.past.trainings import Trainings, Window


class Simulation:
    """A world of past rows: implements Actions for a loop, and answers requests by its route."""

    def __init__(
        self,
        past: Past,
        *,
        endpoint: Endpoint,
        flow: Trains,
        scores: Scores,
        trainings: Trainings,
        find: Callable[[int], Version],
        columns: Columns,
        first: Trained | None = None,
    ) -> None:
        self.past = past
        self.log = PastLog(endpoint.name, past, scores, columns)
        self.answered = np.full(past.rows, np.nan)  # the score that each client got
        self.trained_on: dict[Window, Trained | TrainingFailed] = {}  # in order
        self._endpoint = endpoint
        self._flow = flow
        self._first = first
        self._scores = scores
        self._trainings = trainings
        self._find = find
        self._route: Route | None = None

    # Actions

    def route(self) -> Route | None:
        """See Actions."""
        return self._route

    def set_route(self, arms: tuple[Arm, ...], *, after: int, why: str, now: datetime) -> str:
        """See Actions."""
        revision = self._route.revision if self._route else 0
        if revision != after:
            raise Conflict(f"The route is at revision {revision}, not {after}.")
        self._route = Route(
            endpoint=self._endpoint.name,
            revision=revision + 1,
            model=self._endpoint.model_name,
            arms=arms,
            salt=self._endpoint.name,
            slices=reshare(slices_of(self._route) if self._route else (), arms),
            why=why,
            at=now,
        )
        return ""

    def train(self, start: datetime, until: datetime) -> Trained | TrainingFailed:
        """See Actions."""
        window = Window(self._flow, start, until)
        made = self.trained_on[window] = self._trainings.on(window)
        return made

    def version(self, number: int) -> Version:
        """See Actions."""
        return self._find(number)

    def trained(self, number: int) -> Trained:
        """See Actions."""
        # By what this policy trained itself: what others did meanwhile is nothing that it knows of.
        own = (self._first, *self.trained_on.values())
        made = (one for one in own if isinstance(one, Trained) and one.version == number)
        return next(made, None) or trained_as(self._find(number))

    def alarms(self) -> None:
        """See Actions. Nobody watches the past."""

    def approval(self, asked: int) -> ApprovalSeen | None:
        """See Actions. A rehearsal can ask nobody: the answer is yes, at once."""
        return ApprovalSeen(decision=asked, approved=True, who="the rehearsal")

    def score(self, number: int, rows: pa.Table) -> np.ndarray:
        """See Actions. The rows are known by their ids, and scored once."""
        places = np.asarray(rows["id"].cast(pa.int64()).to_numpy())
        if not len(places):
            return np.empty(0)
        low = int(places.min())
        return self._scores.of(number, low, int(places.max()) + 1)[places - low]

    # What happens

    def pass_time(self, since: datetime, until: datetime) -> None:
        """Answer the rows of [since, until) by the present route, and tell what became known."""
        low, high = self.past.span(since, until)
        if high > low and self._route is not None:
            answered = self._answers(self._route, low, high)
            self.log.answer(*answered)
            for one in answered:
                if not one.shadow:
                    scores = self._scores.of(one.version, one.low, one.high)
                    places = slice(one.low, one.high) if one.places is None else one.places
                    self.answered[places] = (
                        scores if one.places is None else scores[one.places - one.low]
                    )
        self.log.tell(until)

    def _answers(self, route: Route, low: int, high: int) -> list[Answered]:
        placed = self._placed(route, low, high)
        return [
            Answered(
                low=low,
                high=high,
                places=places,
                route=route.revision,
                arm=arm.name,
                version=arm.version,
                shadow=arm.shadow,
                propensity=propensity,
            )
            for arm, places, propensity in placed
            if places is None or len(places)
        ]

    def _placed(
        self, route: Route, low: int, high: int
    ) -> list[tuple[Arm, np.ndarray | None, float]]:
        """Which arm answers which of the rows: all of them, or those at these places."""
        answering = [arm for arm in route.arms if not arm.shadow]
        shadows: list[tuple[Arm, np.ndarray | None, float]] = [
            (arm, None, 1.0) for arm in route.arms if arm.shadow
        ]
        if len(answering) == 1:
            return [(answering[0], None, 1.0), *shadows]
        slices = slices_of(route)
        chosen: dict[str, str] = {}
        names: list[str] = []
        for place in range(low, high):
            unit = self.past.units[place] or f"{place:028d}"  # as the server: by row without a unit
            if unit not in chosen:
                chosen[unit] = choose(slices, unit, route.salt)
            names.append(chosen[unit])
        by_name, everybody = np.asarray(names), np.arange(low, high)
        parts = [(arm, everybody[by_name == arm.name], arm.share) for arm in answering]
        return [*parts, *shadows]
