"""Control: what the supervisor and a worker tell each other, and how connections change hands.

Two pairs of sockets join them. One carries frames both ways: a length, a kind, and bytes. The other
carries nothing but connections: to a worker those that it is to answer, back from it those that
wait for their next request when it is to end.
"""

import os
import socket
import struct
from collections.abc import Iterator, Sequence

import msgspec

_HEAD = struct.Struct("<IB")
_COUNTS = struct.Struct("<QQ")
_READ_BYTES = 256 * 1024
_MAX_FRAME_BYTES = 64 * 2**20
_MAX_SOCKETS = 64  # how many change hands at a time; the kernel takes 253

# From a worker
HELLO = 1  # its loop runs: it can be given connections
STATE = 2  # one byte for whether it is ready, and its state; it is what shows that it lives, too
COUNTS = 3  # how many connections it has taken, and how many of them it is rid of
LEAVE = 4  # somebody asked it to end: let another take its place
# To a worker
OTHERS = 5  # the states of the other workers, those that have ended included
DRAIN = 6  # answer what is there, and end


class Setup(msgspec.Struct, frozen=True):
    """What a worker is told on its command line."""

    parent: int
    root: str
    hang_s: float
    start_s: float
    any_host: bool = False  # who may ask is the network's business
    public: bool = False  # others reach it than this machine: tokens say who they are


class Drain(msgspec.Struct, frozen=True):
    """How a worker is to end.

    `passed` counts the connections that it was ever given: it has taken them all before it goes.
    With `hand_back`, connections that wait for their next request go back to the supervisor, which
    has somebody else to answer them; without, they are closed once they have been quiet.
    """

    passed: int
    grace_s: float
    hand_back: bool


def frame(kind: int, payload: bytes = b"") -> bytes:
    """The frame as bytes."""
    return _HEAD.pack(len(payload), kind) + payload


def counts_frame(taken: int, rid: int) -> bytes:
    """How many connections a worker has taken and is rid of, ever."""
    return frame(COUNTS, _COUNTS.pack(taken, rid))


def read_counts(payload: bytes) -> tuple[int, int]:
    """Taken and rid of, as `counts_frame` has written them."""
    taken, rid = _COUNTS.unpack(payload)
    return taken, rid


class Frames:
    """Bytes as they come in, cut into frames.

    >>> frames = Frames()
    >>> sent = frame(HELLO) + frame(STATE, b"abc")
    >>> frames.feed(sent[:7]), frames.feed(sent[7:])
    ([(1, b'')], [(2, b'abc')])
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames that are whole now. Raises ValueError for what can be none."""
        rest = self._rest + data if self._rest else data
        found: list[tuple[int, bytes]] = []
        begin = 0
        while len(rest) - begin >= _HEAD.size:
            length, kind = _HEAD.unpack_from(rest, begin)
            if length > _MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes")
            end = begin + _HEAD.size + length
            if len(rest) < end:
                break
            found.append((kind, rest[begin + _HEAD.size : end]))
            begin = end
        self._rest = rest[begin:]
        return found


class Channel:
    """The supervisor's end of a worker's frames. It never blocks, whatever the worker does."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._frames = Frames()
        self._unsent = b""

    def fileno(self) -> int:
        """The descriptor, for a selector."""
        return self._sock.fileno()

    def read(self) -> Iterator[tuple[int, bytes]]:
        """The frames that have come. Raises EOFError once the worker has closed its end."""
        while True:
            try:
                data = self._sock.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                raise EOFError from None
            if not data:
                raise EOFError
            yield from self._frames.feed(data)

    def send(self, data: bytes, *, may_skip: bool = False) -> bool:
        """Send the frame, or keep it until there is room.

        With `may_skip` it is dropped instead while an earlier one waits, and the answer is False.
        """
        if may_skip and self._unsent:
            self.flush()
            if self._unsent:
                return False
        self._unsent += data
        self.flush()
        return True

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        while self._unsent:
            try:
                sent = self._sock.send(self._unsent)
            except BlockingIOError:
                return
            except OSError:  # it has ended; whoever reads hears of it
                self._unsent = b""
                return
            self._unsent = self._unsent[sent:]

    def close(self) -> None:
        """Close this end: the worker sees that nobody supervises it any more."""
        self._sock.close()


def pass_sockets(channel: socket.socket, sockets: Sequence[socket.socket]) -> bool:
    """Give up to 64 connections to the other end; False, and none given, when it is full."""
    try:
        socket.send_fds(channel, [b"c"], [each.fileno() for each in sockets[:_MAX_SOCKETS]])
    except OSError:  # full, or gone
        return False
    return True


def take_sockets(channel: socket.socket) -> list[socket.socket]:
    """The connections that the other end gave next; none when there are no more.

    Raises EOFError once the other end is closed.
    """
    try:
        data, descriptors, _, _ = socket.recv_fds(channel, 1, _MAX_SOCKETS)
    except BlockingIOError:
        return []
    except ConnectionError:
        raise EOFError from None
    if not data:
        raise EOFError
    return [_socket(descriptor) for descriptor in descriptors]


def _socket(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    return sock
