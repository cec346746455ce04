"""Rollout: the gate that a candidate has to pass, the stages after it, and their guards."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import msgspec

from upturn.core.errors import Invalid
from upturn.core.records import Arm
from upturn.core.time import duration, spell
from upturn.improve.compare import Comparison
from upturn.improve.triggers import check_metric, greater_is_better

LATENCY = "latency_p99"
ERRORS = "error_rate"
SERVING = frozenset({LATENCY, ERRORS})  # how requests are answered: no labels are needed
MAX_LENGTHS = 4  # a stage that lacks rows lasts so many times its length, unless it says otherwise
Length = str | float | timedelta
CHAMPION, CANDIDATE = "champion", "candidate"


class Slices(msgspec.Struct, frozen=True):
    """Parts of the rows, by the values of inputs, in which a candidate must not be worse.

    Parts of fewer than `min_rows` labelled rows are judged together, as "others".
    """

    names: tuple[str, ...]
    no_worse_by: float = 0.0
    min_rows: int = 200


class _Joins(msgspec.Struct, frozen=True):
    def __and__(self, other: Beats | NoWorse | Every) -> Every:
        if not isinstance(other, _Joins):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid(
                f"{other!r} is no gate.", hint="Gates combine with gates: up.beats(…) & …"
            )
        return Every((*parts(self), *parts(other)))  # pyright: ignore[reportArgumentType]


class Beats(_Joins, frozen=True):
    """A gate: the candidate is shown, at level `alpha`, to be better by more than `by`."""

    metric: str
    by: float = 0.0
    alpha: float = 0.05
    slices: Slices | None = None

    def gain(self, comparison: Comparison) -> tuple[float, float, float]:
        """How much better the candidate is, with the ends of the interval: more is better."""
        return signed(comparison, better=greater_is_better(self.metric))

    def passed(self, comparison: Comparison) -> bool:
        """Whether even the lower end of the interval is more than `by`."""
        return self.gain(comparison)[1] > self.by

    @property
    def asks(self) -> str:
        """What is to be shown."""
        return f"{self.metric} better by more than {self.by:g}"


class NoWorse(_Joins, frozen=True):
    """No harm by more than `margin`: as a guard, none that is shown; in a gate, shown to be none.

    A guard ends a stage on evidence of harm. A gate puts the burden of proof on the candidate.
    """

    metric: str
    margin: float
    alpha: float = 0.05
    slices: Slices | None = None

    def harm(self, comparison: Comparison) -> tuple[float, float, float]:
        """How much worse the candidate is, with the ends of the interval: more is worse."""
        return signed(comparison, better=not greater_is_better(self.metric))

    def gain(self, comparison: Comparison) -> tuple[float, float, float]:
        """How much better the candidate is, with the ends of the interval: more is better."""
        return signed(comparison, better=greater_is_better(self.metric))

    def broken(self, comparison: Comparison) -> bool:
        """Whether even the lower end of the interval of the harm is more than the margin."""
        return self.harm(comparison)[1] > self.margin

    def cleared(self, comparison: Comparison) -> bool:
        """Whether even the upper end of the interval is within the margin: shown to be no worse."""
        return self.harm(comparison)[2] <= self.margin

    def passed(self, comparison: Comparison) -> bool:
        """As `cleared`: what a gate asks for."""
        return self.cleared(comparison)

    @property
    def asks(self) -> str:
        """What is to be shown."""
        return f"{self.metric} no worse by more than {self.margin:g}"


class Every(_Joins, frozen=True):
    """A gate of several: the candidate has to pass each, so their levels need no correction.

    To pass wrongly it would have to pass wrongly the one that it should fail (the
    intersection-union test, Berger 1982).
    """

    gates: tuple[Beats | NoWorse, ...]

    @property
    def metric(self) -> str:
        """The metric of the first."""
        return self.gates[0].metric


def parts(gate: Beats | NoWorse | Every) -> tuple[Beats | NoWorse, ...]:
    """The gates of a gate."""
    return gate.gates if isinstance(gate, Every) else (gate,)


def signed(comparison: Comparison, *, better: bool) -> tuple[float, float, float]:
    """A comparison's difference and ends, with the sign by which more is better, or worse."""
    if better:
        return comparison.difference, comparison.low, comparison.high
    return -comparison.difference, -comparison.high, -comparison.low


class Shadow(msgspec.Struct, frozen=True, tag="shadow"):
    """A stage: the candidate sees every request and answers none."""

    lasts: timedelta
    min_rows: int = 100
    longest: timedelta | None = None

    @property
    def limit(self) -> timedelta:
        """How long it may last while its rows are too few."""
        return self.longest or MAX_LENGTHS * self.lasts

    def arms(self, champion: int, candidate: int) -> tuple[Arm, ...]:
        """The route of the stage."""
        return (
            Arm(name=CHAMPION, version=champion, share=1.0),
            Arm(name=CANDIDATE, version=candidate, shadow=True),
        )

    def __str__(self) -> str:
        return f"a shadow for {spell(self.lasts)}"


