"""Timetables over every zone's changes of the clock, against a walk minute by minute."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.errors import Invalid
from upturn.core.schedules import CatchUp
from upturn.develop.schedule.due import due
from upturn.develop.schedule.timetable import Timetable, timetable

ZONES = sorted(name for name in available_timezones() if "/" in name and "posix" not in name)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def local(at: datetime, zone: str) -> datetime:
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def changes(zone: str, year: int) -> list[datetime]:
    """Return the hours of the year in which the zone's clock is changed."""
    found: list[datetime] = []
    at = datetime(year, 1, 1, tzinfo=UTC)
    while at.year == year:
        if local(at, zone) - local(at - HOUR, zone) != HOUR:
            found.append(at)
        at += HOUR
    return found


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, datetime]:
    """Draw a zone, and a minute that is often near a change of its clock."""
    zone = draw(st.sampled_from(ZONES))
    year = draw(st.integers(1975, 2036))
    near = changes(zone, year) or [datetime(year, 6, 1, tzinfo=UTC)]
    around = draw(st.integers(-36 * 60, 12 * 60))
    return zone, draw(st.sampled_from(near)) + around * MINUTE


def first_reading(zone: str, after: datetime, wanted: datetime) -> datetime:
    """Return the first minute at which the zone's clock shows that time or is past it."""
    at = after
    while local(at, zone) < wanted:
        at += MINUTE
    return at


@given(moments(), st.integers(0, 23), st.integers(0, 59))
def test_a_time_of_the_day_is_due_once_a_day_when_the_clock_first_reaches_it(
    moment: tuple[str, datetime], hour: int, minute: int
) -> None:
    zone, at = moment
    ticks = list(islice(timetable(f"{minute} {hour} * * *", zone).after(at), 3))
    day = (local(at, zone) - 2 * DAY).replace(hour=hour, minute=minute, second=0)
    start = at - 4 * DAY
    expected: list[datetime] = []
    while len(expected) < 3:
        start = first_reading(zone, start, day)
        if start > at and start not in expected:
            expected.append(start)
        day += DAY
    assert ticks == expected


@given(moments(), st.sampled_from(["*/15 * * * *", "*/20 2 * * *", "7 */3 * * *", "* 0 * * MON"]))
def test_with_a_star_it_is_due_whenever_the_clock_shows_it(
    moment: tuple[str, datetime], text: str
) -> None:
    zone, at = moment
    end = at + 2 * DAY
    fits = {
        "*/15 * * * *": lambda t: t.minute % 15 == 0,
        "*/20 2 * * *": lambda t: t.hour == 2 and t.minute % 20 == 0,
        "7 */3 * * *": lambda t: t.hour % 3 == 0 and t.minute == 7,
        "* 0 * * MON": lambda t: t.hour == 0 and t.weekday() == 0,
    }[text]
    expected = [at + n * MINUTE for n in range(1, 2 * 1440 + 1)]
    expected = [tick for tick in expected if fits(local(tick, zone))]
    assert list(timetable(text, zone).between(at, end)) == expected


@given(
    moments(),
    st.sampled_from(["30 2 * * *", "*/10 1-3 * * *", "0 0 * * *", "0 0,2 * * SUN", "@every 40m"]),
    st.integers(0, 3 * 86_400_000_000),
)
def test_what_is_due_does_not_depend_on_where_one_begins_to_look(
    moment: tuple[str, datetime], text: str, micros: int
) -> None:
    zone, at = moment
    table, middle, end = timetable(text, zone), at + timedelta(microseconds=micros), at + 3 * DAY
    whole = list(table.between(at, end))
    assert whole == [*table.between(at, middle), *table.between(middle, end)]
    assert whole == sorted(set(whole))
    assert table.last(end) == (whole[-1] if whole else table.last(at))
    for before, tick in pairwise(whole):
        assert table.last(tick - timedelta(microseconds=1)) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0 3 * *", "4 fields"),
        ("0 3 * * * *", "6 fields"),
        ("61 3 * * *", "bad minute"),
        ("@weakly", "is no schedule"),
        ("@every 10ms", "more often than once"),
        ("@every now", "not a duration"),
        ("@every 4000d", "ten years"),
        ("@every 99999999999999999999d", "too long"),
        ("0 0 31 2 *", "bad day"),
        ("", "0 fields"),
    ],
)
def test_what_is_no_schedule_is_said_to_be_none(text: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        timetable(text)


@pytest.mark.parametrize("name", ["Europe/Madird", "", "../etc/passwd", "Europe", "\0"])
def test_a_zone_that_there_is_not(name: str) -> None:
    with pytest.raises(Invalid, match="No time zone"):
        timetable("@daily", name)


NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("catch_up", "since", "hours"),
    [
        ("none", timedelta(hours=2), [0]),
        ("last", timedelta(hours=2), [0]),
        ("all", timedelta(hours=2), [-1, 0]),
        ("all", timedelta(hours=9), [-8, -7, -6, -5]),
        ("none", timedelta(0), []),
        ("last", timedelta(0), []),
        ("all", timedelta(0), []),
    ],
)
def test_what_is_due_when_the_last_tick_is_on_time(
    catch_up: CatchUp, since: timedelta, hours: list[int]
) -> None:
    found = due(
        timetable("@hourly"),
        since=NOON - since,
        now=NOON + timedelta(seconds=30),
        catch_up=catch_up,
        at_once=4,
    )
    assert found == [NOON + n * HOUR for n in hours]


@pytest.mark.parametrize(("catch_up", "hours"), [("none", []), ("last", [0]), ("all", [-2, -1, 0])])
def test_what_is_due_when_the_last_tick_was_missed(catch_up: CatchUp, hours: list[int]) -> None:
    now = NOON + 10 * MINUTE
    found = due(timetable("@hourly"), since=NOON - 3 * HOUR, now=now, catch_up=catch_up, at_once=4)
    assert found == [NOON + n * HOUR for n in hours]
    busy = due(timetable("@hourly"), since=NOON - 3 * HOUR, now=now, catch_up="all", at_once=0)
    assert busy == []


@given(
    moments(),
    st.sampled_from(["30 2 * * *", "*/10 1-3 * * *", "@every 40m"]),
    st.lists(st.integers(0, 6 * 3600), min_size=1, max_size=8),
)
def test_who_catches_up_with_all_starts_each_tick_once_in_order(
    moment: tuple[str, datetime], text: str, looks: list[int]
) -> None:
    zone, at = moment
    table, since, started = timetable(text, zone), at, list[datetime]()
    now = at
    for wait in [*looks, *[0] * 300]:
        now += timedelta(seconds=wait)
        found = due(table, since=since, now=now, catch_up="all", at_once=4)
        started += found
        since = found[-1] if found else since
    assert started == list(table.between(at, now))


def test_names_for_the_usual_ones() -> None:
    at = datetime(2026, 11, 27, 12, tzinfo=UTC)

    def due(table: Timetable) -> str:
        return f"{table.next(at):%m-%d %H:%M}"

    assert due(timetable("@weekly")) == "11-29 00:00"
    assert due(timetable("@Monthly", "Europe/Madrid")) == "11-30 23:00"
    assert due(timetable("@every 6h")) == "11-27 18:00"
