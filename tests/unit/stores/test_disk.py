"""DiskBlobStore: its files, and what can go wrong with them."""

import os
import shutil
import subprocess
import tempfile
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
    with subprocess.Popen(["true"]) as process:
        process.wait()
    dead, mine = process.pid, os.getpid()
    ages_s = {f"{dead}-old": 120, f"{dead}-new": 0, f"{mine}-old": 120, f"{mine}-ancient": 90_000}
    now = time.time()
    (tmp_path / "tmp").mkdir()
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


def test_what_a_dead_sweep_left_in_the_trash_is_as_good_as_in_its_place(tmp_path: Path) -> None:
    store = DiskBlobStore(tmp_path)
    data = [bytes([i]) * 1000 for i in range(5)]
    digests = [store.put([one]) for one in data]
    (tmp_path / "trash").mkdir()
    for digest in digests:
        (tmp_path / digest[:2] / digest[2:]).rename(tmp_path / "trash" / digest)
    assert {entry.digest for entry in store.entries()} == set(digests)
    assert store.size_bytes() == 5000
    assert store.get(digests[0]) == data[0]
    assert store.has(digests[1])
    assert store.put([data[2]]) == digests[2]
    store.delete(digests[3])
    assert not store.has(digests[3])
    assert [path.name for path in (tmp_path / "trash").iterdir()] == [digests[4]]
    then = time.time() - 7200
    os.utime(tmp_path / "trash" / digests[4], (then, then))
    assert list(store.sweep([digests[4]], unused_since=time.time() - 3600)) == [(digests[4], True)]
    assert {entry.digest for entry in store.entries()} == set(digests[:3])


def test_a_use_is_noted_once_in_a_while(tmp_path: Path) -> None:
    store = DiskBlobStore(tmp_path)
    digest = store.put([b"x"])
    path = tmp_path / digest[:2] / digest[2:]
    for age_s, noted in [(60, False), (3600, True)]:
        then = time.time() - age_s
        os.utime(path, (then, then))
        assert store.has(digest)
        assert (path.stat().st_mtime > then + 1) is noted


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_blobs_that_may_only_be_read_are_found() -> None:
    code = """
        from upturn.stores.disk import DiskBlobStore
        store = DiskBlobStore(sys.argv[1])
        digest = store.put([b"x"])
        os.utime(store._path(digest), (0, 0))
        os.setuid(65534)
        print(store.has(digest), bytes(store.get(digest)))
    """
    with tempfile.TemporaryDirectory() as shared:  # not in tmp_path, which is its owner's alone
        Path(shared).chmod(0o755)
        assert run(code, shared) == "True b'x'\n"
