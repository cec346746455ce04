"""Memory: which earlier output a task may use instead of running.

A memo is found by the digest of code and inputs, which are known before a task runs. What it read
is known only afterwards, so that is kept with the memo as a trace, and the newest memo whose trace
still holds is taken: the constructive traces of Mokhov, Mitchell and Peyton Jones, "Build Systems
à la Carte" (2018).
"""

from datetime import datetime, timedelta

from upturn.core.memos import last_memo, usable
from upturn.core.records import Memo, Task, TaskState
from upturn.core.time import utcnow
from upturn.develop.contents import first_changed
from upturn.develop.node import Node
from upturn.stores.workspace import Workspace

_TRACES = 20  # how many memos of one key are tried


class Memory:
    """What tasks of this workspace made before."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def find(self, node: Node) -> Memo | None:
        """The memo that the task may use. When there is none, `node.why` says why, if one might
        have expected it."""
        project = self._workspace.settings.project
        last = last_memo(self._workspace.meta, node.memo, project)
        if last is None:
            return None
        node.why = self._objection(last, node.options.cache)
        if not node.why:
            return last
        if not last.reads:
            return None
        older = self._workspace.meta.select(Memo, memo=node.memo, newest_first=True, limit=_TRACES)
        for memo in usable(older, project):
            if memo.seq < last.seq and not self._objection(memo, node.options.cache):
                node.why = ""
                return memo
        return None

    def _objection(self, memo: Memo, cache: bool | timedelta) -> str:
        """Why the memo may not be used; empty when it may."""
        if not isinstance(cache, bool) and self._age(memo.at) > cache:
            return f"expired {memo.task}"
        if not self._workspace.blobs.has(memo.output):
            return f"gone {memo.task}"
        changed = first_changed(memo.reads, self._workspace.settings.root)
        return f"read {changed}" if changed is not None else ""

    def _age(self, at: datetime) -> timedelta:
        return utcnow() - at

    def still_holds(self, node: Node, state: TaskState) -> bool:
        """Whether what the task made before its run was interrupted is what it would make now.

        What changed while it ran tells nothing: a task that finished is then not repeated.
        """
        if state.output is None or not self._workspace.blobs.has(state.output):
            node.why = f"gone {node.path}"
            return False
        task = self._workspace.meta.find(Task, node.run, node.step, node.index)
        if task is None or task.memo != node.memo:
            return False
        changed = first_changed(state.reads, self._workspace.settings.root)
        if changed is not None:
            node.why = f"read {changed}"
        return changed is None
