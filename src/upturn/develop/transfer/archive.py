"""Archive: the file that runs travel in, a tar within zstd, written and read as a stream.

Its members are `manifest.json`, then for each run `blobs/ab/cdef…`, `runs/ID/metrics-00000.parquet`
and `runs/ID/records.jsonl`, then `end.json`, which has the digest of every byte before it. Reading
takes nothing else: no other name, no link, no member larger than its kind may be.
"""

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from blake3 import blake3

from upturn.core.blobstore import Buffer
from upturn.core.errors import Corrupt, Invalid

FORMAT, VERSION = "upturn-runs", 1
MANIFEST, END = "manifest.json", "end.json"
PART = 2**20
_BLOCK = 512
_TAIL = 2**20  # zeros that may follow the last member
_NAME = re.compile(
    r"(?P<json>manifest\.json|end\.json)"
    r"|runs/(?P<run>[A-Za-z0-9_-]{1,64})/"
    r"(?:(?P<metrics>metrics-[0-9]{5}\.parquet)|(?P<records>records\.jsonl))"
    r"|blobs/(?P<ab>[0-9a-f]{2})/(?P<rest>[0-9a-f]{62})"
)
_MOST = {"json": 64 * 2**20, "metrics": 64 * 2**20, "records": 2**30}  # bytes


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive: what it is, and how long."""

    name: str
    kind: str  # 'json', 'metrics', 'records' or 'blob'
    size: int
    run: str = ""
    digest: str = ""  # of a blob


def blob_name(digest: str) -> str:
    """Where a blob lies in an archive."""
    return f"blobs/{digest[:2]}/{digest[2:]}"


class ArchiveWriter:
    """Members, written one after the other into a file that is open for it."""

    def __init__(self, file: IO[bytes]) -> None:
        import pyarrow as pa

        self._stream = pa.CompressedOutputStream(pa.PythonFile(_KeptOpen(file), "w"), "zstd")
        self._hasher = blake3()

    def begin(self, name: str, size: int) -> None:
        """Begin a member; `write` has to be given as many bytes."""
        header = tarfile.TarInfo(name)
        header.size, header.mode = size, 0o644
        self._left = size
        self._gap = -size % _BLOCK
        self._put(header.tobuf(tarfile.GNU_FORMAT))
        if not size:
            self._put(bytes(self._gap))

    def write(self, part: Buffer) -> None:
        """Add to the member that was begun."""
        self._left -= memoryview(part).nbytes
        assert self._left >= 0
        self._put(part)
        if not self._left:
            self._put(bytes(self._gap))

    def add(self, name: str, data: Buffer) -> None:
        """Add a whole member."""
        self.begin(name, memoryview(data).nbytes)
        if memoryview(data).nbytes:
            self.write(data)

    def digest(self) -> str:
        """Of all bytes so far."""
        return self._hasher.hexdigest()

    def close(self, *, whole: bool) -> None:
        """Write out what is held back; `whole`: there are no more members."""
        if whole:
            self._put(bytes(2 * _BLOCK))
        self._stream.close()

    def _put(self, data: Buffer) -> None:
        self._hasher.update(data)
        self._stream.write(data)


class ArchiveReader:
    """Members, read one after the other: `for member in reader`, and `read` or `parts` of each.

    Raises Corrupt for what is cut short or is no archive, and Invalid for a member that does not
    belong in one. What is not read of a member is passed over.
    """

    def __init__(self, file: IO[bytes]) -> None:
        import pyarrow as pa

        file.seek(0)
        self._stream = pa.CompressedInputStream(pa.PythonFile(_KeptOpen(file), "r"), "zstd")
        self._hasher = blake3()
        self._left = 0
        self._gap = 0
        self._before_member = self._hasher.hexdigest()

    def __iter__(self) -> Iterator[Member]:
        while True:
            for _ in self.parts():
                pass
            self._before_member = self._hasher.hexdigest()
            header = self._exactly(_BLOCK)
            if not any(header):
                self._check_tail()
                return
            member = _member(header)
            self._left, self._gap = member.size, -member.size % _BLOCK
            yield member

    def read(self, member: Member) -> bytes:
        """All of the member that was given last."""
        data = b"".join(self.parts())
        assert len(data) == member.size
        return data

    def parts(self) -> Iterator[bytes]:
        """What is left of the member that was given last, part by part."""
        while self._left:
            part = self._exactly(min(self._left, PART))
            self._left -= len(part)
            yield part
        gap, self._gap = self._gap, 0
        if gap:
            self._exactly(gap)

    @property
    def digest_before(self) -> str:
        """Of all bytes before the member that was given last."""
        return self._before_member

    def _exactly(self, size: int) -> bytes:
        data = self._some(size)
        while len(data) < size:
            more = self._some(size - len(data))
            if not more:
                raise _cut_short()
            data += more
        self._hasher.update(data)
        return data

    def _some(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except OSError as error:
            if "Truncated" in str(error):
                raise _cut_short() from None
            raise _damaged(f"it can't be unpacked ({error})") from None

    def _check_tail(self) -> None:
        seen = 0
        while data := self._some(PART):
            seen += len(data)
            if any(data) or seen > _TAIL:
                raise _damaged("something follows its end")


class _KeptOpen(io.RawIOBase):
    """A file that pyarrow uses and does not close."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """See IO.read."""
        return self._file.read(size)

    def write(self, data: Any) -> int:
        """See IO.write."""
        return self._file.write(data)

    def readable(self) -> bool:
        """See IO.readable."""
        return True

    def writable(self) -> bool:
        """See IO.writable."""
        return True

    def tell(self) -> int:
        """See IO.tell: pyarrow asks, of pipes as well."""
        return 0


def _member(header: bytes) -> Member:
    """What a tar header says. Raises Corrupt and Invalid."""
    try:
        stated = int(header[148:156].strip(b" \0") or b"0", 8)
    except ValueError:
        raise _damaged("it is no tar") from None
    if stated != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        raise _damaged("it is no tar, or was changed")
    name = header[:100].rstrip(b"\0").decode("utf-8", "replace")
    found = _NAME.fullmatch(name)
    if header[156:157] not in (b"0", b"\0") or header[345:346] != b"\0" or found is None:
        raise Invalid(
            f"The file has a member {name!r}, which has no place in an export of runs.",
            hint="Only what `upturn runs export` writes can be imported.",
        )
    size = _size(header[124:136])
    kind = next((kind for kind in _MOST if found[kind]), "blob")
    if size > _MOST.get(kind, size):
        raise Invalid(f"The file's {name} has {size:,} bytes, more than there can be.")
    digest = f"{found['ab']}{found['rest']}" if kind == "blob" else ""
    return Member(name, kind, size, found["run"] or "", digest)


def _size(field: bytes) -> int:
    if field[0] & 0x80:  # in binary, from 8 GiB on
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise _damaged("a length can't be read") from None


def _cut_short() -> Corrupt:
    return Corrupt(
        "The file ends in the middle: it was cut short.",
        hint="Copy it again, or export the runs again. Nothing was imported.",
    )


def _damaged(why: str) -> Corrupt:
    return Corrupt(
        f"The file is no export of runs, or is damaged: {why}.",
        hint="Copy it again, or export the runs again. Nothing was imported.",
    )


damaged = _damaged
