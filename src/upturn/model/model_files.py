"""Files of models: stored by content with the version, and back in a folder when it is loaded."""

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from blake3 import blake3

from upturn.core.errors import Invalid
from upturn.core.records import Artifact, ModelFile
from upturn.stores.workspace import Workspace


def store_files(
    workspace: Workspace, files: Mapping[str, Path | str]
) -> tuple[tuple[ModelFile, ...], list[Artifact]]:
    """Store files and folders by their names. Raises Invalid for one that is not there."""
    found: list[ModelFile] = []
    made: list[Artifact] = []
    for name, given in sorted(files.items()):
        path = Path(given)
        if not name or name in (".", "..") or "/" in name or "\0" in name:
            raise Invalid(f"{name!r} can't be the name of a file.", hint="Leave out the slashes.")
        members = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else []
        if not members and not path.is_file():
            what = "is an empty folder" if path.is_dir() else "is not there"
            raise Invalid(f"The file {name!r} {what}: {path}.", hint="Give the path of a file.")
        for member in members or [path]:
            # A folder's own name is part of the path: that is how it is told from a file.
            below = member.relative_to(path.parent).as_posix()
            saved = _store(workspace, member)
            found.append(ModelFile(name=name, path=below, digest=saved.digest))
            made.append(saved)
    return tuple(found), made


def _store(workspace: Workspace, path: Path) -> Artifact:
    data = _mapped(path)
    digest = workspace.blobs.put([data], sync=True)
    return Artifact(
        digest=digest, codec="file", type="file", size_bytes=len(data), summary=path.name
    )


def _mapped(path: Path) -> memoryview:
    import mmap

    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def place_files(workspace: Workspace, files: Sequence[ModelFile]) -> dict[str, Path]:
    """The files and folders by their names, as paths below the home that all workers share.

    Raises NotFound or Corrupt for what the store lacks.
    """
    if not files:
        return {}
    folder = files_dir(workspace) / files_key(files)
    if not folder.is_dir():
        _write(workspace, files, folder)
    return {one.name: folder / one.name / one.path.partition("/")[0] for one in files}


def files_dir(workspace: Workspace) -> Path:
    """Where they lie, a folder for each version's."""
    return workspace.settings.home / "files"


def files_key(files: Sequence[ModelFile]) -> str:
    """The name of the folder for these files."""
    return blake3(msgspec.json.encode(tuple(files))).hexdigest()[:32]


def _write(workspace: Workspace, files: Sequence[ModelFile], folder: Path) -> None:
    fresh = folder.with_name(f"{folder.name}-{secrets.token_hex(4)}")
    try:
        for one in files:
            path = fresh / one.name / one.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(workspace.blobs.get(one.digest))
            path.chmod(0o444)
        fresh.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another worker was quicker
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
