"""What contracts share: a server that keeps a store, one for all tests of a process."""

from collections.abc import Iterator

import pytest

from contract.remote import StoreServer, serving


@pytest.fixture(scope="session")
def store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    """Return a server process; each test empties its store first."""
    with serving(tmp_path_factory.mktemp("server") / "home") as server:
        yield server
