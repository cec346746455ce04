"""Joining: what a task finds in its environment, so that code of other tools in it joins its run.

The variables are Settings: no inputs of a task, and gone after it. What they are comes from above:
this wing knows no other tool's servers.
"""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `import upturn` imports this, and has to cost little
    from upturn.core.executor import Setting
    from upturn.core.records import Run
    from upturn.stores.workspace import Workspace


# The variables of a task: of which run, which may be a child run, of which step, and its index.
Joining = Callable[["Run", str, int], "dict[str, Setting]"]
Opens = Callable[["Workspace", str], AbstractContextManager[Joining]]
_opens: list[Callable[[], Opens]] = []


def provide(load: Callable[[], Opens]) -> None:
    """Have the tasks of runs find what `load()` says; it is called when a run begins."""
    _opens[:] = [load]


@contextmanager
def joining(workspace: "Workspace", run: str) -> Generator[Joining]:
    """What the tasks of the run, and of its child runs, find in their environment."""
    if not _opens:
        yield no_joining
        return
    with _opens[0]()(workspace, run) as found:
        yield found


def no_joining(_run: "Run", _step: str, _index: int) -> "dict[str, Setting]":
    """Nothing: there is nobody to join."""
    return {}
