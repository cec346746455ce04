"""Flow: a plain function whose step calls become the tasks of a run."""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast, get_args, overload

import msgspec

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.records import Overlap
from upturn.core.schedules import CatchUp
from upturn.develop import context
from upturn.develop.overlap import checked
from upturn.develop.reporting import Reporter
from upturn.develop.schedule.trigger import Trigger, paths_of

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class FlowParam:
    """One parameter of a flow, as a command line or a form asks for it."""

    name: str
    type: Any
    required: bool
    default: Any = None


class Flow(Generic[P, R]):
    """A function that, called, makes a run of the steps that it calls."""

    def __init__(
        self,
        function: Callable[P, R],
        schedule: str | None = None,
        overlap: str = "parallel",
        *,
        tz: str = "UTC",
        after: Any = None,
        catch_up: str = "last",
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = function.__name__
        if inspect.iscoroutinefunction(function):
            raise Invalid(
                f"The flow {self.name!r} is async.",
                hint="Write a plain def: steps run in parallel without await.",
            )
        self.schedule = schedule
        self.overlap: Overlap = checked(overlap, self.name)
        self.tz = tz
        self.after = paths_of(after)
        self.catch_up: CatchUp = _catch_up(catch_up, self.name)
        if schedule is not None:
            from upturn.develop.schedule.timetable import timetable

            timetable(schedule, tz)  # raises, where the mistake is
        self.signature = inspect.signature(function)
        for name, param in self.signature.parameters.items():
            if param.kind not in (param.POSITIONAL_OR_KEYWORD, param.KEYWORD_ONLY):
                raise Invalid(
                    f"The flow {self.name!r} takes {param}, and a flow's parameters have names.",
                    hint="They are options on the command line; take a list instead.",
                    param=name,
                )

    @property
    def file(self) -> Path | None:
        """The file in which the flow is written; None for one of a notebook."""
        file = Path(self.function.__code__.co_filename)
        return file.resolve() if file.is_file() else None

    @property
    def entry(self) -> str:
        """Where the flow is: 'flights.py:delays'."""
        return f"{self.file or self.function.__module__}:{self.function.__qualname__}"

    @functools.cached_property
    def params(self) -> tuple[FlowParam, ...]:
        """The flow's parameters, with their types resolved."""
        hints = typing.get_type_hints(self.function)
        return tuple(
            FlowParam(
                name,
                hints.get(name, Any),
                parameter.default is parameter.empty,
                None if parameter.default is parameter.empty else parameter.default,
            )
            for name, parameter in self.signature.parameters.items()
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """In a flow: a child run. Elsewhere: a run, waited for; what the flow returned."""
        bound = self.signature.bind(*args, **kwargs)
        session = context.session.get()
        if session is not None:
            return cast(R, session.run_child(self, bound.arguments))
        return cast(R, self.run(**bound.arguments).result())

    def run(
        self, *, upturn_reporter: Reporter | None = None, upturn_fresh: bool = False, **params: Any
    ) -> Any:
        """Run the flow to its end and return the run's handle, failed or not.

        Parameters are converted to the types of the signature: '2013-01-01' to a date, '3' to an
        int. Raises Invalid naming the parameter that can't be.
        """
        from upturn.develop.run import start_run

        return start_run(self, self.convert(params), reporter=upturn_reporter, fresh=upturn_fresh)

    def convert(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters in the types of the signature, defaults included."""
        self._refuse_unknown(given)
        return {param.name: _converted(self.name, param, given) for param in self.params}

    def convert_given(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Some of the parameters, in the types of the signature."""
        self._refuse_unknown(given)
        return {
            param.name: _converted(self.name, param, given)
            for param in self.params
            if param.name in given
        }

    def _refuse_unknown(self, given: Mapping[str, Any]) -> None:
        known = [param.name for param in self.params]
        for name in given:
            if name not in known:
                raise Invalid(
                    f"The flow {self.name!r} has no parameter {name!r}.",
                    hint=did_you_mean(name, known),
                    param=name,
                )

    def __repr__(self) -> str:
        return f"<Flow {self.name}>"


def _catch_up(word: str, flow: str) -> CatchUp:
    for known in get_args(CatchUp):
        if word == known:
            return known
    raise Invalid(
        f"The flow {flow!r} has catch_up={word!r}.", hint=did_you_mean(word, get_args(CatchUp))
    )


def _converted(flow: str, param: FlowParam, given: Mapping[str, Any]) -> Any:
    if param.name not in given:
        if param.required:
            raise Invalid(
                f"The flow {flow!r} needs a value for {param.name!r}.",
                hint=f"Give it: --{param.name.replace('_', '-')} VALUE ({type_name(param.type)})",
                param=param.name,
            )
        return param.default
    value = given[param.name]
    try:
        return msgspec.convert(value, param.type, strict=False, dec_hook=_from_text)
    except (msgspec.ValidationError, TypeError, ValueError):
        raise Invalid(
            f"--{param.name.replace('_', '-')} is {value!r}, and takes {type_name(param.type)}.",
            param=param.name,
        ) from None


def _from_text(kind: type, value: Any) -> Any:
    if issubclass(kind, Path):
        return kind(value)
    if isinstance(value, kind):
        return value
    raise TypeError(kind)


def type_name(kind: Any) -> str:
    """How a type is called in help and errors.

    >>> from datetime import date
    >>> type_name(list[int]), type_name(date | None), type_name(Literal["day", "week"])
    ('list[int]', 'a date (2013-01-31)', "'day' or 'week'")
    """
    named = {
        "date": "a date (2013-01-31)",
        "datetime": "an instant (2013-01-31T06:00:00Z)",
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "str": "text",
        "Path": "a path",
    }
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(repr, typing.get_args(kind)))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(kind) if part is not type(None)]
        return " or ".join(map(type_name, parts))
    if isinstance(kind, type) and not typing.get_args(kind):
        return named.get(kind.__name__, kind.__name__)
    return str(kind).replace("typing.", "")


After = Flow[..., Any] | Trigger | str


@overload
def flow(function: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *,
    schedule: str | None = None,
    tz: str = "UTC",
    after: After | Iterable[After] | None = None,
    catch_up: CatchUp = "last",
    overlap: Overlap = "parallel",
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(
    function: Callable[..., Any] | None = None,
    /,
    *,
    schedule: str | None = None,
    tz: str = "UTC",
    after: After | Iterable[After] | None = None,
    catch_up: CatchUp = "last",
    overlap: Overlap = "parallel",
) -> Any:
    """Make a function a flow: ordinary Python in which step calls return Refs at once.

    `schedule` says when it is to run, as cron does, by the clocks of the time zone `tz`, and
    `after` what has to happen: another flow has succeeded, or `up.new_version` or `up.new_data`.
    `upturn schedule FILE:FLOW` puts that to work. `catch_up` says what becomes of the times at
    which nobody was there to start it: nothing ("none"), one run ("last"), or all of them ("all").

    `overlap` says what a run does when another one of the flow goes on: run beside it
    ("parallel"), wait for its turn ("queue"), wait unless a newer one comes to wait ("newest"), or
    not run at all ("skip").

    >>> import upturn as up
    >>> @up.step
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> @up.flow
    ... def quadruple(x: int):
    ...     return double(double(x))
    """
    if function is not None:
        return Flow(function)
    return lambda decorated: Flow(
        decorated, schedule, overlap, tz=tz, after=after, catch_up=catch_up
    )
