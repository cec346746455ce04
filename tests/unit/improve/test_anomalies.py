"""Hours that are unlike their past are seen, and few others."""

import math
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from upturn.core.errors import Invalid
from upturn.core.time import from_micros, instant, micros
from upturn.improve.monitor.anomalies import (
    alarms,
    anomalies,
    watch_failures,
    watch_latency,
    watch_traffic,
)
from upturn.improve.monitor.traffic import Traffic, traffic

START = instant("2013-04-01")
HOUR = 3_600_000_000
STAMP = pa.timestamp("us", "UTC")


def world(
    random: np.random.Generator, weeks: int, scale: float, spread: float = 0.1, memory: float = 0.5
) -> Traffic:
    """Requests by the hour of the day and the week, with hours that go on as they are."""
    count = 168 * weeks
    hour = np.arange(count)
    season = 1 + 0.7 * np.sin(2 * np.pi * hour / 24) - 0.25 * (hour % 168 >= 120)
    steps = random.normal(0, spread * math.sqrt(1 - memory**2), count + 200)
    noise = lfilter([1.0], [1.0, -memory], steps)[200:]
    requests = random.poisson(scale * np.maximum(season, 0.05) * np.exp(noise)).astype(float)
    p99 = np.exp(random.normal(-3, 0.1, count) + noise / 2)
    share = np.minimum(0.002 * np.exp(random.normal(0, 0.5, count)), 1)
    return Traffic(
        starts=micros(START) + hour * HOUR,
        step=timedelta(hours=1),
        requests=requests,
        failed=random.binomial(requests.astype(int), share).astype(float),
        latency_s={"p50": p99 / 4, "p99": p99},
    )


def changed(found: Traffic, begin: int, end: int, **values: float) -> Traffic:
    """The traffic with some hours multiplied."""
    part = slice(begin, end)
    requests, failed, p99 = (
        found.requests.copy(),
        found.failed.copy(),
        found.latency_s["p99"].copy(),
    )
    requests[part] = np.round(requests[part] * values.get("requests", 1.0))
    failed[part] = (
        np.round(requests[part] * values["failed"]) if "failed" in values else failed[part]
    )
    p99[part] *= values.get("p99", 1.0)
    latency_s = {"p50": found.latency_s["p50"], "p99": p99}
    return Traffic(found.starts, found.step, requests, failed, latency_s)


@pytest.mark.parametrize("scale", [3.0, 3000.0])
def test_a_false_alarm_a_year_at_most(scale: float) -> None:
    random = np.random.default_rng(1)
    hours, found = 0, np.zeros(5, int)
    for spread, memory in [(0.0, 0.0), (0.1, 0.0), (0.1, 0.8), (0.3, 0.5)]:
        seen = world(random, 12, scale, spread, memory)
        watched = [
            *watch_traffic(seen),
            watch_latency(seen, "p50"),
            watch_latency(seen, "p99"),
            watch_failures(seen),
        ]
        found += [int((one.alarm[1:] & ~one.alarm[:-1]).sum()) for one in watched]
        hours += len(seen.starts)
    # 0.9 years of each of five series, so 4.6 if p-values were no better than they have to be
    assert hours * 5 / 8760 == pytest.approx(4.6, abs=0.1)
    assert found.sum() <= 6


def test_what_is_seen_and_how_soon() -> None:
    random = np.random.default_rng(2)
    begin = 168 * 6 + 30
    calm = world(random, 7, 1000)
    since = from_micros(int(calm.starts[begin - 24]))

    def of(hours: int, **values: float) -> dict:
        end = begin + hours
        seen = changed(calm, begin, end, **values)
        cut = Traffic(
            seen.starts[:end],
            seen.step,
            seen.requests[:end],
            seen.failed[:end],
            {name: values[:end] for name, values in seen.latency_s.items()},
        )
        return {one.name: one for one in anomalies(cut, since) if one.severity != "fine"}

    assert of(1) == {}
    stopped = of(1, requests=0)["traffic"]
    assert stopped.severity == "critical"
    assert stopped.says.startswith("No requests in the hour from 2013-05-14 06:00")
    assert stopped.began_at == from_micros(int(calm.starts[begin]))
    half = of(8, requests=0.5)["traffic"]
    assert half.severity == "warning"
    assert "too low" in half.says
    much = of(3, requests=8)["traffic"]
    assert (much.severity, much.facts["side"]) == ("warning", "high")
    assert of(8, p99=3)["latency/p99"].severity == "critical"
    assert of(3, failed=0.2)["failures"].severity == "critical"
    whole = changed(calm, begin, begin + 2, requests=0)
    (over,) = [one for one in anomalies(whole, since) if one.name == "traffic"]
    assert over.severity == "warning"
    assert over.says.endswith("it is over.")


