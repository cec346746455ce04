"""Batch scoring: a file of rows becomes a Parquet file with predictions, in bounded memory.

Parts of a fixed number of rows are scored one after the other into `OUT.partial/`, each appearing
by rename; the output appears by rename when all are there. Interrupted and done again, it goes on
after the last part, if file and version are still the same.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from upturn.core.errors import Conflict, Invalid, UpturnError
from upturn.core.ids import artifact_path, version_path
from upturn.core.records import Edge, Version
from upturn.deploy.columns import input_table
from upturn.deploy.files import RowFile, open_rows
from upturn.model.adapters import Predictor, load_predictor
from upturn.stores.workspace import Workspace

PART_ROWS = 20_000
PREDICTION, VERSION = "prediction", "version"
# Called with the rows that are done and, where the file says it, how many there are.
Progress = Callable[[int, int | None], None]


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """What was written: where, how many rows, how many of them an interrupted call had done."""

    output: Path
    rows: int
    resumed_rows: int
    digest: str


class _Plan(msgspec.Struct, frozen=True):
    """What parts belong to: other parts are of another file or version, and count for nothing."""

    input: str
    version: str
    model: str
    part_rows: int


def default_output(source: Path) -> Path:
    """Where the scores of a file go, unless one says so.

    >>> default_output(Path("data/april.csv")).as_posix()
    'data/april.scored.parquet'
    """
    return source.with_name(f"{source.stem}.scored.parquet")


def score_file(
    workspace: Workspace,
    version: Version,
    source: Path,
    output: Path,
    *,
    progress: Progress | None = None,
    part_rows: int = PART_ROWS,
) -> Scored:
    """Score the rows of a Parquet or CSV file with the version and write all of it to `output`.

    The output has the file's columns, `prediction` and `version`. Raises Invalid for a file that
    can't be read or a column that does not fit, NotFound for a missing file, Conflict while another
    process writes the same output. Interrupted at any moment, the next call goes on from there.
    """
    rows = open_rows(source, version.signature, taken=(PREDICTION, VERSION))
    plan = _Plan(_digest(source), version.name, version.artifact, part_rows)
    partial = output.with_name(f"{output.name}.partial")
    with _ours(partial):
        _prepare(partial, plan)
        resumed, done = _score_parts(workspace, version, rows, partial, part_rows, progress)
        whole = partial / "whole.parquet"
        _join(sorted(partial.glob("part-*.parquet")), whole)
        digest = _digest(whole)
        whole.rename(output)
    target = artifact_path(digest)
    made_of = {
        version_path(version.model, version.number): "scored",
        artifact_path(plan.input): "rows",
    }
    workspace.meta.put(
        *(Edge(source=source, target=target, role=role) for source, role in made_of.items())
    )
    shutil.rmtree(partial, ignore_errors=True)
    return Scored(output=output, rows=done, resumed_rows=resumed, digest=digest)


def _score_parts(
    workspace: Workspace,
    version: Version,
    rows: RowFile,
    partial: Path,
    part_rows: int,
    progress: Progress | None,
) -> tuple[int, int]:
    """How many rows were there already, and how many there are now."""
    predictor: Predictor | None = None
    done = resumed = 0
    still_there = True
    for number, table in enumerate(_parts(rows, part_rows)):
        path = partial / f"part-{number:06d}.parquet"
        still_there = still_there and _has_rows(path, table.num_rows)
        if still_there:
            resumed += table.num_rows
        else:
            predictor = predictor or load_predictor(workspace, version)
            inputs = input_table(table, version.signature, first_row=done)
            _write(path, _with_predictions(table, predictor, inputs, version))
        done += table.num_rows
        if progress is not None:
            progress(done, rows.total)
    if done == 0:
        raise Invalid(f"{rows.name} has no rows.")
    return resumed, done


def _with_predictions(
    table: pa.Table, predictor: Predictor, inputs: pa.Table, version: Version
) -> pa.Table:
    predictions = predictor.predict(inputs)
    column = _prediction_column(predictor, predictions.scores, predictions.answers)
    names = pa.array([version.name], pa.string())
    constant = pa.DictionaryArray.from_arrays(pa.array([0] * table.num_rows, pa.int32()), names)
    return table.append_column(PREDICTION, column).append_column(VERSION, constant)


def _prediction_column(predictor: Predictor, scores: Any, answers: list[Any]) -> Any:
    """Numbers as numbers, labels as what the classes are, anything else as JSON."""
    signature = predictor.signature
    if signature.output in ("probability", "number") and scores is not None:
        return pa.array(scores, pa.float64())
    if signature.output == "label":
        kinds = {type(value) for value in signature.classes}
        for kind, arrow in ((bool, pa.bool_()), (int, pa.int64())):
            if kinds == {kind}:
                return pa.array(answers, arrow)
        return pa.array([None if one is None else str(one) for one in answers], pa.string())
    encode = msgspec.json.Encoder(enc_hook=str).encode
    return pa.array([encode(one).decode() for one in answers], pa.string())


def _parts(rows: RowFile, part_rows: int) -> Iterator[pa.Table]:
    """The file's rows in tables of `part_rows`, the last one shorter."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in rows.batches():
        while count + batch.num_rows >= part_rows:
            take = part_rows - count
            yield pa.Table.from_batches([*waiting, batch.slice(0, take)])
            batch, waiting, count = batch.slice(take), [], 0
        if batch.num_rows:
            waiting.append(batch)
            count += batch.num_rows
    if waiting:
        yield pa.Table.from_batches(waiting)


# The folder of parts


@contextmanager
def _ours(partial: Path) -> Generator[None]:
    """Hold the folder: a second process that writes the same output gets a Conflict.

    Refused before there was a part, nothing of it stays.
    """
    try:
        partial.mkdir(parents=True, exist_ok=True)
        lock = os.open(partial / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise Invalid(
            f"{partial.parent} can't be written: {(error.strerror or str(error)).lower()}.",
            hint="Say where the output goes with -o.",
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Another process scores into {partial} already.") from None
        try:
            yield
        except UpturnError:
            if not any(partial.glob("part-*")):
                shutil.rmtree(partial, ignore_errors=True)
            raise
    finally:
        os.close(lock)


def _prepare(partial: Path, plan: _Plan) -> None:
    """Leave parts of the same plan in the folder, and no others."""
    plan_path = partial / "plan.json"
    encoded = msgspec.json.encode(plan)
    if plan_path.exists() and plan_path.read_bytes() == encoded:
        return
    for path in partial.iterdir():
        if path.name != "lock":
            path.unlink()
    plan_path.write_bytes(encoded)


def _has_rows(path: Path, count: int) -> bool:
    try:
        return pq.read_metadata(path).num_rows == count
    except (OSError, pa.ArrowInvalid):
        return False


def _write(path: Path, table: pa.Table) -> None:
    fresh = path.with_suffix(".tmp")
    pq.write_table(table, fresh, compression="zstd")
    fresh.rename(path)


def _join(parts: list[Path], whole: Path) -> None:
    with pq.ParquetWriter(whole, pq.read_schema(parts[0]), compression="zstd") as writer:
        for part in parts:
            writer.write_table(pq.read_table(part))
    with whole.open("rb") as file:
        os.fsync(file.fileno())


def _digest(path: Path) -> str:
    return blake3().update_mmap(path).hexdigest()
