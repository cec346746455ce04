"""Crossing: functions and values on their way into an environment and out of it, and why not."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from upturn.core.errors import Corrupt, Invalid, NotFound, Problem
from upturn.core.executor import Call, FunctionRef, InEnv
from upturn.core.records import Artifact, Task
from upturn.develop.env import Env, here
from upturn.develop.frames import is_users
from upturn.develop.functions import resolve
from upturn.develop.inputs import ENV_INPUT
from upturn.develop.runs import parse_task
from upturn.stores import values
from upturn.stores.workspace import Workspace


def refuse_by_value(step: str, function: FunctionRef, env: Env | None) -> None:
    """Raise Invalid when the function can't be taken to the environment's Python."""
    if function.pickle is None or env is None or env.python is None or _minor(env.python) == here():
        return
    raise Invalid(
        f"The step {step!r} can't be taken from Python {here()} to {_minor(env.python)}: no name"
        " leads to it.",
        hint="Write it at the top level of a file, not in a function or a notebook.",
        step=step,
    )


def function_of(call: Call) -> Callable[..., Any]:
    """The call's function. Raises Invalid when its file needs what its environment lacks."""
    try:
        return resolve(call.function)
    except ImportError as error:
        if call.env is None:
            raise
        raise Invalid(
            f"{_importer(error, call)} imports {error.name or error!r}, which is not in the"
            f" environment of the step {call.step!r}: {call.env.label}.",
            hint="Add it to up.env(…), or import it inside the steps that use it.",
            step=call.step,
        ) from error


def with_way_out(problem: Problem, error: BaseException, call: Call) -> Problem:
    """The problem, with a hint where the step itself imports what its environment lacks."""
    if call.env is None or problem.hint or not isinstance(error, ModuleNotFoundError):
        return problem
    hint = f"Its environment is {call.env.label}: add what is missing to up.env(…)."
    return msgspec.structs.replace(problem, hint=hint)


def argument(workspace: Workspace, call: Call, digest: str) -> Any:
    """A stored argument of the call. Raises Invalid when it can't cross into its environment."""
    try:
        return values.load(workspace.blobs, digest)
    except (Corrupt, NotFound):
        raise
    except Exception as error:
        maker = next((item.made_by for item in call.inputs if item.digest == digest), None)
        made_in = None if maker is None else env_of(workspace, maker)
        if call.env is None and made_in is None:
            raise
        where = call.env.label if call.env is not None else f"the flow's own (python {here()})"
        raise _refusal(
            error, workspace, digest, maker, made_in, f"the environment of {call.step!r}, {where}"
        ) from error


def output(workspace: Workspace, path: str, digest: str, env: InEnv | None) -> Any:
    """A task's output. Raises Invalid when it can't cross from its environment to here."""
    try:
        return values.load(workspace.blobs, digest)
    except (Corrupt, NotFound):
        raise
    except Exception as error:
        if env is None:
            raise
        where = f"the flow's own environment (python {here()})"
        raise _refusal(error, workspace, digest, path, env.label, where) from error


def env_of(workspace: Workspace, path: str) -> str | None:
    """What the environment of a task is called; None when it had none of its own."""
    run, step, index = parse_task(path)
    task = workspace.meta.find(Task, run, step, index)
    for item in task.inputs if task is not None else ():
        if item.name == ENV_INPUT:
            known = workspace.meta.find(Artifact, item.digest)
            return item.digest[:12] if known is None else known.summary
    return None


def _refusal(
    error: Exception,
    workspace: Workspace,
    digest: str,
    maker: str | None,
    made_in: str | None,
    where: str,
) -> Invalid:
    kind = values.header_of(workspace.blobs.get(digest)).type
    origin = "" if maker is None else f" that {maker} made"
    origin += "" if made_in is None else f" in {made_in}"
    why = (error.__cause__ if isinstance(error, Invalid) else None) or error
    return Invalid(
        f"The {kind}{origin} can't be loaded in {where}: {type(why).__name__}: {why}.",
        hint="Both environments need its library, at versions that fit together. Plain values,"
        " arrays and tables always cross.",
        type=kind,
    )


def _importer(error: ImportError, call: Call) -> str:
    """The last of the user's own files on the way to the import that failed."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    own = [Path(file).name for file in files if is_users(file)]
    return own[-1] if own else call.function.module or call.function.name


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])
