"""RemoteBlobStore: blobs that a server keeps, with copies of what was read on this machine."""

import contextlib
import http.client
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from upturn.core.blobstore import BlobReader, BlobWriter, Buffer, Entry
from upturn.core.errors import Corrupt, NotFound, Unavailable
from upturn.stores.disk import DiskBlobStore, digest_of
from upturn.stores.remote import wire
from upturn.stores.remote.cache import Cache
from upturn.stores.remote.connection import Answer, Server
from upturn.stores.remote.failures import Refused, away

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ASK_FROM = 256 * 1024  # of a larger blob it is asked first whether the server has it
_FILE_FROM = 2**20  # a larger one goes into the cache as it comes, if there is one
_PART = 2**20


class RemoteBlobStore:
    """Blobs over HTTP, streamed both ways; both ends compare the bytes with the digest.

    What was put or read is kept in the cache, if there is one: it is read again without the
    server, mapped. Whether there is a blob only the server says. See BlobStore.
    """

    def __init__(self, server: Server, cache: Cache | None = None) -> None:
        self._server = server
        self._cache = cache

    def put(self, parts: Sequence[Buffer], *, sync: bool = False) -> str:
        """Store the concatenation of the parts and return its digest; see BlobStore.put."""
        views = [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes]
        digest = digest_of(views) if self._cache is None else self._cache.put(views)
        if sum(view.nbytes for view in views) < _ASK_FROM or not self._has(digest):
            self.upload(digest, views, sync=sync)
        return digest

    def writing(self) -> BlobWriter:
        """Begin to write a blob: on this machine first. See BlobStore.writing."""
        return _Writer(self, self._cache)

    def reading(self, digest: str) -> BlobReader:
        """Begin to read a blob; all of it comes first. See BlobStore.reading."""
        return _Reader(self.get(digest))

    def get(self, digest: str) -> memoryview:
        """The bytes, verified against the digest; see BlobStore.get."""
        if not _DIGEST.fullmatch(digest):
            raise NotFound(f"No blob {digest!r} at {self._server.url}.")
        if self._cache is not None:
            view = self._cache.find(digest)
            if view is not None:
                return view
        return self._server.ask("GET", f"/blobs/{digest}", lambda got: self._download(digest, got))

    def has(self, digest: str, *, use: bool = True) -> bool:
        """Whether the server has a blob with that digest; see BlobStore.has."""
        if not _DIGEST.fullmatch(digest):
            return False
        return self._server.call("blobs.has", wire.Blob(digest=digest, use=use), bool)

    def delete(self, digest: str) -> None:
        """Remove a blob; nothing happens when there is none.

        Who is no admin removes damaged ones alone: others may need what is whole.
        """
        if not _DIGEST.fullmatch(digest):
            return
        if self._cache is not None:
            self._cache.drop(digest)
        self._server.call("blobs.delete", wire.Blob(digest=digest), type(None))

    def size_bytes(self) -> int:
        """How much is stored, in all."""
        return self._server.call("blobs.size", wire.Nothing(), int)

    def entries(self) -> Iterator[Entry]:
        """Every blob, in no order; see BlobStore.entries."""
        found = self._server.call("blobs.entries", wire.Nothing(), list[tuple[str, int, float]])
        for digest, size_bytes, used_at in found:
            yield Entry(digest, size_bytes, used_at)

    def sweep(self, digests: Iterable[str], *, unused_since: float) -> Iterator[tuple[str, bool]]:
        """Remove those of the blobs that were not used since then; see BlobStore.sweep.

        It is one exchange over a connection of its own: when that breaks, the sweep is over.
        """
        sweep: _Sweep | None = None
        try:
            for digest in digests:
                if not _DIGEST.fullmatch(digest):
                    yield digest, False
                    continue
                if sweep is None:
                    sweep = _Sweep(self._server, unused_since)
                gone = sweep.remove(digest)
                if gone and self._cache is not None:
                    self._cache.drop(digest)
                yield digest, gone
        finally:
            if sweep is not None:
                sweep.close()

    def _has(self, digest: str) -> bool:
        try:
            return self.has(digest)
        except Refused:  # a token that may write, but not look
            return False

    def upload(self, digest: str, views: Sequence[memoryview], *, sync: bool) -> None:
        """Send the server a blob."""
        headers = {"content-type": wire.BYTES}
        if sync:
            headers[wire.SYNC_HEADER] = "1"
        body = views or (b"",)
        self._server.ask("PUT", f"/blobs/{digest}", _read_all, body=body, headers=headers)

    def _download(self, digest: str, answer: Answer) -> memoryview:
        length = answer.length
        if length is None:
            raise Unavailable("The server does not say how large the blob is.")
        if self._cache is not None and length >= _FILE_FROM:
            return self._into_cache(digest, answer, length, self._cache)
        data = bytearray(length)
        _fill(answer, memoryview(data))
        view = memoryview(data).toreadonly()
        self._verify(digest, digest_of([view]))
        if self._cache is not None:
            self._cache.put([view])
        return view

    def _into_cache(self, digest: str, answer: Answer, length: int, cache: Cache) -> memoryview:
        writer = cache.writing()
        try:
            left = length
            buffer = memoryview(bytearray(min(_PART, length)))
            while left:
                part = buffer[: min(left, _PART)]
                _fill(answer, part)
                writer.write(part)
                left -= part.nbytes
        except BaseException:
            writer.abandon()
            raise
        found = writer.finish()
        if found != digest:
            cache.drop(found)
        self._verify(digest, found)
        cache.grown(length)
        view = cache.find(digest)
        if view is None:
            raise Unavailable(f"The copy of blob {digest} is gone already.", hint="Try again.")
        return view

    def _verify(self, digest: str, found: str) -> None:
        if found != digest:
            raise Corrupt(
                f"The blob {digest} came from {self._server.url} damaged.",
                hint="Try again; when it stays so, something in between changes what is sent.",
                digest=digest,
            )


