"""Steps for tests of the engine; each writes into a note that it ran."""

import os
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import upturn as up


@dataclass(frozen=True)
class Span:
    """An argument of a class of the user's own."""

    first: date
    days: int


def write(note: str, line: str) -> None:
    with Path(note).open("a") as file:
        file.write(line + "\n")


@up.step
def double(number: Any, note: str = "") -> Any:
    if note:
        write(note, f"double {number}")
    return 2 * number


@up.step
def numbers(count: int, note: str = "") -> list[int]:
    if note:
        write(note, f"numbers {count}")
    return list(range(count))


@up.step
def total(parts: Any, note: str = "") -> int:
    if note:
        write(note, "total")
    if isinstance(parts, dict):
        parts = list(parts.values())
    return sum(
        total.function(part) if isinstance(part, list | tuple | dict) else part for part in parts
    )


@up.step
def kind_of(value: Any) -> str:
    return type(value).__name__


@up.step
def scaled(number: int, *, by: int, note: str = "") -> int:
    if note:
        write(note, f"scaled {number}")
    return number * by


@up.step
def gathered(*items: Any, **named: Any) -> list[Any]:
    return [list(items), named]


@up.step
def fail(note: str, text: str = "it broke") -> int:
    write(note, "fail")
    raise ValueError(text)


@up.step(retries=2)
def flaky(note: str, good_from: int) -> int:
    write(note, "flaky")
    attempts = len(Path(note).read_text().splitlines())
    up.log(attempt=attempts)
    if attempts < good_from:
        raise ConnectionError(f"attempt {attempts}")
    return attempts


@up.step(timeout=0.3)
def slow(note: str) -> None:
    write(note, str(os.getpid()))
    time.sleep(600)


@up.step(timeout=0.3, retries=1)
def slow_at_first(note: str) -> str:
    write(note, "slow")
    if len(Path(note).read_text().splitlines()) == 1:
        time.sleep(600)
    return "done"


@up.step(cache=False)
def side_effect(note: str) -> int:
    write(note, "effect")
    return 1


@up.step(cache="1h")
def perishable(note: str) -> int:
    write(note, "made")
    return 1


@up.step
def lines_of(file: Path, note: str) -> int:
    write(note, f"lines of {file.name}")
    return len(file.read_text().splitlines())


@up.step
def names_in(folder: Path, note: str) -> list[str]:
    write(note, "names")
    return sorted(path.name for path in folder.iterdir())


@up.step
def measured(note: str, auc: float) -> float:
    write(note, "measured")
    print("measuring")
    for at, loss in enumerate([0.9, 0.5]):
        up.log(step=at, loss=loss)
    up.log(auc=auc)
    up.show("a text", title="what it is")
    up.show([1, 2])
    return auc


@up.step
def until(span: Span) -> Span:
    return Span(span.first, span.days + 1)


@up.step
def wait_for(note: str, count: int, who: int = 0) -> int:
    """Return when so many are here: they must run at the same time."""
    write(note, "here")
    deadline = time.monotonic() + 20
    while len(Path(note).read_text().splitlines()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return os.getpid()


@up.flow
def doubled(number: int, note: str = ""):
    """A flow for others to call."""
    return double(number, note=note)


@up.flow
def failing(note: str):
    """A flow whose step fails."""
    return fail(note)
