"""Batch scoring: files of rows become one file with predictions, in bounded memory.

Parts of the rows are scored beside each other and laid into `OUT.partial/` one after the other; the
output appears by rename when all are there. Interrupted and done again, it goes on after the last
part, if rows and version are still the same.
"""

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa

from upturn.core.errors import Invalid
from upturn.core.ids import artifact_path, version_path
from upturn.core.records import Artifact, Edge, Version
from upturn.deploy.crew import Alone, Crew, Staff
from upturn.deploy.files import RowFile, is_pattern, open_rows
from upturn.deploy.outputs import Encoded, output_for
from upturn.deploy.partial import Partial, Plan, opened
from upturn.deploy.scorer import ADDED, scored_schema
from upturn.stores.workspace import Workspace

PART_ROWS = 32_768
_PART_BYTES = 16 * 1024 * 1024  # where rows are wide, a part has fewer
_LEAST_PART_ROWS = 1024
_SMALL_ROWS = 4 * PART_ROWS  # scored here before other processes would have begun
_TEXT_ROW_BYTES = 200  # a guess, where a file does not say how many rows it has
_SLOW_S = 2.0  # of one part: then others are worth their start
_MEMBER_BYTES = 300 * 1024 * 1024  # of a process with its libraries, without the model
# Called with the rows that are done and, where the file says it, how many there are.
Progress = Callable[[int, int | None], None]


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """What was written: where, how many rows, how many of them an interrupted call had done."""

    output: Path
    rows: int
    resumed_rows: int
    digest: str


def default_output(source: Path) -> Path:
    """Where the scores of a file go, unless one says so; for 'data/*.csv', beside the folder.

    >>> default_output(Path("data/april.csv")).as_posix()
    'data/april.scored.parquet'
    """
    if is_pattern(source):
        source = source.parent
        if not source.name or is_pattern(source):
            raise Invalid(
                "Where the scores go does not follow from the pattern.",
                hint="Say it with -o, as -o scores.parquet.",
            )
    return source.with_name(f"{source.stem}.scored.parquet")


def score_file(
    workspace: Workspace,
    version: Version,
    source: Path,
    output: Path,
    *,
    progress: Progress | None = None,
    part_rows: int | None = None,
    cores: int | None = None,
    made_by: str | None = None,
) -> Scored:
    """Score the rows of a file, a folder or a pattern and write all of them to `output`.

    The output has the rows' columns, `prediction` and `version`; its suffix says which kind of file
    it is. `cores` processes score at a time, as many as the settings have by default. `made_by` is
    the path of the task that this is part of. Raises Invalid for a file that can't be read or a
    value that does not fit, NotFound for a missing file, Conflict while another process writes the
    same output, Unavailable when the disk is full or a process dies. Interrupted at any moment, the
    next call goes on from there.
    """
    rows = open_rows(source, version.signature, taken=ADDED)
    kind = output_for(output)
    schema = scored_schema(rows.schema, version.signature)
    head = kind.head(schema)
    part_rows = part_rows or _part_rows(rows)
    plan = Plan(rows.digest(), version.name, version.artifact, part_rows)
    with opened(output, plan, kind, head) as partial:
        resumed = partial.rows
        _Scoring(workspace, version, rows, output, partial, cores, progress).run(part_rows)
        if not partial.rows:
            raise Invalid(f"{rows.name} has no rows.")
        whole, digest = partial.finish(kind.tail(schema, partial.notes(), partial.rows))
        # Before the output appears, so that there is none without its lineage.
        workspace.meta.put(*_edges(version, plan.input, digest, made_by))
        whole.rename(output)
    shutil.rmtree(partial.folder, ignore_errors=True)
    return Scored(output=output, rows=partial.rows, resumed_rows=resumed, digest=digest)


def _edges(version: Version, rows: str, output: str, made_by: str | None) -> list[Edge]:
    made_of = {
        version_path(version.model, version.number): "scored",
        artifact_path(rows): "rows",
        **({} if made_by is None else {made_by: "wrote"}),
    }
    target = artifact_path(output)
    return [Edge(source=source, target=target, role=role) for source, role in made_of.items()]


