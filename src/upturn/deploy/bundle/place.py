"""Where a bundle goes: over one that was built before, and over nothing of anybody's own."""

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec

from upturn.core.errors import Conflict, Invalid, Unavailable

MARK = (
    "bundle.json"  # in `model/`: what the folder holds, and what its files were when it was built
)
_OURS = {".dockerignore"}  # other entries that begin so are their owner's: .upturn, .venv, .git


class _Mark(msgspec.Struct):
    files: dict[str, str]  # digests by path


@contextlib.contextmanager
def placed(target: Path, about: dict[str, Any], *, force: bool, apart: Path) -> Generator[Path]:
    """A new folder to write into, which becomes `target` when the body is done, else is gone.

    Raises Conflict when there is something that no build wrote, unless `force` is set, and Invalid
    where `apart` (the home of the store that is built from) lies in it.
    """
    target = target.absolute()
    _check(target, force=force, apart=apart)
    fresh = target.with_name(f".{target.name}.build-{secrets.token_hex(4)}")
    try:
        fresh.mkdir(parents=True)
        yield fresh
        mark = {**about, "files": _digests(fresh)}
        (fresh / "model" / MARK).write_bytes(msgspec.json.format(msgspec.json.encode(mark)))
        _check(target, force=force, apart=apart)  # it took a while
        _swap(fresh, target)
    except OSError as error:
        raise Unavailable(
            f"{target} can't be written: {error.strerror or error}.",
            hint="Name another folder with -o, or make room.",
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check(target: Path, *, force: bool, apart: Path) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir() or target.is_symlink():
        raise Conflict(f"{target} is not a folder.", hint="Name another one with -o.")
    here = Path.cwd()
    if apart.is_relative_to(target) or here.is_relative_to(target):
        raise Invalid(
            f"{target} is where you work: it would be replaced.", hint="Name a new folder with -o."
        )
    if force or not any(target.iterdir()):
        return
    try:
        mark = msgspec.json.decode((target / "model" / MARK).read_bytes(), type=_Mark)
    except (OSError, msgspec.DecodeError):
        raise Conflict(
            f"There is a folder {target} already, and no build made it.",
            hint="Name another one with -o, or have it replaced with --force.",
        ) from None
    before, now = mark.files, _digests(target)
    changed = sorted(path for path in {*before, *now} if before.get(path) != now.get(path))
    if changed:
        raise Conflict(
            f"{target / changed[0]} is not as it was built: it would be lost.",
            hint="Name another folder with -o, or have it replaced with --force.",
        )


def _digests(folder: Path) -> dict[str, str]:
    """The digest of each file of a build in the folder, by its path."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        within = path.relative_to(folder)
        if (within.parts[0].startswith(".") and within.parts[0] not in _OURS) or (
            "__pycache__" in within.parts or within == Path("model", MARK)
        ):
            continue
        if path.is_file():
            with path.open("rb") as file:
                found[within.as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _swap(fresh: Path, target: Path) -> None:
    if not target.exists():
        os.rename(fresh, target)
        return
    old = fresh.with_name(f"{fresh.name}-before")
    os.rename(target, old)
    try:
        for entry in list(old.iterdir()):
            if entry.name.startswith(".") and entry.name not in _OURS:
                os.rename(entry, fresh / entry.name)  # the Log of a server that ran there
        os.rename(fresh, target)
    except OSError:
        for entry in [one for one in fresh.iterdir() if one.name[:1] == "."]:
            if entry.name not in _OURS:
                os.rename(entry, old / entry.name)
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
