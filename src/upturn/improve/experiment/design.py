"""Design: what an experiment compares and how, written down before its data are seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast, get_args

import msgspec

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.records import Endpoint
from upturn.improve.experiment.bounds import Method, Rule
from upturn.improve.experiment.estimate import Adjustment
from upturn.improve.experiment.metrics import Guardrail, Linear, Metric, Quantile
from upturn.improve.statistics.multiplicity import Correction

_TUNED = 10_000


@dataclass(frozen=True, slots=True, init=False)
class Design:
    """The arms, the unit that was randomised, the metrics, and the rule that judges them."""

    name: str
    arms: Mapping[str, float]
    control: str
    metrics: tuple[Metric, ...]
    unit: str | None
    guardrails: tuple[Guardrail, ...]
    segments: tuple[str, ...]
    method: Method
    correction: Correction | None
    alpha: float
    adjustment: Adjustment
    units: int | None
    looks: tuple[float, ...]
    endpoint: str | None

    def __init__(
        self,
        name: str,
        *,
        arms: Mapping[str, float] | Sequence[str],
        metrics: Iterable[Metric],
        unit: str | None = None,
        control: str | None = None,
        guardrails: Iterable[Guardrail] = (),
        segments: str | Iterable[str] = (),
        method: Method = "anytime",
        correction: Correction | None = "holm",
        alpha: float = 0.05,
        adjustment: Adjustment = "pooled",
        units: int | None = None,
        looks: int | Iterable[float] = 5,
        endpoint: str | Endpoint | None = None,
    ) -> None:
        """Raises Invalid for what can't be an experiment."""
        shares = _shares(arms)
        first = next(iter(shares))
        if control is not None and control not in shares:
            raise Invalid(
                f"There is no arm {control!r} to be the control.",
                hint=did_you_mean(control, shares),
            )
        _one_of("method", method, Method)
        _one_of("adjustment", adjustment, Adjustment)
        if correction is not None:
            _one_of("correction", correction, Correction)
        if not (isinstance(alpha, float) and 0 < alpha < 0.5):
            raise Invalid(f"An alpha of {alpha!r} is not between 0 and 0.5.", hint="0.05, say.")
        if method == "group-sequential" and not units:
            raise Invalid(
                "A group-sequential experiment needs to know how many units are planned.",
                hint="Give units=…; Experiment.plan says how many are needed.",
            )
        values: dict[str, Any] = {
            "name": _name(name),
            "arms": shares,
            "control": control or first,
            "metrics": _metrics(metrics),
            "unit": unit,
            "guardrails": _guardrails(guardrails),
            "segments": (segments,) if isinstance(segments, str) else tuple(segments),
            "method": method,
            "correction": correction,
            "alpha": alpha,
            "adjustment": adjustment,
            "units": units,
            "looks": _looks(looks),
            "endpoint": endpoint.name if isinstance(endpoint, Endpoint) else endpoint,
        }
        for field, value in values.items():
            object.__setattr__(self, field, value)

    @property
    def others(self) -> tuple[str, ...]:
        """The arms that are compared with the control."""
        return tuple(arm for arm in self.arms if arm != self.control)

    @property
    def asked(self) -> tuple[Metric, ...]:
        """All metrics, those of guardrails included, each once."""
        return tuple(dict.fromkeys([*self.metrics, *(one.metric for one in self.guardrails)]))

    @property
    def linear(self) -> tuple[Linear, ...]:
        """Those that are functions of means."""
        return tuple(one for one in self.asked if not isinstance(one, Quantile))

    @property
    def rule(self) -> Rule:
        """How the experiment is looked at."""
        tuned = self.units or _TUNED
        planned = {"anytime": (), "fixed": (1.0,) if self.units else ()}
        looks = planned.get(self.method, self.looks)
        return Rule(self.method, self.alpha, tuned, self.units, looks)

    def spec(self) -> dict[str, Any]:
        """The design as JSON values."""
        values = {name: getattr(self, name) for name in Design.__slots__}
        return cast("dict[str, Any]", msgspec.to_builtins(values))


def _name(name: str) -> str:
    if not isinstance(name, str) or not name.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise Invalid(f"{name!r} is no name for an experiment.")
    return name


def _shares(arms: Mapping[str, float] | Sequence[str]) -> dict[str, float]:
    if isinstance(arms, str) or len(arms) < 2 or len(set(arms)) < len(arms):
        raise Invalid(
            f"The arms {arms!r} are not two or more.",
            hint='Write arms={"control": 0.5, "new": 0.5}, the control first.',
        )
    if not isinstance(arms, Mapping):
        return {str(arm): 1 / len(arms) for arm in arms}
    if not all(isinstance(one, int | float) and 0 < one < 1 for one in arms.values()):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise Invalid("An arm's share lies between 0 and 1.", hint=f"They are {dict(arms)}.")
    total = math.fsum(arms.values())
    if abs(total - 1) > 1e-6:
        raise Invalid(f"The shares of an experiment's arms sum to 1, not to {total:g}.")
    return {str(arm): share / total for arm, share in arms.items()}


def _metrics(metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    if isinstance(metrics, Metric):
        metrics = [metrics]
    found = tuple(metrics)
    for one in found:
        if not isinstance(one, Metric):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid(
                f"{one!r} is no metric.",
                hint="There is up.Mean, up.Proportion, up.Ratio, up.Count and up.Quantile.",
            )
    titles = [one.title for one in found]
    twice = sorted({title for title in titles if titles.count(title) > 1})
    if twice:
        raise Invalid(f"Two metrics are called {twice[0]!r}.", hint="Give one a name=…")
    if not found:
        raise Invalid("An experiment needs a metric.", hint='metrics=[up.Mean("revenue")], say.')
    return found


def _guardrails(guardrails: Iterable[Guardrail]) -> tuple[Guardrail, ...]:
    found = (guardrails,) if isinstance(guardrails, Guardrail) else tuple(guardrails)
    for one in found:
        if not isinstance(one, Guardrail):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid(
                f"{one!r} is no guardrail.",
                hint="Write up.non_inferior(METRIC, margin=…).",
            )
    return found


def _looks(looks: int | Iterable[float]) -> tuple[float, ...]:
    if isinstance(looks, int):
        if not 1 <= looks <= 50:
            raise Invalid(f"{looks} looks can't be planned.", hint="From 1 to 50.")
        return tuple((place + 1) / looks for place in range(looks))
    found = tuple(float(one) for one in looks)
    rising = all(a < b for a, b in pairwise(found))
    if not found or not rising or found[0] <= 0 or found[-1] != 1:
        raise Invalid(
            f"The looks {found} are not rising shares of the planned units that end with 1.",
            hint="looks=[0.25, 0.5, 1], or looks=4 for equal steps.",
        )
    return found


def _one_of(name: str, value: object, kind: Any) -> None:
    if value not in get_args(kind):
        raise Invalid(
            f"There is no {name} {value!r}.", hint=did_you_mean(str(value), get_args(kind))
        )
