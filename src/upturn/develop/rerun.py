"""Rerun: one task again, or all of a step, with their recorded inputs on the current code."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upturn.core.errors import Conflict, Invalid, NotFound, did_you_mean
from upturn.core.executor import File, Stored
from upturn.core.ids import task_path
from upturn.core.records import Input, Overlap, Run, Task, TaskState
from upturn.develop.inputs import ENV_INPUT, file_digest
from upturn.develop.layout import arguments_of
from upturn.develop.ref import Ref
from upturn.develop.register import STEPS
from upturn.develop.source import is_own_module
from upturn.develop.step import Step
from upturn.stores import values
from upturn.stores.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Recorded:
    """A task as it was recorded, and the step that it is one of as it is written now."""

    step: Step[..., Any]
    task: Task
    state: TaskState | None

    @property
    def path(self) -> str:
        """The task's path."""
        return task_path(self.task.run, self.task.step, self.task.index)

    def arguments(self, workspace: Workspace) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The values that it was given, as its step takes them."""
        return self._bound(lambda item: _value(workspace, item))

    def call(self) -> Any:
        """Call the step, in a flow, with what it was given."""
        args, kwargs = self._bound(_handle)
        return self.step(*args, **kwargs)

    def _bound(self, leaf: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = arguments_of(self.task.layout, self.task.inputs, leaf)
        return _fitted(self.step, given)


def recorded(
    workspace: Workspace, run: Run, steps: Iterable[Step[..., Any]], tasks: Sequence[Task]
) -> list[Recorded]:
    """The recorded tasks with their steps, all that they need being there.

    Raises NotFound for a step that is no longer written, or an input that is no longer kept, and
    Invalid for arguments that don't fit the step as it is now.
    """
    known = list(steps)
    found: list[Recorded] = []
    for task in tasks:
        step = _step_called(task.step, known, run)
        one = Recorded(step, task, workspace.meta.find(TaskState, task.run, task.step, task.index))
        _check(workspace, one)
        found.append(one)
    return found


def steps_of(module_name: str) -> list[Step[..., Any]]:
    """The steps of a loaded module first, then those of the user's other loaded modules."""
    first = sys.modules.get(module_name)
    modules = [first] if first is not None else []
    modules += [module for module in list(sys.modules.values()) if module is not first]
    steps: dict[int, Step[..., Any]] = {}
    for module in modules:
        if is_own_module(module):
            for value in list(vars(module).values()):
                if isinstance(value, Step):
                    steps.setdefault(id(value), value)
    return [*steps.values(), *STEPS]


@dataclass(slots=True)
class Again:
    """A flow whose tasks are recorded ones; implements Runnable."""

    run: Run
    tasks: Sequence[Recorded]
    file: Path | None
    schedule: str | None = None
    overlap: Overlap = "parallel"

    @property
    def name(self) -> str:
        """The name of the flow that they were tasks of."""
        return self.run.flow

    @property
    def entry(self) -> str:
        """Where that flow is."""
        return self.run.entry

    def function(self, **_params: Any) -> Any:
        """Call each step."""
        return [task.call() for task in self.tasks]

    def convert(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """They are as recorded."""
        return dict(given)


class _Past:
    """A task of another run, done: what a Ref to its output holds on to."""

    status = "done"

    def __init__(self, path: str, output: str) -> None:
        self.path = path
        self.output = output


def _handle(item: Input) -> Any:
    """An argument for a task: by its content, and from the task that made it."""
    if item.path is not None:
        return File(item.path, item.digest)
    if item.made_by is not None:
        past: Any = _Past(item.made_by, item.digest)
        return Ref(past, _unread)
    return Stored(item.digest)


def _unread(node: Any) -> Any:
    raise AssertionError(node)


def _value(workspace: Workspace, item: Input) -> Any:
    if item.path is not None:
        return Path(item.path)
    return values.load(workspace.blobs, item.digest)


def _step_called(name: str, steps: Sequence[Step[..., Any]], run: Run) -> Step[..., Any]:
    for step in steps:
        if step.name == name:
            return step
    raise NotFound(
        f"No step {name!r} in the code of {run.entry}.",
        hint=did_you_mean(name, {step.name for step in steps})
        or "A step that is made in a function has no name that leads to it: run the flow again.",
    )


def _fitted(
    step: Step[..., Any], given: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments. Raises Invalid for what the step does not take now."""
    parameters = step.signature.parameters
    for name in given:
        if name not in parameters:
            hint = did_you_mean(name, parameters)
            raise Invalid(
                f"The step {step.name!r} was given {name!r}, which it takes no longer.", hint=hint
            )
    for name, parameter in parameters.items():
        many = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if name not in given and parameter.default is parameter.empty and not many:
            raise Invalid(
                f"The step {step.name!r} takes {name!r} now, and was given none.",
                hint=f"Give it a default to rerun it, or run the flow: {step.name}{step.signature}",
            )
    bound = step.signature.bind_partial()
    bound.arguments.update({name: given[name] for name in parameters if name in given})
    return bound.args, bound.kwargs


def _check(workspace: Workspace, one: Recorded) -> None:
    if one.task.layout is None:
        raise Invalid(
            f"How the arguments of {one.path} are nested is not recorded.",
            hint="Run its flow again.",
        )
    for item in one.task.inputs:
        if item.name.endswith(":shape") or item.name == ENV_INPUT or item.name.startswith("$"):
            continue
        if item.path is not None:
            if file_digest(Path(item.path)) != item.digest:
                raise Conflict(
                    f"The file {item.path} is no longer what {one.path} was given.",
                    hint="Run the flow again: it takes the file as it is now.",
                )
        elif not workspace.blobs.has(item.digest):
            raise NotFound(
                f"The input {item.name} of {one.path} is no longer kept.",
                hint=f"Make it again with: upturn resume {one.task.run}",
            )
    _fitted(one.step, one.task.layout)
