"""Why a task ran, or did not: its records beside those of the nearest earlier task of its step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from upturn.core.errors import NotFound, UpturnError
from upturn.core.records import Artifact, Input, Read, Run, Task, TaskState
from upturn.develop.fingerprint import Fingerprint, changes
from upturn.develop.parts import Part
from upturn.develop.runs import path_of
from upturn.stores import values
from upturn.stores.workspace import Workspace

_RUNS = 200  # how many earlier runs of a flow are searched
_COMPARED = ("done", "reused")


@dataclass(frozen=True, slots=True)
class Known:
    """A task as far as its records tell: what it was given, its last state, and its code."""

    task: Task
    state: TaskState
    code: Fingerprint | None = None

    @property
    def path(self) -> str:
        """Its path."""
        return path_of(self.state)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that an explanation rests on."""

    known: Known
    noted: str = ""  # what the scheduler noted when it let the task run
    earlier: Known | None = None
    artifacts: dict[str, Artifact] = field(default_factory=dict[str, Artifact])


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a task ran, or did not."""

    task: str
    status: str
    verdict: str  # in one line
    reasons: tuple[str, ...] = ()  # each in one line
    diffs: tuple[str, ...] = ()  # of the code that changed
    whole: tuple[str, ...] = ()  # code that can't be followed, so that all of it counts


def explain(facts: Facts) -> Explanation:
    """Say why: the task was reused, it was told to run, or this and that differs."""
    known = facts.known
    whole = tuple(_whole(known.code.parts)) if known.code is not None else ()
    if known.state.status == "reused":
        return Explanation(
            task=known.path,
            status=known.state.status,
            verdict=f"It did not run: {known.state.reused_from} had made its output, at "
            "the same code and inputs.",
            reasons=tuple(_agreed(known)),
            whole=whole,
        )
    reasons, diffs = _differences(facts)
    verdict = _noted(facts) or _compared(facts, reasons)
    return Explanation(
        task=known.path,
        status=known.state.status,
        verdict=verdict,
        reasons=tuple(reasons),
        diffs=tuple(diffs),
        whole=whole,
    )


def _agreed(known: Known) -> Iterable[str]:
    parts = f" in {len(known.code.parts)} parts" if known.code is not None else ""
    inputs = [item.name for item in known.task.inputs if not item.name.endswith(":shape")]
    found = [f"code {known.task.code[:12]}{parts}", *inputs]
    if known.state.reads:
        found.append(_some("file that it read", "files that it read", _paths(known.state.reads)))
    yield f"the same: {', '.join(found)}"


def _paths(reads: Sequence[Read]) -> list[str]:
    return [read.path for read in reads]


def _some(one: str, many: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    if len(names) == 1:
        return f"1 {one} ({shown})"
    return f"{len(names)} {many} ({shown}{', …' if len(names) > 3 else ''})"


def _noted(facts: Facts) -> str:
    """What the scheduler knew that the records of two tasks don't show."""
    kind, _, rest = facts.noted.partition(" ")
    texts: dict[str, str] = {
        "fresh": "It ran because the run was told to run everything (--fresh).",
        "uncached": "It ran because its step says cache=False.",
        "expired": f"It ran because the output of {rest} had expired.",
        "gone": f"It ran because the output of {rest} was no longer in the store: it was "
        "deleted, or damaged and therefore removed.",
        "read": f"It ran because {rest}, which it reads, changed.",
    }
    return texts.get(kind, "")


def _compared(facts: Facts, reasons: list[str]) -> str:
    earlier, step = facts.earlier, facts.known.task.step
    if earlier is None:
        return f"It ran because no earlier task of the step {step!r} in this flow has finished."
    if reasons:
        return f"It ran because of what changed since {earlier.path}:"
    if earlier.state.changed:
        names = ", ".join(earlier.state.changed)
        return (
            f"It ran because the output of {earlier.path} was not kept: while that ran, or just "
            f"before, {names} changed."
        )
    if earlier.state.output is None:
        return f"It ran because {earlier.path} did not finish: it {earlier.state.status}."
    return (
        f"It ran though {earlier.path} had the same code and inputs: that was not there yet, or "
        "its output is not kept."
    )


def _differences(facts: Facts) -> tuple[list[str], list[str]]:
    """What differs from the earlier task, in one line each; and the diffs of code."""
    known, earlier = facts.known, facts.earlier
    if earlier is None:
        return [], []
    reasons = list(_input_changes(earlier.task.inputs, known.task.inputs, facts.artifacts))
    reasons += _read_changes(earlier.state.reads, known.state.reads)
    if earlier.task.code == known.task.code:
        return reasons, []
    if earlier.code is None or known.code is None:
        return [*reasons, "its code (what it was is no longer in the store)"], []
    reasons += _part_changes(earlier.code, known.code)
    diffs = [text for text in changes(earlier.code, known.code) if "\n" in text]
    return reasons, diffs


def _input_changes(
    old: Iterable[Input], new: Iterable[Input], artifacts: dict[str, Artifact]
) -> Iterable[str]:
    before, after = ({item.name: item for item in items} for items in (old, new))
    names = [*after, *(name for name in before if name not in after)]
    for name in names:
        was, now = before.get(name), after.get(name)
        if was is not None and now is not None and was.digest == now.digest:
            continue
        if name.endswith(":shape"):
            yield f"input {name.removesuffix(':shape')} has another length or kind"
        elif name.startswith("$"):
            yield f"{name} {_came_or_went(was, now)}"
        else:
            yield _input_change(name, was, now, artifacts)


