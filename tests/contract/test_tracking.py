"""The contract of TrackingStore, run by every backend."""

import math
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.remote import remote_stores
from upturn.core.catalog import CatalogSearch, Compare, Key
from upturn.core.errors import Conflict, Invalid, Unavailable
from upturn.core.metastore import MetaStore
from upturn.core.naming import Description, Model, Removal, Stage
from upturn.core.records import Edge, Environment, Run, RunState, Version
from upturn.core.schema import Profile, Signature
from upturn.core.time import micros
from upturn.core.tracking import (
    Both,
    Either,
    Not,
    Order,
    Point,
    StoredFile,
    Term,
    TrackingStore,
    Where,
)
from upturn.stores.groups import default_group, find_group, make_group, rename_group
from upturn.stores.projection import number_of
from upturn.stores.sqlite import SqliteMetaStore
from upturn.stores.sqlite_tracking import SqliteTrackingStore

NOW = datetime(2013, 4, 1, tzinfo=UTC)
Stores = tuple[MetaStore, TrackingStore]
Opener = Callable[[], Stores]
SLOW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FRESH = count()  # runs of the examples of a property, in one store


def open_sqlite(path: Path) -> Stores:
    return SqliteMetaStore(path / "upturn.db"), SqliteTrackingStore(path / "upturn.db")


