"""Why a task ran, or did not: one test for each reason, through real runs."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import upturn as up
from unit.develop import readers
from unit.develop.steps import (
    double,
    fail,
    lines_of,
    numbers,
    perishable,
    scaled,
    side_effect,
    total,
)
from upturn.core.records import Memo, Run, Task, TaskState
from upturn.develop.fingerprint import Fingerprint
from upturn.develop.parts import Part
from upturn.develop.run import start_run
from upturn.develop.why import Explanation, Facts, Known, explain, facts_about
from upturn.stores.workspace import Workspace

Why = Callable[..., Explanation]


@pytest.fixture
def why(workspace: Workspace) -> Why:
    """Return a function that explains a task of a run."""

    def explained(run: str, step: str, index: int = 0) -> Explanation:
        return explain(facts_about(workspace, workspace.meta.get(TaskState, run, step, index)))

    return explained


def flow_called(name: str, function: Callable[..., Any]) -> Any:
    """A flow with a name of its own: another test's runs are not earlier ones of it."""
    function.__name__ = name
    return up.flow(function)


def test_the_first_of_its_step(why: Why, note: str) -> None:
    f = flow_called("why_first", lambda: double(1, note=note))
    found = why(f.run().id, "double")
    assert found.status == "done"
    assert found.verdict == (
        "It ran because no earlier task of the step 'double' in this flow has finished."
    )
    assert found.reasons == ()


