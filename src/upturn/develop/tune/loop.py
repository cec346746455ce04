"""up.tune: looks for the parameters with which a step does best; every trial is a task."""

import contextlib
import copy
import math
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from inspect import Parameter
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, cast

from upturn.core.errors import Invalid, Problem, StepFailed, did_you_mean
from upturn.develop import context
from upturn.develop.frames import problem_of
from upturn.develop.ref import Ref
from upturn.develop.step import Step
from upturn.develop.tune.curve import STUDY, Curve
from upturn.develop.tune.result import Direction, Trial, Tuning
from upturn.develop.tune.space import Space, check_space, suggested

if TYPE_CHECKING:
    from optuna import Study
    from optuna import Trial as OptunaTrial
    from optuna.trial import FrozenTrial

_PRUNERS = ("median", "hyperband")


def tune(
    step: Callable[..., Any],
    space: Space,
    /,
    *,
    trials: int,
    direction: Direction,
    metric: str | None = None,
    take: Literal["last", "best"] = "last",
    pruner: Any = None,
    sampler: Any = None,
    parallel: int | None = None,
    seed: int = 0,
    **constants: Any,
) -> Tuning:
    """Call the step with `trials` choices of parameters from `space`, and say which did best.

    `space` gives for each parameter a list of values, a range, `up.integers` or `up.uniform`; or it
    is a function that takes an Optuna trial and returns the parameters, so that one may depend on
    another. `constants` are the same for all trials. In a flow each trial is a task; this waits for
    them all. Elsewhere the step is just called, once at a time.

    What counts is the value of `metric` that the step logged, the last one or the best (`take`);
    without a metric, the number that it returns. `pruner` ("median", "hyperband", one of Optuna's)
    ends trials early by the curve that they log with `up.log(step=i, …)`.

    Trial i is chosen when the results of all trials up to i - `parallel` are known, and by these
    alone: the same seed and results make the same trials, however long each takes. `parallel` is as
    many as the run has cores for, unless given; give it to have the same trials on other machines.
    `sampler` is one of Optuna's, with its own seed, instead of its TPE.

    Raises Invalid for what does not fit, and StepFailed when every trial failed.

    >>> import upturn as up
    >>> @up.step
    ... def loss(x: float) -> float:
    ...     return (x - 2) ** 2
    >>> found = up.tune(loss, {"x": range(5)}, trials=8, direction="minimize")
    >>> found.best.params, found.best.value
    ({'x': 2}, 0.0)
    """
    tuned = _checked(step, space, constants, trials=trials, direction=direction, take=take)
    session = context.session.get()
    calls = _Called() if session is None else _Tasks(session)
    if parallel is None:
        parallel = 1 if session is None else session.at_once(tuned)
    elif parallel < 1:
        raise Invalid(f"up.tune runs at least one trial at once, not {parallel}.")
    search = _Search(
        tuned, space, constants, calls, metric, direction, take, _pruner(pruner, metric)
    )
    with _quiet():
        study = _study(direction, sampler, seed)
        window = parallel if session is not None else 1
        for number in range(trials):
            if number >= window:
                search.settle(study)
            search.begin(study)
        while search.open:
            search.settle(study)
    return search.tuning()


@dataclass(slots=True)
class _Ended:
    """What became of a call."""

    status: Literal["done", "pruned", "failed"]
    output: Any = None
    task: str | None = None
    problem: Problem | None = None


class _Tasks:
    """Calls in a flow: each is a task."""

    def __init__(self, session: context.FlowContext) -> None:
        self._session = session

    def start(self, step: Step[..., Any], kwargs: dict[str, Any], curve: Curve) -> Ref[Any]:
        """Make a task of the call."""
        return self._session.submit(step, (), kwargs, judge=curve)

    def end(self, ref: Ref[Any]) -> _Ended:
        """Wait for it. Raises StepFailed when the trial never ran, for an input failed."""
        node = ref.node
        node.ended.wait()
        if node.cause is node:  # it was pruned, or failed, though `on_error` may stand in for it
            node.seen = True  # one trial's end is not the run's
            status = "pruned" if node.status == "pruned" else "failed"
            return _Ended(status, None, ref.path, node.problem)
        if node.output is None:
            ref.get()
        return _Ended("done", ref, ref.path)


