"""Keeping: nothing that a root leads to is ever given up, and everything else is."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from upturn.core.ids import artifact_path, task_path, version_path
from upturn.core.keeping import reachable, references
from upturn.core.records import (
    Environment,
    Exhibit,
    Input,
    Record,
    Run,
    RunState,
    Task,
    TaskState,
    Version,
)
from upturn.core.schema import Profile, Signature

NOW = datetime(2013, 4, 1, tzinfo=UTC)
RUNS, STEPS = ["a", "b", "c"], ["load", "train"]
DIGESTS = [f"{number:064x}" for number in range(1, 12)]

digests = st.sampled_from(DIGESTS)
places = st.fixed_dictionaries(
    {
        "run": st.sampled_from(RUNS),
        "step": st.sampled_from(STEPS),
        "index": st.integers(0, 1),
    }
)
paths = places.map(lambda place: task_path(**place))
inputs = st.builds(
    lambda digest, made_by: Input(name="x", digest=digest, made_by=made_by),
    digests,
    st.none() | paths,
)


def task(place: dict, code: str, given: list[Input]) -> Task:
    return Task(**place, memo="m", code=code, inputs=tuple(given), created_at=NOW)


def state(place: dict, output: str | None, source: str | None) -> TaskState:
    return TaskState(**place, status="done", attempt=1, at=NOW, output=output, reused_from=source)


def version(number: int, artifact: str, data: str | None, by: str | None) -> Version:
    return Version(
        model="m",
        number=number,
        artifact=artifact,
        data=data,
        signature=Signature(inputs=(), output="scores"),
        profile=Profile(rows=0, columns=()),
        environment=Environment(python="3.11", distributions={}),
        run=None,
        task=by,
        at=NOW,
    )


def run(id: str, parent: str | None) -> Run:
    return Run(
        id=id, flow="f", entry="f.py:f", params={}, project="p", started_at=NOW, parent=parent
    )


def exhibit(place: dict, artifact: str) -> Exhibit:
    return Exhibit(**place, title="t", media="text/plain", artifact=artifact, at=NOW)


def result(run: str, digest: str | None) -> RunState:
    return RunState(run=run, status="done", at=NOW, result=digest)


records = st.lists(
    st.one_of(
        st.builds(run, st.sampled_from(RUNS), st.none() | st.sampled_from(RUNS)),
        st.builds(result, st.sampled_from(RUNS), st.none() | digests),
        st.builds(task, places, digests, st.lists(inputs, max_size=2)),
        st.builds(state, places, st.none() | digests, st.none() | paths),
        st.builds(exhibit, places, digests),
        st.builds(version, st.integers(1, 2), digests, st.none() | digests, st.none() | paths),
    ),
    max_size=25,
)
roots = st.sets(
    st.sampled_from([*(f"run/{r}" for r in RUNS), "version/m:1", "version/m:2", "run/a/train"])
    | paths
    | digests.map(artifact_path),
    max_size=3,
)


def steps_from(path: str, records: list[Record]) -> set[str]:
    """Return what a path leads to in one step, told record by record."""
    found: set[str | None] = set()
    for record in records:
        match record:
            case Run() if path == f"run/{record.parent}":
                found.add(f"run/{record.id}")
            case RunState() if path == f"run/{record.run}" and record.result:
                found.add(artifact_path(record.result))
            case Version() if path == version_path(record.model, record.number):
                found |= {artifact_path(record.artifact), record.task}
                found |= {artifact_path(record.data)} if record.data else set()
            case Task() | TaskState() | Exhibit():
                place = task_path(record.run, record.step, record.index)
                whole = (f"run/{record.run}", f"run/{record.run}/{record.step}")
                if path in whole and not isinstance(record, Exhibit):
                    found.add(place)
                if path == place:
                    found |= parts_of(record)
            case _:
                pass
    return {one for one in found if one is not None}


def parts_of(record: Task | TaskState | Exhibit) -> set[str | None]:
    match record:
        case Task():
            made = {artifact_path(item.digest) for item in record.inputs}
            return {artifact_path(record.code)} | made | {i.made_by for i in record.inputs}
        case TaskState():
            return {artifact_path(record.output) if record.output else None, record.reused_from}
        case Exhibit():
            return {artifact_path(record.artifact)}


@given(records, roots)
def test_kept_is_what_a_root_leads_to_and_nothing_else(
    records: list[Record], roots: set[str]
) -> None:
    kept = reachable(roots, references(records))
    led_to = set(roots)
    while more := {step for path in led_to for step in steps_from(path, records)} - led_to:
        led_to |= more
    for number in DIGESTS:
        assert (artifact_path(number) in kept) == (artifact_path(number) in led_to)
    tasks = {task_path(r, s, i) for r in RUNS for s in STEPS for i in (0, 1)}
    assert kept & tasks == led_to & tasks


@given(records, roots, roots)
def test_more_roots_keep_no_less(records: list[Record], roots: set[str], more: set[str]) -> None:
    refers = references(records)
    assert reachable(roots | more, refers) == reachable(roots, refers) | reachable(more, refers)
