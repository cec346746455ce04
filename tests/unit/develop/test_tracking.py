"""Tracking: what tasks log, show and print is kept, and known of the tasks that reuse them."""

import math
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import upturn as up
from unit.develop.steps import double, measured, total
from upturn.cli import cli
from upturn.core.errors import Invalid
from upturn.core.lineage import upstream
from upturn.core.records import Edge, Exhibit, Run, TaskState, Version
from upturn.stores import values
from upturn.stores.workspace import Workspace


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_metrics_curves_exhibits_and_output_are_kept(note: str, workspace: Workspace) -> None:
    @up.flow
    def f() -> Any:
        return measured(note, 0.75)

    handle = f.run()
    (task,) = handle["measured"]
    assert task.history("loss") == [(0, 0.9), (1, 0.5)]
    assert task.history("auc") == [(None, 0.75)]
    assert task.metrics == {"loss": 0.5, "auc": 0.75}
    text, listed = workspace.meta.select(Exhibit, run=handle.id, step="measured", index=0)
    assert (text.title, text.media) == ("what it is", "text/plain")
    assert values.load(workspace.blobs, text.artifact) == b"a text"
    assert listed.title == "list"
    output = workspace.output_dir / handle.id / "measured" / "0.log"
    assert output.read_text() == "measuring\n"


def test_a_reused_task_shows_what_the_one_that_ran_logged(note: str) -> None:
    @up.flow
    def f() -> Any:
        return measured(note, 0.75)

    first, second = f.run(), f.run()
    for handle in (first, second):
        text = printed("show", f"{handle.id}/measured")
        assert "auc 0.75" in text
        assert "shown  what it is (text/plain)" in text
        assert "auc 0.75" in printed("show", handle.id)
        assert "measuring" in printed("logs", handle.id)
    assert f"reused from run/{first.id}/measured/0" in printed("show", f"{second.id}/measured/0")


def test_brackets_in_what_users_write_are_no_markup(note: str) -> None:
    @up.step
    def broken(note: str) -> None:
        raise ValueError("[/nothing] is no tag\nsecond line")

    @up.flow
    def bracketed(names: list[str]) -> Any:
        return broken(note)

    handle = bracketed.run(names=["[bold]", "[/x]"])
    assert handle.status == "failed"
    assert "[/nothing] is no tag" in printed("show", handle.id)
    assert '["[bold]","[/x]"]' in printed("runs", "--flow", "bracketed")


def test_a_value_that_is_no_number_is_refused_where_it_is_logged(note: str) -> None:
    with pytest.raises(Invalid, match=r"metric 'auc' is 'high', not a number\. up\.show"):
        up.log(auc="high")  # type: ignore[arg-type]
    up.log(auc=1)
    up.show("nothing happens outside a task")

    @up.step
    def logs(note: str) -> None:
        import numpy as np

        up.log(a=np.float32(0.5), b=math.inf, c=np.int64(3))

    @up.flow
    def f() -> Any:
        return logs(note)

    handle = f.run()
    from upturn.stores.workspace import open_workspace

    opened = open_workspace()
    logged = {one.name: one.last for one in opened.tracking.series([handle.id])[handle.id]}
    opened.close()
    assert (logged["a"], logged["c"]) == (0.5, 3.0)
    assert logged["b"] == math.inf


def test_figures_are_shown_as_notebooks_show_them(note: str, workspace: Workspace) -> None:
    @up.step
    def draws(note: str) -> None:
        class Html:
            def _repr_html_(self) -> str:
                return "<b>x</b>"

        class Figure:
            def savefig(self, buffer: Any, format: str) -> None:
                buffer.write(f"<{format}/>".encode())

        class Picture:
            def _repr_png_(self) -> bytes:
                return b"png"

        for thing in (Html(), Figure(), Picture()):
            up.show(thing)

    @up.flow
    def f() -> Any:
        return draws(note)

    handle = f.run()
    assert handle.result() is None
    shown = workspace.meta.select(Exhibit, run=handle.id, step="draws", index=0)
    assert [
        (each.media, each.title, bytes(values.load(workspace.blobs, each.artifact)))
        for each in shown
    ] == [
        ("text/html", "Html", b"<b>x</b>"),
        ("image/svg+xml", "Figure", b"<svg/>"),
        ("image/png", "Picture", b"png"),
    ]


def test_lineage_leads_from_a_result_to_what_it_was_made_from(
    note: str, workspace: Workspace
) -> None:
    @up.flow
    def f() -> Any:
        return total([double(1, note=note), double(2, note=note)])

    handle = f.run()
    walked = upstream(f"run/{handle.id}", lambda path: workspace.meta.select(Edge, target=path))
    paths = [node.path for node in walked]
    for task in ("total/0", "double/0", "double/1"):
        assert f"run/{handle.id}/{task}" in paths
    assert sum(path.startswith("code/") for path in paths) == 2


@up.step
def trained(note: str, depth: int) -> Any:
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    up.log(auc=0.5)
    up.log(auc=0.5 + depth / 100)
    x = np.arange(20.0).reshape(-1, 1)
    return LogisticRegression(C=1 / depth).fit(x, x[:, 0] > 9)


@up.step
def table(note: str) -> Any:
    import polars as pl

    x = [float(n) for n in range(20)]
    return pl.DataFrame({"x": x, "late": [n > 9 for n in x]})


@up.flow
def registering(note: str, depth: int = 3):
    """A flow that ends with a version."""
    return up.register("tracked", trained(note, depth), data=table(note), target="late")


def test_register_makes_a_version_with_its_run_params_and_metrics(
    note: str, workspace: Workspace
) -> None:
    first = registering.run(note=note, depth=7)
    version = first.result()
    assert isinstance(version, Version)
    assert (version.name, version.run) == ("tracked:1", first.id)
    assert version.metrics == {"auc": pytest.approx(0.57)}
    assert version.params == {"note": note, "depth": 7}
    assert version.signature.names == ("x",)
    assert workspace.meta.get(Version, "tracked", 1) == version
    again = registering.run(note=note, depth=7)
    assert again.result() == version, "the same model of the same data is the same version"
    other = registering.run(note=note, depth=8)
    assert other.result().metrics == {"auc": pytest.approx(0.58)}

    edges = lambda path: workspace.meta.select(Edge, target=path)  # noqa: E731
    paths = {node.path for node in upstream("version/tracked:1", edges)}
    assert f"run/{first.id}/trained/0" in paths
    assert f"run/{first.id}/table/0" in paths


def test_a_run_says_how_long_it_took_and_what_it_was_given(workspace: Workspace) -> None:
    @up.flow
    def timed(number: int = 4) -> Any:
        return double(number)

    began = time.time()
    handle = timed.run()
    run = workspace.meta.get(Run, handle.id)
    assert run.params == {"number": 4}
    assert Path(run.entry.rpartition(":")[0]).name == Path(__file__).name
    assert abs(run.started_at.timestamp() - began) < 30
    (state,) = workspace.meta.last_each(TaskState, run=handle.id)
    assert state.seconds is None or state.seconds >= 0
