"""Ways of a search: whichever indexes it goes through, it finds the same runs in the same order."""

import math
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given

from contract.test_tracking import (
    NOW,
    SLOW,
    Sought,
    Stores,
    check_search,
    open_sqlite,
    run,
    searches,
)
from upturn.core.naming import Removal
from upturn.core.query import parse_order, parse_where
from upturn.core.tracking import Point
from upturn.stores.tracking import ranked, search


@pytest.fixture
def as_if_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a search go through its indexes as it does when there are very many runs."""
    monkeypatch.setattr(search, "_BALANCE", 0.0)
    monkeypatch.setattr(ranked, "_TIES", 1)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """Return stores with 200 runs, of which many said the same, and some nothing."""
    meta, tracking = open_sqlite(tmp_path_factory.mktemp("ways"))
    some = random.Random(1)
    for number in range(200):
        name = f"r{some.randrange(10**6)}-{number}"
        started = NOW + timedelta(hours=some.randrange(150))
        meta.put(run(name, started_at=started, group=str(number % 3), project=f"p{number % 2}"))
        tracking.log(name, tags={"team": some.choice("ab"), "n": str(some.randrange(9))})
        if number % 3:
            tracking.log(name, params={"kind": some.choice(["x", "y"]), "n": str(number)})
        for scope in range(some.randrange(3)):
            values = [some.choice([0.5, 1.0, math.nan, math.inf, some.random()]) for _ in "ab"]
            points = [Point("auc", value, step) for step, value in enumerate(values)]
            tracking.log(name, points=points, scope=f"train/{scope}")
        if number % 10 == 0:
            meta.put(Removal(path=f"run/{name}", removed=True, who="ada", at=NOW))
    yield meta, tracking
    tracking.close()
    meta.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Stores]:
    """Return empty stores."""
    meta, tracking = open_sqlite(tmp_path)
    yield meta, tracking
    tracking.close()
    meta.close()


@SLOW
@given(sought=searches)
@pytest.mark.usefixtures("as_if_many")
def test_what_is_read_off_indexes_is_what_looking_at_every_run_finds(
    fresh: Stores, sought: Sought
) -> None:
    check_search(fresh, sought)


ORDERS = [
    "metric.auc",
    "metric.auc DESC",
    "metric.auc.max DESC, param.kind",
    "metric.auc.min, metric.auc.max DESC",
    "param.kind DESC, tag.team, started_at",
    "tag.n, name, metric.auc",
    "tag.never DESC, metric.auc",
    "started_at",
    "ended_at DESC, param.n",
]
CONDITIONS = [
    "",
    "metric.auc > 0.4 AND metric.auc.max < 0.9",
    "tag.team = 'a' AND param.kind = 'x' AND metric.auc.min >= 0",
    "tag.n < 2 OR param.n = 5",
    "tag.n < 2 OR param.n = 5 OR NOT metric.auc IS NULL",
    "param.kind IS NULL AND group = '1'",
    "NOT (tag.team = 'a' OR metric.auc > 0.7)",
    "tag.team LIKE '%b' AND tag.n != 3",
]


@pytest.mark.parametrize("where", CONDITIONS)
def test_every_way_gives_the_same_pages(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    for order in ORDERS:
        for scope in ({}, {"groups": ["1", "2"], "projects": ["p1"], "removed": None}):
            found: list[list[str]] = []
            for balance, ties in ((0.0, 3), (0.4, 1), (1e9, 1)):
                monkeypatch.setattr(search, "_BALANCE", balance)
                monkeypatch.setattr(ranked, "_TIES", ties)
                found.append(pages(stores, where, order, **scope))
            assert found[0] == found[1] == found[2]
            assert len(set(found[0])) == len(found[0])


def pages(stores: Stores, where: str, order: str, **scope: object) -> list[str]:
    ids: list[str] = []
    cursor = ""
    while True:
        page = stores[1].search(
            parse_where(where, now=NOW),
            order=parse_order(order),
            limit=23,
            cursor=cursor,
            **scope,  # pyright: ignore[reportArgumentType]
        )
        ids += [row.id for row in page.rows]
        cursor = page.cursor
        if not cursor:
            return ids
