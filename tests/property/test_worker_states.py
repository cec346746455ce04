"""What workers count adds up, in whatever order it is added, and outlives the workers."""

import time
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from upturn.deploy.serve.counts import Counts, counts_of, quantile_s
from upturn.deploy.serve.metrics import BATCH_ROWS, SECONDS, EndpointMetrics, Metrics
from upturn.deploy.serve.state import (
    EndpointNow,
    Now,
    ServerState,
    WorkerState,
    decode,
    encode,
    merge_gone,
    states_of,
    together,
)

names = st.sampled_from(["churn", "delays", ""])
event = st.one_of(
    st.tuples(
        st.just("answered"),
        names,
        st.sampled_from(["champion", "candidate"]),
        st.integers(1, 3),
        st.integers(1, 2000),
        st.floats(0, 60),
        st.booleans(),
    ),
    st.tuples(st.just("rejected"), names, st.sampled_from([400, 422, 500, 503])),
    st.tuples(st.just("shed"), names, st.sampled_from(["queue", "deadline"]), st.integers(1, 9)),
    st.tuples(st.just("batch"), names, st.integers(1, 3), st.integers(1, 3000)),
)
events = st.lists(event, max_size=30)


def count(metrics: Metrics, what: tuple) -> None:
    kind, name, *rest = what
    endpoint = metrics.endpoint(name)
    if kind == "answered":
        endpoint.begun()
        endpoint.answered(*rest[:4], shadow=rest[4])
        endpoint.finished()
    elif kind == "rejected":
        endpoint.begun()
        endpoint.rejected(*rest)
    elif kind == "shed":
        endpoint.shed(*rest)
    else:
        metrics.model(name, rest[0]).add(rest[1], 0.001)


def counted(happened: list[tuple]) -> Counts:
    metrics = Metrics()
    for what in happened:
        count(metrics, what)
    return counts_of(metrics, {})


@given(events, events, events)
def test_counts_add_up_in_any_order(a: list, b: list, c: list) -> None:
    one, two, three = counted(a), counted(b), counted(c)
    assert (one + two) + three == one + (two + three)
    assert one + two == two + one
    assert one + Counts() == one


@given(events, events)
def test_what_came_since_is_what_was_added(before: list, after: list) -> None:
    metrics = Metrics()
    for what in before:
        count(metrics, what)
    then = counts_of(metrics, {})
    for what in after:
        count(metrics, what)
    now = counts_of(metrics, {})
    for name, endpoint in now.endpoints.items():
        assert then.endpoint(name) + (endpoint - then.endpoint(name)) == endpoint


def state(number: int, seq: int, counts: Counts, *, route: int | None = 1) -> WorkerState:
    now = Now(
        ready=True,
        endpoints={"churn": EndpointNow(route=route, log_waiting=number)},
        queues={("churn", 1): number},
        rss_bytes=0,
        cpu_s=0.0,
    )
    return WorkerState(f"w{number}", number, "", seq, time.monotonic(), counts, now)


def server(states: list[bytes], *, alive: set[int]) -> ServerState:
    return together(states_of(states), now_s=time.monotonic(), alive=lambda pid, _: pid in alive)


@given(
    st.lists(st.tuples(st.integers(0, 3), event), max_size=60),
    st.sets(st.integers(0, 59)),
    st.randoms(use_true_random=False),
)
def test_nothing_is_lost_when_workers_are_replaced(happened: list, deaths: set, random) -> None:
    """Four places for workers; at some moments one dies and another takes its place."""
    living = {place: (place + 1, Metrics()) for place in range(4)}
    number, gone = 4, merge_gone()
    for moment, (place, what) in enumerate(happened):
        pid, metrics = living[place]
        count(metrics, what)
        if moment in deaths:
            gone = merge_gone(gone, encode(state(pid, moment, counts_of(metrics, {}))))
            number += 1
            living[place] = (number, Metrics())
    last = [encode(state(pid, 99, counts_of(each, {}))) for pid, each in living.values()]
    last.append(gone)
    random.shuffle(last)
    whole = server(last, alive={pid for pid, _ in living.values()})
    for name, endpoint in counted([what for _, what in happened]).endpoints.items():
        # Latencies are sums of floats within a worker, so they are compared by what was counted.
        found = whole.counts.endpoint(name)
        assert (found.requests, found.statuses, found.shed) == (
            endpoint.requests,
            endpoint.statuses,
            endpoint.shed,
        )
        assert {key: (each.counts, each.rows) for key, each in found.arms.items()} == {
            key: (each.counts, each.rows) for key, each in endpoint.arms.items()
        }
    assert [worker.pid for worker, _ in whole.workers] == sorted(pid for pid, _ in living.values())


@given(events, events)
def test_the_dead_count_and_are_asked_no_more(a: list, b: list) -> None:
    dead, living = state(1, 5, counted(a), route=7), state(2, 1, counted(b), route=9)
    both = server([encode(dead), encode(living)], alive={2})
    assert both.counts == counted(a) + counted(b)
    assert (both.route("churn"), both.log_waiting("churn"), both.queues) == (
        9,
        2,
        {("churn", 1): 2},
    )
    assert server([encode(dead), encode(living)], alive={1, 2}).route("churn") == 7


def test_a_route_is_served_when_every_worker_serves_it() -> None:
    ready, loading = state(1, 1, Counts(), route=3), state(2, 1, Counts(), route=None)
    assert server([encode(ready), encode(loading)], alive={1, 2}).route("churn") is None
    assert server([encode(ready)], alive={1}).route("churn") == 3


@given(events, st.permutations([1, 2, 3]))
def test_of_one_workers_states_the_last_one_holds(happened: list, order: list[int]) -> None:
    metrics = Metrics()
    for what in happened:
        count(metrics, what)
    counts = counts_of(metrics, {})
    said = [encode(state(1, seq, counts if seq == 3 else Counts(), route=seq)) for seq in order]
    assert server(said, alive={1}).counts == counts
    assert server(said, alive={1}).route("churn") == 3


@given(events)
def test_a_state_survives_the_way_between_workers(happened: list) -> None:
    sent = state(1, 1, counted(happened))
    assert decode(encode(sent)) == sent
    assert states_of([b"\xc1", encode(sent), b""]) == (sent,)


@given(st.lists(st.floats(1e-5, 10), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_quantile_is_at_most_one_bucket_off(seconds: list[float], q: float) -> None:
    metrics = Metrics().endpoint("churn")
    for each in seconds:
        metrics.answered("champion", 1, 1, each)
    histogram = counts_of_endpoint(metrics)
    exact = sorted(seconds)[min(len(seconds) - 1, max(0, int(-(-q * len(seconds) // 1)) - 1))]
    found = quantile_s(histogram, q)
    assert found is not None
    assert exact / 1.27 <= found <= exact * 1.27


def counts_of_endpoint(metrics: EndpointMetrics):
    from upturn.deploy.serve.counts import histogram_of

    return histogram_of(metrics.arms["champion", 1, False])


@given(st.lists(st.integers(1, 5000), min_size=1))
def test_a_batch_is_in_the_first_bucket_that_holds_it(sizes: list[int]) -> None:
    batches = Metrics().model("churn", 1)
    for size in sizes:
        batches.add(size, 0.0)
    ends = [*BATCH_ROWS, float("inf")]
    expected = Counter(next(end for end in ends if size <= end) for size in sizes)
    assert batches.counts == [expected[end] for end in ends]
    assert list(SECONDS) == sorted(set(SECONDS))
