"""Migrations: together they are what the records declare; a newer Upturn's store is not touched."""

import re
import sqlite3
from importlib.resources import files
from pathlib import Path

import pytest

from contract.processes import finish, start
from upturn.core.errors import Corrupt, Invalid
from upturn.core.records import KINDS, Edge
from upturn.stores.migrate import SCHEMA, migrate, migration
from upturn.stores.sqlite import SqliteMetaStore
from upturn.stores.tables import create


def shape(connection: sqlite3.Connection) -> dict[str, object]:
    """Return every table with its columns and indexes."""
    found: dict[str, object] = {}
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        columns = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
        indexes = [
            (
                unique,
                [row[2] for row in connection.execute(f'PRAGMA index_info("{name}")')],
            )
            for _, name, unique, *_ in connection.execute(f'PRAGMA index_list("{table}")')
        ]
        found[table] = (columns, sorted(indexes))
    return found


NATIVE = [
    "lease",
    "run_now",
    "group_now",
    "param",
    "tag",
    "series",
    "point_batch",
    "point_pack",
    "run_file",
    "receipt",
    "model_now",
    "version_now",
    "forgetting",
]


def test_all_migrations_together_are_what_the_records_declare() -> None:
    migrated, declared = sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
    migrated.isolation_level = None
    migrate(migrated, "memory")
    for kind in KINDS:
        for statement in create(kind):
            declared.execute(statement)
    tables = shape(migrated)
    for name in NATIVE:
        assert tables.pop(name)
    assert tables == shape(declared)
    migrated.close()
    declared.close()


def test_the_files_are_numbered_from_one_to_the_schema() -> None:
    names = sorted(
        entry.name
        for entry in (files("upturn.stores") / "migrations").iterdir()
        if entry.name.endswith(".sql")
    )
    assert [int(name[:4]) for name in names] == list(range(1, SCHEMA + 1))
    assert all(re.fullmatch(r"\d{4}_[a-z_]+\.sql", name) for name in names)
    assert migration(1).startswith("--")


def test_a_store_of_a_newer_upturn_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    SqliteMetaStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(Invalid, match="newer Upturn") as caught:
        SqliteMetaStore(path)
    assert "Upgrade" in caught.value.hint
    assert path.read_bytes() == before


def test_a_migration_that_is_killed_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    code = """
        import sqlite3
        from upturn.stores import migrate
        def half(number):
            return "CREATE TABLE half (a);\\nSELECT kill();\\n"
        migrate.migration = half
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.create_function("kill", 0, lambda: os.kill(os.getpid(), 9))
        migrate.migrate(connection, sys.argv[1])
    """
    path = tmp_path / "meta.db"
    finish(start(code, path), status=-9)
    store = SqliteMetaStore(path)
    store.put(Edge(source="a", target="b", role="c"))
    store.close()
    connection = sqlite3.connect(path)
    assert "half" not in shape(connection)
    connection.close()


@pytest.mark.parametrize("data", [b"not a database at all" * 100, b"SQLite format 3\0" + b"x" * 99])
def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "meta.db"
    path.write_bytes(data)
    with pytest.raises(Corrupt) as caught:
        SqliteMetaStore(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert path.read_bytes() == data
