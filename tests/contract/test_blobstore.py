"""The contract of BlobStore, run by every backend."""

import os
import time
from pathlib import Path

import blake3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.processes import finish, hear, kill_after, run, say, start
from contract.remote import HOMES, remote_blobs
from upturn.core.blobstore import BlobStore
from upturn.core.errors import Corrupt, NotFound, Unavailable
from upturn.stores.disk import DiskBlobStore
from upturn.stores.remote.blobs import RemoteBlobStore

SIZES = [0, 1, 63, 4096, 65_535, 65_536, 65_537, 1_000_000, 9_000_000]


@pytest.fixture(params=["disk", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """Return an empty store."""
    if request.param == "disk":
        return DiskBlobStore(tmp_path / "blobs")
    server = request.getfixturevalue("store_server")
    server.empty()
    return remote_blobs(server)


def disk_of(store: BlobStore) -> DiskBlobStore:
    """Where the blobs are in the end."""
    if isinstance(store, DiskBlobStore):
        return store
    assert isinstance(store, RemoteBlobStore)
    return DiskBlobStore(HOMES[store._server.url] / "blobs")


def place_of(store: BlobStore) -> str:
    """What another process opens the store by."""
    return store._server.url if isinstance(store, RemoteBlobStore) else disk_of(store)._root


def file_of(store: BlobStore, digest: str) -> Path:
    return Path(disk_of(store)._path(digest))


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
        store = blob_store(sys.argv[1])
        for i in range(100):
            data = bytes([i]) * (1000 * i)
            assert bytes(store.get(store.put([data]))) == data
    """
    place = place_of(store)
    for process in [start(code, place) for _ in range(4)]:
        finish(process)
    assert store.size_bytes() == sum(1000 * i for i in range(100))


def test_a_killed_process_leaves_whole_blobs_only(store: BlobStore) -> None:
    code = """
        store = blob_store(sys.argv[1])
        number = 0
        while True:
            number += 1
            print(store.put([number.to_bytes(8, "little") * 40_000]), flush=True)
    """
    root = Path(disk_of(store)._root)
    for digest in kill_after(start(code, place_of(store)), 20):
        assert store.get(digest).nbytes == 320_000
    for shard in root.iterdir():
        for path in shard.iterdir():
            if shard.name != "tmp":
                assert store.get(shard.name + path.name).nbytes == 320_000


def test_a_forked_child_reads_large_blobs(store: BlobStore) -> None:
    code = """
        store = blob_store(sys.argv[1])
        data = os.urandom(9_000_000)
        digest = store.put([data])  # in several threads
        pid = os.fork()
        if pid == 0:
            os._exit(0 if store.get(digest) == data else 1)
        assert os.waitpid(pid, 0)[1] == 0
    """
    run(code, place_of(store))


# Sweeping: what is used stays


DAY_S = 86_400.0


def age(store: BlobStore, *digests: str) -> None:
    """Let the blobs have been used a day ago."""
    for digest in digests:
        then = time.time() - DAY_S
        os.utime(file_of(store, digest), (then, then))


def an_hour_ago() -> float:
    return time.time() - 3600


def test_entries_are_what_is_stored_with_its_size_and_last_use(store: BlobStore) -> None:
    sizes = {store.put([bytes([size % 251]) * size]): size for size in (0, 1, 100_000)}
    old = store.put([b"old"])
    age(store, old)
    found = {entry.digest: entry for entry in store.entries()}
    assert {digest: found[digest].size_bytes for digest in sizes} == sizes
    assert set(found) == {*sizes, old}
    assert all(found[digest].used_at > an_hour_ago() for digest in sizes)
    assert found[old].used_at < an_hour_ago()
    store.delete(old)
    assert {entry.digest for entry in store.entries()} == set(sizes)


def test_a_sweep_removes_what_was_not_used(store: BlobStore) -> None:
    unused, asked, again, young, other = (store.put([bytes([i]) * 70_000]) for i in range(5))
    age(store, unused, asked, again, other)
    assert store.has(unused, use=False)
    assert store.has(asked)
    store.put([bytes([2]) * 70_000])
    swept = store.sweep([unused, asked, again, young, "0" * 64], unused_since=an_hour_ago())
    gone = dict(swept)
    assert gone == {unused: True, asked: False, again: False, young: False, "0" * 64: False}
    with pytest.raises(NotFound):
        store.get(unused)
    assert not store.has(unused, use=False)
    for number, digest in [(1, asked), (2, again), (3, young), (4, other)]:
        assert store.get(digest) == bytes([number]) * 70_000
    assert store.put([bytes(70_000)]) == unused
    assert store.has(unused)


def test_what_is_used_while_a_sweep_goes_on_stays(store: BlobStore) -> None:
    digests = [store.put([bytes([i])]) for i in range(4)]
    age(store, *digests)
    swept = store.sweep(digests, unused_since=an_hour_ago())
    assert next(swept) == (digests[0], True)
    assert store.has(digests[1])
    store.put([bytes([2])])
    assert list(swept) == [(digests[1], False), (digests[2], False), (digests[3], True)]


def test_there_is_one_sweep_at_a_time(store: BlobStore) -> None:
    digest = store.put([b"x"])
    age(store, digest)
    first = store.sweep([digest, digest], unused_since=an_hour_ago())
    assert next(first) == (digest, True)
    with pytest.raises(Unavailable):
        list(store.sweep([digest], unused_since=an_hour_ago()))
    first.close()  # type: ignore[attr-defined]
    assert list(store.sweep([digest], unused_since=an_hour_ago())) == [(digest, False)]


def test_no_use_in_another_process_is_lost_to_a_sweep(store: BlobStore) -> None:
    """Whoever asks for a blob and finds it, or puts it, has it; whatever a sweep does just then."""
    using = """
        store = blob_store(sys.argv[1])
        blobs = [bytes([i]) * 10 for i in range(150)]
        digests = sys.argv[3].split()
        for line in sys.stdin:
            for i, digest in enumerate(digests):
                if int(sys.argv[2]) == 0 or not store.has(digest):
                    assert store.put([blobs[i]]) == digest
                assert store.get(digest) == blobs[i], i
                assert store.has(digest), i
            print("used", flush=True)
    """
    sweeping = """
        import time
        store = blob_store(sys.argv[1])
        digests = sys.argv[2].split()
        for line in sys.stdin:
            swept = store.sweep(digests, unused_since=time.time() - 3600)
            print("swept", sum(gone for _, gone in swept), flush=True)
    """
    digests = [store.put([bytes([i]) * 10]) for i in range(150)]
    place, names = place_of(store), " ".join(digests)
    users = [start(using, place, how, names, talk=True) for how in (0, 1, 1)]
    sweeper = start(sweeping, place, names, talk=True)
    for _ in range(8):
        age(store, *digests)
        said = [say(process, "go") for process in (sweeper, *users)]
        assert [hear(process) for process in users] == ["used"] * 3
        assert hear(sweeper).startswith("swept ")
        assert len(said) == 4
        assert all(store.has(digest) for digest in digests)
    for process in (sweeper, *users):
        finish(process)
    age(store, *digests)
    assert all(gone for _, gone in store.sweep(digests, unused_since=an_hour_ago()))
    assert list(store.entries()) == []


def test_a_sweep_that_is_killed_leaves_every_blob_whole_or_gone(store: BlobStore) -> None:
    code = """
        import time
        store = blob_store(sys.argv[1])
        for digest, gone in store.sweep(sys.argv[2].split(), unused_since=time.time() - 3600):
            print(digest, flush=True)
    """
    digests = [store.put([i.to_bytes(8, "little") * 100]) for i in range(2000)]
    age(store, *digests)
    gone = set(kill_after(start(code, place_of(store), " ".join(digests)), 20))
    left = {entry.digest for entry in store.entries()}
    assert not gone & left
    for digest in left:
        assert store.get(digest).nbytes == 800
    swept = store.sweep(digests, unused_since=an_hour_ago())
    assert {digest for digest, removed in swept if removed} == left
    assert store.size_bytes() == 0
