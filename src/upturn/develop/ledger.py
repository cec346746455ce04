"""Ledger: the records of the tasks of a run, collected until they are written together."""

from typing import Any

from upturn.core.errors import Problem
from upturn.core.executor import Finished, Logged
from upturn.core.ids import artifact_path
from upturn.core.metastore import MetaStore
from upturn.core.records import (
    Edge,
    Exhibit,
    Input,
    Memo,
    Read,
    Record,
    Task,
    TaskState,
    TaskStatus,
)
from upturn.core.time import utcnow
from upturn.develop.judge import Ruling
from upturn.develop.layout import layout_of
from upturn.develop.node import Node


class Ledger:
    """What happened to tasks, as records; nothing is on disk before `write`."""

    def __init__(self, meta: MetaStore) -> None:
        self._meta = meta
        self._writes: list[Record] = []

    def write(self) -> None:
        """Put what was noted into the store, in one transaction."""
        writes, self._writes = self._writes, []
        if writes:
            self._meta.put(*writes)

    def task(self, node: Node) -> None:
        """What the task is given, unless that is known: from before its run was resumed."""
        known = self._meta.find(Task, node.run, node.step, node.index)
        if known is not None and known.memo == node.memo:
            return
        self._writes.append(
            Task(
                run=node.run,
                step=node.step,
                index=node.index,
                memo=node.memo,
                code=node.code,
                inputs=node.inputs,
                layout=layout_of(node.arguments),
                created_at=utcnow(),
            )
        )
        self._writes.extend(node.literals)
        self._edge(f"code/{node.code}", node.path, "code")
        for item in node.inputs:
            if not item.name.endswith(":shape"):
                self._edge(_source_of(item), node.path, f"input {item.name}")

    def shown(self, node: Node, event: Logged) -> None:
        """An exhibit of the task, if it is one; metrics are in its journal."""
        at = utcnow()
        place: dict[str, Any] = {
            "run": node.run,
            "step": node.step,
            "index": node.index,
            "at": at,
        }
        if event.artifact is not None:
            self._writes.append(event.artifact)
            self._writes.append(
                Exhibit(
                    **place,
                    title=event.title or "",
                    media=event.media or "",
                    artifact=event.artifact.digest,
                )
            )
            self._edge(node.path, artifact_path(event.artifact.digest), "shown")

    def running(self, node: Node) -> None:
        """An attempt began."""
        self._state(node, "running")

    def reused(self, node: Node, memo: Memo) -> None:
        """The task's output was there already."""
        output = memo.output
        self._state(node, "reused", output=output, reused_from=memo.task, reads=memo.reads)
        # Not as its output: the way back from an artifact leads to the task that made it.
        self._edge(artifact_path(output), node.path, "reused")

    def done(self, node: Node, event: Finished) -> None:
        """The task returned."""
        output = event.artifact.digest
        self._writes.append(event.artifact)
        reads, changed = event.reads, event.changed
        self._state(
            node, "done", output=output, seconds=event.seconds, reads=reads, changed=changed
        )
        if node.options.cache is not False and not changed:
            self._writes.append(
                Memo(memo=node.memo, output=output, task=node.path, at=utcnow(), reads=reads)
            )
        for read in reads:
            if read.digest:
                self._edge(f"file/{read.digest}", node.path, f"read {read.path}")
        self._edge(node.path, artifact_path(output), "output")

    def failed(self, node: Node, problem: Problem, seconds: float, *, instead: str | None) -> None:
        """An attempt failed; `instead` is the digest of what takes the place of its output."""
        self._state(node, "failed", problem=problem, seconds=seconds, output=instead)
        if instead is not None:
            self._edge(node.path, artifact_path(instead), "instead")

    def pruned(self, node: Node, ruling: Ruling) -> None:
        """The task was ended by its judge, or not run at all."""
        self._state(node, "pruned", problem=ruling.why, reused_from=ruling.source)

    def cancelled(self, node: Node) -> None:
        """The task was ended."""
        self._state(node, "cancelled")

    def _edge(self, source: str, target: str, role: str) -> None:
        self._writes.append(Edge(source=source, target=target, role=role))

    def _state(
        self,
        node: Node,
        status: TaskStatus,
        *,
        output: str | None = None,
        reused_from: str | None = None,
        seconds: float | None = None,
        problem: Problem | None = None,
        reads: tuple[Read, ...] = (),
        changed: tuple[str, ...] = (),
    ) -> None:
        self._writes.append(
            TaskState(
                run=node.run,
                step=node.step,
                index=node.index,
                status=status,
                attempt=node.attempt,
                at=utcnow(),
                output=output,
                reused_from=reused_from,
                seconds=seconds,
                problem=problem,
                why=node.why if status == "running" else "",
                reads=reads,
                changed=changed,
            )
        )


def _source_of(item: Input) -> str:
    if item.name.startswith("$"):
        return f"environ/{item.name[1:]}/{item.digest}"
    return f"file/{item.digest}" if item.path is not None else artifact_path(item.digest)
