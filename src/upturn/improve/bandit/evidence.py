"""Evidence: what a bandit decides on: what its arms earned, and how their labels come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from upturn.core.linear_policy import LinearPolicy
from upturn.core.records import Arm
from upturn.improve.bandit.linear import Learned
from upturn.improve.bandit.moments import Mean, weighted_mean
from upturn.improve.bandit.rows import Counted
from upturn.improve.statistics.distributions import normal_quantile

Floats = NDArray[np.float64]
_SURE = 0.001  # the chance that a difference of labels between arms is said where there is none
_MATTERS = 0.02  # of the rows' labels; and of delays their tenth part


class ArmSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What an arm's counted rows say."""

    name: str
    version: int
    reward: Mean = Mean()  # of the rows with a reward
    low: float = 0.0
    high: float = 0.0
    waiting: int = 0  # rows without a reward
    labelled: Mean = Mean()  # 1 for a row with a reward, 0 for one without
    delay_s: Mean = Mean()  # from prediction to label


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a bandit decides on: the route, and its arms' rows as they were known."""

    revision: int | None  # of the route; None: nobody answers
    arms: tuple[Arm, ...] = ()
    seen: tuple[ArmSeen, ...] = ()
    since: datetime | None = None
    until: datetime | None = None  # rows from then on are too young
    policy: LinearPolicy | None = None  # that the route carries
    learned: Learned | None = None  # where the bandit's policy looks at rows
    forced: int = 0  # rows for which a caller chose the arm, which are left out
    warnings: tuple[str, ...] = ()


def arms_seen(rows: Counted, arms: Mapping[str, int], *, balance: bool) -> tuple[ArmSeen, ...]:
    """Each arm's rewards, and how its labels come.

    With `balance` arms are compared over the same times, whatever their shares were in them: a row
    counts overlap / propensity (generalised overlap weights, Li & Li 2019, arXiv:1808.05339:
    of all weights that balance the arms these give their differences the least variance).
    """
    return tuple(
        _arm_seen(name, version, rows, np.flatnonzero(rows.arm == place), balance=balance)
        for place, (name, version) in enumerate(arms.items())
    )


def _arm_seen(
    name: str, version: int, rows: Counted, places: NDArray[np.int64], *, balance: bool
) -> ArmSeen:
    reward, delay = rows.reward[places], rows.delay_s[places]
    weight = rows.weight[places]
    if balance:
        weight = weight * rows.overlap[places] / rows.propensity[places]
    unit = np.unique(rows.unit[places], return_inverse=True)[1].reshape(-1)
    there, told = ~np.isnan(reward), ~np.isnan(delay)

    def mean(values: Floats, of: NDArray[np.bool_]) -> Mean:
        return weighted_mean(values[of], weight[of], unit[of])

    return ArmSeen(
        name=name,
        version=version,
        reward=mean(reward, there),
        low=float(reward[there].min()) if there.any() else 0.0,
        high=float(reward[there].max()) if there.any() else 0.0,
        waiting=int((~there).sum()),
        labelled=mean(told.astype(np.float64), np.ones(len(told), bool)),
        delay_s=mean(delay, told),
    )


def label_warnings(seen: Sequence[ArmSeen], *, otherwise: float | None) -> tuple[str, ...]:
    """What makes the arms' rewards hard to compare: labels that come otherwise for one of them."""
    made: list[str] = []
    pairs = [(one, other) for place, one in enumerate(seen) for other in seen[:place]]
    limit = normal_quantile(1 - _SURE / max(1, len(pairs)) / 2)
    for one, other in pairs:
        if otherwise is None and _differ(one.labelled, other.labelled, limit, _MATTERS):
            made.append(
                f"{one.labelled.mean:.0%} of {one.name}'s rows have a label, and "
                f"{other.labelled.mean:.0%} of {other.name}'s: their rewards may not be of alike "
                "rows. Let rows mature for longer (matures=…)."
            )
        middle = (one.delay_s.mean + other.delay_s.mean) / 2
        if _differ(one.delay_s, other.delay_s, limit, abs(middle) / 10):
            made.append(
                f"Labels take {one.delay_s.mean:,.0f} s for {one.name} and "
                f"{other.delay_s.mean:,.0f} s for {other.name}: the slower arm's newest rewards "
                "are missing. Let rows mature for longer than either (matures=…)."
            )
    return tuple(made)


def _differ(one: Mean, other: Mean, limit: float, matters: float) -> bool:
    gap, se = abs(one.mean - other.mean), float(np.hypot(one.se, other.se))
    return min(one.units, other.units) >= 30 and gap > max(matters, limit * se)
