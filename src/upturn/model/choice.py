"""Choices: which form of a model answers a batch of how many rows, by how long each took."""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from upturn.core.records import Form, Timing

SIZES = (1, 4, 16, 64, 256, 1024)  # rows that are timed
# To have both forms costs the memory of a second model and of its library.
WORTH_LOADING = 1.5


class Use(msgspec.Struct, frozen=True):
    """That a form answers batches of so many rows, and why."""

    form: Literal["onnx", "native", "plain"]  # native: the library's own booster, called directly
    rows_from: int
    rows_to: int | None  # None: and more
    why: str


def crossover(timings: Sequence[Timing], *, gain: float = 1.0) -> int | None:
    """The most rows that the form answers faster; None: any number, 0: none.

    The plain model is only taken to be faster where it is so `gain` times. Of all places for the
    border the one with the least product of times is taken, in the middle between two sizes.

    >>> crossover([Timing(1, 7e-6, 2e-4), Timing(256, 1e-3, 2e-3), Timing(1024, 5e-3, 2e-3)])
    512
    >>> crossover([Timing(1, 7e-6, 2e-4), Timing(1024, 5e-3, 4e-3)], gain=1.5) is None
    True
    """
    ordered = sorted(timings, key=lambda timing: timing.rows)
    form = [math.log(max(timing.form_s, 1e-9)) for timing in ordered]
    plain = [math.log(max(timing.plain_s * gain, 1e-9)) for timing in ordered]
    costs = [sum(form[:place]) + sum(plain[place:]) for place in range(len(ordered) + 1)]
    best = min(range(len(costs)), key=lambda place: (costs[place], -place))
    if best == len(ordered):
        return None
    return 0 if best == 0 else round(math.sqrt(ordered[best - 1].rows * ordered[best].rows))


def uses(
    limit: int | None, plain: Literal["native", "plain"], timings: Sequence[Timing]
) -> tuple[Use, ...]:
    """Who answers, when the form does up to `limit` rows."""
    if limit is None:
        return (Use("onnx", 1, None, _faster(timings, form=True)),)
    if limit == 0:
        return (Use(plain, 1, None, _faster(timings, form=False)),)
    below = [timing for timing in timings if timing.rows <= limit]
    above = [timing for timing in timings if timing.rows > limit]
    return (
        Use("onnx", 1, limit, _faster(below, form=True)),
        Use(plain, limit + 1, None, _faster(above, form=False)),
    )


def describe_uses(found: Sequence[Use]) -> str:
    """The uses in one line.

    >>> describe_uses([Use("onnx", 1, 128, ""), Use("plain", 129, None, "")])
    'onnx up to 128 rows at a time, plain for more'
    """
    if len(found) == 1:
        return f"{found[0].form} for any number of rows"
    return f"{found[0].form} up to {found[0].rows_to:,} rows at a time, {found[1].form} for more"


def describe_form(form: Form | None) -> str:
    """What a version's record says of its form, in one line; '' when it says nothing."""
    if form is None:
        return ""
    if not form.equal:
        return f"no ONNX form: {form.why}"
    limit = crossover(form.timings, gain=WORTH_LOADING)
    if limit == 0:
        return f"ONNX form: {form.why}; never faster, so the model itself answers"
    who = "answers" if limit is None else f"answers up to about {limit:,} rows at a time"
    return f"ONNX form: {form.why}; {who} ({_faster(form.timings, form=True)})"


def _faster(timings: Sequence[Timing], *, form: bool) -> str:
    """'1 row in 7 µs, not 210 µs': of the smallest batch, or of the largest for the plain one."""
    if not timings:
        return ""

    best = timings[0] if form else timings[-1]
    won, lost = (best.form_s, best.plain_s) if form else (best.plain_s, best.form_s)
    rows = "1 row" if best.rows == 1 else f"{best.rows:,} rows"
    return f"{rows} in {_short(won)}, not {_short(lost)}"


def _short(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"
