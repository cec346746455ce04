"""Suggesting a variant: chosen on the earlier part of the past, looked at again on the later part.

The variant that looks best of many looks better than it is. So what is suggested is the cheapest of
those that the earlier part can't tell from its best, and the later part, which had no say in that,
tells whether it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import numpy as np

from upturn.core.time import from_micros
from upturn.improve.comparison import Comparison
from upturn.improve.rehearsal import Rehearsal, Suggestion
from upturn.improve.rehearsing.blocks import reach, sum_error, widening
from upturn.improve.rehearsing.judge import Rows, common_block, losses_by_day
from upturn.improve.rehearsing.selection import best_set
from upturn.improve.rehearsing.shared import Done

EARLIER = 0.6  # of the days: choosing takes more of them than looking
_LEVEL = 0.05
_LEAST_DAYS = 28  # of each part
Floats = np.ndarray


def suggest(
    rehearsal: Rehearsal, rows: Rows, done: Sequence[Done], *, seed: int
) -> Suggestion | None:
    """The loop to use of several; None for fewer than two, and over too few days to say."""
    loops = [place for place, one in enumerate(done) if one.plan.kind == "loop"]
    split = int(len(rows.days) * EARLIER)
    if len(loops) < 2 or not rehearsal.loss or split < _LEAST_DAYS:
        return None
    if len(rows.days) - split < _LEAST_DAYS / 2:
        return None
    losses = losses_by_day(rehearsal.loss, rows)[loops]
    early, late = losses[:, :split], losses[:, split:]
    at = from_micros(int(rows.days[split]))
    block = common_block(early)
    p = best_set(early, block, scale=widening(block, split), seed=seed)
    totals = early.sum(axis=1)
    best = int(totals.argmin())
    spent = [_retrains(done[place], at) for place in loops]
    near = [place for place in range(len(loops)) if place == best or p[place] >= _LEVEL]
    chosen = min(near, key=lambda place: (spent[place], totals[place], place))
    counts = np.bincount(rows.day, minlength=len(rows.days)).astype(np.float64)
    found = _Found(
        name=done[loops[chosen]].plan.name,
        best=done[loops[best]].plan.name,
        retrains=spent[chosen],
        best_retrains=spent[best],
        near=len(near),
    )
    seen = None
    if chosen != best:
        seen = _compared(rehearsal.loss, early, chosen, best, counts[:split], block)
    rival = best if chosen != best else _second(totals, best)
    later = _compared(rehearsal.loss, late, chosen, rival, counts[split:], common_block(late))
    holds = _holds(later)
    rival_name = done[loops[rival]].plan.name
    return Suggestion(
        name=found.name,
        settings=dict(done[loops[chosen]].plan.settings),
        best=found.best,
        split=at,
        retrains=found.retrains,
        best_retrains=found.best_retrains,
        chosen_by=seen,
        validated=later,
        holds=holds,
        text=_text(found, at, rehearsal.loss, rival_name, seen, later, holds),
    )


class _Found(NamedTuple):
    """Who was chosen, and who is the best of those that can't be told from it."""

    name: str
    best: str
    retrains: int
    best_retrains: int
    near: int


def _second(totals: Floats, best: int) -> int:
    others = [place for place in range(len(totals)) if place != best]
    return min(others, key=lambda place: (totals[place], place))


def _retrains(done: Done, until: datetime) -> int:
    return sum(one.action == "retrain" and one.at < until for one in done.events)


def _compared(
    loss: str, losses: Floats, one: int, other: int, rows: Floats, block: float
) -> Comparison:
    """The mean loss a row of one policy less that of another, with a 95 % interval."""
    total = max(1.0, float(rows.sum()))
    values = losses.sum(axis=1) / total
    behind = (losses[one] - losses[other]) / total
    difference = float(behind.sum())
    # A ratio's terms: a day with more rows counts for more, in the mean as in its error.
    error = float(sum_error((behind - difference * rows / total)[None, :], block)[0])
    width = 0.0 if error == 0 else reach(block, len(rows)) * error
    return Comparison(
        metric=loss,
        champion=float(values[other]),
        candidate=float(values[one]),
        difference=difference,
        low=difference - width,
        high=difference + width,
        level=1 - _LEVEL / 2,
        rows=int(total),
        blocks=int(len(rows) / max(1.0, block)),
        method="stationary blocks of days, t interval",
    )


def _holds(later: Comparison) -> Literal["yes", "no", "open", "same"]:
    if later.difference == 0 and later.low == later.high:
        return "same"
    if not later.conclusive:
        return "open"
    if later.low > 0:
        return "no"
    return "yes" if later.difference <= 0 else "open"


def _text(
    found: _Found,
    split: datetime,
    loss: str,
    rival: str,
    seen: Comparison | None,
    later: Comparison,
    holds: Literal["yes", "no", "open", "same"],
) -> str:
    if seen is None:
        chosen = (
            f"{found.name}: before {split:%Y-%m-%d} it lost the least, and none of the"
            f" {found.near - 1} that can't be told from it retrains less"
            if found.near > 1
            else f"{found.name}: before {split:%Y-%m-%d} it lost the least, and all others more"
        )
    else:
        chosen = (
            f"{found.name}: before {split:%Y-%m-%d} within noise of the best, {found.best}"
            f" ({_said(seen)}), at {found.retrains} of its {found.best_retrains} retrains"
        )
    since = f"Since then, on days that had no say in this, its {loss} less that of {rival} was"
    unsure = "worse, or by chance: that can't be told"
    if not later.conclusive:
        unsure = "the days are too few to tell"
    ends = {
        "yes": f"{since} {_said(later)}: no worse.",
        "no": f"{since} {_said(later)}: worse, so do not rely on it.",
        "same": f"Since then it and {rival} gave the same answers.",
        "open": f"{since} {_said(later)}: {unsure}.",
    }
    return f"{chosen}. {ends[holds]}"


def _said(one: Comparison) -> str:
    if not one.conclusive:
        return f"{one.difference:+.5f}"
    return f"{one.difference:+.5f} [{one.low:+.5f}, {one.high:+.5f}]"