class Canary(msgspec.Struct, frozen=True, tag="canary"):
    """A stage: the candidate answers a share of the units, the same ones throughout."""

    share: float
    lasts: timedelta
    min_rows: int = 100
    longest: timedelta | None = None

    @property
    def limit(self) -> timedelta:
        """How long it may last while its rows are too few."""
        return self.longest or MAX_LENGTHS * self.lasts

    def arms(self, champion: int, candidate: int) -> tuple[Arm, ...]:
        """The route of the stage; the candidate's arm is last, so that its share only grows."""
        return (
            Arm(name=CHAMPION, version=champion, share=1.0 - self.share),
            Arm(name=CANDIDATE, version=candidate, share=self.share),
        )

    def __str__(self) -> str:
        return f"a canary of {100 * self.share:g} % for {spell(self.lasts)}"


class Approving(msgspec.Struct, frozen=True, tag="approval"):
    """A stage: the rollout stays where it is until a person says yes or no."""

    lasts: timedelta
    who: str = ""

    @property
    def wanted(self) -> str:
        """What it waits for."""
        return f"an approval by {self.who}" if self.who else "an approval"

    def __str__(self) -> str:
        return f"{self.wanted} within {spell(self.lasts)}"


class Full(msgspec.Struct, frozen=True, tag="full"):
    """The end of a rollout: the candidate is the champion."""

    def __str__(self) -> str:
        return "all of the traffic"


Stage = Shadow | Canary | Approving | Full
Gate = Beats | NoWorse | Every
Guard = NoWorse


def beats(
    metric: str,
    *,
    by: float = 0.0,
    alpha: float = 0.05,
    slices: str | Iterable[str] = (),
    no_worse_by: float = 0.0,
    min_slice_rows: int = 200,
) -> Beats:
    """A gate: the candidate's `metric` is better by more than `by` on the same recent rows.

    Better means more of an AUC and less of a loss. It passes when the lower bound of the difference
    at level 1 − `alpha` (`compare_paired`: a block bootstrap over days) is more than `by`, so of
    candidates that are exactly `by` better one in 1 / `alpha` passes.

    `slices` names inputs: in no part of the rows with one value of them may the candidate be shown
    to be worse by more than `no_worse_by`, at level `alpha` over all parts together (Holm 1979).
    Parts of fewer than `min_slice_rows` labelled rows are judged together. Gates combine with `&`.
    Raises Invalid for an unknown metric or a level outside (0, 1).

    >>> beats("auc", by=0.0, alpha=0.05)
    Beats(metric='auc', by=0.0, alpha=0.05, slices=None)
    """
    check_metric(metric)
    _check_alpha(alpha)
    if not math.isfinite(by):
        raise Invalid(f"beats({metric!r}, by={by!r}): a gain is a finite number.", hint="Try 0.0.")
    return Beats(metric, by, alpha, _slices(slices, no_worse_by, min_slice_rows))


def no_worse(
    metric: str,
    margin: float,
    *,
    alpha: float = 0.05,
    slices: str | Iterable[str] = (),
    no_worse_by: float | None = None,
    min_slice_rows: int = 200,
) -> NoWorse:
    """A guard: a stage is rolled back once `metric` is shown to be worse by more than `margin`.

    `margin` is in the metric's own units; of `latency_p99` it is a share of the champion's: 0.2 is
    a fifth slower; of `error_rate` it is a share of the requests: 0.01 is one in a hundred more
    that the model fails. Shown means that the lower bound of the harm at level 1 − `alpha` lies
    beyond the margin. The bound holds at every look at once (`improve.sequential`), so a stage errs
    with `alpha` however often the guard looks.

    In a gate it passes when the candidate is shown to be no worse: the upper bound of the harm, at
    the gate's one look, is within the margin. `slices` are of a gate, with a margin of their own
    (`no_worse_by`, else `margin`). Raises Invalid for an unknown metric or a negative margin.

    >>> no_worse("latency_p99", 0.2)
    NoWorse(metric='latency_p99', margin=0.2, alpha=0.05, slices=None)
    """
    if metric not in SERVING:
        check_metric(metric)
    if not 0 <= margin < math.inf:
        raise Invalid(
            f"no_worse({metric!r}, {margin!r}): a margin is not negative, and finite.",
            hint="Try 0.02.",
        )
    _check_alpha(alpha)
    within = margin if no_worse_by is None else no_worse_by
    return NoWorse(metric, margin, alpha, _slices(slices, within, min_slice_rows))