@pytest.fixture(params=["sqlite", "remote"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Return a function that opens the same stores again, as another process would."""
    opened: list[Stores] = []
    server = None
    if request.param == "remote":
        server = request.getfixturevalue("store_server")
        server.empty()

    def open_stores() -> Stores:
        opened.append(open_sqlite(tmp_path) if server is None else remote_stores(server))
        return opened[-1]

    yield open_stores
    for meta, tracking in opened:
        tracking.close()
        meta.close()


@pytest.fixture
def stores(opener: Opener) -> Stores:
    """Return the empty stores of a workspace."""
    return opener()


@pytest.fixture
def store(stores: Stores) -> TrackingStore:
    """Return an empty store."""
    return stores[1]


def run(name: str, **fields: Any) -> Run:
    given = {"flow": "delays", "entry": "flights.py:delays", "params": {}, "project": "p"}
    return Run(**{"id": name, "started_at": NOW, **given, **fields})


def same(left: float, right: float) -> bool:
    return left == right or (math.isnan(left) and math.isnan(right))


def plain(points: list[Point]) -> list[tuple[Any, ...]]:
    """Return points so that they can be compared: NaN as text."""
    return [(p.step, p.at, "nan" if math.isnan(p.value) else p.value) for p in points]


# Points


def rank(point: Point) -> tuple[Any, ...]:
    """Return by what points are ordered: NaN is the greatest value."""
    nan = math.isnan(point.value)
    return point.step, point.at, nan, 0.0 if nan else point.value


small = st.integers(-3, 3)
values = st.one_of(small.map(float), st.floats(width=32))
points_of = st.lists(
    st.builds(Point, st.sampled_from(["auc", "é/loss x"]), values, small, small), max_size=40
)


Logged = list[tuple[str, list[Point]]]
calls_of = st.lists(st.tuples(st.sampled_from(["", "train/0"]), points_of), max_size=5)


@SLOW
@given(calls=calls_of)
def test_a_history_is_what_was_logged_in_order_and_a_series_is_what_it_comes_to(
    store: TrackingStore, calls: Logged
) -> None:
    check_history(store, calls)


def check_history(store: TrackingStore, calls: Logged) -> None:
    """Log, and compare what is read, whole and in pages, with what was logged."""
    name = f"r{next(FRESH)}"
    model: dict[tuple[str, str], list[Point]] = {}
    for scope, points in calls:
        store.log(name, points=points, scope=scope)
        for point in points:
            model.setdefault((point.name, scope), []).append(point)
    series = {(one.name, one.scope): one for one in store.series([name])[name]}
    assert set(series) == set(model)
    for (metric, scope), logged in model.items():
        distinct = {rank(point): point for point in logged}
        expected = [distinct[key] for key in sorted(distinct)]
        assert plain(store.history(name, metric, scope=scope)) == plain(expected)
        for after, limit in ((len(expected) // 2, 2), (0, 3), (len(expected) // 3, 7)):
            paged = store.history(name, metric, scope=scope, after=after, limit=limit)
            assert plain(paged) == plain(expected[after : after + limit])
        found, last = series[metric, scope], expected[-1]
        assert (found.step, found.at) == (last.step, last.at)
        assert same(found.last, last.value)
        numbers = [point.value for point in expected if not math.isnan(point.value)]
        assert same(found.low, min(numbers, default=math.nan))
        assert same(found.high, max(numbers, default=math.nan))
        assert found.count == len(expected)
    for metric in {metric for metric, _ in model}:
        together = [
            point
            for (name_, _), logged in model.items()
            if name_ == metric
            for point in {rank(point): point for point in logged}.values()
        ]
        assert plain(store.history(name, metric)) == plain(sorted(together, key=rank))


def test_what_is_packed_reads_as_what_is_not(store: TrackingStore) -> None:
    steps = [7 * i % 30_000 for i in range(30_000)]  # in an order of their own
    logged = [Point("loss", math.sin(i), i, i // 3) for i in steps]
    logged[5] = Point("loss", math.nan, 5, 1)
    logged[77] = Point("loss", math.inf, 77, 1)
    for begin in range(0, len(logged), 1_000):
        store.log("r", points=[*logged[begin : begin + 1_000], Point("other", 1.0, begin)])
    store.log("r", points=logged[:9_000])  # again: nothing new
    store.log("r", points=[Point("loss", 0.5, 3, 9)])
    expected = sorted({*logged[:5], *logged[6:], Point("loss", 0.5, 3, 9)}, key=rank)
    found = [point for point in store.history("r", "loss") if not math.isnan(point.value)]
    assert found == expected
    assert len(store.history("r", "loss")) == len(expected) + 1
    for after in (0, 1, 9_999, 20_000, 29_999, 30_002, 40_000):
        page = store.history("r", "loss", after=after, limit=100)
        assert plain(page) == plain(store.history("r", "loss")[after : after + 100])
    assert len(store.history("r", "other")) == 30


def test_a_point_that_is_there_twice_counts_once_packed_or_not(store: TrackingStore) -> None:
    logged = [Point("k", float(i), i, i) for i in range(20_000)]
    store.log("r", points=logged[:9_000])  # packed
    store.log("r", points=logged[8_000:9_500])
    store.log("r", points=logged[9_400:9_600])
    assert [one.count for one in store.series(["r"])["r"]] == [9_600]
    store.log("r", points=[*logged[9_600:], *logged[:100]])  # packed again
    assert [one.count for one in store.series(["r"])["r"]] == [20_000]
    store.log("r", points=[Point("k", 0.0, 30_000), Point("k", 0.0, 30_000), Point("k", 0.0, 1)])
    assert [one.count for one in store.series(["r"])["r"]] == [20_002]
    assert len(store.history("r", "k")) == 20_002


def test_pages_of_a_long_history_are_its_parts(store: TrackingStore) -> None:
    logged = [Point("k", float(i % 17), i, i) for i in range(200_000)]
    for begin in range(0, len(logged), 10_000):
        store.log("r", points=logged[begin : begin + 10_000])
    for after in (0, 65_535, 65_536, 131_072, 199_990):
        assert store.history("r", "k", after=after, limit=50) == logged[after : after + 50]
    assert store.series(["r"])["r"][0].count == 200_000


def test_very_many_metrics_are_kept_apart(store: TrackingStore) -> None:
    for step in range(30):
        store.log("r", points=[Point(f"m{i}", float(i * step), step, step) for i in range(400)])
    assert [point.value for point in store.history("r", "m7")] == [7.0 * step for step in range(30)]
    assert len(store.series(["r"])["r"]) == 400


def test_single_points_come_together(store: TrackingStore) -> None:
    for step in range(2_100):
        store.log("r", points=[Point("k", 1.0 * step, step, step)])
    assert [point.step for point in store.history("r", "k")] == list(range(2_100))


@SLOW
@given(numbers=st.lists(st.floats(width=32), min_size=1, max_size=400), wanted=st.integers(1, 60))
def test_a_curve_has_both_ends_and_every_extreme(
    store: TrackingStore, numbers: list[float], wanted: int
) -> None:
    name = f"c{next(FRESH)}"
    store.log(name, points=[Point("k", value, step) for step, value in enumerate(numbers)])
    curve = store.curve(name, "k", points=wanted)
    assert curve.points == len(numbers)
    assert len(curve.steps) <= max(wanted, 4)
    assert list(curve.steps) == sorted(set(curve.steps))
    assert curve.steps[0] == 0
    assert curve.steps[-1] == len(numbers) - 1
    for step, value in zip(curve.steps, curve.values, strict=True):
        assert same(value, numbers[step])
    kept = [value for value in numbers if not math.isnan(value)]
    shown = [value for value in curve.values if not math.isnan(value)]
    assert min(shown, default=None) == min(kept, default=None)
    assert max(shown, default=None) == max(kept, default=None)


def test_what_was_never_logged_is_empty(store: TrackingStore) -> None:
    assert store.history("r", "k") == []
    assert store.curve("r", "k").points == 0
    assert store.series(["r"]) == {"r": []}
    assert store.params(["r"]) == {"r": {}}
    assert store.tags(["run/r", "group/1"]) == {"run/r": {}, "group/1": {}}
    assert store.rows(["r"]) == {}
    assert store.files("r") == []


@pytest.mark.parametrize(
    "point", [Point("k", 1.0, 2**63), Point("k", 1.0, 0, -(2**63) - 1), Point("\ud800", 1.0)]
)
def test_what_no_store_can_hold_is_invalid_and_nothing_is_written(
    store: TrackingStore, point: Point
) -> None:
    with pytest.raises(Invalid):
        store.log("r", points=[Point("k", 0.0), point], tags={"a": "b"})
    assert store.series(["r"]) == {"r": []}
    assert store.tags(["run/r"]) == {"run/r": {}}


# Parameters, tags and files


def test_a_parameter_does_not_change_and_nothing_of_that_call_is_written(
    store: TrackingStore,
) -> None:
    store.log("r", params={"depth": "3", "é": ""})
    store.log("r", params={"depth": "3", "lr": "0.1"})
    with pytest.raises(Conflict, match="'depth' of run r is '3'"):
        store.log("r", params={"new": "1", "depth": "4"}, tags={"t": "x"}, points=[Point("k", 1.0)])
    assert store.params(["r"]) == {"r": {"depth": "3", "lr": "0.1", "é": ""}}
    assert store.tags(["run/r"]) == {"run/r": {}}
    assert store.series(["r"]) == {"r": []}


def test_tags_change_and_go(store: TrackingStore) -> None:
    store.log("r", tags={"a": "1", "b": "2"})
    store.log("r", tags={"a": "3", "b": None, "never": None})
    store.tag("group/1", {"a": "x"})
    assert store.tags(["run/r", "group/1"]) == {"run/r": {"a": "3"}, "group/1": {"a": "x"}}


def file(path: str, digest: str = "d", name: str = "r") -> StoredFile:
    return StoredFile(run=name, path=path, digest=digest, size_bytes=3, media="text/plain", at=1)


def test_files_are_found_below_a_path_and_nowhere_else(store: TrackingStore) -> None:
    for path in ("a.txt", "model/MLmodel", "model/data/w", "model-2/x", "modelé"):
        store.put_file(file(path))
    store.put_file(file("model/x", name="other"))
    store.put_file(file("a.txt", "new"))
    paths = [one.path for one in store.files("r", under="model")]
    assert paths == ["model/MLmodel", "model/data/w"]
    assert [one.digest for one in store.files("r", under="a.txt")] == ["new"]
    assert len(store.files("r")) == 5
    assert store.runs_with("new") == ["r"]
    assert store.runs_with("none") == []
    assert store.remove_files("r", under="model") == 2
    assert store.remove_files("r", under="model") == 0
    assert [one.path for one in store.files("other")] == ["model/x"]


def test_runs_that_were_removed_before_are_forgotten_and_no_others(stores: Stores) -> None:
    meta, store = stores
    for name in ("old", "new", "back", "here"):
        meta.put(run(name, params={"depth": 3}))
        store.log(name, points=[Point("k", 1.0, i) for i in range(9_000)], tags={"a": "b"})
        store.log(name, points=[Point("k", 2.0)], params={"lr": "0.1"}, scope="train/0")
        store.put_file(file("a.txt", f"of {name}", name=name))
        meta.put(Description(path=f"run/{name}", text="A note.", who="ada", at=NOW))
    for name, days, removed in (("old", 0, 1), ("new", 2, 1), ("back", 0, 1), ("back", 0, 0)):
        at = NOW + timedelta(days=days)
        meta.put(Removal(path=f"run/{name}", removed=bool(removed), who="ada", at=at))
    before = {name: everything(stores, name) for name in ("new", "back", "here")}
    assert store.kept_files(but=["old"]) == {"of new", "of back", "of here"}
    runs = ["old", "new", "back", "here", "never"]
    store.forget(runs, removed_before=micros(NOW + timedelta(days=1)))
    assert everything(stores, "old") == ([], {}, {}, [], {}, None)
    assert {name: everything(stores, name) for name in before} == before
    assert store.kept_files() == {"of new", "of back", "of here"}
    assert store.forgetting() == []
    meta.put(Removal(path="run/old", removed=False, who="ada", at=NOW))
    assert names(store, removed=None) == ["back", "here", "new"]
    assert meta.get(Run, "old").params == {"depth": 3}


def everything(stores: Stores, name: str) -> tuple[Any, ...]:
    """Return what is found of a run."""
    meta, store = stores
    return (
        store.history(name, "k"),
        store.params([name])[name],
        store.tags([f"run/{name}"])[f"run/{name}"],
        store.files(name),
        store.rows([name]),
        meta.find(Description, f"run/{name}"),
    )


# Search


def names(store: TrackingStore, where: Where | None = None, **more: Any) -> list[str]:
    return [row.id for row in store.search(where, **more).rows]


def test_runs_are_found_newest_first_with_how_they_stand_now(stores: Stores) -> None:
    meta, store = stores
    for number in range(3):
        meta.put(run(f"r{number}", started_at=NOW + timedelta(hours=number), who="ada"))
    meta.put(RunState(run="r1", status="failed", at=NOW, name="night"))
    assert names(store) == ["r2", "r1", "r0"]
    row = store.rows(["r1", "nobody"])["r1"]
    assert (row.status, row.name, row.who, row.ended_at) == ("failed", "night", "ada", micros(NOW))
    assert store.search(Term(of="run", name="status", op="=", value="failed")).rows == (row,)


def test_what_is_removed_is_found_when_asked_for(stores: Stores) -> None:
    meta, store = stores
    meta.put(run("a"), run("b"))
    meta.put(Removal(path="run/a", removed=True, who="ada", at=NOW))
    assert names(store) == ["b"]
    assert names(store, removed=True) == ["a"]
    assert names(store, removed=None) == ["a", "b"]
    meta.put(Removal(path="run/a", removed=False, who="ada", at=NOW))
    assert names(store) == ["a", "b"]


def test_projects_and_groups_bound_a_search(stores: Stores) -> None:
    meta, store = stores
    meta.put(run("a", group="1"), run("b", group="2"), run("c", group="1", project="q"))
    assert names(store, groups=["1"]) == ["a", "c"]
    assert names(store, groups=["1"], projects=["p"]) == ["a"]
    assert names(store, groups=["1", "2"]) == ["a", "b", "c"]
    assert names(store, groups=[]) == []


def test_runs_are_found_by_what_they_rest_on(stores: Stores) -> None:
    meta, store = stores
    meta.put(run("a"), run("b"), run("c"))
    for source, target, role in (
        ("file/rows", "run/a/load/0", "read flights.csv"),
        ("run/a/load/0", "artifact/table", "output"),
        ("artifact/table", "run/b/train/0", "input data"),
        ("artifact/else", "run/c/train/0", "input data"),
    ):
        meta.put(Edge(source=source, target=target, role=role))
    assert names(store, Term(of="input", name="", op="=", value="rows")) == ["a", "b"]
    assert names(store, Term(of="input", name="", op="=", value="table")) == ["b"]
    assert names(store, Term(of="input", name="", op="!=", value="table")) == ["a", "c"]


LIKE = ["a%", "_B", "%[%", "%"]
OPERATORS = ["=", "!=", "<", "<=", ">", ">="]
terms = st.one_of(
    st.builds(
        Term,
        of=st.sampled_from(["param", "tag"]),
        name=st.sampled_from(["x", "y"]),
        op=st.sampled_from(OPERATORS),
        value=st.sampled_from(["a", "ab", "1", "10", 1, 2.5]),
    ),
    st.builds(
        Term,
        of=st.sampled_from(["param", "tag"]),
        name=st.sampled_from(["x", "y"]),
        op=st.sampled_from(["LIKE", "ILIKE", "NOT LIKE", "NOT ILIKE"]),
        value=st.sampled_from(LIKE),
    ),
    st.builds(
        Term,
        of=st.sampled_from(["param", "tag", "metric"]),
        name=st.sampled_from(["x", "y"]),
        op=st.sampled_from(["IS NULL", "IS NOT NULL"]),
    ),
    st.builds(
        Term,
        of=st.sampled_from(["param", "tag", "metric"]),
        name=st.sampled_from(["x", "y"]),
        op=st.sampled_from(["IN", "NOT IN"]),
        value=st.sampled_from([[1, 2.5], [10]]),
    ),
    st.builds(
        Term,
        of=st.just("metric"),
        name=st.sampled_from(["x", "y"]),
        part=st.sampled_from(["last", "min", "max"]),
        op=st.sampled_from(OPERATORS),
        value=st.sampled_from([0, 1, 2.5, math.inf]),
    ),
    st.builds(
        Term,
        of=st.just("run"),
        name=st.sampled_from(["status", "name", "parent"]),
        op=st.sampled_from(["=", "!=", "LIKE"]),
        value=st.sampled_from(["done", "running", "a", "r%"]),
    ),
    st.builds(
        Term,
        of=st.just("run"),
        name=st.sampled_from(["started_at", "ended_at"]),
        op=st.sampled_from(OPERATORS),
        value=st.sampled_from([micros(NOW), micros(NOW) + 1]),
    ),
)
wheres = st.recursive(
    terms,
    lambda inner: st.one_of(
        st.builds(Both, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Either, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=6,
)
orders = st.lists(
    st.one_of(
        st.builds(
            Order,
            of=st.sampled_from(["param", "tag", "metric"]),
            name=st.sampled_from(["x", "y"]),
            descending=st.booleans(),
        ),
        st.builds(
            Order,
            of=st.just("run"),
            name=st.sampled_from(["started_at", "status", "ended_at"]),
            descending=st.booleans(),
        ),
    ),
    max_size=2,
)
texts = st.sampled_from(["a", "ab", "AB", "1", "10", "2.5", "[", ""])
pairs = st.dictionaries(st.sampled_from(["x", "y"]), texts)
numbers = st.sampled_from([0.0, 1.0, 2.5, math.inf, math.nan])


class Told:
    """A run of the model: what it is and what it said."""

    def __init__(self, given: tuple[Any, ...]) -> None:
        self.params, self.tags, metrics, self.later, self.status, self.parent = given
        self.metrics: dict[str, list[float]] = metrics

    def fits(self, where: Where) -> bool:
        if isinstance(where, Both):
            return all(self.fits(term) for term in where.terms)
        if isinstance(where, Either):
            return any(self.fits(term) for term in where.terms)
        if isinstance(where, Not):
            return not self.fits(where.term)
        value = self.value(where.of, where.name, where.part)
        if where.op in ("IS NULL", "IS NOT NULL"):
            return (value is None) == (where.op == "IS NULL")
        return value is not None and compared(value, where.op, where.value)

    def value(self, of: str, name: str, part: str = "last") -> Any:
        if of == "param":
            return self.params.get(name)
        if of == "tag":
            return self.tags.get(name)
        if of == "metric":
            logged = self.metrics.get(name)
            if not logged or part == "last":
                return logged[-1] if logged else None
            known = [value for value in logged if not math.isnan(value)]
            return (min if part == "min" else max)(known, default=math.nan)
        started = micros(NOW) + self.later
        ended = None if self.status == "running" else started + 1
        return {
            "status": self.status,
            "name": "",
            "parent": self.parent,
            "started_at": started,
            "ended_at": ended,
        }[name]


def compared(value: Any, op: str, wanted: Any) -> bool:
    if op in ("IN", "NOT IN"):
        found = [compared(value, "=", one) for one in wanted]
        return any(found) if op == "IN" else compared(value, "!=", wanted[0]) and not any(found)
    if "LIKE" in op:
        return like(value, wanted, ignore_case="ILIKE" in op) is not op.startswith("NOT")
    if isinstance(value, str) and not isinstance(wanted, str):
        value = number_of(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    return {
        "=": value == wanted,
        "!=": value != wanted,
        "<": value < wanted,
        "<=": value <= wanted,
        ">": value > wanted,
        ">=": value >= wanted,
    }[op]


def like(value: str, pattern: str, *, ignore_case: bool) -> bool:
    if ignore_case:
        value, pattern = value.lower(), pattern.lower()
    if not pattern:
        return not value
    if pattern[0] == "%":
        return any(like(value[at:], pattern[1:], ignore_case=False) for at in range(len(value) + 1))
    return (
        bool(value)
        and pattern[0] in ("_", value[0])
        and like(value[1:], pattern[1:], ignore_case=False)
    )


told = st.tuples(
    pairs,
    pairs,
    st.dictionaries(st.sampled_from(["x", "y"]), st.lists(numbers, min_size=1, max_size=3)),
    st.integers(0, 2),
    st.sampled_from(["running", "done"]),
    st.sampled_from([None, "r1"]),
)


def tell(stores: Stores, project: str, name: str, it: Told) -> None:
    meta, store = stores
    at = NOW + timedelta(microseconds=it.later)
    meta.put(run(name, project=project, started_at=at, parent=it.parent))
    if it.status == "done":
        meta.put(RunState(run=name, status="done", at=at + timedelta(microseconds=1)))
    points = [
        Point(metric, value, step)
        for metric, logged in it.metrics.items()
        for step, value in enumerate(logged)
    ]
    store.log(name, params=it.params, tags=it.tags, points=points)


Sought = tuple[list[tuple[Any, ...]], Where, list[Order], int]
searches = st.tuples(st.lists(told, max_size=6), wheres, orders, st.integers(1, 3))


@SLOW
@given(sought=searches)
def test_a_search_finds_what_looking_at_every_run_finds(stores: Stores, sought: Sought) -> None:
    check_search(stores, sought)


def check_search(stores: Stores, sought: Sought) -> None:
    """Search page by page, and compare with what the model of the runs says."""
    runs, where, order, limit = sought
    project = f"p{next(FRESH)}"
    model = {f"{project}-{number}": Told(given) for number, given in enumerate(runs)}
    for name, it in model.items():
        tell(stores, project, name, it)
    expected = sorted(name for name, it in model.items() if it.fits(where))
    newest = Order(of="run", name="started_at", descending=True)
    for by in reversed([*order, newest]):
        found = {name: model[name].value(by.of, by.name) for name in expected}
        found = {name: None if value != value else value for name, value in found.items()}
        there = [name for name in expected if found[name] is not None]
        there = sorted(there, key=lambda name: found[name], reverse=by.descending)
        if by.descending:  # a stable sort that is reversed keeps the order of ties
            there = sorted(
                [name for name in expected if found[name] is not None],
                key=lambda name: found[name],
                reverse=True,
            )
        expected = [*there, *[name for name in expected if found[name] is None]]
    got: list[str] = []
    cursor = ""
    while True:
        page = stores[1].search(where, projects=[project], order=order, limit=limit, cursor=cursor)
        got += [row.id for row in page.rows]
        cursor = page.cursor
        if not cursor:
            break
        assert len(page.rows) == limit
    assert got == expected


def test_a_cursor_goes_on_where_the_page_ended_whatever_comes_meanwhile(stores: Stores) -> None:
    meta, store = stores
    meta.put(*[run(f"r{i}", started_at=NOW + timedelta(hours=i)) for i in range(6)])
    first = store.search(limit=2)
    meta.put(run("new", started_at=NOW + timedelta(days=9)))
    second = store.search(limit=2, cursor=first.cursor)
    assert [row.id for row in second.rows] == ["r3", "r2"]
    with pytest.raises(Invalid, match="cursor"):
        store.search(limit=2, cursor=first.cursor, groups=["1"])


@pytest.mark.parametrize("cursor", ["x", "é", "gaAx", "AAAA", "kA", "=" * 9, "\0"])
def test_no_text_is_a_cursor_that_was_not_given(store: TrackingStore, cursor: str) -> None:
    with pytest.raises(Invalid, match="cursor"):
        store.search(cursor=cursor)


@pytest.mark.parametrize(
    "where",
    [
        Term(of="run", name="nme", op="=", value="x"),
        Term(of="runs", name="name", op="=", value="x"),
        Term(of="param", name="x", op="~", value="x"),
        Term(of="param", name="x", op="=", value=None),
        Term(of="param", name="x", op="IN", value=[]),
        Term(of="param", name="x", op="=", value=math.nan),
        Term(of="param", name="x", op="LIKE", value="%" * 60_000),
        Term(of="param", name="\ud800", op="=", value="x"),
        Term(of="metric", name="x", op=">", value="much"),
        Term(of="metric", name="x", op=">", value=1, part="mean"),
        Term(of="model", name="", op=">", value="delays"),
        Both(tuple(Term(of="param", name="x", op="=", value=i) for i in range(5_000))),
    ],
)
def test_what_no_run_can_be_searched_by_is_invalid(store: TrackingStore, where: Where) -> None:
    with pytest.raises(Invalid):
        store.search(where)


# Groups


def test_of_several_makers_of_a_group_one_makes_it(opener: Opener) -> None:
    made: list[str] = []
    metas = [opener()[0] for _ in range(4)]

    def make(meta: MetaStore) -> None:
        made.extend(make_group(meta, "p", f"g{number}").id for number in range(6))

    threads = [threading.Thread(target=make, args=(meta,)) for meta in metas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 24
    assert len(set(made)) == 6


def test_a_group_keeps_its_id_under_another_name(stores: Stores) -> None:
    meta, _ = stores
    assert default_group(meta, "p").id == "0"
    assert default_group(meta, "p").name == "Default"
    group = make_group(meta, "p", "delays", who="ada")
    assert make_group(meta, "q", "delays").id != group.id
    with pytest.raises(Conflict, match="group 'Default'"):
        rename_group(meta, group, "Default")
    rename_group(meta, group, "late")
    assert find_group(meta, "p", "delays") is None
    found = find_group(meta, "p", "late")
    assert found is not None
    assert found.id == group.id


# Threads, processes, and their death


def test_threads_log_to_one_run_and_nothing_is_lost(opener: Opener) -> None:
    store = opener()[1]

    def log(part: int) -> None:
        for step in range(50):
            store.log("r", points=[Point("k", 1.0, part * 50 + step, step)])
            store.history("r", "k")

    threads = [threading.Thread(target=log, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [point.step for point in store.history("r", "k")] == list(range(200))
    assert store.series(["r"])["r"][0].count == 200


def test_a_closed_store_is_unavailable(opener: Opener) -> None:
    store = opener()[1]
    store.close()
    with pytest.raises(Unavailable):
        store.log("r", tags={"a": "b"})


# Models and versions


def test_pages_of_models_and_versions(stores: Stores) -> None:
    meta, store = stores
    for index, name in enumerate(("alpha", "beta", "gamma")):
        at = NOW + timedelta(seconds=index)
        meta.put(Model(name=name, project=f"p{index % 2}", who="t", created_at=at, at=at))
        for number in (1, 2):
            meta.put(a_version(name, number, at))
    meta.put(Stage(model="beta", number=1, stage="Production", who="t", at=NOW))
    meta.put(Removal(path="version/gamma:2", removed=True, who="t", at=NOW + timedelta(hours=1)))
    store.tag("model/alpha", {"team": "blue"})

    def models(**said: Any) -> list[str]:
        return [row.name for row in store.find_models(CatalogSearch(**said)).rows]

    assert models() == ["alpha", "beta", "gamma"]
    assert models(projects=("p0",)) == ["alpha", "gamma"]
    assert models(order=(Key("updated", descending=True),)) == ["gamma", "beta", "alpha"]
    assert models(where=(Compare("attribute", "name", "ILIKE", "%A_A"),)) == []
    assert models(where=(Compare("attribute", "name", "IN", ("beta", "x")),)) == ["beta"]
    assert models(where=(Compare("tag", "team", "LIKE", "b%"),)) == ["alpha"]
    assert models(with_tag=("team", "BLUE")) == ["alpha"]
    assert models(without_tag=("team", "blue")) == ["beta", "gamma"]

    search, found = CatalogSearch(limit=2, order=(Key("created"),)), list[tuple[str, int]]()
    while True:
        page = store.find_versions(search)
        found += [(row.model, row.number) for row in page.rows]
        if not page.after:
            break
        search = msgspec.structs.replace(search, after=page.after)
    every = [(name, number) for name in ("alpha", "beta", "gamma") for number in (2, 1)]
    assert found == [one for one in every if one != ("gamma", 2)]
    latest = store.find_latest(["beta", "gamma"])
    assert [(row.model, row.number, row.stage) for row in latest] == [
        ("beta", 1, "Production"),
        ("beta", 2, "None"),
        ("gamma", 1, "None"),
    ]
    for wrong in ({"after": ("x", "y", "z")}, {"where": (Compare("attribute", "x", "=", 1),)}):
        with pytest.raises(Invalid):
            store.find_models(CatalogSearch(**wrong))


def a_version(model: str, number: int, at: datetime) -> Version:
    return Version(
        model=model,
        number=number,
        artifact="",
        data=None,
        signature=Signature(inputs=(), target=None, output="json"),
        profile=Profile(rows=0, columns=()),
        environment=Environment(python="", distributions={}),
        run=None,
        task=None,
        at=at,
    )
