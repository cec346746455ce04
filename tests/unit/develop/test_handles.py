"""up.Run: runs, tasks and every value in them by name; as HTML for notebooks."""

import threading
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import upturn as up
from unit.develop.steps import double, fail, gathered, lines_of, measured, scaled, total
from upturn.core import records
from upturn.core.errors import NotFound, RunFailed, Unavailable
from upturn.stores.workspace import Workspace


@pytest.fixture
def run(note: str, tmp_path: Path, workspace: Workspace) -> up.Run:
    file = tmp_path / "a.csv"
    file.write_text("1\n2\n")

    @up.flow
    def shapes(number: int) -> Any:
        two = double(number)
        all_of = gathered(two, [two, (1, {"deep": two, 3: "x"})], 5, key={"file": file}, none=None)
        by = scaled.map([1, two], by=3)
        return all_of, total(by), lines_of(file, note), measured(note, 0.7)

    handle = shapes.run(number=21)
    assert handle.status == "done", handle.problem
    return up.Run(handle.id[:5], workspace=workspace)


def test_a_run_tells_of_itself(run: up.Run) -> None:
    assert (run.flow, run.params, run.status, run.problem) == (
        "shapes",
        {"number": 21},
        "done",
        None,
    )
    assert run.steps == ["double", "gathered", "lines_of", "measured", "scaled", "total"]
    assert run.seconds is not None
    assert run.seconds > 0
    assert run.result()[1:] == [129, 2, 0.7] or run.result()[1:] == (129, 2, 0.7)
    assert len(run.tasks) == len(list(run)) == 7
    assert repr(run).startswith(f"<Run {run.id} shapes done double×1")
    assert up.runs(flow="shapes", limit=1)[0].id == run.id


def test_a_task_has_its_values(run: up.Run, tmp_path: Path) -> None:
    assert run["double"].output == 42
    assert run["scaled"][1].output == 126
    assert [task.output for task in run["scaled"]] == [3, 126]
    assert run["scaled"][1].inputs == {"number": 42, "by": 3}
    inputs = run["gathered"].inputs
    assert inputs["items"] == (42, [42, (1, {"deep": 42, 3: "x"})], 5)
    assert inputs["named"] == {"key": {"file": tmp_path / "a.csv"}, "none": None}
    assert "number * 2" in run["double"].code or "2 * number" in run["double"].code
    assert run["double"].attempt == 1 or run["double"].reused_from is not None
    assert run["scaled"][-1].path == f"run/{run.id}/scaled/1"
    assert run["scaled"][0].run.id == run.id
    assert len(run["scaled"][:1]) == 1


def test_a_task_has_what_it_said(run: up.Run) -> None:
    task = run["measured"][0]
    assert task.metrics == {"loss": 0.5, "auc": 0.7}
    assert task.history("loss") == [(0, 0.9), (1, 0.5)]
    assert task.logs == "measuring\n"
    assert task.exhibits[0].title == "what it is"
    assert task.exhibits[0].media == "text/plain"
    assert task.shown(task.exhibits[0]) == b"a text"
    with pytest.raises(NotFound, match=r"logged no 'los'. Did you mean 'loss'\?"):
        task.history("los")


def test_a_reused_task_leads_to_the_one_that_ran(note: str) -> None:
    @up.flow
    def f() -> Any:
        return measured(note, 0.9)

    first, second = f.run(), f.run()
    task = second["measured"][0]
    assert task.status == "reused"
    assert task.reused_from is not None
    assert task.reused_from.path == first["measured"][0].path
    assert task.metrics["auc"] == 0.9
    assert task.logs == "measuring\n"


def test_a_run_is_waited_for(run: up.Run, workspace: Workspace) -> None:
    assert run.wait() is run

    @up.flow
    def g() -> Any:
        me = workspace.meta.select(records.Run, flow="g", newest_first=True, limit=1)[0]
        with pytest.raises(Unavailable, match=f"Run {me.id} is still running after 0 s"):
            up.Run(me.id, workspace=workspace).wait(timeout_s=0)
        return me.id

    handle = g.run()
    assert handle.result() == handle.wait(timeout_s=0).id


def test_a_run_is_waited_for_in_another_thread(workspace: Workspace) -> None:
    waited: list[str] = []

    @up.flow
    def h() -> Any:
        me = workspace.meta.select(records.Run, flow="h", newest_first=True, limit=1)[0]
        other = threading.Thread(
            target=lambda: waited.append(up.Run(me.id, workspace=workspace).wait(30).status)
        )
        other.start()
        threads.append(other)

    threads: list[threading.Thread] = []
    h.run()
    threads[0].join()
    assert waited == ["done"]


def test_what_is_not_there_is_said_with_a_way_out(run: up.Run, note: str) -> None:
    with pytest.raises(NotFound, match=r"has no step 'doubel'. Did you mean 'double'\?"):
        run["doubel"]
    with pytest.raises(NotFound, match="No run 'zzzz'"):
        up.Run("zzzz")
    with pytest.raises(IndexError, match="scaled has 2 tasks, and no 7"):
        run["scaled"][7]
    with pytest.raises(AttributeError, match=r"has 2 tasks: take one, as in \[0\].output"):
        _ = run["scaled"].output
    with pytest.raises(AttributeError, match="no attribute 'outptu'"):
        _ = run["double"].outptu

    @up.flow
    def broken() -> Any:
        return fail(note)

    failed = broken.run()
    assert failed["fail"].problem.message == "ValueError: it broke"
    with pytest.raises(NotFound, match="has no output: it is failed"):
        _ = failed["fail"].output
    with pytest.raises(RunFailed, match="it broke"):
        failed.result()


class Page(HTMLParser):
    """Collects tags and text, and fails on tags that don't match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("br", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


class Painting:
    def __init__(self, method: str, data: Any) -> None:
        setattr(self, method, lambda: data)


@up.step
def paints(text: str) -> str:
    up.show(Painting("_repr_svg_", "<svg><script>alert(1)</script></svg>"), "drawn")
    up.show(Painting("_repr_html_", f"<b>{text}</b>"), "<i>marked</i>")
    up.show(text, "said")
    return text


def test_cards_show_everything_and_run_nothing(run: up.Run, said: Callable[[], list[str]]) -> None:
    evil = '<script>alert("x")</script>'

    @up.flow
    def painted(text: str) -> Any:
        return paints(text)

    handle = painted.run(text=evil)
    page = Page(handle._repr_html_() + handle["paints"][0]._repr_html_())
    assert "script" not in [tag for tag, _ in page.tags]
    assert "i" not in [tag for tag, _ in page.tags]
    assert f"text = {evil}" in page.text
    (image,) = [attrs for tag, attrs in page.tags if tag == "img"]
    assert (image["src"] or "").startswith("data:image/svg+xml;base64,")
    (frame,) = [attrs for tag, attrs in page.tags if tag == "iframe"]
    assert "sandbox" in frame
    assert frame["srcdoc"] == f"<b>{evil}</b>"
    whole = Page(run._repr_html_() + run["scaled"]._repr_html_())
    assert "scaled/1" in whole.text
    assert "auc 0.7" in whole.text
