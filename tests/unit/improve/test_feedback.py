"""Feedback is taken row by row: what is good is in the Log, what is not is named."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from upturn.cli.feedback import command
from upturn.core.errors import Invalid, NotFound
from upturn.core.log import PredictionBatch
from upturn.core.records import Endpoint
from upturn.core.settings import load_settings
from upturn.core.time import instant, micros
from upturn.improve.feedback import FeedbackReceipt, check_feedback, file_feedback, record_feedback
from upturn.improve.log import StoredLog
from upturn.stores.logfile import LogWriter
from upturn.stores.workspace import Workspace, open_workspace

NOW = instant("2013-04-02")
IDS = [f"{number:028x}" for number in range(3)]
NO_SUCH = "f" * 28


@pytest.fixture
def workspace(tmp_path: Path, workspace_home: Path) -> Iterator[Workspace]:
    """Return a workspace whose endpoint `delays` has answered three rows."""
    workspace = open_workspace(load_settings(tmp_path))
    workspace.meta.add(Endpoint(name="delays", at=NOW))
    writer = LogWriter(workspace.log_dir / "delays")
    writer.write(
        PredictionBatch(
            ids=IDS,
            at=[micros(instant("2013-04-01"))] * 3,
            received_at=micros(NOW),
            route=1,
            arm="champion",
            version=1,
            shadow=False,
            units=[None] * 3,
            propensity=1.0,
            features={},
            scores=[0.1, 0.2, 0.3],
            answers=[0.1, 0.2, 0.3],
            latency_s=0.001,
        )
    )
    writer.close()
    yield workspace
    workspace.close()


def labels(workspace: Workspace, known_by: datetime = NOW) -> list[float | str | None]:
    return StoredLog(workspace, "delays").joined(known_by=known_by)["label"].to_pylist()


def test_good_rows_are_kept_and_bad_ones_are_named() -> None:
    good = [True, 0, 1.5, "late", None]
    bad = [math.nan, math.inf, 2**63, ["late"], {"a": 1}]
    batch, receipt = check_feedback([*"abcde", *"fghij"], [*good, *bad], now=NOW, first_row=100)
    assert batch.labels == good
    assert batch.known_at == [micros(NOW)] * 5
    assert (receipt.accepted, receipt.rejected_rows) == (5, 5)
    assert [problem.code for problem in receipt.rejected] == ["invalid"] * 5
    assert receipt.rejected[0].message == "Row 105: the label is nan."


@pytest.mark.parametrize("bad_id", [None, "", 7, b"x"])
def test_an_id_is_a_text(bad_id: object) -> None:
    assert check_feedback([bad_id], [1], now=NOW)[1].rejected_rows == 1


@pytest.mark.parametrize(
    "at",
    ["2013-04-01T06:00:00", "yesterday", 7, datetime(2013, 4, 1), "0001-01-01T00:00:00+14:00"],  # noqa: DTZ001
)
def test_a_time_needs_a_zone(at: object) -> None:
    batch, receipt = check_feedback(["a"], [1], [at], now=NOW)
    assert receipt.rejected_rows == 1
    assert batch.ids == []


def test_lists_must_match() -> None:
    with pytest.raises(Invalid, match="2 ids, 1 labels"):
        check_feedback(["a", "b"], [1], now=NOW)


def test_only_so_many_problems_are_listed() -> None:
    _, receipt = check_feedback([""] * 1000, [1] * 1000, now=NOW)
    assert (receipt.rejected_rows, len(receipt.rejected)) == (1000, 100)
    assert len((receipt + receipt).rejected) == 100
    assert (receipt + receipt).rejected_rows == 2000


def test_feedback_may_come_before_its_prediction_is_in_the_log(workspace: Workspace) -> None:
    writer = LogWriter(workspace.log_dir / "delays")
    receipt = record_feedback(writer, [IDS[1], NO_SUCH], [True, False], now=NOW)
    assert receipt.accepted == 2
    assert labels(workspace) == [None, 1.0, None]
    writer.close()
    start = instant("2013-04-01")
    assert StoredLog(workspace, "delays").unmatched(since=start, until=instant("2013-05-01")) == 1


def write_file(
    path: Path, ids: list[str], values: list[object], known_at: list[str] | None
) -> None:
    columns: dict[str, list[object]] = {
        "prediction_id": list(ids),
        "label": values,
        "note": [1] * len(ids),
    }
    if known_at:
        columns["known_at"] = list(known_at)
    if path.suffix == ".parquet":
        table = pa.table(columns)
        if known_at:
            times = pa.array([instant(at) for at in known_at], pa.timestamp("ns", "UTC"))
            table = table.set_column(3, "known_at", times)
        pq.write_table(table, path)
        return
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if path.suffix == ".jsonl":
        import msgspec

        path.write_bytes(b"\n\n".join(msgspec.json.encode(row) for row in rows))
        return
    lines = [",".join(columns)]
    lines += [",".join("" if v is None else str(v) for v in row.values()) for row in rows]
    path.write_text("\n".join(lines), "utf-8")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("timed", [True, False])
def test_a_file_of_labels(workspace: Workspace, tmp_path: Path, suffix: str, timed: bool) -> None:
    path = tmp_path / f"labels{suffix}"
    known_at = ["2013-04-01T12:00:00Z"] * 4 if timed else None
    write_file(path, [IDS[0], NO_SUCH, IDS[1], IDS[2]], [True, False, False, None], known_at)
    seen: list[tuple[int, int | None]] = []
    receipt = file_feedback(
        workspace, "delays", path, now=NOW, progress=lambda done, total: seen.append((done, total))
    )
    assert receipt == FeedbackReceipt(accepted=2, empty=1, unknown=1, unknown_ids=(NO_SUCH,))
    assert labels(workspace) == [1.0, 0.0, None]
    noon = instant("2013-04-01T13:00:00Z")
    assert labels(workspace, noon) == ([1.0, 0.0, None] if timed else [None] * 3)
    assert seen == [(4, 4 if suffix == ".parquet" else None)]
    again = file_feedback(workspace, "delays", path, now=NOW)
    assert again == receipt
    assert labels(workspace) == [1.0, 0.0, None]


def test_a_file_is_read_in_chunks(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upturn.improve.feedback._CHUNK_ROWS", 2)
    for suffix in (".parquet", ".csv", ".jsonl"):
        path = tmp_path / f"labels{suffix}"
        unknown = [f"{number:028x}" for number in range(10, 15)]
        write_file(path, [*IDS, *unknown], [0.5] * 8, None)
        receipt = file_feedback(workspace, "delays", path, now=NOW)
        assert (receipt.accepted, receipt.unknown) == (3, 5)
        assert receipt.unknown_ids == tuple(unknown[:3])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "labels.csv",
            "flight,label\n1,1",
            "no column 'prediction_id'. Its columns are: 'flight', 'label'.",
        ),
        ("labels.csv", "id,late\n1,1", "no column 'label'"),
        ("labels.csv", "", "no column"),
        ("labels.csv", b"\xff\xfe\x00", "is not a CSV file"),
        ("labels.jsonl", '{"id": "a", "label": 1}\n{"id"', "line 2"),
        ("labels.jsonl", "[1]", "line 1"),
        ("labels.parquet", "nothing", "is not a Parquet file"),
        ("labels.xlsx", "", "can't be read|can be read"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    workspace: Workspace, tmp_path: Path, name: str, content: str | bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Invalid, match=says):
        file_feedback(workspace, "delays", path, now=NOW)


def test_no_such_file_or_endpoint(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="No file"):
        file_feedback(workspace, "delays", tmp_path / "labels.csv", now=NOW)
    with pytest.raises(NotFound, match="delays"):
        file_feedback(workspace, "delay", tmp_path / "labels.csv", now=NOW)


def test_a_short_or_empty_csv_row_is_no_trouble(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"\ufeffid,label\n\n{IDS[0]},late\n{IDS[1]}\n,1\n", "utf-8")
    receipt = file_feedback(workspace, "delays", path, now=datetime.now(UTC))
    assert (receipt.accepted, receipt.empty, receipt.rejected_rows) == (1, 1, 1)
    assert labels(workspace, datetime.now(UTC)) == ["late", None, None]


def test_the_command_says_what_became_of_the_labels(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    write_file(path, [IDS[0], IDS[1], NO_SUCH, "", IDS[2]], [1, 0, 1, 1, None], None)
    result = CliRunner().invoke(command, ["delays", str(path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert (
        f"2 labels joined, 1 of predictions that are not in the Log (first: {NO_SUCH})"
        in result.output
    )
    assert "1 rows without a label left out" in result.output
    assert "1 label could not be read:\n  Row 3: the prediction id is None." in result.output
    result = CliRunner().invoke(command, ["delays", str(path), "--json"], catch_exceptions=False)
    assert '"accepted":2' in result.output
