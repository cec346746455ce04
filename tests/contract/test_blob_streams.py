"""The contract of BlobStore for blobs that are written and read part by part."""

import os
import resource
from pathlib import Path

import blake3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.processes import kill_after, run, start
from contract.remote import remote_blobs
from upturn.core.blobstore import BlobReader, BlobStore
from upturn.core.errors import Corrupt, NotFound, Unavailable
from upturn.stores.disk import DiskBlobStore

MB = 1024 * 1024


@pytest.fixture(params=["disk", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """Return an empty store."""
    if request.param == "disk":
        return DiskBlobStore(tmp_path / "blobs")
    server = request.getfixturevalue("store_server")
    server.empty()
    return remote_blobs(server)


@pytest.fixture
def disk(tmp_path: Path) -> DiskBlobStore:
    """Return an empty store of files, into which a test looks."""
    return DiskBlobStore(tmp_path / "blobs")


def all_of(reader: BlobReader, size: int) -> bytes:
    """Return what a reader gives, asked for so much at a time."""
    parts = []
    while part := reader.read(size):
        parts.append(part)
    reader.close()
    return b"".join(parts)


@given(parts=st.lists(st.binary(max_size=300), max_size=6), size=st.integers(1, 700))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_in_parts_is_what_put_stores(
    store: BlobStore, parts: list[bytes], size: int
) -> None:
    writer = store.writing()
    for part in parts:
        writer.write(part)
    data = b"".join(parts)
    digest = writer.finish()
    assert digest == blake3.blake3(data).hexdigest() == store.put([data])
    reader = store.reading(digest)
    assert reader.size_bytes == len(data)
    assert all_of(reader, size) == data


@pytest.mark.parametrize("sync", [False, True])
def test_it_appears_when_it_is_finished(store: BlobStore, sync: bool) -> None:
    data = os.urandom(3 * MB)
    writer = store.writing()
    for at in range(0, len(data), MB):
        writer.write(memoryview(data)[at : at + MB])
        assert list(store.entries()) == []
    digest = writer.finish(sync=sync)
    writer.abandon()  # too late: it stays
    assert store.get(digest) == data
    assert [entry.size_bytes for entry in store.entries()] == [len(data)]


def test_what_is_abandoned_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    writer = store.writing()
    writer.write(b"x" * MB)
    writer.abandon()
    writer.abandon()
    forgotten = store.writing()
    forgotten.write(b"y")
    del forgotten
    assert list(store.entries()) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_writing_what_is_there_already_keeps_one(store: BlobStore) -> None:
    digest = store.put([b"x" * MB])
    writer = store.writing()
    writer.write(b"x" * MB)
    assert writer.finish() == digest
    assert len(list(store.entries())) == 1


def test_what_is_not_there(store: BlobStore) -> None:
    for name in ("0" * 64, "../../etc/passwd", ""):
        with pytest.raises(NotFound):
            store.reading(name)


@pytest.mark.parametrize("at", [0, 100_000, 199_999])
def test_a_flipped_bit_is_found_before_the_last_part(disk: DiskBlobStore, at: int) -> None:
    data = bytearray(os.urandom(200_000))
    digest = disk.put([data])
    path = Path(disk._path(digest))  # pyright: ignore[reportPrivateUsage]
    path.chmod(0o644)
    data[at] ^= 1
    path.write_bytes(data)
    reader = disk.reading(digest)
    got = reader.read(100_000)
    assert len(got) == 100_000
    with pytest.raises(Corrupt, match=digest):
        reader.read(100_000)
    reader.close()


def test_an_emptied_blob_is_found(disk: DiskBlobStore) -> None:
    digest = disk.put([b"something"])
    path = Path(disk._path(digest))  # pyright: ignore[reportPrivateUsage]
    path.chmod(0o644)
    path.write_bytes(b"")
    with pytest.raises(Corrupt):
        disk.reading(digest)


def test_a_reader_keeps_what_is_deleted_meanwhile(store: BlobStore) -> None:
    digest = store.put([b"x" * 1000])
    reader = store.reading(digest)
    store.delete(digest)
    assert all_of(reader, 100) == b"x" * 1000


def test_a_writer_that_is_killed_leaves_no_blob(disk: DiskBlobStore) -> None:
    code = """
        from upturn.stores.disk import DiskBlobStore
        writer = DiskBlobStore(sys.argv[1]).writing()
        while True:
            writer.write(b"x" * 1_000_000)
            print("wrote", flush=True)
    """
    kill_after(start(code, disk._root), 3)  # pyright: ignore[reportPrivateUsage]
    assert list(disk.entries()) == []


def test_a_large_blob_takes_no_more_memory_than_its_parts(disk: DiskBlobStore) -> None:
    code = """
        import resource
        from upturn.stores.disk import DiskBlobStore
        store = DiskBlobStore(sys.argv[1])
        part = bytes(1_000_000)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        writer = store.writing()
        for _ in range(200):
            writer.write(part)
        reader = store.reading(writer.finish())
        while reader.read(1_000_000):
            pass
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    assert int(run(code, disk._root)) < 16  # pyright: ignore[reportPrivateUsage]


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on files")
def test_a_full_disk_is_unavailable_and_leaves_nothing(disk: DiskBlobStore) -> None:
    code = """
        import resource, signal
        from upturn.core.errors import Unavailable
        from upturn.stores.disk import DiskBlobStore
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
        store = DiskBlobStore(sys.argv[1])
        writer = store.writing()
        try:
            for _ in range(10):
                writer.write(b"x" * 500_000)
        except Unavailable as error:
            writer.abandon()
            print(error.hint)
    """
    assert "Make room" in run(code, disk._root)  # pyright: ignore[reportPrivateUsage]
    assert list(disk.entries()) == []
    assert Unavailable.http_status == 503
