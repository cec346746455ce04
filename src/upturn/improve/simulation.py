"""Simulation: past rows as a world that a loop acts on, with a clock that only goes forward."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.errors import Conflict, Invalid
from upturn.core.log import FEATURE_PREFIX
from upturn.core.records import Arm, Endpoint, Route, Version
from upturn.core.routing import choose, reshare, slices_of
from upturn.core.time import micros
from upturn.improve.actions import train, trained_as
from upturn.improve.evidence import ApprovalSeen, Trained, TrainingFailed
from upturn.improve.log import MemoryLog, StoredLog
from upturn.improve.loop import Trains
from upturn.improve.monitor.performance import outcomes
from upturn.model.adapters import Predictor, load_predictor
from upturn.model.tables import to_arrow
from upturn.stores.workspace import Workspace

_AT = pa.timestamp("us", "UTC")
_NEVER = np.iinfo(np.int64).max
_CHUNK = 20_000  # rows scored at a time, and then remembered
_OWN = ("at", "known_at", "label")


@dataclass(frozen=True, slots=True)
class Past:
    """Rows in the order in which they happened, each with when its label became known."""

    at: np.ndarray  # microseconds since 1970
    known_at: np.ndarray  # the same; the greatest integer for never
    labels: pa.ChunkedArray[Any]
    units: list[str | None]
    inputs: pa.Table

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.at)

    def span(self, since: datetime, until: datetime) -> tuple[int, int]:
        """The places of the rows in [since, until)."""
        low, high = np.searchsorted(self.at, [micros(since), micros(until)])
        return int(low), int(high)

    def truth(self, version: Version, known_by: datetime) -> np.ndarray:
        """The labels as numbers for that version; nan where not known by then."""
        columns: dict[str, Any] = {"label": self.labels}
        truth = outcomes(pa.table(columns), version.signature)
        return np.where(self.known_at <= micros(known_by), truth, np.nan)


def past_of(table: Any, endpoint: Endpoint, start: datetime, end: datetime) -> Past:
    """The rows of [start, end) of a table with `at`, `known_at`, `label` and the model's inputs.

    Raises Invalid when a column is missing or a time has no zone.
    """
    rows = to_arrow(table)
    missing = [name for name in _OWN if name not in rows.column_names]
    if missing:
        raise Invalid(
            f"The history has no column {missing[0]!r}.",
            hint="It takes at, known_at (null when never), label and the model's inputs.",
        )
    at, known_at = _times(rows, "at"), _times(rows, "known_at")
    if at.null_count:
        raise Invalid("The history has rows without a time in 'at'.")
    inside = pc.and_(pc.greater_equal(at, pa.scalar(start, _AT)), pc.less(at, pa.scalar(end, _AT)))
    order = pc.array_sort_indices(at.filter(inside))
    rows = rows.filter(inside).take(order)
    at, known_at = at.filter(inside).take(order), known_at.filter(inside).take(order)
    if not rows.num_rows:
        raise Invalid(f"The history has no rows from {start:%Y-%m-%d} until {end:%Y-%m-%d}.")
    happened = np.asarray(at.cast(pa.int64()).to_numpy(), dtype=np.int64)
    never = pc.fill_null(known_at.cast(pa.int64()), pa.scalar(_NEVER, pa.int64()))
    known = np.asarray(never, dtype=np.int64)
    known = np.where(pc.is_null(rows["label"]).to_numpy(zero_copy_only=False), _NEVER, known)
    return Past(
        at=happened,
        known_at=np.maximum(known, happened),
        labels=rows["label"],
        units=_units(rows, endpoint),
        inputs=rows.drop_columns(list(_OWN)),
    )


def past_of_log(workspace: Workspace, endpoint: Endpoint, start: datetime, end: datetime) -> Past:
    """The rows that the endpoint answered in [start, end), with the labels known by `end`."""
    rows = StoredLog(workspace, endpoint.name).joined(
        since=start, until=end, known_by=end, shadow=False, features=True
    )
    if not rows.num_rows:
        raise Invalid(
            f"The Log of {endpoint.name!r} has no rows from {start:%Y-%m-%d} until {end:%Y-%m-%d}.",
            hint="Give the loop a history=, or rehearse on days when the endpoint answered.",
        )
    features = [name for name in rows.column_names if name.startswith(FEATURE_PREFIX)]
    columns: dict[str, Any] = (
        {name: rows[name] for name in _OWN}
        | ({} if endpoint.unit is None else {endpoint.unit: rows["unit"]})
        | {name.removeprefix(FEATURE_PREFIX): rows[name] for name in features}
    )
    return past_of(pa.table(columns), endpoint, start, end)


def _times(rows: pa.Table, name: str) -> pa.ChunkedArray[Any]:
    kind = rows.schema.field(name).type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        raise Invalid(
            f"The history's column {name!r} is {kind}, not a time with a zone.",
            hint="Say which zone: in polars, .dt.replace_time_zone('UTC').",
        )
    return rows[name].cast(_AT, safe=False)


def _units(rows: pa.Table, endpoint: Endpoint) -> list[str | None]:
    if endpoint.unit is None or endpoint.unit not in rows.column_names:
        return [None] * rows.num_rows
    return [None if unit is None else str(unit) for unit in rows[endpoint.unit].to_pylist()]


class Scores:
    """The score of every version for every past row, computed in chunks when first asked for."""

    def __init__(self, workspace: Workspace, past: Past, find: Callable[[int], Version]) -> None:
        self._workspace = workspace
        self._past = past
        self._find = find
        self._predictors: dict[int, Predictor] = {}
        self._chunks: dict[tuple[int, int], np.ndarray] = {}

    def of(self, version: int, low: int, high: int) -> np.ndarray:
        """The scores of the rows at places low to high. Raises Invalid for a model without any."""
        first, last = low // _CHUNK, max(low, high - 1) // _CHUNK
        parts = [self._chunk(version, chunk) for chunk in range(first, last + 1)]
        offset = first * _CHUNK
        return np.concatenate(parts)[low - offset : high - offset]

    def _chunk(self, number: int, chunk: int) -> np.ndarray:
        if (number, chunk) in self._chunks:
            return self._chunks[number, chunk]
        version = self._find(number)
        names = version.signature.names
        missing = [name for name in names if name not in self._past.inputs.column_names]
        if missing:
            raise Invalid(
                f"The history has no column {missing[0]!r}, which {version.name} takes.",
                hint="A history has the inputs of every version that is tried on it.",
            )
        if number not in self._predictors:
            self._predictors[number] = load_predictor(self._workspace, version)
        rows = self._past.inputs.select(list(names)).slice(chunk * _CHUNK, _CHUNK)
        scores = self._predictors[number].predict(rows).scores
        if scores is None:
            raise Invalid(
                f"{version.name} gives answers without scores.",
                hint="A rehearsal compares probabilities or numbers.",
            )
        self._chunks[number, chunk] = scores
        return scores


class Trainings:
    """Trainings by their window: each done once here, and not again in another process."""

    def __init__(self, flow: Trains, heard: Callable[[str], None]) -> None:
        self._flow = flow
        self._heard = heard
        self._done: dict[tuple[datetime, datetime], Trained | TrainingFailed] = {}
        self.seconds = 0.0

    def on(self, start: datetime, until: datetime) -> Trained | TrainingFailed:
        """What training on [start, until) made."""
        if (start, until) not in self._done:
            self._heard(f"training on {start:%Y-%m-%d} to {until:%Y-%m-%d}")
            began = time.perf_counter()
            self._done[start, until] = train(self._flow, start, until)
            self.seconds += time.perf_counter() - began
        return self._done[start, until]

    def find(self, version: int) -> Trained | None:
        """How that version was trained, if it was here."""
        made = (one for one in self._done.values() if isinstance(one, Trained))
        return next((one for one in made if one.version == version), None)


class Simulation:
    """A world of past rows: implements Actions for a loop, and answers requests by its route."""

    def __init__(
        self,
        past: Past,
        *,
        endpoint: Endpoint,
        scores: Scores,
        trainings: Trainings,
        find: Callable[[int], Version],
    ) -> None:
        self.past = past
        self.log = MemoryLog(endpoint.name)
        self.answered = np.full(past.rows, np.nan)  # the score that each client got
        self._endpoint = endpoint
        self._scores = scores
        self._trainings = trainings
        self._find = find
        self._route: Route | None = None
        self._by_known = np.argsort(past.known_at, kind="stable")
        self._known = 0  # how many of these have been told

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
        return self._trainings.on(start, until)

    def version(self, number: int) -> Version:
        """See Actions."""
        return self._find(number)

    def trained(self, number: int) -> Trained:
        """See Actions."""
        return self._trainings.find(number) or trained_as(self._find(number))

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
            tables = [
                self._rows(arm, low, places, propensity)
                for arm, places, propensity in self._placed(self._route, low, high)
                if len(places)
            ]
            self.log.append(pa.concat_tables(tables))
        self._tell(until)

    def _placed(self, route: Route, low: int, high: int) -> list[tuple[Arm, np.ndarray, float]]:
        everybody = np.arange(low, high)
        answering = [arm for arm in route.arms if not arm.shadow]
        shadows = [(arm, everybody, 1.0) for arm in route.arms if arm.shadow]
        if len(answering) == 1:
            return [(answering[0], everybody, 1.0), *shadows]
        slices = slices_of(route)
        chosen: dict[str, str] = {}
        names: list[str] = []
        for place in range(low, high):
            unit = self.past.units[place] or f"{place:028d}"  # as the server: by row without a unit
            if unit not in chosen:
                chosen[unit] = choose(slices, unit, route.salt)
            names.append(chosen[unit])
        by_name = np.asarray(names)
        parts = [(arm, everybody[by_name == arm.name], arm.share) for arm in answering]
        return [*parts, *shadows]

    def _rows(self, arm: Arm, low: int, places: np.ndarray, propensity: float) -> pa.Table:
        count = len(places)
        scores = self._scores.of(arm.version, int(places[0]), int(places[-1]) + 1)
        scores = scores[places - places[0]]
        if not arm.shadow:
            self.answered[places] = scores
        inputs = self.past.inputs.take(places)
        route = self._route
        assert route is not None
        columns: dict[str, Any] = {
            "id": _ids(places),
            "at": pa.array(self.past.at[places], pa.int64()).cast(_AT),
            "route": np.full(count, route.revision, np.int32),
            "arm": [arm.name] * count,
            "version": np.full(count, arm.version, np.int32),
            "shadow": np.full(count, arm.shadow),
            "unit": pa.array([self.past.units[place] for place in places], pa.string()),
            "propensity": np.full(count, propensity),
            "score": scores,
        } | {f"{FEATURE_PREFIX}{name}": inputs[name] for name in inputs.column_names}
        return pa.table(columns)

    def _tell(self, now: datetime) -> None:
        until = int(np.searchsorted(self.past.known_at, micros(now), "right", self._by_known))
        places = self._by_known[self._known : until]
        self._known = until
        if len(places):
            known = pa.array(self.past.known_at[places], pa.int64()).cast(_AT)
            labels = self.past.labels.take(places)
            columns: dict[str, Any] = {"id": _ids(places), "label": labels, "known_at": known}
            self.log.append(feedback=pa.table(columns))


def _ids(places: Sequence[int] | np.ndarray) -> pa.Array[Any]:
    return pa.array([f"{place:028d}" for place in places], pa.string())
