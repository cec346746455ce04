"""AccessLog: whole lines, in order; what can't be written in time is dropped and counted."""

import json
import os
import threading
from pathlib import Path

import pytest

from e2e.serving import wait_for
from upturn.core.errors import Invalid
from upturn.deploy.serve.access import AccessLog, check_access_log
from upturn.deploy.serve.seen import Seen


def seen(number: int) -> Seen:
    one = Seen("GET", f"/{number}")
    one.status = 200
    return one


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_whole_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text('{"from": "before"}\n')
    log = AccessLog(str(path))
    for number in range(5000):
        log.end(seen(number))
    log.close()
    found = lines(path)
    assert found[0] == {"from": "before"}
    assert [line["path"] for line in found[1:]] == [f"/{number}" for number in range(5000)]
    assert log.dropped == 0


def test_a_path_can_break_no_line(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    log.end(Seen("GET", '/a"\n{"status": 200}' + "x" * 10_000))
    log.close()
    (line,) = lines(path)
    assert str(line["path"]).startswith('/a"\n{')
    assert len(str(line["path"])) == 200


def test_a_reader_that_takes_nothing_costs_lines_and_not_answers(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(pipe), max_waiting=100)
    sent = 20_000
    for number in range(sent):  # far more than the pipe holds; nobody reads
        log.end(seen(number))
    assert log.dropped > 0
    os.set_blocking(reader, True)
    read: list[bytes] = []

    def read_all() -> None:
        while data := os.read(reader, 1 << 16):
            read.append(data)

    thread = threading.Thread(target=read_all)
    thread.start()
    log.close()
    thread.join()
    os.close(reader)
    found = [json.loads(line) for line in b"".join(read).splitlines()]
    told = sum(line["dropped"] for line in found if "dropped" in line)
    assert told == log.dropped
    assert len([line for line in found if "path" in line]) + told == sent


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk that is always full")
def test_a_disk_that_is_full_is_said_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("/dev/full")
    for number in range(3):
        log.end(seen(number))
    log.close()
    assert log.dropped == 3
    (record,) = caplog.records
    assert "No space left" in record.getMessage()


def test_a_directory_that_goes_and_comes_back_costs_what_came_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "access.log"
    path.parent.mkdir()
    log = AccessLog(str(path), follow_s=0.0)
    path.unlink()
    path.parent.rmdir()
    log.end(seen(1))
    wait_for(lambda: log.dropped == 1, "the line to be given up")
    path.parent.mkdir()
    log.end(seen(2))
    log.close()
    assert lines(path)[0]["path"] == "/2"
    assert lines(path)[1]["dropped"] == 1


def test_what_can_be_no_access_log_is_refused_before_anything_starts(tmp_path: Path) -> None:
    for bad in (tmp_path, tmp_path / "nowhere" / "access.log"):
        with pytest.raises(Invalid, match="can't be written"):
            check_access_log(str(bad))
    for good in ("", "-", str(tmp_path / "access.log")):
        check_access_log(good)
