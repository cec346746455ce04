"""Pins: runs, tasks and artifacts that a person wants kept, whatever their age."""

import re

from upturn.core.errors import Invalid, NotFound
from upturn.core.ids import artifact_path, task_path
from upturn.core.records import Artifact, Pin
from upturn.core.time import utcnow
from upturn.core.who import who
from upturn.develop.runs import parse_task, pick_tasks, view_run
from upturn.stores.workspace import Workspace

_ARTIFACT = re.compile(r"artifact/([0-9a-f]{64})")


def put_pin(workspace: Workspace, text: str, *, pinned: bool, why: str = "") -> Pin:
    """Pin (or unpin) what `text` names: RUN, RUN/STEP, RUN/STEP/INDEX or artifact/DIGEST.

    What is pinned already is returned as it is, unless there is another reason. Raises NotFound
    when there is no such thing, or when it is to be unpinned and is not pinned.
    """
    path = pinned_path(workspace, text)
    known = workspace.meta.find(Pin, path)
    if known is not None and known.pinned and pinned and why in ("", known.why):
        return known
    if not pinned and (known is None or not known.pinned):
        names = ", ".join(pin.path for pin in list_pins(workspace)[:5])
        raise NotFound(
            f"{path} is not pinned.", hint=f"Pinned: {names}." if names else "Nothing is."
        )
    return workspace.meta.add(Pin(path=path, pinned=pinned, why=why, who=who(), at=utcnow()))


def list_pins(workspace: Workspace) -> list[Pin]:
    """What is pinned now, by path."""
    return [pin for pin in workspace.meta.last_each(Pin) if pin.pinned]


def pinned_path(workspace: Workspace, text: str) -> str:
    """The whole path of what is to be pinned. Raises NotFound, or Invalid for another form."""
    if text.startswith("artifact/"):
        found = _ARTIFACT.fullmatch(text)
        if found is None:
            raise Invalid(f"{text!r} is no path of an artifact.", hint="Write its whole digest.")
        workspace.meta.get(Artifact, found[1])
        return artifact_path(found[1])
    run, step, index = parse_task(text)
    run = view_run(workspace, run).run.id
    if step is None:
        return f"run/{run}"
    pick_tasks(workspace, run, step, index)
    return f"run/{run}/{step}" if index is None else task_path(run, step, index)