def shadow(lasts: Length, *, min_rows: int = 100, longest: Length | None = None) -> Shadow:
    """A stage: for `lasts` the candidate sees every request and answers none.

    It ends when its time is over and each guard has `min_rows` labelled rows, which it compares for
    both versions; without them after `longest` (four times its length), with a rollback.

    >>> str(shadow("1d"))
    'a shadow for 1d'
    """
    return Shadow(*_lengths(lasts, min_rows, longest))


def canary(
    share: float,
    lasts: Length,
    *,
    min_rows: int = 100,
    longest: Length | None = None,
) -> Canary:
    """A stage: for `lasts` the candidate answers a `share` of the units, always the same ones.

    It ends when its time is over and each guard has `min_rows` labelled rows that the candidate
    answered; without them after `longest` (four times its length), with a rollback. Raises Invalid
    for a share outside (0, 1).

    >>> str(canary(0.05, "1d"))
    'a canary of 5 % for 1d'
    """
    if not 0 < share < 1:
        raise Invalid(
            f"canary({share!r}): a share lies between 0 and 1.",
            hint="Write 0.05 for 5 %, and full() for all of the traffic.",
        )
    return Canary(share, *_lengths(lasts, min_rows, longest))


def approval(*, who: str = "", lasts: Length = "7d") -> Approving:
    """A stage: the rollout stays where it is until a person approves or rejects the candidate.

    The route of the stage before goes on meanwhile, a shadow or a canary, and its guards go on
    looking; as the first stage, the champion answers alone. `upturn decisions approve LOOP` gives
    the answer; without one after `lasts` the candidate is refused. `who` says whose answer is
    waited for, to the reader of the decision: nobody is kept from answering.

    >>> str(approval(who="risk", lasts="3d"))
    'an approval by risk within 3d'
    """
    return Approving(_length(lasts), who)


def full() -> Full:
    """The last stage: the candidate becomes the champion. A rollout ends with it, said or not."""
    return Full()


def check_rollout(stages: Any) -> tuple[Stage, ...]:
    """The stages, with `full()` at the end. Raises Invalid when they can't be a rollout."""
    given: tuple[Stage, ...] = tuple(stages)
    for stage in given:
        if not isinstance(stage, Shadow | Canary | Approving | Full):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid(
                f"{stage!r} is not a stage of a rollout.",
                hint='There is up.shadow("1d"), up.canary(0.05, "1d"), up.approval(), up.full().',
            )
    before = given[:-1] if given and isinstance(given[-1], Full) else given
    if any(isinstance(stage, Full) for stage in before):
        raise Invalid("full() is the last stage of a rollout.")
    return (*before, Full())


def check_gate(gate: Any) -> Gate | None:
    """The gate. Raises Invalid when it can't be one."""
    if gate is None:
        return None
    if not isinstance(gate, Beats | NoWorse | Every):
        raise Invalid(f"{gate!r} is not a gate.", hint='There is up.beats("auc"), and & of two.')
    for one in parts(gate):
        if one.metric in SERVING:
            raise Invalid(
                f"A gate can't ask for {one.metric}: it scores the Log's rows, and serves none.",
                hint="It is for a guard.",
            )
    return gate


def check_guards(guards: Any) -> tuple[Guard, ...]:
    """The guards. Raises Invalid for what can't be one."""
    given: tuple[Guard, ...] = tuple(guards)
    for guard in given:
        if not isinstance(guard, NoWorse):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid(f"{guard!r} is not a guard.", hint='There is up.no_worse("auc", 0.02).')
        if guard.slices is not None:
            raise Invalid("A guard looks at all rows of a stage: slices are of a gate.")
    metrics = [guard.metric for guard in given]
    if len(set(metrics)) < len(metrics):
        raise Invalid("Two guards of a loop have the same metric.", hint="Keep the stricter one.")
    return given


def _slices(names: str | Iterable[str], no_worse_by: float, min_rows: int) -> Slices | None:
    listed = (names,) if isinstance(names, str) else tuple(names)
    if not listed:
        return None
    if not no_worse_by >= 0:
        raise Invalid(f"no_worse_by={no_worse_by!r}: a margin is not negative.")
    return Slices(listed, no_worse_by, min_rows)


def _lengths(
    lasts: Length, min_rows: int, longest: Length | None
) -> tuple[timedelta, int, timedelta | None]:
    length, limit = _length(lasts), None if longest is None else _length(longest)
    if limit is not None and limit < length:
        raise Invalid(f"A stage of {lasts!r} can't end after {longest!r} at the latest.")
    return length, min_rows, limit


def _length(lasts: Length) -> timedelta:
    length = duration(lasts)
    if length <= timedelta(0):
        raise Invalid(f"A stage of {lasts!r} has no length.", hint="Leave it out, or write '1d'.")
    return length


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise Invalid(f"alpha={alpha!r} is not a level.", hint="It lies between 0 and 1: 0.05.")