class _Pruned(BaseException):
    """Ends a step that is just called; no `except Exception` in it catches this."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class _Called:
    """Calls outside a flow: made at once, in this process."""

    def start(self, step: Step[..., Any], kwargs: dict[str, Any], curve: Curve) -> _Ended:
        """Call the function; what it logs goes to the curve."""
        try:
            step.signature.bind(**kwargs)
        except TypeError as error:
            raise Invalid(
                f"{step.name}{step.signature} was called wrongly: {error}.", step=step.name
            ) from None

        def hear(metrics: dict[str, float], at_step: int | None) -> None:
            why = curve.hear(metrics, at_step)
            if why is not None:
                raise _Pruned(why)

        token = context.listener.set(hear)
        try:
            return _Ended("done", step.function(**kwargs))
        except _Pruned as pruned:
            return _Ended("pruned", problem=pruned.problem)
        except Exception as error:  # noqa: BLE001  # the step's own code: its trial failed
            return _Ended("failed", problem=problem_of(error))
        finally:
            context.listener.reset(token)

    def end(self, ended: _Ended) -> _Ended:
        """It has ended."""
        return ended


@dataclass(slots=True)
class _Open:
    """A trial that was begun."""

    asked: "OptunaTrial"
    params: dict[str, Any]
    curve: Curve
    call: Any


@dataclass(slots=True)
class _Search:
    """The trials of a tuning while it goes on: begun in order, and settled in order."""

    step: Step[..., Any]
    space: Space
    constants: dict[str, Any]
    calls: _Tasks | _Called
    metric: str | None
    direction: Direction
    take: str
    pruner: Any
    open: deque[_Open] = field(default_factory=deque[_Open])
    settled: list[Trial] = field(default_factory=list[Trial])
    past: "list[FrozenTrial]" = field(default_factory=list["FrozenTrial"])  # as pruners see them

    def begin(self, study: "Study") -> None:
        """Ask for the next trial's parameters, by what is settled, and start it."""
        asked = study.ask()
        params = suggested(self.space, asked)
        _check_names(self.step, params, self.constants)
        curve = Curve(
            asked.number,
            metric=self.metric,
            direction=self.direction,
            pruner=self.pruner,
            past=tuple(self.past),
        )
        call = self.calls.start(self.step, {**params, **self.constants}, curve)
        self.open.append(_Open(asked, params, curve, call))

    def settle(self, study: "Study") -> None:
        """Wait for the oldest trial that is open, and tell the study what became of it."""
        from optuna.trial import TrialState, create_trial

        trial = self.open.popleft()
        ended = self.calls.end(trial.call)
        if trial.curve.fault is not None:
            raise trial.curve.fault
        value = None if ended.status == "failed" else self._value(trial.curve, ended)
        if value is not None and math.isnan(value):
            value = None
            if ended.status == "done":
                what = self.metric or "what it returned"
                problem = Problem(code="step_failed", message=f"{what} was no number, but nan.")
                ended = _Ended("failed", None, ended.task, problem)
        state = {
            "done": TrialState.COMPLETE,
            "pruned": TrialState.PRUNED,
            "failed": TrialState.FAIL,
        }[ended.status]
        points = trial.curve.points if ended.status != "failed" else {}
        for at_step, point in points.items():
            trial.asked.report(point, at_step)
        study.tell(trial.asked, value if ended.status == "done" else None, state)
        self.past.append(
            create_trial(
                state=state,
                value=value,
                intermediate_values=points,
                system_attrs=trial.curve.noted(),
            )
        )
        self.settled.append(
            Trial(
                number=trial.asked.number,
                params=trial.params,
                status=ended.status,
                value=value,
                task=ended.task,
                problem=ended.problem,
                made=ended.output,
            )
        )

    def tuning(self) -> Tuning:
        """All of them. Raises StepFailed when none did anything but fail."""
        first = self.settled[0]
        if first.problem is not None and all(trial.status == "failed" for trial in self.settled):
            raise StepFailed(first.problem, path=first.task or self.step.name)
        return Tuning(self.step.name, self.metric, self.direction, tuple(self.settled))

    def _value(self, curve: Curve, ended: _Ended) -> float:
        if self.metric is None:
            output = ended.output.get() if isinstance(ended.output, Ref) else ended.output
            if isinstance(output, Real):
                return float(output)
            raise Invalid(
                f"{self.step.name} returned a {type(output).__name__}, not a number.",
                hint="Name what counts: up.tune(…, metric='auc'), with up.log(auc=…) in the step.",
            )
        value = curve.value(self.take)
        if value is None:
            hint = did_you_mean(self.metric, curve.names)
            raise Invalid(
                f"{self.step.name} never logged {self.metric!r}.",
                hint=hint or f"It logged nothing; write up.log({self.metric}=…) in it.",
            )
        return value


