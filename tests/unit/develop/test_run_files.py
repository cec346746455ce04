"""Files of a run, read back from its handle: what was saved is what comes."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import upturn as up
from upturn.core.errors import Corrupt, Invalid, NotFound
from upturn.core.tracking import StoredFile
from upturn.stores.workspace import open_workspace


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[up.Run]:
    """Return a run with a file of each kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPTURN_HOME", str(tmp_path_factory.mktemp("files") / "home"))
        with up.track("files") as tracked:
            up.save("It is.", "notes/verdict.txt")
            up.save({"depth": [3, 6]}, "config")
            up.save(np.arange(4), "counts")
            up.save(pl.DataFrame({"x": [1, 2]}), "tables/a")
            up.save(pl.DataFrame({"x": [1, 2]}), "tables/b.csv")
            up.save(b"\x00\x01" * 10, "raw.bin")
            up.save({"a set", "of texts"}, "odd")
        yield up.Run(tracked.id, workspace=open_workspace())


@pytest.mark.parametrize(
    ("path", "comes"),
    [
        ("notes/verdict.txt", "It is."),
        ("config.json", {"depth": [3, 6]}),
        ("raw.bin", b"\x00\x01" * 10),
        ("odd", {"a set", "of texts"}),
    ],
)
def test_what_was_saved_comes_back(run: up.Run, path: str, comes: Any) -> None:
    assert run.load(path) == comes


def test_tables_and_arrays_come_back(run: up.Run) -> None:
    assert run.load("tables/a.parquet").to_pydict() == {"x": [1, 2]}
    assert run.load("tables/b.csv").to_pydict() == {"x": [1, 2]}
    assert run.load("counts.npy").tolist() == [0, 1, 2, 3]


def test_a_file_is_read_where_one_likes(run: up.Run) -> None:
    with run.open("raw.bin") as file:
        assert (file.read(3), file.tell()) == (b"\x00\x01\x00", 3)
        assert (file.seek(-1, io.SEEK_END), file.read(), file.read()) == (19, b"\x01", b"")
    with io.TextIOWrapper(run.open("notes/verdict.txt")) as text:
        assert text.readlines() == ["It is."]


def test_files_are_brought_to_a_folder(run: up.Run, tmp_path: Path) -> None:
    assert run.download("raw.bin", to=tmp_path) == tmp_path / "raw.bin"
    assert (tmp_path / "raw.bin").read_bytes() == b"\x00\x01" * 10
    assert run.download(to=tmp_path / "all") == tmp_path / "all"
    found = {path.relative_to(tmp_path / "all").as_posix() for path in _files(tmp_path / "all")}
    assert found == set(run.files)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_is_not_there_is_said(run: up.Run, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"Did you mean 'config\.json'"):
        run.open("confg.json")
    with pytest.raises(Invalid, match="is a folder"):
        run.load("tables")
    with pytest.raises(NotFound):
        run.download("nothing", to=tmp_path)


def test_a_name_that_leads_out_of_the_folder_is_refused(run: up.Run, tmp_path: Path) -> None:
    workspace = open_workspace()
    digest = workspace.blobs.put([b"{"])
    with up.track("bad") as tracked:
        pass
    for path in ("../out", "bad.json"):
        file = StoredFile(run=tracked.id, path=path, digest=digest, size_bytes=1, at=1)
        workspace.tracking.put_file(file)
    bad = up.Run(tracked.id, workspace=workspace)
    with pytest.raises(Invalid, match="leads out of the folder"):
        bad.download(to=tmp_path / "in")
    assert not (tmp_path / "out").exists()
    with pytest.raises(Corrupt, match="not what its name says"):
        bad.load("bad.json")
    workspace.close()
