"""Quiet times by the clocks of a zone, and budgets in any span of their length."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.errors import Invalid
from upturn.core.records import Endpoint
from upturn.core.time import instant
from upturn.improve.limits import Rate, budget, quiet
from upturn.improve.loop import Loop
from upturn.improve.rollout import approval, beats, canary, no_worse, shadow
from upturn.improve.triggers import stale

MINUTE = timedelta(minutes=1)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]
hours = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 15, 30]))
# The year's two changes of the clocks are among them.
moments = st.integers(0, 270 * 24 * 60).map(lambda minute: instant("2025-03-01") + minute * MINUTE)


def is_quiet(at: datetime, begin: str, end: str, days: set[str], zone: str) -> bool:
    """The same, written down as one would say it."""
    local = at.astimezone(ZoneInfo(zone))
    clock = f"{local:%H:%M}"
    if f"{local:%a}".lower() in days:
        return True
    return begin <= clock < end if begin < end else clock >= begin or clock < end


@given(
    moments,
    hours,
    hours,
    st.sets(st.sampled_from(["mon", "wed", "sat", "sun"])),
    st.sampled_from(ZONES),
)
def test_a_quiet_time_ends_when_it_is_quiet_no_more(
    now: datetime, begin: str, end: str, days: set[str], zone: str
) -> None:
    if begin == end:
        return
    times = quiet(f"{begin}-{end}", days=sorted(days), tz=zone)
    over = times.ends(now)
    assert (over is not None) == is_quiet(now, begin, end, days, zone)
    if over is None:
        return
    assert over > now
    assert not is_quiet(over, begin, end, days, zone)
    assert times.ends(over) is None
    # It is quiet until then, at every quarter of an hour; but for the night of a changing clock.
    changes = ZoneInfo(zone).utcoffset(now) != ZoneInfo(zone).utcoffset(over)
    at = now
    while at < over and not changes:
        assert is_quiet(at, begin, end, days, zone)
        at += 15 * MINUTE


@given(
    st.integers(1, 4),
    st.integers(1, 10),
    st.lists(st.integers(0, 60), min_size=1, max_size=80),
)
def test_a_rate_is_never_exceeded(count: int, span: int, steps: list[int]) -> None:
    rate, now = Rate(count, timedelta(days=span)), instant("2025-01-01")
    spent: list[datetime] = []
    for step in steps:
        now += timedelta(hours=step)
        free = rate.free_at(spent, now)
        if free is None:
            spent.append(now)
        else:
            assert free > now
            assert rate.free_at(spent, free) is None
            assert rate.free_at(spent, free - timedelta(seconds=1)) is not None
    for at in spent:
        assert sum(at - rate.per < other <= at for other in spent) <= count


class Flow:
    """Stands for a flow; nothing here runs it."""

    name = "delays"
    entry = "flights.py:delays"

    def run(self, **params: Any) -> Any:
        raise AssertionError


def loop(**given: Any) -> Loop:
    return Loop(Endpoint("delays"), train=Flow(), when=stale("30d"), **given)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (quiet, "names no time"),
        (lambda: quiet("22-06"), "no span of hours"),
        (lambda: quiet("25:00-06:00"), "'25:00-06:00' is no span"),
        (lambda: quiet("06:00-06:00"), "has no length"),
        (lambda: quiet(days="sun,funday"), "'fun' is no day"),
        (lambda: quiet("22:00-06:00", tz="Europe/Berlim"), "no time zone 'Europe/Berlim'"),
        (lambda: quiet("22:00-06:00", tz="../etc/passwd"), "no time zone"),
        (lambda: quiet(days="mon,tue,wed,thu,fri,sat,sun"), "leaves no time"),
        (lambda: budget(retrains="two a week"), "is no rate"),
        (lambda: budget(retrains="0/week"), "allows nothing"),
        (lambda: budget(exposed="100/fortnight"), "not a duration"),
        (lambda: loop(quiet="22:00-06:00"), 'Write up.quiet("22:00-06:00")'),
        (lambda: loop(budget="2/week"), 'Write up.budget(retrains="2/week")'),
        (lambda: loop(gate="auc"), "not a gate"),
        (lambda: loop(gate=beats("auc") & no_worse("latency_p99", 0.1)), "It is for a guard"),
        (lambda: loop(guard=[beats("auc")]), "not a guard"),
        (lambda: loop(guard=[no_worse("auc", 0.1, slices="a")]), "slices are of a gate"),
        (lambda: loop(guard=[no_worse("auc", 0.1), no_worse("auc", 0.2)]), "the same metric"),
        (lambda: beats("auc", slices="a", no_worse_by=-1), "is not negative"),
        (lambda: no_worse("auc", float("nan")), "a margin is not negative"),
        (lambda: canary(0.1, "3d", longest="1d"), "can't end after '1d'"),
        (lambda: approval(lasts="0d"), "no length"),
    ],
)
def test_what_cannot_be_said_so_says_so(make: Any, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        make()
    assert says in str(caught.value)


def test_a_stage_lacking_rows_goes_on_for_as_long_as_it_may() -> None:
    assert shadow("2d").limit == timedelta(days=8)
    assert shadow("2d", longest="3d").limit == timedelta(days=3)


def test_gates_combine() -> None:
    several = beats("auc") & no_worse("log_loss", 0.01) & beats("brier")
    assert [gate.metric for gate in several.gates] == ["auc", "log_loss", "brier"]
    assert loop(gate=several).gate == several
