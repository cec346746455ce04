"""Target policies: how probable another policy would have made each action of a round."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upturn.core.errors import Invalid
from upturn.improve.offpolicy.rounds import Actions, Rounds, column_numbers

Floats = NDArray[np.float64]
Policy = Mapping[Any, float] | str | Callable[[pa.Table], Any]
_EXACT = 1e-6

_FORMS = (
    "A policy is a share for each action, the name of a column with its probability of the "
    "logged action, or a function of a table that gives probabilities for each action."
)


@dataclass(frozen=True, slots=True)
class Probabilities:
    """What a policy would have done in some rounds."""

    taken: Floats  # (rows,) the probability of the action that was taken
    every: Floats | None  # (rows, actions), or (1, actions) of all rounds alike; None: not known


def named_policies(policy: Any) -> dict[str, Policy]:
    """The policies that are asked about, each with a name.

    >>> list(named_policies({"a": 0.5, "b": 0.5}))
    ['policy']
    >>> list(named_policies({"half": {"a": 0.5, "b": 0.5}, "column": "probability"}))
    ['half', 'column']
    """
    if isinstance(policy, str) or callable(policy):
        return {"policy": policy}
    if not isinstance(policy, Mapping) or not policy:
        raise Invalid(f"A {type(policy).__name__} is no policy.", hint=_FORMS)
    given = cast("Mapping[Any, Any]", policy)
    if all(_is_number(value) for value in given.values()):
        return {"policy": _shares(given)}
    named: dict[str, Policy] = {}
    for name, one in given.items():
        if isinstance(one, str) or callable(one):
            named[str(name)] = one
        elif isinstance(one, Mapping) and all(_is_number(value) for value in one.values()):
            named[str(name)] = _shares(cast("Mapping[Any, Any]", one))
        else:
            raise Invalid(f"{name!r} is no policy.", hint=_FORMS)
    return named


def probabilities(name: str, policy: Policy, rounds: Rounds, actions: Actions) -> Probabilities:
    """What the policy would have done in these rounds; new actions are added to `actions`.

    Raises Invalid where its answers are no probabilities.
    """
    if isinstance(policy, str):
        return _alone(name, column_numbers(rounds.table, policy))
    if not callable(policy):
        every = _row(policy, actions)
        return Probabilities(taken=every[0, rounds.codes], every=every)
    answer: Any = policy(rounds.table)
    if not isinstance(answer, Mapping):
        found = np.asarray(answer, dtype=np.float64)
        if found.shape != (len(rounds),):
            raise Invalid(
                f"{name!r} answered an array of {found.shape} for {len(rounds)} rounds.",
                hint="Give a dict of action: probabilities, or the logged actions' probabilities.",
            )
        return _alone(name, found)
    every = by_action(name, cast("Mapping[Any, Any]", answer), len(rounds), actions)
    total = every.sum(axis=1)
    if not (every >= 0).all() or not (np.abs(total - 1) < _EXACT).all():
        worst = float(total[np.argmax(np.abs(total - 1))])
        raise Invalid(f"The probabilities of {name!r} sum to {worst:.6g} in a round, not to 1.")
    return Probabilities(taken=every[np.arange(len(rounds)), rounds.codes], every=every)


def by_action(name: str, answer: Mapping[Any, Any], rows: int, actions: Actions) -> Floats:
    """The answers for each action as a matrix of (rows, actions), 0 where there is none."""
    places = [actions.place(one) for one in answer]
    every = np.zeros((rows, len(actions.values)))
    for place, values in zip(places, answer.values(), strict=True):
        column = np.asarray(values, dtype=np.float64)
        if column.shape not in {(), (rows,)}:
            raise Invalid(f"{name!r} answered an array of {column.shape} for {rows} rounds.")
        every[:, place] = column
    return every


def _alone(name: str, taken: Floats) -> Probabilities:
    if not ((taken >= 0) & (taken <= 1 + _EXACT)).all():
        raise Invalid(f"The probabilities of {name!r} are not all between 0 and 1.")
    return Probabilities(taken=taken, every=None)


def _row(shares: Mapping[Any, float], actions: Actions) -> Floats:
    for action in shares:
        actions.place(action)
    return np.array([[float(shares.get(action, 0.0)) for action in actions.values]])


def _shares(shares: Mapping[Any, Any]) -> Mapping[Any, float]:
    total = float(sum(shares.values()))
    if any(share < 0 for share in shares.values()):
        raise Invalid("The shares of a policy are not all 0 or more.", hint=_FORMS)
    if not abs(total - 1) < _EXACT:
        raise Invalid(f"The shares of a policy sum to {total:.6g}, not to 1.", hint=_FORMS)
    return {action: float(share) for action, share in shares.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, (Real, np.number)) and value is not True and value is not False
