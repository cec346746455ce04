"""Loop: what a person writes down once, so that a model is kept good without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from upturn.core.errors import Invalid
from upturn.core.records import Endpoint
from upturn.core.time import duration
from upturn.improve.limits import Budget, Quiet
from upturn.improve.rollout import Gate, Guard, Stage, check_gate, check_guards, check_rollout
from upturn.improve.triggers import Trigger

Duration = str | float | timedelta


class RunHandle(Protocol):
    """A run of a flow."""

    @property
    def id(self) -> str:
        """The run's id."""
        ...

    def result(self) -> Any:
        """What the flow returned. Raises RunFailed or StepFailed."""
        ...


class Trains(Protocol):
    """What a loop trains with: a flow whose parameters include `start` and `end`.

    It returns the Version that it registered. A `date` parameter names a whole day, the last one
    included; a `datetime` is an instant, and `end` is the first that is left out.
    """

    @property
    def name(self) -> str:
        """The flow's name."""
        ...

    @property
    def entry(self) -> str:
        """Where the flow is: 'flights.py:delays'."""
        ...

    def run(self, **params: Any) -> RunHandle:
        """Run it with these parameters."""
        ...


@dataclass(frozen=True, slots=True, init=False)
class Loop:
    """What keeps an endpoint's model good: when to retrain, and what a candidate has to show.

    - `train`: a flow that takes `start` and `end` and returns a Version.
    - `window`: how much data it trains on. It ends `holdout` before now, so that the gate compares
      candidate and champion on rows that neither has seen.
    - `when`: the trigger, asked at every tick (`every`) about the champion's rows of the last
      `monitor_window`, on the labels known by then.
    - `gate`: what the candidate has to show on the held-out rows of the Log.
    - `rollout`, `guard`: the stages in which it then takes over, and what ends one early.
    - `min_rows`: how many rows (labelled ones, for a metric) a trigger or the gate asks for.
    - `cooldown`: how long to wait after a candidate was refused, rolled back or not made.
    - `quiet`: times in which no route changes towards a candidate; a rollback is always allowed.
    - `budget`: how many trainings, and how many requests that candidates answer, are allowed.
    - `history`: a function of `start` and `end` that returns past rows, for `upturn rehearse`: a
      table with the columns `at`, `known_at` (null when never), `label` and the model's inputs.

    >>> from datetime import date
    >>> import upturn as up
    >>> @up.flow
    ... def delays(start: date, end: date): ...
    >>> loop = up.Loop(up.Endpoint("delays"), train=delays, when=up.stale("30d"))
    >>> loop.window.days
    90
    """

    endpoint: Endpoint
    train: Trains
    when: Trigger
    window: timedelta
    gate: Gate | None
    rollout: tuple[Stage, ...]
    guard: tuple[Guard, ...]
    holdout: timedelta
    history: Callable[..., Any] | None
    name: str
    every: timedelta
    monitor_window: timedelta
    min_rows: int
    cooldown: timedelta
    quiet: Quiet | None
    budget: Budget

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        train: Trains,
        when: Trigger,
        window: Duration = "90d",
        gate: Gate | None = None,
        rollout: Iterable[Stage] = (),
        guard: Iterable[Guard] = (),
        holdout: Duration = "14d",
        history: Callable[..., Any] | None = None,
        name: str | None = None,
        every: Duration = "1d",
        monitor_window: Duration = "28d",
        min_rows: int = 500,
        cooldown: Duration = "7d",
        quiet: Quiet | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Raises Invalid for what can't be a loop."""
        if not isinstance(endpoint, Endpoint):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid(
                f"A loop's endpoint is an up.Endpoint, not {endpoint!r}.",
                hint=f"Write up.Endpoint({str(endpoint)!r}).",
            )
        if not isinstance(when, Trigger):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid(
                f"{when!r} is not a trigger.",
                hint='There is up.stale("30d"), up.drift(psi=0.2) and up.drop("auc", 0.03).',
            )
        if not callable(getattr(train, "run", None)):
            raise Invalid(f"{train!r} is not a flow.", hint="Decorate the function with @up.flow.")
        if quiet is not None and not isinstance(quiet, Quiet):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid(f"{quiet!r} is no quiet time.", hint='Write up.quiet("22:00-06:00").')
        if budget is not None and not isinstance(budget, Budget):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid(f"{budget!r} is no budget.", hint='Write up.budget(retrains="2/week").')
        values: dict[str, Any] = {
            "endpoint": endpoint,
            "train": train,
            "when": when,
            "window": _positive("window", window),
            "gate": check_gate(gate),
            "rollout": check_rollout(rollout),
            "guard": check_guards(guard),
            "holdout": _positive("holdout", holdout),
            "history": history,
            "name": name or endpoint.name,
            "every": _positive("every", every),
            "monitor_window": _positive("monitor_window", monitor_window),
            "min_rows": min_rows,
            "cooldown": duration(cooldown),
            "quiet": quiet,
            "budget": budget or Budget(),
        }
        for field, value in values.items():
            object.__setattr__(self, field, value)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics whose reference is kept: those that the trigger asks about."""
        return tuple(sorted(self.when.metrics))

    def quiet_until(self, now: datetime) -> datetime | None:
        """When the quiet time at `now` is over; None outside of one."""
        return None if self.quiet is None else self.quiet.ends(now)


def _positive(name: str, value: Duration) -> timedelta:
    length = duration(value)
    if length <= timedelta(0):
        raise Invalid(f"{name}={value!r}: a loop's {name} has a length.", hint="Write '14d'.")
    return length
