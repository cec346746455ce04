"""What the Log may hold: nothing that is redacted, and of each arm the share that was asked for."""

import math
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.log import Layout, Matrix, PredictionBatch
from upturn.core.log_policy import LogPolicy, is_sampled
from upturn.core.records import Endpoint

NAMES = ("age", "email", "income", "plan")
LAYOUT = Layout(NAMES, "iffb")


def batch(ids: Sequence[str], *, arm: str = "champion", **changes: Any) -> PredictionBatch:
    n = len(ids)
    values: dict[str, Any] = {
        "ids": list(ids),
        "at": [7 + row for row in range(n)],
        "received_at": 7,
        "route": 1,
        "arm": arm,
        "version": 1,
        "shadow": False,
        "units": [f"u{row}" for row in range(n)],
        "propensity": 0.5,
        "features": matrix(n),
        "scores": [row / 10 for row in range(n)],
        "answers": None,
        "latency_s": 0.001,
    }
    return PredictionBatch(**values | changes)


def matrix(rows: int) -> Matrix:
    """Row r has r, r + 0.1, r + 0.2 and r + 0.3."""
    cells = [row + place / 10 for row in range(rows) for place in range(len(NAMES))]
    return Matrix(LAYOUT, struct.pack(f"<{len(cells)}d", *cells))


def cells(found: Matrix) -> list[list[float]]:
    width = len(found.layout.names)
    flat = struct.unpack(f"<{len(found.data) // 8}d", found.data)
    return [list(flat[at : at + width]) for at in range(0, len(flat), width)] if width else []


def rows(found: PredictionBatch | None) -> list[tuple[Any, ...]]:
    """The batch as rows, whichever way its values are kept."""
    if found is None:
        return []
    n = len(found.ids)
    each = [
        found.ids,
        [found.at] * n if isinstance(found.at, int) else found.at,
        found.units or [None] * n,
        found.scores or [None] * n,
        found.answers or [None] * n,
    ]
    features = found.features
    if isinstance(features, Matrix):
        each.append(cells(features))
    elif features is not None:
        each += list(features.values())
    return list(zip(*each, strict=True))


def test_without_a_wish_everything_is_logged_as_it_is() -> None:
    policy = LogPolicy.of(Endpoint("e", unit="email"))
    whole = batch(["a", "b"])
    assert policy.trivial
    assert policy.apply(whole) is whole


@given(st.sets(st.sampled_from([*NAMES, "other"])), st.integers(0, 4))
def test_redacted_fields_are_in_no_matrix(redact: set[str], count: int) -> None:
    given_batch = batch([f"{row}" for row in range(count)])
    found = LogPolicy(redact=tuple(redact)).apply(given_batch)
    assert found is not None
    kept = [place for place, name in enumerate(NAMES) if name not in redact]
    assert isinstance(found.features, Matrix)
    assert found.features.layout == Layout(
        [NAMES[place] for place in kept], "".join("iffb"[place] for place in kept)
    )
    if kept:
        wanted = [[row[place] for place in kept] for row in cells(matrix(count))]
        assert cells(found.features) == wanted
    assert found.ids == given_batch.ids


def test_redacted_fields_are_in_no_list_and_no_unit_and_no_error() -> None:
    policy = LogPolicy(redact=["email"], unit="email")
    failed = batch(
        ["a"],
        features={"age": [3], "email": ["x@y"]},
        units=["x@y"],
        scores=None,
        error="ValueError: could not convert 'x@y'",
    )
    found = policy.apply(failed)
    assert found is not None
    assert found.features == {"age": [3]}
    assert found.units is None
    assert found.error
    assert b"x@y" not in msgspec.msgpack.encode(found)
    kept = LogPolicy(redact=["age"], unit="email").apply(failed)
    assert kept is not None
    assert kept.units == ["x@y"]


@given(
    st.lists(st.text("abcdef0123456789", max_size=6), unique=True, max_size=12),
    st.floats(0.05, 1.0),
    st.booleans(),
)
def test_sampling_takes_whole_rows_by_their_ids(ids: list[str], rate: float, lists: bool) -> None:
    given_batch = batch(ids)
    if lists:
        named = {name: [float(row) for row in range(len(ids))] for name in NAMES}
        given_batch = msgspec.structs.replace(given_batch, features=named, answers=list(ids), at=3)
    found = LogPolicy(rates={"champion": rate}).apply(given_batch)
    wanted = [row for row in rows(given_batch) if is_sampled(row[0], rate)]
    assert rows(found) == wanted
    assert found is None or found.rate == rate


def test_rates_are_kept_and_pairs_stay_pairs() -> None:
    policy = LogPolicy(rates={"champion": 0.2, "*": 0.6})
    ids = [f"order-{number}" for number in range(20_000)]
    found = {
        arm: policy.apply(batch(ids, arm=arm, features=None))
        for arm in ("champion", "shadow", "other")
    }
    kept = {arm: set(rows.ids) for arm, rows in found.items() if rows is not None}
    for arm, rate in (("champion", 0.2), ("shadow", 0.6), ("other", 0.6)):
        error = math.sqrt(rate * (1 - rate) / len(ids))
        assert abs(len(kept[arm]) / len(ids) - rate) < 5 * error
    assert kept["champion"] < kept["shadow"]
    assert kept["shadow"] == kept["other"]
    assert policy.rate("champion") == 0.2
    assert policy.rate("whatever") == 0.6


@pytest.mark.parametrize("kinds", ["ff", "fffx", ""])
def test_a_layout_says_one_known_kind_a_column(kinds: str) -> None:
    with pytest.raises(ValueError, match="kinds"):
        Layout(NAMES, kinds)