def _came_or_went(was: Input | None, now: Input | None) -> str:
    if was is None:
        return "is an input now"
    return "is no input any more" if now is None else "changed"


def _input_change(
    name: str, was: Input | None, now: Input | None, artifacts: dict[str, Artifact]
) -> str:
    if was is not None and now is not None and was.path and now.path:
        moved = f" → {now.path}" if was.path != now.path else ""
        return f"input {name}: file {was.path}{moved} changed"
    old, new = (_described(item, artifacts) for item in (was, now))
    other = " (other content)" if old == new else ""
    maker = f", made by {now.made_by}" if now is not None and now.made_by else ""
    return f"input {name}: {old} → {new}{other}{maker}"


def _described(item: Input | None, artifacts: dict[str, Artifact]) -> str:
    if item is None:
        return "absent"
    if item.path:
        return f"file {item.path}"
    known = artifacts.get(item.digest)
    return f"{known.type} {known.summary}".strip() if known is not None else item.digest[:12]


def _read_changes(old: Iterable[Read], new: Iterable[Read]) -> Iterable[str]:
    before = {(read.path, read.kind): read for read in old}
    for read in new:
        was = before.get((read.path, read.kind))
        if was is not None and was.digest != read.digest:
            yield f"{_kind_text(read)} {read.path}, which it reads, {_how(was, read)}"


def _kind_text(read: Read) -> str:
    texts = {"names": "the list of files in", "tree": "folder", "database": "database"}
    return texts.get(read.kind, "file")


def _how(was: Read, now: Read) -> str:
    if not was.digest:
        return "is there now"
    return "changed" if now.digest else "is gone"


def _part_changes(old: Fingerprint, new: Fingerprint) -> Iterable[str]:
    before, after = ({part.name: part for part in code.parts} for code in (old, new))
    found = False
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is None or now is None or was.digest != now.digest:
            found = True
            yield _part_change(name, was, now)
    if not found:
        yield "the step's function itself: another name or module"


def _part_change(name: str, was: Part | None, now: Part | None) -> str:
    part = now or was
    assert part is not None
    if part.kind in ("constant", "distribution", "python"):
        old, new = (_line_of(item.source) if item else "absent" for item in (was, now))
        return f"{name}: {old} → {new}"
    how = "changed" if was and now else "is used now" if now else "is no longer used"
    kind = "" if name.startswith(("module ", part.kind)) else f"{part.kind} "
    return f"{kind}{name} {how}"


def _line_of(source: str) -> str:
    line = " ".join(source.split())
    return line if len(line) <= 60 else f"{line[:59]}…"


def _whole(parts: Iterable[Part]) -> Iterable[str]:
    for part in parts:
        if part.kind == "opaque":
            reason = getattr(part, "reason", "")
            yield f"{part.name}: {reason}" if reason else part.name


# What the explanation rests on


def facts_about(workspace: Workspace, state: TaskState) -> Facts:
    """Read the records of a task and of the nearest earlier one of its step in its flow."""
    meta = workspace.meta
    given = meta.select(Task, run=state.run, step=state.step, index=state.index)
    if not given:
        raise NotFound(f"What {path_of(state)} was given is not recorded.")
    known = Known(given[-1], state, _code_of(workspace, given[-1]))
    earlier = _earlier(workspace, known, given[:-1])
    digests = {item.digest for one in (known, earlier) if one for item in one.task.inputs}
    found = (meta.find(Artifact, digest) for digest in digests)
    return Facts(
        known=known,
        noted=_note_of(workspace, state),
        earlier=earlier,
        artifacts={artifact.digest: artifact for artifact in found if artifact is not None},
    )


def _note_of(workspace: Workspace, state: TaskState) -> str:
    states = workspace.meta.select(
        TaskState, run=state.run, step=state.step, index=state.index, newest_first=True
    )
    began = (one for one in states if one.status == "running" and one.attempt == 1)
    first = next(began, None)
    return first.why if first is not None else ""


def _earlier(workspace: Workspace, known: Known, before_resume: Sequence[Task]) -> Known | None:
    if before_resume:
        return _in_the_same_run(workspace, known, before_resume[-1])
    run = workspace.meta.get(Run, known.task.run)
    runs = workspace.meta.select(Run, flow=run.flow, newest_first=True, limit=_RUNS)
    for other in runs:
        if other.id != run.id and other.started_at <= run.started_at:
            found = _in_run(workspace, other.id, known.task)
            if found is not None:
                return found
    return None


def _in_the_same_run(workspace: Workspace, known: Known, task: Task) -> Known | None:
    """As it was before its run was resumed with other code or inputs."""
    states = workspace.meta.select(
        TaskState, run=task.run, step=task.step, index=task.index, newest_first=True
    )
    state = next((one for one in states if one.at <= known.task.created_at), None)
    return None if state is None else Known(task, state, _code_of(workspace, task))


def _in_run(workspace: Workspace, run: str, like: Task) -> Known | None:
    """The task of that run with the same step and index, if it finished."""
    state = workspace.meta.find(TaskState, run, like.step, like.index)
    if state is None or state.status not in _COMPARED:
        return None
    task = workspace.meta.find(Task, run, like.step, like.index)
    return None if task is None else Known(task, state, _code_of(workspace, task))


def _code_of(workspace: Workspace, task: Task) -> Fingerprint | None:
    try:
        return msgspec.convert(values.load(workspace.blobs, task.code), Fingerprint)
    except (UpturnError, msgspec.ValidationError):
        return None