def test_reused(why: Why, note: str, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("a")
    f = flow_called("why_reused", lambda: readers.text_of(str(file), note))
    first = f.run().id
    found = why(f.run().id, "text_of")
    assert found.status == "reused"
    assert f"run/{first}/text_of/0 had made its output" in found.verdict
    (line,) = found.reasons
    assert line.startswith("the same: code ")
    assert line.endswith(f"path, note, 1 file that it read ({file})")


def test_an_input_that_another_value_was_given_for(why: Why, note: str) -> None:
    def flow(n: int) -> Any:
        return scaled(n, by=3, note=note)

    f = flow_called("why_input", flow)
    first = f.run(n=1).id
    found = why(f.run(n=2).id, "scaled")
    assert found.verdict == f"It ran because of what changed since run/{first}/scaled/0:"
    assert found.reasons == ("input number: int 1 → int 2",)


def test_an_input_that_a_step_before_made_otherwise(why: Why, note: str) -> None:
    def flow(n: int) -> Any:
        return total(numbers(n), note=note)

    f = flow_called("why_made_by", flow)
    f.run(n=2)
    run = f.run(n=3).id
    assert why(run, "total").reasons == (
        f"input parts: list 2 items → list 3 items, made by run/{run}/numbers/0",
    )


def test_an_input_of_the_same_form_says_that_its_content_is_another(why: Why, note: str) -> None:
    def flow(first: int) -> Any:
        return total([first, 2, 3], note=note)

    f = flow_called("why_content", flow)
    f.run(first=1)
    assert why(f.run(first=2).id, "total").reasons == (
        "input parts: list 3 items → list 3 items (other content)",
    )


def test_a_list_of_another_length(why: Why, note: str) -> None:
    def flow(n: int) -> Any:
        return total([double(i) for i in range(n)], note=note)

    f = flow_called("why_shape", flow)
    f.run(n=1)
    run = f.run(n=2).id
    assert why(run, "total").reasons == (
        "input parts has another length or kind",
        f"input parts[1]: absent → int 2, made by run/{run}/double/1",
    )


def test_a_file_that_was_given(why: Why, note: str, tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    f = flow_called("why_file", lambda: lines_of(file, note))
    file.write_text("1\n")
    f.run()
    file.write_text("2\n")
    assert why(f.run().id, "lines_of").reasons == (f"input file: file {file} changed",)


def test_a_file_that_it_read(why: Why, note: str, tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    f = flow_called("why_read", lambda: readers.text_if_any(str(file), note))
    f.run()
    for text in ("1", "2"):
        file.write_text(text)
        run = f.run().id
        found = why(run, "text_if_any")
        assert found.verdict == f"It ran because {file}, which it reads, changed."
        how = "is there now" if text == "1" else "changed"
        assert found.reasons == (f"file {file}, which it reads, {how}",)
    file.unlink()
    assert why(f.run().id, "text_if_any").status == "reused"


def test_a_file_that_changed_while_it_was_read(why: Why, note: str, tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.touch()
    f = flow_called("why_unkept", lambda: readers.appended_and_read(str(file), note))
    first = f.run().id
    assert why(f.run().id, "appended_and_read").verdict == (
        f"It ran because the output of run/{first}/appended_and_read/0 was not kept: while that "
        f"ran, or just before, {file} changed."
    )


def test_a_variable(why: Why, note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    f = flow_called("why_variable", lambda: readers.stage(note))
    f.run()
    monkeypatch.setenv("UNIT_STAGE", "secret")
    found = why(f.run().id, "stage")
    assert found.reasons == ("$UNIT_STAGE changed",)
    assert "secret" not in str(found)


def test_cache_false_and_fresh(why: Why, note: str) -> None:
    f = flow_called("why_told", lambda: [side_effect(note), double(1, note=note)])
    f.run()
    run = f.run(upturn_fresh=True).id
    assert why(run, "double").verdict == (
        "It ran because the run was told to run everything (--fresh)."
    )
    assert why(f.run().id, "side_effect").verdict == ("It ran because its step says cache=False.")


def test_an_output_that_expired_or_is_gone(why: Why, note: str, workspace: Workspace) -> None:
    f = flow_called("why_expired", lambda: [perishable(note), numbers(2, note=note)])
    first = f.run().id
    task = workspace.meta.get(Task, first, "perishable", 0)
    memo = workspace.meta.get(Memo, task.memo)
    workspace.meta.put(msgspec.structs.replace(memo, seq=0, at=memo.at - timedelta(hours=2)))
    workspace.blobs.delete(workspace.meta.get(TaskState, first, "numbers", 0).output or "")
    run = f.run().id
    assert why(run, "perishable").verdict == (
        f"It ran because the output of run/{first}/perishable/0 had expired."
    )
    assert why(run, "numbers").verdict == (
        f"It ran because the output of run/{first}/numbers/0 was no longer in the store: it was "
        "deleted, or damaged and therefore removed."
    )


def test_a_task_that_failed_is_explained_too(why: Why, note: str) -> None:
    def flow(text: str, good: bool) -> Any:
        return fail(note, text) if not good else double(1)

    f = flow_called("why_failed", flow)
    f.run(text="a", good=False)
    found = why(f.run(text="a", good=False).id, "fail")
    assert found.status == "failed"
    assert "no earlier task of the step 'fail' in this flow has finished" in found.verdict


def test_a_task_that_failed_before_its_run_was_resumed(
    why: Why, note: str, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    f = flow_called("why_resumed", lambda: readers.failing_by_stage(note))
    monkeypatch.setenv("UNIT_STAGE", "bad")
    run = f.run().id
    monkeypatch.setenv("UNIT_STAGE", "good")
    resumed = start_run(f, {}, resume=workspace.meta.get(Run, run))
    assert resumed.result() == "good"
    found = why(run, "failing_by_stage")
    assert found.verdict == f"It ran because of what changed since run/{run}/failing_by_stage/0:"
    assert found.reasons == ("$UNIT_STAGE changed",)


def fingerprint_of(**parts: tuple[str, str]) -> Fingerprint:
    made = tuple(Part(name, kind, source, source) for name, (kind, source) in parts.items())  # type: ignore[arg-type]
    return Fingerprint(str(parts), made)


def test_packages_python_and_what_is_taken_whole(why: Why, note: str, workspace: Workspace) -> None:
    """What can't be changed within a test: pure, on records of a real run."""
    f = flow_called("why_pure", lambda: double(5, note=note))
    known = facts_about(workspace, workspace.meta.get(TaskState, f.run().id, "double", 0)).known
    old = fingerprint_of(python=("python", "3.11"), polars=("distribution", "1.2"))
    new = fingerprint_of(
        python=("python", "3.12"), polars=("distribution", "1.3"), flights=("opaque", "x = 1")
    )
    earlier = Known(msgspec.structs.replace(known.task, code="old"), known.state, old)
    found = explain(Facts(Known(known.task, known.state, new), earlier=earlier))
    assert found.reasons == (
        "opaque flights is used now",
        "polars: 1.2 → 1.3",
        "python: 3.11 → 3.12",
    )
    assert found.whole == ("flights",)
    gone = explain(Facts(known, earlier=Known(earlier.task, earlier.state, None)))
    assert gone.reasons == ("its code (what it was is no longer in the store)",)
