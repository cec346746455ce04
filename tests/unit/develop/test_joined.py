"""What a task finds in its environment, and what becomes of it when its code goes elsewhere."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.executor import Setting
from upturn.develop import joined

SETTINGS = {
    "MT_URI": Setting(value="http://a:1/run/r/s/0", same=("http://a:1",), ends=("MT_ID", "MT_IN")),
    "MT_IN": Setting(value="7", ends=("MT_ID",)),
    "MT_ID": Setting(value="r"),
}


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(joined, "_kept", {})
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    yield
    assert _found() == {}


def _found() -> dict[str, str]:
    return {name: os.environ[name] for name in SETTINGS if name in os.environ}


def test_they_are_there_and_gone() -> None:
    with joined.with_settings(SETTINGS):
        assert _found() == {name: setting.value for name, setting in SETTINGS.items()}
    with joined.with_settings({}):
        assert _found() == {}


def test_what_was_there_before_is_there_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MT_ID", "mine")
        with joined.with_settings(SETTINGS):
            os.environ["MT_ID"] = "other"
        assert _found() == {"MT_ID": "mine"}


@pytest.mark.parametrize("same", ["http://a:1", "http://a:1/", "http://a:1/run/r/s/0"])
def test_the_same_server_in_other_words_is_no_way_out(same: str) -> None:
    with joined.with_settings(SETTINGS):
        os.environ["MT_URI"] = same
        assert _found() == {"MT_URI": same, "MT_IN": "7", "MT_ID": "r"}


def test_who_goes_elsewhere_takes_nothing_along() -> None:
    with joined.with_settings(SETTINGS):
        os.environ["MT_IN"] = "8"  # another experiment of the same server
        assert _found() == {"MT_URI": SETTINGS["MT_URI"].value, "MT_IN": "8"}
        os.environ["MT_URI"] = "http://b:1"
        assert _found() == {"MT_URI": "http://b:1"}
    with joined.with_settings(SETTINGS):  # the next task is another one
        assert len(_found()) == 3


def test_what_a_module_sets_when_it_is_imported_stays() -> None:
    """It is not imported again for the next task of its process."""
    for _ in range(2):
        with joined.with_settings(SETTINGS):
            if not joined._kept:  # pyright: ignore[reportPrivateUsage]
                os.environ["MT_URI"] = "http://b:1"
            joined.keep()
            assert _found() == {"MT_URI": "http://b:1"}


@given(st.dictionaries(st.sampled_from(sorted(SETTINGS)), st.sampled_from(["x", "y"])))
def test_no_task_leaves_a_trace(sets: dict[str, str]) -> None:
    before = dict(os.environ)
    with joined.with_settings(SETTINGS):
        for name, value in sets.items():
            os.environ[name] = value
    assert dict(os.environ) == before
