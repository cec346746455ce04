"""up.score: the predictions of a version for a table or a file, in a step, a flow or neither."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from upturn.core.errors import Invalid
from upturn.core.ids import version_path
from upturn.core.records import Edge, Version
from upturn.develop import context
from upturn.develop.reads import note_read, unseen
from upturn.develop.step import step
from upturn.model.registry import get_version
from upturn.stores.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from upturn.deploy.batch import Scored

_FIXED = re.compile(r"[^:@]+:\d+")
_SLICE_ROWS = 32_768


def version(ref: str) -> Version:
    """The version that `ref` names: 'delays:7', 'delays@champion', or 'delays' for the champion or,
    before there is one, the newest.

    Called in a flow and given to a step, it is an input of that step: once the alias points to
    another version, the step runs again. In a step only 'delays:7' will do, because what an alias
    points to there would be no input. Raises NotFound, with what there is.
    """
    task = context.task.get()
    if task is not None:
        _refuse_alias(ref)
        return get_version(task.workspace, ref)
    workspace = open_workspace()
    try:
        return get_version(workspace, ref)
    finally:
        workspace.close()


def score(
    model: Version | str, rows: Any, to: str | Path | None = None, *, cores: int | None = None
) -> Any:
    """The rows with the columns `prediction` and `version`; in a flow, a Ref to that.

    Of a table (pandas, polars, Arrow, a dict of columns) a table of the same kind is made; of a
    numpy array, an Arrow table. A path is that of a file, a folder or a pattern as
    'data/*.parquet': it is scored in bounded memory into the file `to`, which an interrupted call
    goes on with, and a Scored comes back, with `output`, `rows` and `digest`. A file is scored by
    `cores` processes: all cores by default, one in a task.

    `model` is a version or names one. In a step it must be a Version or as 'delays:7': see
    `version`. Raises Invalid, naming column, value and row, for what does not fit; NotFound.
    """
    if context.session.get() is not None:  # in a flow the name is looked up now, and is an input
        found = version(model) if isinstance(model, str) else model
        where = Path(rows) if isinstance(rows, str) and Path(rows).exists() else rows
        return _score(found, where, to=None if to is None else str(to), cores=cores)
    if context.task.get() is not None and isinstance(model, str):
        _refuse_alias(model)
    return _score.function(model, rows, to=None if to is None else str(to), cores=cores)


@step
def _score(model: Version | str, rows: Any, *, to: str | None, cores: int | None) -> Any:
    task = context.task.get()
    workspace = open_workspace() if task is None else task.workspace
    try:
        found = get_version(workspace, model) if isinstance(model, str) else model
        if task is not None:
            path = version_path(found.model, found.number)
            workspace.meta.put(Edge(source=path, target=task.call.id, role="scored"))
        if isinstance(rows, str | Path):
            return _file(workspace, found, Path(rows), to, cores)
        if to is not None:
            raise Invalid("to= is for scores of a file.", hint="Leave it out: a table comes back.")
        return _table(workspace, found, rows)
    finally:
        if task is None:
            workspace.close()


_score.name = "score"


def _refuse_alias(ref: str) -> None:
    if _FIXED.fullmatch(ref) is None:
        raise Invalid(
            f"What {ref!r} points to may change, and a step would not know.",
            hint=f"Give the step a version: up.version({ref!r}) in the flow, as an argument.",
        )


def _file(
    workspace: Workspace, version: Version, rows: Path, to: str | None, cores: int | None
) -> Scored:
    from upturn.deploy.batch import default_output, score_file

    task = context.task.get()
    output = default_output(rows) if to is None else Path(to)
    _note(rows)
    with unseen():
        done = score_file(
            workspace,
            version,
            rows,
            output,
            cores=cores if cores is not None or task is None else 1,
            made_by=None if task is None else task.call.id,
        )
    note_read(str(output))  # so that the step runs again when its output is gone or another one
    # How often it was interrupted is no part of the result.
    return msgspec.structs.replace(done, resumed_rows=0)


def _note(rows: Path) -> None:
    """Of a pattern, the folder in which it begins."""
    fixed = [part for part in (rows, *rows.parents) if not set("*?[") & set(str(part))]
    note_read(str(fixed[0]))


def _table(workspace: Workspace, version: Version, rows: Any) -> Any:
    import pyarrow as pa

    from upturn.deploy.columns import check_columns
    from upturn.deploy.scorer import ADDED, Scorer
    from upturn.model.tables import to_arrow

    table = to_arrow(rows, index=False)
    check_columns(table.schema, version.signature, name="The table")
    for name in ADDED:
        if name in table.column_names:
            raise Invalid(f"The table has a column {name!r}, which the scores are written to.")
    scorer = Scorer(workspace, version)
    starts = range(0, max(1, table.num_rows), _SLICE_ROWS)
    parts = [scorer.predictions(table.slice(at, _SLICE_ROWS), at) for at in starts]
    return _with(rows, table, pa.chunked_array(parts), version.name)


def _with(rows: Any, table: pa.Table, predictions: Any, version: str) -> Any:
    """The rows, as the kind of table that they are, with both columns."""
    import pyarrow as pa

    from upturn.deploy.scorer import PREDICTION, VERSION
    from upturn.model.tables import frame_kind

    match frame_kind(rows):
        case "pandas":
            return rows.assign(**{PREDICTION: predictions.to_numpy(), VERSION: version})
        case "polars":
            import polars as pl

            scores = pl.Series(PREDICTION, predictions.to_pylist())
            return rows.with_columns(scores, pl.lit(version).alias(VERSION))
        case "numpy" if isinstance(rows, dict):
            return {
                **rows,
                PREDICTION: predictions.to_numpy(),
                VERSION: [version] * table.num_rows,
            }
        case _:
            names = pa.array([version] * table.num_rows, pa.string())
            return table.append_column(PREDICTION, predictions).append_column(VERSION, names)