def test_asking_more_often_finds_nothing_more() -> None:
    random = np.random.default_rng(3)
    whole = world(random, 6, 200)
    for end in (168 * 5, 168 * 5 + 7, 168 * 6):
        part = Traffic(
            whole.starts[:end],
            whole.step,
            whole.requests[:end],
            whole.failed[:end],
            {name: values[:end] for name, values in whole.latency_s.items()},
        )
        for one, other in zip(watch_traffic(part), watch_traffic(whole), strict=True):
            np.testing.assert_allclose(one.p_values, other.p_values[:end], rtol=1e-6)
        np.testing.assert_allclose(
            watch_failures(part).p_values, watch_failures(whole).p_values[:end], rtol=1e-6
        )


@given(st.lists(st.floats(1e-12, 1), max_size=50))
def test_alarms_are_few_where_p_values_are_right(p_values: list[float]) -> None:
    found = alarms(np.array(p_values), 1e-3)
    # One alarm needs evidence: an e-value is never more than κ · p^(κ - 1) of the least p-value.
    if found.any():
        assert np.prod([0.25 * p**-0.75 for p in p_values if 0.25 * p**-0.75 > 1]) >= 999


def test_alarms_by_chance() -> None:
    p_values = np.random.default_rng(4).random(400_000)
    on = alarms(p_values, 1e-3)
    assert (on[1:] & ~on[:-1]).sum() <= 400


def test_too_little_past_says_nothing() -> None:
    seen = world(np.random.default_rng(5), 1, 100)
    short = Traffic(
        seen.starts[:60],
        seen.step,
        seen.requests[:60],
        seen.failed[:60],
        {name: values[:60] for name, values in seen.latency_s.items()},
    )
    assert anomalies(short, START) == []
    none = Traffic(
        np.empty(0, np.int64),
        seen.step,
        np.empty(0),
        np.empty(0),
        {"p50": np.empty(0), "p99": np.empty(0)},
    )
    assert anomalies(none, START) == []
    nothing = Traffic(
        seen.starts,
        seen.step,
        np.zeros(168),
        np.zeros(168),
        {"p50": np.full(168, np.nan), "p99": np.full(168, np.nan)},
    )
    assert [one.severity for one in anomalies(nothing, START)] in ([], ["fine"])


def test_traffic_is_counted_by_whole_hours() -> None:
    random = np.random.default_rng(6)
    rows = 5000
    minute = np.sort(random.integers(0, 600, rows))
    at = [START + timedelta(minutes=int(one)) for one in minute]
    latency = random.random(rows)
    table = pa.table(
        {
            "at": pa.array(at, STAMP),
            "latency_s": latency,
            "rate": np.full(rows, 0.5),
            "error": pa.array(["boom" if one < 0.1 else None for one in latency], pa.string()),
            "shadow": random.random(rows) < 0.3,
        }
    )
    found = traffic(table, START + timedelta(minutes=30), START + timedelta(hours=9, minutes=59))
    assert len(found.starts) == 8
    shadow = np.asarray(table["shadow"])
    mine = (minute // 60 == 3) & ~shadow
    assert found.starts[2] == micros(START) + 3 * HOUR
    assert found.requests[2] == 2 * mine.sum()
    assert found.failed[2] == 2 * (mine & (latency < 0.1)).sum()
    wanted = np.quantile(latency[mine], 0.99, method="inverted_cdf")
    assert found.latency_s["p99"][2] == wanted
    quarter = traffic(table, START, START + timedelta(hours=1), step="15m")
    assert math.isnan(quarter.latency_s["p99"][0])
    assert (
        traffic(table.slice(0, 0), START, START + timedelta(hours=3)).requests.tolist() == [0] * 3
    )
    with pytest.raises(Invalid, match="no multiple"):
        traffic(table, START, START + timedelta(hours=1), step="7h")
