"""Runs between a store and a server: there and back, by which role; their files, and gc there."""

import contextlib
import dataclasses
import io
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import upturn as up
from contract.remote import StoreServer
from unit.develop.test_transfer import contents, put_run, put_version, same, store
from upturn.api.client import open_client
from upturn.api.tokens import CREATE_TOKEN, CreateToken
from upturn.cli import cli
from upturn.core.errors import Invalid, UpturnError
from upturn.core.records import Collection, Run, Version
from upturn.core.settings import load_settings
from upturn.core.tracking import StoredFile
from upturn.develop.collect import plan_collection
from upturn.develop.transfer import export_runs, import_runs
from upturn.stores.workspace import Workspace, open_workspace


@contextlib.contextmanager
def at(url: str, home: Path, token: str = "") -> Generator[Workspace]:
    """Open a server's store, as a client with a home of its own."""
    settings = dataclasses.replace(load_settings(), home=home, server=url, token=token)
    opened = open_workspace(settings)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Workspace]:
    with store(tmp_path / "here") as opened:
        yield opened


def test_from_a_store_to_a_server_and_back(
    store_server: StoreServer, here: Workspace, tmp_path: Path
) -> None:
    store_server.empty()
    put_run(here, "parent")
    put_run(here, "child1", parent="parent")
    put_version(here, "parent")
    file, back = tmp_path / "runs.tar.zst", tmp_path / "back.tar.zst"
    export_runs(["parent"], file, workspace=here)
    with at(store_server.url, tmp_path / "client") as there:
        assert set(import_runs(file, workspace=there).new) == {"parent", "child1"}
        assert not import_runs(file, workspace=there).changed
        export_runs(["parent"], back, workspace=there)
        assert same(contents(back), contents(file))
        assert up.Run("parent", workspace=there)["train"].logs == "parent says\n"
    with store(tmp_path / "third") as third:
        import_runs(back, workspace=third)
        assert third.meta.get(Version, "storm", 1).run == "parent"


def test_an_editor_brings_runs_and_a_deployer_versions_too(
    store_server: StoreServer, here: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_server.empty()
    monkeypatch.setenv("UPTURN_SERVER", store_server.url)
    tokens: dict[str, str] = {}
    with open_client() as client:
        for role in ("viewer", "editor", "deployer"):
            made: Any = client.call(CREATE_TOKEN, CreateToken(name=role, role=role))
            tokens[role] = made.secret
    put_run(here, "plain1")
    plain, registered = tmp_path / "plain", tmp_path / "registered"
    export_runs(["plain1"], plain, workspace=here)
    put_version(here, "plain1")
    export_runs(["plain1"], registered, workspace=here)
    for role, file, refused in (
        ("viewer", plain, "takes the role editor"),
        ("editor", registered, "takes the role deployer"),
        ("editor", plain, ""),
        ("deployer", registered, ""),
    ):
        with at(store_server.url, tmp_path / role, tokens[role]) as there:
            if refused:
                with pytest.raises(UpturnError, match=refused):
                    import_runs(file, workspace=there)
                assert there.meta.find(Run, "plain1") is None
            else:
                assert import_runs(file, workspace=there).changed


def test_files_of_a_run_at_a_server_are_read_and_brought(
    store_server: StoreServer, tmp_path: Path
) -> None:
    store_server.empty()
    data = os.urandom(3 * 2**20)
    with at(store_server.url, tmp_path / "client") as there:
        put_run(there, "aaa111")
        digest = there.blobs.put([data])
        for path in ("big/a.bin", "big/b.bin"):
            file = StoredFile(run="aaa111", path=path, digest=digest, size_bytes=len(data), at=1)
            there.tracking.put_file(file)
        run = up.Run("aaa111", workspace=there)
        with run.open("big/a.bin") as opened:
            opened.seek(-5, io.SEEK_END)
            assert opened.read() == data[-5:]
        assert run.download("big", to=tmp_path / "out") == tmp_path / "out" / "big"
        assert (tmp_path / "out" / "big" / "b.bin").read_bytes() == data


def test_a_server_collects_its_own_garbage_when_an_admin_asks(
    store_server: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_server.empty()
    with store(store_server.home) as own:
        kept = own.blobs.put([b"kept"])
        gone = own.blobs.put([b"gone"])
        file = StoredFile(run="aaa111", path="a", digest=kept, size_bytes=4, at=1)
        put_run(own, "aaa111")
        own.tracking.put_file(file)
        for entry in (store_server.home / "blobs").rglob("*"):
            if entry.is_file():
                os.utime(entry, (then := time.time() - 5 * 3600, then))
        monkeypatch.setenv("UPTURN_SERVER", store_server.url)
        monkeypatch.setenv("UPTURN_HOME", str(tmp_path / "client"))
        with open_client() as client:
            made: Any = client.call(CREATE_TOKEN, CreateToken(name="deploys", role="deployer"))
        with pytest.raises(Invalid, match="it removes itself"):
            plan_collection(open_workspace())

        runner = CliRunner()
        look = runner.invoke(cli, ["gc", "--older-than", "0s", "--dry-run"])
        assert look.exit_code == 0, look.output
        assert "to be removed" in look.output
        assert own.blobs.has(gone, use=False)
        monkeypatch.setenv("UPTURN_TOKEN", made.secret)
        with pytest.raises(UpturnError, match="needs the role 'admin'"):
            runner.invoke(cli, ["gc", "--yes"], catch_exceptions=False, standalone_mode=False)
        monkeypatch.delenv("UPTURN_TOKEN")
        done = runner.invoke(cli, ["gc", "--older-than", "0s", "--yes"])
        assert "Removed " in done.output, done.output
        assert own.blobs.has(kept, use=False)
        assert not own.blobs.has(gone, use=False)
        last = own.meta.find(Collection)
        assert last is not None
        assert last.status == "done"
