"""The scheduler: a thread that runs tasks when their inputs are made, and keeps their records."""

import contextlib
import threading
import time
from collections import deque

from blake3 import blake3

from upturn.core.errors import Problem, StepFailed, UpturnError
from upturn.core.executor import Call, Event, Executor, Failed, Finished, Logged, Started
from upturn.core.ids import new_id, task_path
from upturn.core.records import Task, TaskState
from upturn.core.tracking import Point
from upturn.develop.checkpoint import drop
from upturn.develop.environ import inputs_from
from upturn.develop.inputs import inputs_of, memo_of, resolved
from upturn.develop.judge import Ruling, ruled_before
from upturn.develop.lease import RENEW_S, RunLease
from upturn.develop.ledger import Ledger
from upturn.develop.memory import Memory
from upturn.develop.node import Node
from upturn.develop.output import output_file, send_output
from upturn.develop.ref import refs_in
from upturn.develop.reporting import Reporter
from upturn.develop.runs import is_under_way
from upturn.develop.tokens import Queue, Tokens
from upturn.develop.tracking.drain import Drain
from upturn.stores.workspace import Workspace

_LOOK_S = 0.1  # how often it is seen whether another driver has made what is waited for
_RIVALS = 20  # how many tasks with the same memo are looked at


class Scheduler:
    """Runs the tasks of one flow and of the flows that it calls, on one executor."""

    def __init__(
        self,
        workspace: Workspace,
        executor: Executor,
        reporter: Reporter,
        *,
        fresh: bool = False,
    ) -> None:
        self._workspace = workspace
        self._executor = executor
        self._reporter = reporter
        self._fresh = fresh
        self._inbox: deque[Node] = deque()
        self._ready = Queue[Node]()
        self._tokens = Tokens(executor.capacity, executor.gpus)
        self._computing: dict[str, Node] = {}  # by memo: the first task of this driver
        self._elsewhere: list[Node] = []  # what another driver is computing
        self._next_look = 0.0
        self._running: dict[str, Node] = {}
        self._later: list[tuple[float, Node]] = []
        self._ledger = Ledger(workspace.meta)
        self._memory = Memory(workspace)
        self._drain = Drain(workspace)
        self._finishing: list[Node] = []
        self._owner = new_id(12)
        self._lease = RunLease(workspace.meta, self._owner)
        self._open: set[Node] = set()  # submitted, and not ended
        self._submitting = threading.Lock()
        self._over = False
        self._runs: set[str] = set()  # that this driver drives: the run and its child runs
        self._finished_before: dict[str, TaskState] = {}
        self._stopping = False
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="upturn-scheduler", daemon=True)
        self._thread.start()

    def submit(self, node: Node) -> None:
        """Take a task over. Returns at once."""
        with self._submitting:
            if self._over:
                node.cancel()
                return
            self._runs.add(node.run)
            self._open.add(node)
            self._inbox.append(node)
        self._executor.wake()

    def hold(self, run: str) -> None:
        """Keep the lease of the run until `let_go`. Raises Conflict when another process has it."""
        self._lease.hold(run)

    def let_go(self) -> None:
        """Give the lease back."""
        self._lease.let_go()

    def recall(self, run: str) -> None:
        """Remember what was finished in the run before it was interrupted: it is not repeated."""
        meta = self._workspace.meta
        for state in meta.last_each(TaskState, run=run):
            if state.status in ("done", "reused", "pruned"):
                self._finished_before[task_path(run, state.step, state.index)] = state

    def result(self, node: Node) -> str:
        """The digest of a task's output, waited for. Raises StepFailed."""
        node.ended.wait()
        if self._fault is not None:
            raise self._fault
        if node.output is None:
            cause = node.cause or node
            node.seen = cause.seen = True
            problem = cause.problem or Problem(
                code="cancelled", message=f"{cause.path} was cancelled."
            )
            raise StepFailed(problem, path=cause.path)
        return node.output

    def say(self, text: str) -> None:
        """Let the reporter know of what goes on in the flow's own thread."""
        self._reporter.noted(text)

    def check(self) -> None:
        """Raise what ended the scheduler early, if anything did."""
        if self._fault is not None:
            raise self._fault

    def stop(self) -> None:
        """Kill what runs, cancel what waits, and end the thread."""
        self._stopping = True
        self._executor.wake()
        self._thread.join()

    def _work(self) -> None:
        try:
            next_renewal = 0.0
            while not self._stopping:
                now = time.monotonic()
                if now >= next_renewal:
                    self._lease.renew()
                    next_renewal = now + RENEW_S
                self._take_inbox()
                self._take_later(now)
                self._look_elsewhere(now)
                self._commit()  # other drivers see what is about to run here
                self._dispatch()
                self._commit()
                if self._inbox:
                    continue
                for event in self._executor.poll(self._pause(next_renewal)):
                    self._handle(event)
                self._tell_logged(self._drain.look(time.monotonic()))
                self._expire()  # what this and the events left is committed with the next inbox
            self._cancel_all()
        except BaseException as fault:  # noqa: BLE001  # the flow's thread raises it
            self._fault = fault
            self._cancel_all()

    # What becomes ready

    def _take_inbox(self) -> None:
        while self._inbox:
            node = self._inbox.popleft()
            self._reporter.task_submitted(node.path)
            makers = {id(ref.node): ref.node for ref in refs_in(node.arguments)}
            for maker in makers.values():
                if maker.status in ("done", "reused"):
                    continue
                if maker.status in ("failed", "pruned", "cancelled"):
                    self._skip(node, maker)
                    break
                maker.dependents.append(node)
                node.waiting_for += 1
            else:
                if not node.waiting_for:
                    self._make_ready(node)

    def _make_ready(self, node: Node) -> None:
        node.inputs = (*inputs_of(node.arguments, node.env), *inputs_from(node.environ))
        node.memo = memo_of(node.code, node.inputs)
        if self._prune_unrun(node):
            return
        before = self._output_before(node)
        if before is not None:
            node.output = before
            node.status = "reused"
            self._finishing.append(node)
            self._reporter.task_reused(node.path, node.path)
            return
        self._ledger.task(node)
        if self._reuse(node):
            return
        if self._may_share(node):
            first = self._computing.setdefault(node.memo, node)
            if first is not node:
                first.followers.append(node)
                return
        node.status = "ready"
        self._ready.put(node, node.options.needs)

    def _reuse(self, node: Node) -> bool:
        """End the task with what a task with the same memo made, if there is such."""
        if not self._may_share(node):
            node.why = node.why or ("fresh" if self._fresh else "uncached")
            return False
        memo = self._memory.find(node)
        if memo is None:
            return False
        ruling = self._ruling_before(node)  # heard now: it may have been made a moment ago
        if ruling is not None:
            self._prune(node, ruling)
            return True
        node.output, source = memo.output, memo.task
        self._ledger.reused(node, memo)
        node.status = "reused"
        self._finishing.append(node)
        self._reporter.task_reused(node.path, source)
        return True

    def _prune_unrun(self, node: Node) -> bool:
        """Let its judge, if any, hear what such a task logged; whether that ends this one."""
        ruling = self._ruling_before(node)
        if ruling is not None:
            self._ledger.task(node)
            self._prune(node, ruling)
        return ruling is not None

    def _ruling_before(self, node: Node) -> Ruling | None:
        before = self._finished_before.get(node.path)
        cache = node.options.cache if self._may_share(node) else False
        return ruled_before(self._workspace, node, before, cache)

    def _may_share(self, node: Node) -> bool:
        """Whether one task may do the work of all with the same memo."""
        return not self._fresh and node.options.cache is not False

    def _output_before(self, node: Node) -> str | None:
        """What the task made before its run was interrupted, if code and inputs are the same."""
        state = self._finished_before.get(node.path)
        if state is None or not self._memory.still_holds(node, state):
            return None
        return state.output

    def _take_later(self, now: float) -> None:
        due = [node for at, node in self._later if at <= now]
        if due:
            self._later = [(at, node) for at, node in self._later if at > now]
            for node in due:
                self._ready.put(node, node.options.needs)

    # What another driver runs: one computes, the others wait for it

    def _has_rivals(self) -> bool:
        """Whether another driver is at work: it took its lease before it wrote its first task."""
        return any(lease.owner != self._owner for lease in self._workspace.meta.leases("run/"))

    def _is_elsewhere(self, node: Node) -> bool:
        """Whether a task with the same memo, written down before this one, is under way elsewhere.

        The order of the store is the same for all, so no two wait for each other.
        """
        if not self._may_share(node):
            return False
        earlier = False
        for task in self._workspace.meta.select(
            Task, memo=node.memo, newest_first=True, limit=_RIVALS
        ):
            if (task.run, task.step, task.index) == (node.run, node.step, node.index):
                earlier = True
            elif earlier and task.run not in self._runs and is_under_way(self._workspace, task):
                return True
        return False

    def _look_elsewhere(self, now: float) -> None:
        if not self._elsewhere or now < self._next_look:
            return
        self._next_look = now + _LOOK_S
        waiting, self._elsewhere = self._elsewhere, []
        for node in waiting:
            if self._prune_unrun(node) or self._reuse(node):
                continue
            if self._is_elsewhere(node):
                self._elsewhere.append(node)
            else:
                self._ready.put(node, node.options.needs)

    # What runs

    def _dispatch(self) -> None:
        others: bool | None = None  # asked once for all that begin together
        while (found := self._ready.take(self._tokens)) is not None:
            node, node.gpus = found
            others = self._has_rivals() if others is None else others
            if others and not node.attempt:
                elsewhere = self._is_elsewhere(node)
                # It may have ended there since it was looked for.
                if elsewhere or self._prune_unrun(node) or self._reuse(node):
                    self._tokens.give_back(node.options.needs, node.gpus)
                    self._elsewhere.extend([node] if elsewhere else [])
                    continue
            self._start(node)

    def _start(self, node: Node) -> None:
        node.attempt += 1
        node.status = "running"
        node.deadline = None
        if node.env is None:
            node.begin()
        self._ledger.running(node)
        output_file = self._output_file(node)
        self._running[node.path] = node
        self._reporter.task_started(node.path, node.attempt, output_file)
        self._executor.start(
            Call(
                id=node.path,
                run=node.run,
                step=node.step,
                index=node.index,
                attempt=node.attempt,
                flow_params=node.flow_params,
                function=node.function,
                args=resolved(node.args),
                kwargs=resolved(node.kwargs),
                inputs=node.inputs,
                code=node.code,
                output_file=output_file,
                journal=self._drain.begin(node.path, node.attempt),
                judged=node.judge is not None,
                checkpoints=self._checkpoints(node),
                memory_bytes=node.options.memory_bytes,
                gpus=node.gpus,
                environ=node.environ,
                joining=node.joining,
                env=node.env,
            )
        )

    def _ended(self, node: Node) -> None:
        """An attempt ended, and others may have what it kept. What it logged is stored first."""
        self._tell_logged({node.path: self._drain.end(node.path)})
        del self._running[node.path]
        self._tokens.give_back(node.options.needs, node.gpus)
        send_output(self._workspace, node.run, node.step, node.index)

    def _checkpoints(self, node: Node) -> str:
        """Shared by all tasks of which one may do the work, else the task's own."""
        key = node.memo if self._may_share(node) else blake3(node.path.encode()).hexdigest()
        return str(self._workspace.settings.home / "checkpoints" / key[:32])

    def _output_file(self, node: Node) -> str:
        return str(output_file(self._workspace, node.run, node.step, node.index))

    def _handle(self, event: Event) -> None:
        node = self._running.get(event.call)
        if node is None:
            return
        match event:
            case Started():
                node.begin()  # its environment may have been built first
            case Logged():
                self._ledger.shown(node, event)
                ruling = node.ruling(event)
                if ruling is not None:
                    self._executor.kill(node.path)
                    self._ended(node)
                    self._prune(node, ruling)
            case Finished():
                self._ended(node)
                self._finish(node, event)
            case Failed():
                self._ended(node)
                self._fail(node, event)
            case _:
                self._reporter.task_progress(node.path, *event.how_far)

    def _tell_logged(self, logged: dict[str, list[Point]]) -> None:
        for path, points in logged.items():
            if points:
                newest = {point.name: point.value for point in points}
                self._reporter.task_logged(path, newest, None)

    def _finish(self, node: Node, event: Finished) -> None:
        node.output = event.artifact.digest
        self._ledger.done(node, event)
        node.status = "done"
        self._finishing.append(node)
        self._reporter.task_done(node.path, event.seconds, event.artifact.summary)

    def _fail(self, node: Node, event: Failed) -> None:
        problem = event.problem
        damaged = problem.fields.get("digest") if problem.code == "corrupt" else None
        if damaged is not None:
            # Once it is gone, the task that made it is repeated instead of its bytes being trusted.
            self._workspace.blobs.delete(str(damaged))
            problem = Problem(
                code="corrupt",
                message=f"An input of {node.path} was damaged on disk.",
                hint="It was deleted; a resume makes it again.",
                fields={"digest": damaged},
            )
        elif node.is_worth_another_try(event.kinds):
            self._ledger.failed(node, problem, event.seconds, instead=None)
            pause = node.pause_s()
            self._later.append((time.monotonic() + pause, node))
            node.status = "ready"
            self._reporter.task_failed(node.path, problem, pause)
            return
        instead = node.instead if damaged is None else None
        self._ledger.failed(node, problem, event.seconds, instead=instead)
        node.fail(problem, instead)
        self._finishing.append(node)
        self._reporter.task_failed(node.path, problem, None)

    def _prune(self, node: Node, ruling: Ruling) -> None:
        self._ledger.pruned(node, ruling)
        node.prune(ruling)
        self._finishing.append(node)
        self._reporter.task_pruned(node.path, ruling.why)

    def _skip(self, node: Node, maker: Node) -> None:
        node.skip(maker)
        self._finishing.append(node)

    def _expire(self) -> None:
        now = time.monotonic()
        for node in list(self._running.values()):
            if node.deadline is not None and now > node.deadline:
                self._executor.kill(node.path)
                self._ended(node)
                limit = node.options.timeout
                assert limit is not None
                problem = Problem(
                    code="step_timeout",
                    message=f"The step outlasted its timeout of {limit.total_seconds():g} s.",
                    hint="Give it more time: @up.step(timeout=…).",
                )
                self._fail(node, Failed(node.path, problem, limit.total_seconds(), _TIMEOUT))

    def _pause(self, next_renewal: float) -> float:
        times = [next_renewal, *(at for at, _ in self._later)]
        if (look := self._drain.next_look()) is not None:
            times.append(look)
        if self._elsewhere:
            times.append(self._next_look)
        times.extend(node.deadline for node in self._running.values() if node.deadline is not None)
        return max(0.0, min(times) - time.monotonic())

    # What is written down

    def _commit(self) -> None:
        """Write first, then let the flow and the next tasks know: nothing told can be lost."""
        self._ledger.write()
        while self._finishing:
            finishing, self._finishing = self._finishing, []
            for node in finishing:
                self._conclude(node)
            self._ledger.write()
            for node in finishing:
                self._open.discard(node)
                node.ended.set()

    def _conclude(self, node: Node) -> None:
        """Go on with what waited for the task."""
        for dependent in node.dependents:
            self._tell(dependent, node)
        node.dependents.clear()
        if self._computing.get(node.memo) is node:
            del self._computing[node.memo]
        if node.status == "done" and node.problem is None:
            drop(self._checkpoints(node))
        followers, node.followers = node.followers, []
        for follower in followers:
            self._make_ready(follower)

    def _tell(self, dependent: Node, maker: Node) -> None:
        if dependent.status != "waiting":
            return
        if maker.output is None:
            self._skip(dependent, maker)
            return
        dependent.waiting_for -= 1
        if not dependent.waiting_for:
            self._make_ready(dependent)

    def _cancel_all(self) -> None:
        """End every task that has not ended, whatever happens, so that nobody waits for ever."""
        with self._submitting:
            self._over = True
        try:
            for node in list(self._running.values()):
                self._executor.kill(node.path)
                with contextlib.suppress(UpturnError):  # a later run picks it up
                    self._drain.end(node.path)
                self._ledger.cancelled(node)
            if self._fault is None:
                self._ledger.write()
        finally:
            for node in self._open:
                node.cancel()


_TIMEOUT = ("builtins.TimeoutError", "builtins.OSError", "builtins.Exception")
