"""The contract of BlobStore, run by every backend."""

import os
from pathlib import Path

import blake3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.processes import finish, kill_after, run, start
from upturn.core.blobstore import BlobStore
from upturn.core.errors import Corrupt, NotFound
from upturn.stores.disk import DiskBlobStore

SIZES = [0, 1, 63, 4096, 65_535, 65_536, 65_537, 1_000_000, 9_000_000]


@pytest.fixture(params=["disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """Return an empty store."""
    return {"disk": DiskBlobStore}[request.param](tmp_path / "blobs")


def file_of(store: BlobStore, digest: str) -> Path:
    return Path(store._path(digest))  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sync", [False, True])
def test_a_blob_comes_back(store: BlobStore, size: int, sync: bool) -> None:
    data = os.urandom(size)
    digest = store.put([data[: size // 3], memoryview(data)[size // 3 :]], sync=sync)
    assert digest == blake3.blake3(data).hexdigest()
    got = store.get(digest)
    assert got == data
    assert got.readonly
    assert store.has(digest)
    assert store.size_bytes() == size


@given(parts=st.lists(st.binary(max_size=300), max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_digest_is_that_of_the_concatenation(store: BlobStore, parts: list[bytes]) -> None:
    digest = store.put([bytearray(part) for part in parts])
    assert digest == store.put([b"".join(parts)])
    assert bytes(store.get(digest)) == b"".join(parts)


def test_buffers_of_other_items_than_bytes(store: BlobStore) -> None:
    import numpy as np

    numbers = np.arange(6.0).reshape(2, 3)
    assert bytes(store.get(store.put([memoryview(numbers)]))) == numbers.tobytes()


def test_what_is_not_there(store: BlobStore) -> None:
    absent = "0" * 64
    with pytest.raises(NotFound, match=absent):
        store.get(absent)
    assert not store.has(absent)
    store.delete(absent)


@pytest.mark.parametrize(
    "name", ["", "abc", "../../etc/passwd", "a" * 63 + "/", "A" * 64, "\0" * 64, "tmp/x", "é" * 64]
)
def test_what_is_no_digest_reaches_no_file(store: BlobStore, name: str) -> None:
    with pytest.raises(NotFound):
        store.get(name)
    assert not store.has(name)
    store.delete(name)


def test_a_deleted_blob_is_gone_and_can_be_put_again(store: BlobStore) -> None:
    digest = store.put([b"x" * 100_000])
    mapped = store.get(digest)
    store.delete(digest)
    assert not store.has(digest)
    assert bytes(mapped[:1]) == b"x"  # who has it mapped keeps it
    assert store.put([b"x" * 100_000]) == digest
    assert store.has(digest)


@pytest.mark.parametrize("size", [1, 1000, 200_000])
def test_a_flipped_bit_is_found_on_read(store: BlobStore, size: int) -> None:
    data = os.urandom(size)
    digest = store.put([data])
    path = file_of(store, digest)
    path.chmod(0o644)
    for at in {0, size // 2, size - 1}:
        damaged = bytearray(data)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(Corrupt, match=digest) as caught:
            store.get(digest)
        assert str(path) in str(caught.value)
        assert caught.value.hint
    path.write_bytes(data)
    assert store.get(digest) == data


@pytest.mark.parametrize("damage", ["cut", "grown", "emptied"])
def test_a_blob_of_another_size_is_found_and_healed_by_putting_it_again(
    store: BlobStore, damage: str
) -> None:
    data = os.urandom(100_000)
    digest = store.put([data])
    path = file_of(store, digest)
    path.chmod(0o644)
    path.write_bytes({"cut": data[:-1], "grown": data + b"x", "emptied": b""}[damage])
    with pytest.raises(Corrupt):
        store.get(digest)
    assert store.put([data]) == digest
    assert store.get(digest) == data


def test_processes_put_the_same_blobs_at_once(store: BlobStore) -> None:
    code = """
        from upturn.stores.disk import DiskBlobStore
        store = DiskBlobStore(sys.argv[1])
        for i in range(100):
            data = bytes([i]) * (1000 * i)
            assert bytes(store.get(store.put([data]))) == data
    """
    root = store._root  # type: ignore[attr-defined]
    for process in [start(code, root) for _ in range(4)]:
        finish(process)
    assert store.size_bytes() == sum(1000 * i for i in range(100))


def test_a_killed_process_leaves_whole_blobs_only(store: BlobStore) -> None:
    code = """
        from upturn.stores.disk import DiskBlobStore
        store = DiskBlobStore(sys.argv[1])
        number = 0
        while True:
            number += 1
            print(store.put([number.to_bytes(8, "little") * 40_000]), flush=True)
    """
    root = Path(store._root)  # type: ignore[attr-defined]
    for digest in kill_after(start(code, root), 20):
        assert store.get(digest).nbytes == 320_000
    for shard in root.iterdir():
        for path in shard.iterdir():
            if shard.name != "tmp":
                assert store.get(shard.name + path.name).nbytes == 320_000


def test_a_forked_child_reads_large_blobs(store: BlobStore) -> None:
    code = """
        from upturn.stores.disk import DiskBlobStore
        store = DiskBlobStore(sys.argv[1])
        data = os.urandom(9_000_000)
        digest = store.put([data])  # in several threads
        pid = os.fork()
        if pid == 0:
            os._exit(0 if store.get(digest) == data else 1)
        assert os.waitpid(pid, 0)[1] == 0
    """
    run(code, store._root)  # type: ignore[attr-defined]
