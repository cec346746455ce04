"""Spaces: what values a parameter may take, and how Optuna is asked for one."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, cast

from upturn.core.errors import Invalid

if TYPE_CHECKING:
    from optuna import Trial as OptunaTrial

Space = Mapping[str, Any] | Callable[["OptunaTrial"], Any]
_OPTUNA_KNOWS = (NoneType, bool, int, float, str)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Numbers from low to high, each as likely; with `log`, each order of magnitude."""

    low: float
    high: float
    log: bool
    step: float | None


@dataclass(frozen=True, slots=True)
class Integers:
    """Whole numbers from low to high, both included."""

    low: int
    high: int
    log: bool
    step: int


def uniform(low: float, high: float, *, log: bool = False, step: float | None = None) -> Uniform:
    """Numbers between two, for `up.tune`. `log=True` for what spans orders of magnitude.

    >>> import upturn as up
    >>> up.uniform(1e-4, 1.0, log=True)
    Uniform(low=0.0001, high=1.0, log=True, step=None)
    """
    made = Uniform(float(low), float(high), log, step)
    _check("uniform", low, high, log=log, stepped=step is not None, step=step or 1)
    return made


def integers(low: int, high: int, *, log: bool = False, step: int = 1) -> Integers:
    """Whole numbers between two, both included, for `up.tune`; `range(2, 13)` says the same.

    >>> import upturn as up
    >>> up.integers(2, 12)
    Integers(low=2, high=12, log=False, step=1)
    """
    if any(type(number) is not int for number in (low, high, step)):
        raise Invalid(
            f"up.integers takes whole numbers, and was given {low!r}, {high!r} and {step!r}.",
            hint="up.uniform takes others.",
        )
    _check("integers", low, high, log=log, stepped=step != 1, step=step)
    return Integers(low, high, log, step)


def check_space(space: Mapping[str, Any]) -> None:
    """Raise Invalid, naming the parameter, for what is no space."""
    for name, values in space.items():
        if isinstance(values, Uniform | Integers):
            continue
        if not isinstance(values, list | tuple | set | frozenset | range):
            raise Invalid(
                f"The space of {name!r} is {values!r}, from which nothing can be chosen.",
                hint="Write a list of values, range(2, 13), up.integers(…) or up.uniform(…); "
                "what is the same in all trials is given by keyword, or as a list of one.",
                param=name,
            )
        if not values:
            raise Invalid(f"The space of {name!r} has no values.", param=name)


def suggested(space: Space, trial: "OptunaTrial") -> dict[str, Any]:
    """The parameters of one trial, by name."""
    if isinstance(space, Mapping):
        return {name: _suggest(trial, name, values) for name, values in space.items()}
    made = space(trial)
    if not isinstance(made, Mapping):
        raise Invalid(
            f"The space returned {made!r} for a trial.",
            hint="It returns a dict: the trial's parameters by name.",
        )
    return dict(cast("Mapping[str, Any]", made))


def _suggest(trial: "OptunaTrial", name: str, values: Any) -> Any:
    match values:
        case Uniform():
            return trial.suggest_float(
                name, values.low, values.high, log=values.log, step=values.step
            )
        case Integers():
            return trial.suggest_int(
                name, values.low, values.high, log=values.log, step=values.step
            )
        case range():
            low, high = sorted((values[0], values[-1]))
            return trial.suggest_int(name, low, high, step=abs(values.step))
        case _:
            return _choose(trial, name, values)


def _choose(trial: "OptunaTrial", name: str, values: Iterable[Any]) -> Any:
    # Sets are sorted: their order is another one in every process.
    choices = sorted(values, key=repr) if isinstance(values, set | frozenset) else list(values)
    if all(isinstance(choice, _OPTUNA_KNOWS) for choice in choices):
        return trial.suggest_categorical(name, choices)
    place = trial.suggest_categorical(name, list(range(len(choices))))
    return choices[place]


def _check(name: str, low: float, high: float, *, log: bool, stepped: bool, step: float) -> None:
    wrong = None
    if not low <= high:
        wrong = "the lower end comes first"
    elif log and low <= 0:
        wrong = "on a log scale, both ends are above 0"
    elif log and stepped:
        wrong = "a log scale has no step"
    elif step <= 0:
        wrong = "a step is above 0"
    if wrong is not None:
        raise Invalid(f"up.{name}({low!r}, {high!r}) is no space: {wrong}.")