def _part_rows(rows: RowFile) -> int:
    """Few enough for several parts of a small file; the same whenever it is asked."""
    about = rows.total if rows.total is not None else rows.size_bytes // _TEXT_ROW_BYTES
    return max(_LEAST_PART_ROWS, min(PART_ROWS, about // 16))


@dataclass
class _Scoring:
    """One call: the rows that are left, into the partial output, in order."""

    workspace: Workspace
    version: Version
    rows: RowFile
    output: Path
    partial: Partial
    cores: int | None
    progress: Progress | None

    def run(self, part_rows: int) -> None:
        """Score what is left."""
        first = self.partial.rows
        waiting: deque[tuple[int, Future[Encoded]]] = deque()
        with ExitStack() as stack:
            count = self._count()
            alone = count == 1 or self._is_small()
            staff = self._staff(1 if alone else count)
            stack.callback(staff.close)
            for table in _parts(self.rows.batches(first), part_rows):
                began = time.monotonic()
                waiting.append((table.num_rows, self._submitted(staff, table, first)))
                first += table.num_rows
                while len(waiting) > staff.ahead:
                    self._settle(*waiting.popleft())
                if alone and count > 1 and time.monotonic() - began > _SLOW_S:
                    staff, alone = self._staff(count), False
                    stack.callback(staff.close)
            while waiting:
                self._settle(*waiting.popleft())

    def _submitted(self, staff: Staff, table: pa.Table, first: int) -> "Future[Encoded]":
        try:
            return staff.submit(table, first)
        except Invalid as error:
            raise self._placed(error) from None

    def _settle(self, rows: int, part: "Future[Encoded]") -> None:
        try:
            encoded = part.result()
        except Invalid as error:
            raise self._placed(error) from None
        self.partial.append(encoded, rows)
        if self.progress is not None:
            self.progress(self.partial.rows, self.rows.total)

    def _placed(self, error: Invalid) -> Invalid:
        """The error with the file that the row is in, where there are several."""
        row = error.fields.get("row")
        found = None if row is None else self.rows.locate(row)
        if found is None:
            return error
        hint = f"That is row {found[1]} of {found[0]}."
        return Invalid(error.message, hint=hint, **error.fields)

    def _is_small(self) -> bool:
        total = self.rows.total
        if total is None:
            return self.rows.size_bytes <= _SMALL_ROWS * _TEXT_ROW_BYTES
        return total - self.partial.rows <= _SMALL_ROWS

    def _count(self) -> int:
        """As many processes as there are cores, and memory for with the model in each."""
        settings = self.workspace.settings
        model = self.workspace.meta.find(Artifact, self.version.artifact)
        each = _MEMBER_BYTES + (4 * model.size_bytes if model is not None else 0)
        cores = settings.cores if self.cores is None else self.cores
        return max(1, min(cores, settings.memory_bytes // each))

    def _staff(self, count: int) -> Staff:
        if count == 1:
            return Alone(self.workspace, self.version, self.output)
        return Crew(self.workspace, self.version, self.output, count=count)


def _parts(batches: Iterator[pa.RecordBatch], part_rows: int) -> Iterator[pa.Table]:
    """The rows in tables of `part_rows`; the last one is shorter, and those of wide rows are."""
    waiting: list[pa.RecordBatch] = []
    count = size = 0
    for batch in batches:
        while count + batch.num_rows >= part_rows:
            take = part_rows - count
            yield pa.Table.from_batches([*waiting, batch.slice(0, take)])
            batch, waiting, count, size = batch.slice(take), [], 0, 0
        if batch.num_rows:
            waiting.append(batch)
            count, size = count + batch.num_rows, size + batch.nbytes
        if size >= _PART_BYTES:
            yield pa.Table.from_batches(waiting)
            waiting, count, size = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting)
