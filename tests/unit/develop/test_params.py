"""A flow's parameters: converted to the types of its signature, or refused by name."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

import upturn as up
from unit.develop.steps import double
from upturn.core.errors import Invalid
from upturn.core.records import Run
from upturn.develop.run import params_of
from upturn.stores.workspace import Workspace


class Colour(Enum):
    RED = "red"


@dataclass
class Grid:
    depth: int
    rate: float


def accepts(kind: Any, value: Any) -> Any:
    def f(given: Any) -> Any: ...

    f.__annotations__["given"] = kind
    return up.flow(f).convert({"given": value})["given"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "3", 3),
        (float, "3", 3.0),
        (bool, "true", True),
        (str, "3", "3"),
        (date, "2013-01-31", date(2013, 1, 31)),
        (date, date(2013, 1, 31), date(2013, 1, 31)),
        (datetime, "2013-01-31T06:00:00Z", datetime(2013, 1, 31, 6, tzinfo=UTC)),
        (Path, "a/b", Path("a/b")),
        (Path, Path("a"), Path("a")),
        (list[int], ["3", "6"], [3, 6]),
        (list[Path], ["a"], [Path("a")]),
        (tuple[int, ...], [1, 2], (1, 2)),
        (int | None, "4", 4),
        (int | None, None, None),
        (Path | None, "x", Path("x")),
        (Literal["a", "b"], "a", "a"),
        (Colour, "red", Colour.RED),
        (Grid, {"depth": "3", "rate": 1}, Grid(3, 1.0)),
        (Any, "x", "x"),
    ],
    ids=repr,
)
def test_values_are_converted(kind: Any, text: Any, value: Any) -> None:
    converted = accepts(kind, text)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (int, "three", "a whole number"),
        (int, "3.5", "a whole number"),
        (date, "31.01.2013", "a date"),
        (bool, "maybe", "true or false"),
        (list[int], ["x"], "list"),
        (Literal["a", "c"], "b", "'a' or 'c'"),
        (Path, 5, "a path"),
        (Colour, "blue", "Colour"),
    ],
    ids=repr,
)
def test_what_does_not_fit_is_refused_by_name(kind: Any, value: Any, says: str) -> None:
    with pytest.raises(Invalid, match=f"--given is .*takes .*{says}") as error:
        accepts(kind, value)
    assert error.value.fields["param"] == "given"


@up.flow
def spanning(start: date, days: int = 7, *, by_week: bool = False):
    """A flow with parameters."""
    return double(days)


def test_defaults_fill_in_and_unknown_or_missing_ones_are_named() -> None:
    assert spanning.convert({"start": "2013-01-01"}) == {
        "start": date(2013, 1, 1),
        "days": 7,
        "by_week": False,
    }
    with pytest.raises(Invalid, match=r"no parameter 'strat'\. Did you mean 'start'\?"):
        spanning.run(strat="2013-01-01")
    with pytest.raises(Invalid, match=r"needs a value for 'start'\. Give it: --start"):
        spanning.run(days=3)
    with pytest.raises(TypeError):
        spanning()  # type: ignore[call-arg]


def test_params_are_recorded_as_json_and_come_back(workspace: Workspace) -> None:
    handle = spanning.run(start="2013-01-01", days="3", by_week=True)
    run = workspace.meta.get(Run, handle.id)
    assert run.params == {"start": "2013-01-01", "days": 3, "by_week": True}
    assert params_of(run, spanning) == {"start": date(2013, 1, 1), "days": 3, "by_week": True}


def test_paths_grids_and_durations_are_recorded(workspace: Workspace) -> None:
    @up.flow
    def f(path: Path, grid: Grid, span: timedelta) -> Any:
        return [str(path), grid.depth, span.days]

    handle = f.run(path="a/b", grid=Grid(2, 0.5), span=timedelta(days=2))
    assert handle.result() == ["a/b", 2, 2]
    run = workspace.meta.get(Run, handle.id)
    assert params_of(run, f) == {
        "path": Path("a/b"),
        "grid": Grid(2, 0.5),
        "span": timedelta(days=2),
    }


def test_what_cannot_be_recorded_is_refused_with_the_way_out() -> None:
    @up.flow
    def f(table: Any) -> Any: ...

    with pytest.raises(Invalid, match=r"parameter 'table' is a object.*data come from steps"):
        f(object())
