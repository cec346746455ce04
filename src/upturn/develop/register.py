"""up.register: makes a model a version, as a task when it is called in a flow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from upturn.core.errors import Invalid
from upturn.core.records import TaskState, Version
from upturn.core.time import utcnow
from upturn.develop import context
from upturn.develop.measured import last_of
from upturn.develop.step import step
from upturn.stores.workspace import Workspace, open_workspace


def register(
    name: str,
    model: Any,
    *,
    data: Any = None,
    target: str | list[str] | None = None,
    exclude: list[str] | None = None,
    nullable: list[str] | None = None,
    answer: Literal["probability", "label", "probabilities"] = "probability",
    files: Mapping[str, Path | str] | None = None,
) -> Version:
    """Register a model as the next version of `name`; in a flow, a Ref to that version.

    `data` is the table that it was trained on: the signature (names, types, categories) and the
    baseline profile of features and predictions are learned from it; `target` is the column to be
    predicted, and `exclude` are columns that are no inputs. An input that is never missing in the
    data is refused as null when it is served, unless it is among `nullable`. A model that knows its
    feature names is taken at its word. The same model with the same data is the same version.

    A model that is a Path is that of an ONNX file. Several targets are named in a list. A
    classifier answers with the probability of its second class, or of each where there are more
    than two; with `answer="label"` with the class, and with "probabilities" always with each.
    `files` are what an `up.Model` is loaded with: paths of files or folders, stored with the
    version.

    Raises Invalid when the name, the data or the model doesn't fit.
    """
    more: dict[str, Any] = {}  # what is not said is no part of the task's key
    if answer != "probability":
        more["answer"] = answer
    if files:
        more["files"] = {name: Path(path) for name, path in files.items()}
    return _register(
        name,
        model,
        data=data,
        target=target,
        exclude=exclude or [],
        nullable=nullable or [],
        more=more,
    )


@step
def _register(
    name: str,
    model: Any,
    *,
    data: Any,
    target: str | list[str] | None,
    exclude: list[str],
    nullable: list[str],
    more: dict[str, Any],
) -> Version:
    from upturn.model.registry import register_version

    task = context.task.get()
    if task is None:
        return register_version(
            open_workspace(),
            name,
            model,
            data=data,
            target=target,
            exclude=tuple(exclude),
            nullable=tuple(nullable),
            **more,
            now=utcnow(),
        )
    digests = {item.name: item.digest for item in task.call.inputs}
    if "model" not in digests:
        raise Invalid(
            "up.register takes one model.", hint="Choose one in a step, and register that."
        )
    return register_version(
        task.workspace,
        name,
        model,
        data=data,
        target=target,
        exclude=tuple(exclude),
        nullable=tuple(nullable),
        **more,
        run=task.call.run,
        task=task.call.id,
        params=task.call.flow_params,
        metrics=_metrics_of_maker(task.workspace, task.call.inputs),
        code=task.call.code,
        model_digest=None if isinstance(model, Path) else digests["model"],
        data_digest=digests.get("data"),
        now=utcnow(),
    )


_register.name = "register"
STEPS = (_register,)  # those of ours that are tasks of flows


def _metrics_of_maker(workspace: Workspace, inputs: tuple[Any, ...]) -> dict[str, float]:
    """What the step that made the model logged last, by name."""
    path = next((item.made_by for item in inputs if item.name == "model"), None)
    if path is None:
        return {}
    run, step_name, index = path.removeprefix("run/").rsplit("/", 2)
    state = workspace.meta.find(TaskState, run, step_name, int(index))
    if state is not None and state.reused_from is not None:
        run, step_name, index = state.reused_from.removeprefix("run/").rsplit("/", 2)
    return last_of(workspace.tracking, run, f"{step_name}/{index}")
