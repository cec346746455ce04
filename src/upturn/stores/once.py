"""Receipts: what came of a put that had an id, so that sent again it counts once."""

import sqlite3
import time
from collections.abc import Sequence

import msgspec

KEPT_S = 900.0  # a client whose connection broke has asked again, or given up, long before

_numbers = msgspec.json.Decoder(list[int | None])


def receipt(connection: sqlite3.Connection, once: str) -> list[int | None] | None:
    """The sequence numbers that the put with this id was given; None when there was none."""
    row = connection.execute("SELECT numbers FROM receipt WHERE id = ?", (once,)).fetchone()
    return None if row is None else _numbers.decode(row[0])


def keep_receipt(connection: sqlite3.Connection, once: str, numbers: Sequence[int | None]) -> None:
    """Note what the put was given, in its own transaction, and forget what is old."""
    now = time.time()
    connection.execute("DELETE FROM receipt WHERE at < ?", (now - KEPT_S,))
    connection.execute(
        "INSERT INTO receipt (id, at, numbers) VALUES (?, ?, ?)",
        (once, now, msgspec.json.encode(numbers).decode()),
    )
