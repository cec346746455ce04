"""Time: durations as people write them, instants in UTC, and no naive ones."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.errors import Invalid
from upturn.core.time import duration, from_micros, instant, micros, spell, utcnow


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("10m", 600), ("1.5h", 5400), ("90d", 90 * 86400), ("2w", 14 * 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == timedelta(seconds=seconds)
    assert duration(f" {text} ") == timedelta(seconds=seconds)
    assert duration(seconds) == timedelta(seconds=seconds)
    assert duration(timedelta(seconds=seconds)) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "ten minutes", "10 min", "-5m", "1d2h", "m", "1.m"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Invalid, match=r"is not a duration.*'90d'"):
        duration(text)


@given(st.sampled_from(["s", "m", "h", "d"]), st.integers(1, 20))
def test_a_spelled_duration_is_a_duration(unit: str, count: int) -> None:
    span = duration(f"{count}{unit}")
    assert duration(spell(span)) == pytest.approx(span, abs=span * 0.06)


@given(st.datetimes(timezones=st.timezones()).filter(lambda at: 1900 < at.year < 2200))
def test_an_instant_is_in_utc_and_survives_storage(at: datetime) -> None:
    offset = at.utcoffset()
    assert offset is not None
    # Not == at: by Python's rules no instant equals one in an hour that a clock skips or repeats.
    assert instant(at) == at.replace(tzinfo=UTC) - offset
    assert instant(at).tzinfo is UTC
    assert from_micros(micros(instant(at))) == instant(at)


def test_dates_and_texts_name_instants() -> None:
    midnight = datetime(2013, 4, 1, tzinfo=UTC)
    assert instant(date(2013, 4, 1)) == instant("2013-04-01") == midnight
    assert instant("2013-04-01T02:00:00+02:00") == instant("2013-04-01T00:00:00Z") == midnight
    assert instant(datetime(2013, 4, 1, 2, tzinfo=timezone(timedelta(hours=2)))) == midnight
    assert utcnow().tzinfo is UTC


@pytest.mark.parametrize("value", ["2013-04-01T06:00:00", datetime(2013, 4, 1)])  # noqa: DTZ001
def test_a_naive_instant_is_refused_with_the_way_out(value: str | datetime) -> None:
    with pytest.raises(Invalid, match=r"no time zone.*T0\d:00:00Z for UTC"):
        instant(value)


@pytest.mark.parametrize("text", ["", "yesterday", "2013-13-01", "01.04.2013", "2013-4-1"])
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is not a date or an instant"):
        instant(text)
