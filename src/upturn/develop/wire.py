"""Framed messages over a Unix socket, between a driver and the processes that it started itself."""

import pickle
import socket
import struct
from typing import Any

_HEADER = struct.Struct("!I")


def send(sock: socket.socket, message: object, fds: tuple[int, ...] = ()) -> None:
    """Send one message; file descriptors travel with its first byte."""
    body = pickle.dumps(message, protocol=5)
    data = _HEADER.pack(len(body)) + body
    if fds:
        sent = socket.send_fds(sock, [data], list(fds))
        data = data[sent:]
    if data:
        sock.sendall(data)


def receive(sock: socket.socket) -> tuple[Any, list[int]]:
    """The next message and the descriptors that came with it. Raises EOFError at the end."""
    header, fds, _, _ = socket.recv_fds(sock, _HEADER.size, 1)
    header = _exactly(sock, _HEADER.size, header)
    return pickle.loads(_exactly(sock, _HEADER.unpack(header)[0])), fds


def _exactly(sock: socket.socket, size: int, start: bytes = b"") -> bytes:
    data = bytearray(start)
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
