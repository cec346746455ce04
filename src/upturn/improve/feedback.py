"""Feedback: what later turned out to be true, checked and written to the Log."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec

from upturn.core.errors import Invalid, NotFound, Problem
from upturn.core.ids import is_prediction_id
from upturn.core.log import FeedbackBatch
from upturn.core.records import Endpoint
from upturn.core.time import instant, micros
from upturn.stores.logfile import LogWriter
from upturn.stores.workspace import Workspace

Label = bool | int | float | str | None
# Called with the rows done so far, and with all rows of the file where that is known.
Progress = Callable[[int, int | None], None]

_CHUNK_ROWS = 20_000
_PROBLEMS = 100  # of one receipt; the rest is only counted
_NAMED = 3
_SHOWN = 150  # characters of what was given instead of an id
_ID_COLUMNS = ("prediction_id", "id")
_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


class FeedbackReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the labels: `accepted` are in the Log; the others are not, and why.

    `rejected` holds the first 100 problems, each with its row; `empty` counts rows of a file that
    have no label; `unknown` counts labels whose prediction is not in the Log, `unknown_ids` are the
    first three of them.
    """

    accepted: int
    empty: int = 0
    rejected_rows: int = 0
    rejected: tuple[Problem, ...] = ()
    unknown: int = 0
    unknown_ids: tuple[str, ...] = ()

    def __add__(self, other: "FeedbackReceipt") -> "FeedbackReceipt":
        """Both receipts as one."""
        return FeedbackReceipt(
            accepted=self.accepted + other.accepted,
            empty=self.empty + other.empty,
            rejected_rows=self.rejected_rows + other.rejected_rows,
            rejected=(self.rejected + other.rejected)[:_PROBLEMS],
            unknown=self.unknown + other.unknown,
            unknown_ids=(self.unknown_ids + other.unknown_ids)[:_NAMED],
        )


def check_feedback(
    ids: Sequence[Any],
    labels: Sequence[Any],
    known_at: Sequence[Any] | None = None,
    *,
    now: datetime,
    first_row: int = 0,
) -> tuple[FeedbackBatch, FeedbackReceipt]:
    """The rows that can be written, and a receipt that says which can't, numbered from `first_row`.

    A label is true, false, a finite number, a text, or null, which withdraws what was said before.
    `known_at` entries are instants, or ISO 8601 text with a time zone; `now` where there is none.
    Raises Invalid when the lists have different lengths.

    >>> batch, receipt = check_feedback(["a", "b"], [1, float("nan")], now=instant("2013-04-01"))
    >>> batch.ids, receipt.accepted, receipt.rejected[0].message
    (['a'], 1, 'Row 1: the label is nan.')
    """
    times = [None] * len(ids) if known_at is None else known_at
    if not len(ids) == len(labels) == len(times):
        raise Invalid(
            f"There are {len(ids)} ids, {len(labels)} labels and {len(times)} times.",
            hint="Give one label for each id.",
        )
    good_ids: list[str] = []
    good_labels: list[Label] = []
    good_times: list[int] = []
    problems: list[Problem] = []
    received_at = micros(now)
    for row, (given_id, label, at) in enumerate(zip(ids, labels, times, strict=True), first_row):
        try:
            checked = _id(given_id), _label(label), received_at if at is None else _micros(at)
        except Invalid as error:
            problem = error.problem
            problems.append(msgspec.structs.replace(problem, message=f"Row {row}: {error.message}"))
            continue
        good_ids.append(checked[0])
        good_labels.append(checked[1])
        good_times.append(checked[2])
    receipt = FeedbackReceipt(
        accepted=len(good_ids), rejected_rows=len(problems), rejected=tuple(problems[:_PROBLEMS])
    )
    return FeedbackBatch(good_ids, good_labels, good_times, received_at), receipt


def record_feedback(
    writer: LogWriter,
    ids: Sequence[Any],
    labels: Sequence[Any],
    known_at: Sequence[Any] | None = None,
    *,
    now: datetime,
    durable: bool = True,
) -> FeedbackReceipt:
    """Check the rows and write the good ones; with `durable`, they are on disk on return.

    An id that is not in the Log is written too: its prediction may still be on its way there, and
    feedback is joined when it is read. See check_feedback for the rest. A caller that must not
    block uses check_feedback and awaits the writer's future.
    """
    batch, receipt = check_feedback(ids, labels, known_at, now=now)
    if batch.ids:
        written = writer.write(batch, durable=durable)
        if durable and written is not None:
            written.result()
    return receipt


def file_feedback(
    workspace: Workspace,
    endpoint: str,
    path: Path | str,
    *,
    now: datetime,
    progress: Progress | None = None,
) -> FeedbackReceipt:
    """Write the labels in a Parquet, CSV or JSON lines file to the endpoint's Log.

    Its columns are `prediction_id` (or `id`), `label`, and `known_at` if wanted. The file is read
    in chunks. Labels of predictions that are not in the Log are left out and counted, and so are
    rows without a label. Doing it again changes nothing. Raises NotFound when there is no such
    endpoint or file, Invalid when the file can't be read or lacks a column.
    """
    from upturn.improve.log import StoredLog

    workspace.meta.get(Endpoint, endpoint)
    path = Path(path)
    log = StoredLog(workspace, endpoint)
    writer = LogWriter(workspace.log_dir / endpoint)
    receipt, row = FeedbackReceipt(accepted=0), 0
    try:
        for ids, labels, times, total in read_chunks(path):
            batch, found = check_feedback(ids, labels, times, now=now, first_row=row)
            batch, found = _known_only(batch, found, log.has(batch.ids).tolist())
            if batch.ids and (written := writer.write(batch, durable=True)) is not None:
                written.result()  # before the next chunk is read, so that memory stays bounded
            receipt, row = receipt + found, row + len(ids)
            if progress is not None:
                progress(row, total)
    finally:
        writer.close()
    return receipt


