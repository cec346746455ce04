"""Bandit: what a person writes down once, so that an endpoint's shares follow what arms earn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from upturn.core.errors import Invalid
from upturn.core.records import Endpoint, Version
from upturn.core.time import duration
from upturn.improve.bandit.linear import Contextual, LinTS, LinUCB
from upturn.improve.bandit.rows import Reward
from upturn.improve.bandit.shares import check_least
from upturn.improve.bandit.thompson import Thompson

Duration = str | float | timedelta


@dataclass(frozen=True, slots=True, init=False)
class Bandit:
    """Arms of an endpoint whose shares are set anew every so often, by what each has earned.

    - `arms`: versions of the endpoint's model, by names of your choice.
    - `reward`: a column of the Log, "label" mostly; or a function of a table of its rows that gives
      each one's reward (nan where none is known). More is better.
    - `policy`: how shares follow; `least`: the share that every arm keeps, whatever it earned.
    - `every`: how often shares are set; `window`: how far back rows count (None: all).
    - `matures`: rows count once they are so old; `otherwise`: the reward of a row that has no label
      by then (None: it doesn't count).
    - `min_rows`: while an arm has fewer rewards, shares stay; `step`: so do they where none would
      change by so much.
    - `balance`: whether rows are weighed so that all arms are seen over the same times, which keeps
      them comparable while both shares and the world change.

    >>> Bandit("checkout", arms={"old": 3, "new": 4}).least
    0.05
    """

    endpoint: str
    arms: Mapping[str, int]
    reward: Reward
    policy: Thompson | Contextual
    least: float
    every: timedelta
    window: timedelta | None
    matures: timedelta
    otherwise: float | None
    min_rows: int
    step: float
    balance: bool
    name: str

    def __init__(
        self,
        endpoint: Endpoint | str,
        *,
        arms: Mapping[str, int | str | Version],
        reward: str | Callable[[Any], Any] = "label",
        policy: Thompson | Contextual | None = None,
        least: float = 0.05,
        every: Duration = "1h",
        window: Duration | None = None,
        matures: Duration = 0.0,
        otherwise: float | None = None,
        min_rows: int = 30,
        step: float = 0.01,
        balance: bool = True,
        name: str | None = None,
    ) -> None:
        """Raises Invalid for what can't be a bandit."""
        called = endpoint.name if isinstance(endpoint, Endpoint) else endpoint
        numbers = {arm: _number(arm, one) for arm, one in arms.items()}
        if len(numbers) < 2:
            raise Invalid("A bandit has two arms or more.", hint='arms={"old": 3, "new": 4}')
        check_least(least, len(numbers))
        if not 0.0 <= step < 1.0:
            raise Invalid(f"step={step!r}: a change of shares, from 0 to below 1.")
        if min_rows < 2:
            raise Invalid(f"min_rows={min_rows!r}: two rows at least say something of an arm.")
        if policy is not None and not isinstance(policy, Thompson | LinTS | LinUCB):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid(
                f"{policy!r} is no policy.",
                hint='There is up.Thompson("bernoulli"), up.LinTS([…]) and up.LinUCB([…]).',
            )
        age = duration(matures)
        if otherwise is not None and not age:
            raise Invalid(
                f"otherwise={otherwise:g} is for rows that have no label in time: in which?",
                hint='Say matures="2d" as well.',
            )
        values: dict[str, Any] = {
            "endpoint": called,
            "arms": numbers,
            "reward": reward,
            "policy": Thompson() if policy is None else policy,
            "least": least,
            "every": _positive("every", every),
            "window": None if window is None else _positive("window", window),
            "matures": age,
            "otherwise": otherwise,
            "min_rows": min_rows,
            "step": step,
            "balance": balance,
            "name": name or f"{called}-bandit",
        }
        for field, value in values.items():
            object.__setattr__(self, field, value)


def _number(arm: str, version: object) -> int:
    if isinstance(version, Version):
        return version.number
    if isinstance(version, int) and not isinstance(version, bool) and version > 0:
        return version
    if isinstance(version, str) and version.rpartition(":")[2].isdigit():
        return int(version.rpartition(":")[2])
    raise Invalid(
        f"The arm {arm!r} is no version: {version!r}.", hint="Give its number: 3, or 'checkout:3'."
    )


def _positive(name: str, value: Duration) -> timedelta:
    length = duration(value)
    if length <= timedelta(0):
        raise Invalid(f"{name}={value!r}: a bandit's {name} has a length.", hint="Write '1h'.")
    return length
