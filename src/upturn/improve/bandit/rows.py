"""Rows: those of the Log that say something of a bandit's arms, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.core.errors import Invalid
from upturn.core.records import Route
from upturn.improve.log import LogView
from upturn.model.tables import floats

Floats = NDArray[np.float64]
Reward = str | Callable[[pa.Table], Any]


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that count, as arrays of one entry a row."""

    table: pa.Table
    arm: NDArray[np.int64]  # the place in the bandit's arms
    reward: Floats  # nan where none is known
    weight: Floats  # 1 / rate of logging
    propensity: Floats
    overlap: Floats  # of all arms' chances at the time: 1 / Σ 1/p
    unit: NDArray[np.int64]  # codes
    delay_s: Floats  # nan where no label is known
    forced: int


def fits(route: Route, arms: Mapping[str, int]) -> bool:
    """Whether these arms and no others answer by the route, each with a chance."""
    answering = {arm.name: arm.version for arm in route.arms if not arm.shadow}
    chances = all(arm.share > 0 for arm in route.arms if not arm.shadow)
    return answering == dict(arms) and chances


def counted(
    log: LogView,
    routes: Sequence[Route],
    arms: Mapping[str, int],
    *,
    reward: Reward,
    otherwise: float | None,
    since: datetime | None,
    until: datetime,
    known_by: datetime,
    received_by: datetime | None,
    features: bool = False,
) -> Counted:
    """The rows with `since` <= at < `until` that were answered while all of the arms could answer.

    A row for which the caller chose the arm is left out: its propensity is 1, and nothing was left
    to chance. A row without a label has no reward, or `otherwise` if that is given. Raises Invalid
    for rewards that are no finite numbers.
    """
    named = isinstance(reward, str)
    overlaps = {one.revision: _overlap(one) for one in routes if fits(one, arms)}
    table = log.joined(
        known_by=known_by,
        since=since,
        until=until,
        shadow=False,
        features=features or not named or reward != "label",
        received_by=received_by,
    )
    mine: Any = pc.is_in(table["route"], pa.array(list(overlaps), pa.int32()))
    mine = pc.and_(mine, pc.is_in(table["arm"], pa.array(list(arms))))
    table = table.filter(mine)
    propensity = floats(table["propensity"])
    random = (propensity > 0.0) & (propensity < 1.0)
    forced = int(len(random) - random.sum())
    table, propensity = table.filter(pa.array(random)), propensity[random]
    found = _rewards(table, reward)
    labelled = np.asarray(pc.is_valid(table["known_at"]).to_numpy(zero_copy_only=False), bool)
    if otherwise is not None:
        found = np.where(np.isnan(found) & ~labelled, otherwise, found)
    taken = pc.subtract(table["known_at"].cast(pa.int64()), table["at"].cast(pa.int64()))
    names: Any = pa.array(list(arms))
    revisions: list[Any] = table["route"].to_pylist()
    join: Any = pc.binary_join_element_wise
    units = pc.coalesce(table["unit"], join("row", table["id"], "\0"))
    codes: Any = units.combine_chunks().dictionary_encode()
    codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
    return Counted(
        table=table,
        arm=np.asarray(pc.index_in(table["arm"], names).to_numpy(), np.int64),
        reward=found,
        weight=1.0 / floats(table["rate"]),
        propensity=propensity,
        overlap=np.array([overlaps[one] for one in revisions], np.float64),
        unit=np.asarray(codes.indices.to_numpy(zero_copy_only=False), np.int64),
        delay_s=floats(taken) / 1e6,
        forced=forced,
    )


def _overlap(route: Route) -> float:
    """Which weight rows of the route's time get: any that all arms have in common will do, and this
    one lets times count for little in which one arm had next to nothing.
    """
    answering = [arm for arm in route.arms if not arm.shadow]
    if route.policy is not None:  # shares are an average there: as if they were equal
        return 1.0 / len(answering) ** 2
    return 1.0 / sum(1.0 / arm.share for arm in answering)


def _rewards(table: pa.Table, reward: Reward) -> Floats:
    if not isinstance(reward, str):
        found = _of_function(reward, table)
        if found.shape != (len(table),):
            raise Invalid(
                f"The reward function gave {found.shape} for {len(table):,} rows.",
                hint="It returns one number for each row of the table; nan where none is known.",
            )
    elif reward not in table.column_names:
        raise Invalid(f"The Log has no column {reward!r} to take for a reward.")
    elif pa.types.is_string(table.schema.field(reward).type):
        raise Invalid(
            f"The rewards in {reward!r} are texts.",
            hint="Give a function of the Log's rows: reward=lambda rows: …",
        )
    else:
        found = floats(table[reward])
    if np.isinf(found).any():
        raise Invalid("A reward is infinite.")
    return found


def _of_function(reward: Callable[[pa.Table], Any], table: pa.Table) -> Floats:
    if not len(table):
        return np.empty(0)
    try:
        return np.asarray(reward(table), np.float64)
    except Exception as error:  # the user's function may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise Invalid(f"The reward function failed: {reason}") from error