def _known_only(
    batch: FeedbackBatch, receipt: FeedbackReceipt, known: Sequence[bool]
) -> tuple[FeedbackBatch, FeedbackReceipt]:
    """Without the rows that say nothing, and those of predictions that are not in the Log."""
    said = [label is not None for label in batch.labels]
    rows = [row for row, there in enumerate(known) if there and said[row]]
    unknown = [batch.ids[row] for row, there in enumerate(known) if not there and said[row]]
    kept = FeedbackBatch(
        [batch.ids[row] for row in rows],
        [batch.labels[row] for row in rows],
        [batch.known_at[row] for row in rows],
        batch.received_at,
    )
    return kept, msgspec.structs.replace(
        receipt,
        accepted=len(rows),
        empty=said.count(False),
        unknown=len(unknown),
        unknown_ids=tuple(dict.fromkeys(unknown))[:_NAMED],
    )


Chunk = tuple[list[Any], list[Any], list[Any] | None, int | None]


def read_chunks(path: Path) -> Iterator[Chunk]:
    """Ids, labels, times if the file has them, and how many rows there are in all if it says so."""
    if not path.is_file():
        raise NotFound(f"No file {str(path)!r}.")
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise Invalid(
            f"{path.name!r} is not of a kind that can be read.",
            hint=f"Feedback is read from {', '.join(_FORMATS)} files.",
        )
    reader = {"parquet": _parquet_chunks, "csv": _csv_chunks, "jsonl": _jsonl_chunks}[kind]
    return reader(path)


def _parquet_chunks(path: Path) -> Iterator[Chunk]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise Invalid(f"{path.name!r} is not a Parquet file: {_first_line(error)}") from None
    names = _columns(file.schema_arrow.names, path)
    for batch in file.iter_batches(_CHUNK_ROWS, columns=[name for name in names if name]):
        id_name, label_name, time_name = names
        times = _instants(batch.column(time_name)) if time_name else None
        ids, labels = batch.column(id_name).to_pylist(), batch.column(label_name).to_pylist()
        yield ids, labels, times, file.metadata.num_rows


def _instants(column: Any) -> list[Any]:
    """The column's values; nanoseconds, which Python's instants do not have, are cut off."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return column.to_pylist()


def _csv_chunks(path: Path) -> Iterator[Chunk]:
    import csv
    from itertools import islice

    with path.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.reader(lines)
        try:
            header = next(rows, [])
            names = _columns(header, path)
            places = [header.index(name) if name else None for name in names]
            filled = filter(None, rows)
            while chunk := list(islice(filled, _CHUNK_ROWS)):
                ids, labels, times = (_cells(chunk, place) for place in places)
                yield ids or [], [_parsed(text) for text in labels or []], times, None
        except (csv.Error, UnicodeDecodeError) as error:
            raise Invalid(f"{path.name!r} is not a CSV file: {_first_line(error)}") from None


def _cells(rows: Sequence[Sequence[str]], place: int | None) -> list[str | None] | None:
    """One column of CSV rows; an empty cell, or one that a short row lacks, is null."""
    if place is None:
        return None
    return [(row[place] or None) if place < len(row) else None for row in rows]


def _jsonl_chunks(path: Path) -> Iterator[Chunk]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    rows: list[dict[str, Any]] = []
    names: tuple[str, str, str | None] | None = None
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = decoder.decode(line)
            except msgspec.DecodeError as error:
                raise Invalid(f"{path.name!r}, line {number}: {error}.") from None
            names = names or _columns(list(row), path)
            rows.append(row)
            if len(rows) == _CHUNK_ROWS:
                yield _from_objects(rows, names)
                rows = []
    if rows and names:
        yield _from_objects(rows, names)


def _from_objects(rows: list[dict[str, Any]], names: tuple[str, str, str | None]) -> Chunk:
    ids = [row.get(names[0]) for row in rows]
    labels = [row.get(names[1]) for row in rows]
    return ids, labels, [row.get("known_at") for row in rows], None


def _columns(found: Sequence[str], path: Path) -> tuple[str, str, str | None]:
    """The names of the columns of ids, labels and times. Raises Invalid when one is missing."""
    id_name = next((name for name in _ID_COLUMNS if name in found), None)
    if id_name is None or "label" not in found:
        lacking = "prediction_id" if id_name is None else "label"
        raise Invalid(
            f"{path.name!r} has no column {lacking!r}.",
            hint=f"Its columns are: {', '.join(map(repr, found)) or 'none'}.",
            columns=list(found),
        )
    return id_name, "label", "known_at" if "known_at" in found else None


def _id(value: object) -> str:
    if not isinstance(value, str) or not is_prediction_id(value):
        raise Invalid(
            f"the prediction id is {_shortened(value)}.",
            hint="It is the text that predict gave, or was given.",
        )
    return value


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _label(value: object) -> Label:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    raise Invalid(f"the label is {value!r}.", hint="It is true, false, a number, a text or null.")


def _micros(value: object) -> int:
    if isinstance(value, str | datetime):
        with suppress(OverflowError):  # the first or last day there is, in another time zone
            return micros(instant(value))
    raise Invalid(f"known_at is {value!r}.", hint="Write 2013-04-01T06:00:00Z.")


def _parsed(text: str | None) -> Label:
    """What a CSV cell says: nothing, true or false, a number, or text."""
    if text is None:
        return None
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") + "."
