"""DiskBlobStore: its files, and what can go wrong with them."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from contract.processes import run
from upturn.core.errors import Unavailable
from upturn.stores.disk import DiskBlobStore


def test_files_are_read_only_and_named_by_digest(tmp_path: Path) -> None:
    digest = DiskBlobStore(tmp_path).put([b"x"])
    path = tmp_path / digest[:2] / digest[2:]
    assert path.read_bytes() == b"x"
    assert path.stat().st_mode & 0o777 == 0o444


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    store = DiskBlobStore(tmp_path)
    digest = store.put([b"x"])
    path = tmp_path / digest[:2] / digest[2:]
    before = path.stat()
    store.put([b"x"], sync=True)
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_what_dead_writers_left_is_removed_when_the_store_is_opened(tmp_path: Path) -> None:
    DiskBlobStore(tmp_path)
    with subprocess.Popen(["true"]) as process:
        process.wait()
    dead, mine = process.pid, os.getpid()
    ages_s = {f"{dead}-old": 120, f"{dead}-new": 0, f"{mine}-old": 120, f"{mine}-ancient": 90_000}
    now = time.time()
    for name, age_s in ages_s.items():
        path = tmp_path / "tmp" / name
        path.write_bytes(b"half")
        os.utime(path, (now - age_s, now - age_s))
    DiskBlobStore(tmp_path)
    left = sorted(path.name for path in (tmp_path / "tmp").iterdir())
    assert left == sorted([f"{dead}-new", f"{mine}-old"])


def test_a_full_disk_is_unavailable_and_leaves_nothing(tmp_path: Path) -> None:
    code = """
        import resource
        from upturn.core.errors import Unavailable
        from upturn.stores.disk import DiskBlobStore
        store = DiskBlobStore(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, -1))
        try:
            store.put([b"x" * 20_000])
        except Unavailable as error:
            print(error.hint)
    """
    assert "room" in run(code, tmp_path)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert DiskBlobStore(tmp_path).size_bytes() == 0


def test_a_file_in_the_way_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("")
    with pytest.raises(Unavailable):
        DiskBlobStore(tmp_path / "blobs")


def test_a_directory_that_went_away_is_unavailable(tmp_path: Path) -> None:
    store = DiskBlobStore(tmp_path / "blobs")
    shutil.rmtree(tmp_path / "blobs")
    with pytest.raises(Unavailable) as caught:
        store.put([b"x"])
    assert caught.value.hint
    assert not store.has("0" * 64)