class _Writer:
    """A blob that is written here, and sent once it is finished; see BlobWriter."""

    def __init__(self, store: RemoteBlobStore, cache: Cache | None) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._store = store
        self._cache = cache
        if cache is not None:
            self._writer = cache.writing()
            return
        self._folder = tempfile.TemporaryDirectory(prefix="upturn-")
        self._here = DiskBlobStore(self._folder.name)
        self._writer = self._here.writing()

    def write(self, part: Buffer) -> None:
        """Add a part; see BlobWriter.write."""
        self._writer.write(part)

    def finish(self, *, sync: bool = False) -> str:
        """Send what was written; see BlobWriter.finish."""
        try:
            digest = self._writer.finish()
            view = self._here.get(digest) if self._cache is None else self._cache.find(digest)
            if view is None:
                raise Unavailable(f"What was written as {digest} is gone.", hint="Write it again.")
            self._store.upload(digest, [view], sync=sync)
            if self._cache is not None:
                self._cache.grown(view.nbytes)
            return digest
        finally:
            self._clean()

    def abandon(self) -> None:
        """Forget what was written; see BlobWriter.abandon."""
        self._writer.abandon()
        self._clean()

    def __del__(self) -> None:
        """Leave nothing behind when it was forgotten."""
        self._clean()

    def _clean(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()


class _Reader:
    """A blob that is here already; see BlobReader."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    @property
    def size_bytes(self) -> int:
        """How long the blob is."""
        return self._view.nbytes

    def read(self, size: int) -> bytes:
        """The next part; see BlobReader.read."""
        part = bytes(self._view[self._at : self._at + size])
        self._at += len(part)
        return part

    def close(self) -> None:
        """Release the memory."""
        self._view = memoryview(b"")


class _Sweep:
    """A sweep as one exchange: digests go out one by one, and what became of each comes back."""

    def __init__(self, server: Server, unused_since: float) -> None:
        self._server = server
        server.greet()
        self._connection = server.open_line()
        line = self._connection
        line.putrequest("POST", f"{server.base}/blobs.sweep", skip_accept_encoding=True)
        for name, value in server.head.items():
            line.putheader(name, value)
        line.putheader("content-type", wire.BYTES)
        line.putheader("x-upturn-unused-since", repr(unused_since))
        line.putheader("transfer-encoding", "chunked")
        line.endheaders()
        # The server closes after its answer, so the connection forgets its socket once that began.
        self._sock = line.sock.dup()
        self._answer: Any = None

    def remove(self, digest: str) -> bool:
        """Have the server remove it, if it was not used; whether it went."""
        try:
            self._sock.sendall(b"40\r\n%b\r\n" % digest.encode())  # 64 bytes, in hexadecimal
            if self._answer is None:
                self._answer = self._connection.getresponse()
                if self._answer.status != http.client.OK:
                    raise self._server.fail(self._answer)
            said = self._answer.read(1)
        except (OSError, http.client.HTTPException) as error:
            raise away(self._server.url, error) from error
        if not said:
            raise Unavailable("The server has ended the sweep.", hint="Start it again.")
        return said == b"1"

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._sock.sendall(b"0\r\n\r\n")
            if self._answer is not None:
                self._answer.read()  # until the server has ended it, too
        if self._answer is not None:
            self._answer.close()
        self._sock.close()
        self._connection.close()


def _read_all(answer: Answer) -> bytes:
    return answer.read()


def _fill(answer: Answer, view: memoryview) -> None:
    """Read until the view is full."""
    done = 0
    while done < view.nbytes:
        got = answer.readinto(view[done:])
        if not got:
            raise http.client.IncompleteRead(b"", view.nbytes - done)
        done += got
