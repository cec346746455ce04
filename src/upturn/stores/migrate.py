"""Migrations: numbered SQL files that bring a SQLite store to the schema that this Upturn knows."""

import sqlite3
import time
from collections.abc import Iterator

from upturn.core.errors import Invalid

SCHEMA = 7  # the number of the last file in migrations/
_WAIT_S = 10.0
_CARRIED = 5  # the migration after which runs and metrics are put into the tables that it makes
_REGISTRY = 6  # likewise models and versions


def migrate(connection: sqlite3.Connection, path: object) -> None:
    """Bring the store to SCHEMA; nothing but a look at one number when it is there already.

    Any number of processes may do so at once. Raises Invalid when a newer Upturn wrote the store.
    """
    version = _version(connection)
    if version == SCHEMA:
        return
    if version > SCHEMA:
        raise Invalid(
            f"{path} was written by a newer Upturn (schema {version}; this one knows {SCHEMA}).",
            hint="Upgrade upturn, or point UPTURN_HOME to another directory.",
        )
    _use_wal(connection)
    for number in range(version + 1, SCHEMA + 1):
        _apply(connection, number)


def _version(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA user_version").fetchone()[0]


def _use_wal(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            # Changing the mode does not wait for other processes that do the same just now.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _apply(connection: sqlite3.Connection, number: int) -> None:
    script = migration(number)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        if _version(connection) < number:  # else another process was first
            for statement in _statements(script):
                connection.execute(statement)
            if number == _CARRIED:
                from upturn.stores.tracking.carry import carry_over

                carry_over(connection)
            elif number == _REGISTRY:
                from upturn.stores.registry_projection import carry_registry

                carry_registry(connection)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def migration(number: int) -> str:
    """The SQL of one migration."""
    from importlib.resources import files

    folder = files("upturn.stores") / "migrations"
    found = [entry for entry in folder.iterdir() if entry.name.startswith(f"{number:04d}_")]
    return found[0].read_text()


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
