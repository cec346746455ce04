"""Running a flow: its function runs here, its steps in workers, its records tell what happened."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from inspect import Parameter
from pathlib import Path
from typing import Any, Protocol

import msgspec

from upturn.core.errors import Corrupt, Invalid, Problem, StepFailed
from upturn.core.executor import InEnv, Setting
from upturn.core.ids import artifact_path, new_id
from upturn.core.records import Artifact, Edge, Overlap, Run, RunState, RunStatus
from upturn.core.rehearsing import rehearsing
from upturn.core.time import utcnow
from upturn.core.who import who
from upturn.develop import context, handles
from upturn.develop.crossing import output, refuse_by_value
from upturn.develop.env import Env
from upturn.develop.environ import values_of
from upturn.develop.fingerprint import fingerprint
from upturn.develop.frames import problem_of
from upturn.develop.functions import reference_to
from upturn.develop.inputs import store_arguments
from upturn.develop.joining import Joining, joining, no_joining
from upturn.develop.judge import Judge
from upturn.develop.node import Node
from upturn.develop.options import RAISE
from upturn.develop.overlap import take_turn
from upturn.develop.ref import Ref, map_refs
from upturn.develop.reporting import Reporter, Silent
from upturn.develop.scheduler import Scheduler
from upturn.develop.step import Step
from upturn.develop.warm import pool_for
from upturn.stores import values
from upturn.stores.groups import make_group
from upturn.stores.workspace import Workspace, open_workspace


class Runnable(Protocol):
    """What is run: a flow."""

    @property
    def name(self) -> str:
        """The flow's name."""
        ...

    @property
    def entry(self) -> str:
        """Where it is: 'flights.py:delays'."""
        ...

    @property
    def file(self) -> Path | None:
        """The file in which it is written, if any."""
        ...

    @property
    def function(self) -> Callable[..., Any]:
        """The function whose step calls become tasks."""
        ...

    @property
    def schedule(self) -> str | None:
        """When it is to run, as it is written."""
        ...

    @property
    def overlap(self) -> Overlap:
        """What a run does while another one of the flow goes on."""
        ...

    def convert(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters in the types of its signature."""
        ...


@dataclass(slots=True)
class Session:
    """A run that goes on: what step calls in its flow are handed to."""

    workspace: Workspace
    scheduler: Scheduler
    run: Run
    nodes: list[Node] = field(default_factory=list[Node])
    counts: Counter[str] = field(default_factory=Counter[str])
    codes: dict[Any, str] = field(default_factory=dict[Any, str])  # by step
    envs: dict[Env, InEnv] = field(default_factory=dict[Env, InEnv])
    joining: Joining = no_joining

    def at_once(self, step: Step[..., Any]) -> int:
        """How many tasks of a step its cores and GPUs are enough for; at least one."""
        settings, options = self.workspace.settings, step.options
        gpus = len(settings.gpus) // options.gpus if options.gpus else settings.cores
        return max(1, min(settings.cores // options.cpus, gpus))

    def submit(
        self,
        step: Step[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        judge: Judge | None = None,
    ) -> Any:
        """Make a task of a step call; a Ref to its output, at once."""
        try:
            bound = step.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise Invalid(
                f"{step.name}{step.signature} was called wrongly: {error}.", step=step.name
            ) from None
        self._refuse_impossible(step)
        literals: list[Artifact] = []
        instead: str | None = None
        if step.options.on_error is not RAISE:
            literals.append(values.save(self.workspace.blobs, step.options.on_error))
            instead = literals[-1].digest
        bound.arguments = {
            name: self._stored(value, step.signature.parameters[name].kind, literals)
            for name, value in bound.arguments.items()
        }
        function = reference_to(step.function)
        refuse_by_value(step.name, function, step.options.env)
        env = self._env_of(step)
        node = Node(
            run=self.run.id,
            step=step.name,
            index=self.counts[step.name],
            options=step.options,
            function=function,
            code=self._code_of(step),
            env=env,
            flow_params=self.run.params,
            arguments=dict(bound.arguments),
            args=bound.args,
            kwargs=bound.kwargs,
            literals=literals,
            environ=values_of(step.options.environ),
            joining=self._joining_of(step),
            instead=instead,
            judge=judge,
        )
        self.counts[step.name] += 1
        self.nodes.append(node)
        self.scheduler.submit(node)
        return Ref(node, self.read)

    def _refuse_impossible(self, step: Step[..., Any]) -> None:
        asked, there = step.options.gpus, self.workspace.settings.gpus
        if asked > len(there):
            raise Invalid(
                f"The step {step.name!r} needs {asked} GPUs, and there are {len(there)} here.",
                hint="UPTURN_GPUS names those that runs may use.",
                step=step.name,
            )

    def _stored(self, value: Any, kind: Any, literals: list[Artifact]) -> Any:
        """An argument as `store_arguments` has it; of *args and **kwargs, each one by itself."""
        if kind is Parameter.VAR_POSITIONAL:
            return tuple(store_arguments(item, self.workspace.blobs, literals) for item in value)
        if kind is Parameter.VAR_KEYWORD:
            return {
                key: store_arguments(item, self.workspace.blobs, literals)
                for key, item in value.items()
            }
        return store_arguments(value, self.workspace.blobs, literals)

    def read(self, node: Node) -> Any:
        """A task's output, waited for. What is damaged is deleted, so that a resume remakes it."""
        digest = self.scheduler.result(node)
        try:
            return output(self.workspace, node.path, digest, node.env)
        except Corrupt as error:
            self.workspace.blobs.delete(digest)
            raise Corrupt(
                f"The output of {node.path} was damaged on disk.",
                hint=f"It was deleted. Make it again with: upturn resume {self.run.id}",
                digest=digest,
            ) from error

    def run_child(self, flow: Runnable, params: Mapping[str, Any]) -> Any:
        """Run another flow's function as a child run; its tasks share this one's workers."""
        plain = {
            name: map_refs(value, lambda leaf: leaf.get() if isinstance(leaf, Ref) else leaf)
            for name, value in params.items()
        }
        number = self.counts[f"flow {flow.name}"]
        self.counts[f"flow {flow.name}"] += 1
        child_id = f"{self.run.id}-{flow.name}-{number}"
        known = self.workspace.meta.find(Run, child_id)
        converted = flow.convert(plain)
        run = known or _new_run(
            self.workspace, flow, converted, run_id=child_id, parent=self.run.id
        )
        if known is not None:
            self.scheduler.recall(child_id)
        child = Session(
            self.workspace,
            self.scheduler,
            run,
            codes=self.codes,
            envs=self.envs,
            joining=self.joining,
        )
        result, state = child.drive(flow, converted)
        if state.status != "done":
            problem = state.problem or Problem(code="run_failed", message="The child run failed.")
            raise StepFailed(problem, path=problem.fields.get("task", f"run/{child_id}"))
        return result

    def drive(self, flow: Runnable, params: Mapping[str, Any]) -> tuple[Any, RunState]:
        """Run the flow's function and wait for its tasks; what it returned, and how it ended."""
        self._note("running")
        token = context.session.set(self)
        try:
            result = flow.function(**params)
            result = map_refs(result, lambda leaf: leaf.get() if isinstance(leaf, Ref) else leaf)
            self._wait()
            digest = values.save(self.workspace.blobs, result)
            self.workspace.meta.put(
                digest,
                Edge(
                    source=artifact_path(digest.digest),
                    target=f"run/{self.run.id}",
                    role="result",
                ),
            )
            return result, self._note("done", result=digest.digest)
        except StepFailed as error:
            return None, self._note("failed", problem=error.problem, at=error.path)
        except KeyboardInterrupt:
            self._note("cancelled")
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the flow's own code
            return None, self._note("failed", problem=problem_of(error, code="flow_failed"))
        finally:
            context.session.reset(token)

    def _wait(self) -> None:
        """Until every task has ended; a failure that the flow did not hear of is the run's."""
        for node in self.nodes:
            node.ended.wait()
        for node in self.nodes:
            if node.output is None and not (node.cause or node).seen:
                self.scheduler.result(node)
        self.scheduler.check()

    def _note(
        self,
        status: RunStatus,
        *,
        result: str | None = None,
        problem: Problem | None = None,
        at: str | None = None,
    ) -> RunState:
        if problem is not None and at is not None:
            problem = msgspec.structs.replace(problem, fields={**problem.fields, "task": at})
        state = RunState(
            run=self.run.id, status=status, at=utcnow(), result=result, problem=problem
        )
        return self.workspace.meta.add(state)

    def _joining_of(self, step: Step[..., Any]) -> dict[str, Setting]:
        """What its next task finds in its environment. Who declares one of them has their own."""
        found = self.joining(self.run, step.name, self.counts[step.name])
        return found if found.keys().isdisjoint(step.options.environ) else {}

    def _env_of(self, step: Step[..., Any]) -> InEnv | None:
        env = step.options.env
        if env is None:
            return None
        if env not in self.envs:
            from upturn.develop.locks import lock_of

            self.envs[env] = lock_of(self.workspace, env, self.scheduler.say)
        return self.envs[env]

    def _code_of(self, step: Step[..., Any]) -> str:
        known = self.codes.get(step)
        if known is None:
            code = fingerprint(step.function, libraries=step.options.env is None)
            artifact = values.save(self.workspace.blobs, msgspec.to_builtins(code))
            self.workspace.meta.put(artifact)
            known = self.codes[step] = artifact.digest
        return known


def start_run(
    flow: Runnable,
    params: Mapping[str, Any],
    *,
    workspace: Workspace | None = None,
    reporter: Reporter | None = None,
    fresh: bool = False,
    resume: Run | None = None,
    rerun_of: str | None = None,
    run_id: str | None = None,
) -> handles.Run:
    """Run a flow to its end, or go on with a run that was interrupted. Ctrl-C passes through.

    With a `run_id`, that is the run's; raises Conflict when there is such a run already.
    """
    task = context.task.get()
    if task is not None:
        raise Invalid(
            f"The step {task.call.step!r} called the flow {flow.name!r}.",
            hint="Call a flow from a flow: it becomes a child run. A script that runs a flow when"
            ' it is loaded needs: if __name__ == "__main__":',
        )
    workspace = workspace or open_workspace()
    reporter = reporter or Silent()
    with pool_for(workspace.settings, flow.file) as pool:
        scheduler = Scheduler(workspace, pool, reporter, fresh=fresh)
        try:
            if resume is not None:
                scheduler.recall(resume.id)
            run_id = resume.id if resume is not None else run_id or new_id()
            scheduler.hold(run_id)  # before it is put: who sees the run sees whether it lives
            run = resume or _new_run(workspace, flow, params, run_id=run_id, rerun_of=rerun_of)
            reporter.run_started(run)
            began = time.monotonic()
            status = "cancelled"
            try:
                ended = take_turn(
                    workspace, run, resumed=resume is not None, told=reporter.run_queued
                )
                scheduler.check()
                if ended is None:
                    with joining(workspace, run.id) as found:
                        session = Session(workspace, scheduler, run, joining=found)
                        _, ended = session.drive(flow, params)
                status = ended.status
            finally:
                reporter.run_ended(run, status, time.monotonic() - began)
        finally:
            scheduler.stop()
            scheduler.let_go()
    return handles.Run(run.id, workspace=workspace)


def params_of(run: Run, flow: Runnable) -> dict[str, Any]:
    """A run's recorded parameters in the types of its flow."""
    return flow.convert(run.params)


def _new_run(
    workspace: Workspace,
    flow: Runnable,
    params: Mapping[str, Any],
    *,
    run_id: str | None = None,
    parent: str | None = None,
    rerun_of: str | None = None,
) -> Run:
    project = workspace.settings.project
    run = Run(
        id=run_id or new_id(),
        flow=flow.name,
        entry=_relative(flow.entry, workspace.settings.root),
        params={name: _recorded(name, value) for name, value in params.items()},
        project=project,
        started_at=utcnow(),
        parent=parent,
        rehearsal=rehearsing.get(),
        rerun_of=rerun_of,
        schedule=flow.schedule,
        overlap=flow.overlap,
        group=make_group(workspace.meta, project, flow.name).id,
        who=who(),
    )
    return workspace.meta.add(run)


def _recorded(name: str, value: Any) -> Any:
    try:
        return msgspec.to_builtins(value, enc_hook=_to_text)
    except (TypeError, NotImplementedError):
        raise Invalid(
            f"The flow's parameter {name!r} is a {type(value).__name__}, which can't be recorded.",
            hint="Flows take numbers, text, dates, paths and lists of them; data come from steps.",
            param=name,
        ) from None


def _to_text(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    raise NotImplementedError


def _relative(entry: str, root: Path) -> str:
    file, _, name = entry.rpartition(":")
    try:
        return f"{Path(file).relative_to(root)}:{name}"
    except ValueError:
        return entry