def _checked(
    step: object,
    space: object,
    constants: Mapping[str, Any],
    *,
    trials: int,
    direction: str,
    take: str,
) -> Step[..., Any]:
    if not isinstance(step, Step):
        name = getattr(step, "__name__", repr(step))
        raise Invalid(f"up.tune tunes a step, and {name} is none.", hint="Put @up.step above it.")
    tuned = cast(Step[..., Any], step)
    for name, given, known in (
        ("direction", direction, ("maximize", "minimize")),
        ("take", take, ("last", "best")),
    ):
        if given not in known:
            raise Invalid(
                f"up.tune knows no {name} {given!r}.", hint=did_you_mean(str(given), known)
            )
    if trials < 1:
        raise Invalid(f"up.tune makes at least one trial, not {trials}.")
    if isinstance(space, Mapping):
        check_space(space)
        _check_names(tuned, space, constants)
    elif not callable(space):
        raise Invalid(
            f"The space is {space!r}.",
            hint="Write a dict of parameters and their values, or a function that returns one.",
        )
    return tuned


def _check_names(
    step: Step[..., Any], params: Mapping[str, Any], constants: Mapping[str, Any]
) -> None:
    known = step.signature.parameters
    if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in known.values()):
        for name in (*params, *constants):
            if name not in known:
                raise Invalid(
                    f"{step.name} has no parameter {name!r}.",
                    hint=did_you_mean(name, known),
                    step=step.name,
                    param=name,
                )
    for name in params:
        if name in constants:
            raise Invalid(f"{name!r} is in the space, and given as a constant too.", param=name)


def _pruner(pruner: Any, metric: str | None) -> Any:
    if pruner is None:
        return None
    if metric is None:
        raise Invalid(
            "A pruner needs the metric that it goes by.",
            hint="Give it: up.tune(…, metric='auc'), and log its curve: up.log(step=i, auc=…).",
        )
    pruners = _optuna().pruners
    if pruner == "median":
        return pruners.MedianPruner()
    if pruner == "hyperband":
        return pruners.HyperbandPruner()
    if not isinstance(pruner, pruners.BasePruner):
        raise Invalid(
            f"up.tune knows no pruner {pruner!r}.",
            hint=did_you_mean(str(pruner), _PRUNERS) + " Or give one of optuna.pruners.",
        )
    return pruner


def _study(direction: str, sampler: Any, seed: int) -> "Study":
    optuna = _optuna()
    return optuna.create_study(
        study_name=STUDY,
        direction=direction,
        sampler=copy.deepcopy(sampler) or optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.NopPruner(),  # each trial's own curve asks its own
    )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise Invalid(
            "up.tune chooses with Optuna, which is not installed.",
            hint="Install it: pip install 'upturn[tune]'",
        ) from None
    return optuna


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Without Optuna's own lines: the run says what happens."""
    logging = _optuna().logging
    before = logging.get_verbosity()
    logging.set_verbosity(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.set_verbosity(before)
