"""Ids: for people to type, in the order of time, and paths that name things."""

import time

from hypothesis import given
from hypothesis import strategies as st

from upturn.core.ids import (
    artifact_path,
    is_own_prediction_id,
    is_prediction_id,
    new_id,
    prediction_ids,
    route_path,
    task_path,
    version_path,
)


def test_new_ids_can_be_read_aloud() -> None:
    ids = {new_id() for _ in range(500)}
    assert len(ids) == 500
    assert all(len(each) == 6 for each in ids)
    assert not set("".join(ids)) & set("ilouILOU")
    assert len(new_id(12)) == 12


def test_prediction_ids_sort_by_the_time_they_were_made() -> None:
    early = prediction_ids(100)
    began = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= began:
        pass
    late = prediction_ids(100)
    assert max(early) < min(late)
    assert len({*early, *late}) == 200
    assert prediction_ids(0) == []


@given(st.integers(1, 50))
def test_what_is_made_has_the_form(count: int) -> None:
    assert all(map(is_own_prediction_id, prediction_ids(count)))
    assert all(map(is_prediction_id, prediction_ids(count)))


@given(st.text(max_size=40))
def test_nothing_else_has_the_form(text: str) -> None:
    if is_own_prediction_id(text):
        assert len(text) == 28
        assert set(text) <= set("0123456789abcdef")


@given(st.text(max_size=140) | st.text(st.characters(codec="ascii"), max_size=140))
def test_a_client_may_call_it_what_can_be_seen_and_printed(text: str) -> None:
    fits = 0 < len(text) <= 128 and text.isascii() and text.isprintable() and " " not in text
    assert is_prediction_id(text) == fits


def test_a_line_end_is_no_part_of_an_id() -> None:
    (made,) = prediction_ids(1)
    assert not is_prediction_id(made + "\n")
    assert not is_own_prediction_id(made + "\n")
    assert not is_own_prediction_id(made.upper() + "A")


def test_paths() -> None:
    assert task_path("k3f9", "train", 3) == "run/k3f9/train/3"
    assert version_path("delays", 7) == "version/delays:7"
    assert route_path("delays", 2) == "route/delays/2"
    assert artifact_path("ab") == "artifact/ab"
