"""up.register: makes a model a version, as a task when it is called in a flow."""

from typing import Any

from upturn.core.errors import Invalid
from upturn.core.records import Metric, TaskState, Version
from upturn.core.time import utcnow
from upturn.develop import context
from upturn.develop.step import step
from upturn.stores.workspace import Workspace, open_workspace


def register(
    name: str,
    model: Any,
    *,
    data: Any = None,
    target: str | None = None,
    exclude: list[str] | None = None,
    nullable: list[str] | None = None,
) -> Version:
    """Register a model as the next version of `name`; in a flow, a Ref to that version.

    `data` is the table that it was trained on: the signature (names, types, categories) and the
    baseline profile of features and predictions are learned from it; `target` is the column to be
    predicted, and `exclude` are columns that are no inputs. An input that is never missing in the
    data is refused as null when it is served, unless it is among `nullable`. A model that knows its
    feature names is taken at its word. The same model with the same data is the same version.

    Raises Invalid when the name, the data or the model doesn't fit.
    """
    return _register(
        name, model, data=data, target=target, exclude=exclude or [], nullable=nullable or []
    )


@step
def _register(
    name: str,
    model: Any,
    *,
    data: Any,
    target: str | None,
    exclude: list[str],
    nullable: list[str],
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
        run=task.call.run,
        task=task.call.id,
        params=task.call.flow_params,
        metrics=_metrics_of_maker(task.workspace, task.call.inputs),
        code=task.call.code,
        model_digest=digests["model"],
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
    logged = workspace.meta.select(Metric, run=run, step=step_name, index=int(index))
    return {metric.name: metric.value for metric in logged}
