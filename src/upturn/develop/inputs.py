"""A task's inputs: arguments stored by content, and the memo that code and inputs together make."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from blake3 import blake3

from upturn.core.blobstore import BlobStore
from upturn.core.errors import Invalid
from upturn.core.executor import File, InEnv, Stored
from upturn.core.records import Artifact, Input
from upturn.develop import carried
from upturn.develop.ref import Ref, map_refs

ENV_INPUT = "env:lock"  # no parameter can be called so


class Made(Protocol):
    """A task that is done."""

    @property
    def path(self) -> str: ...
    @property
    def output(self) -> str | None: ...


def store_arguments(value: Any, blobs: BlobStore, made: list[Artifact]) -> Any:
    """`value` with every leaf that is not a Ref stored: Stored for values, File for paths.

    A list without Refs or paths in it is one value, however long. What was stored is added to
    `made`.
    """
    if isinstance(value, Ref | Stored | File):
        return value
    if isinstance(value, Path):
        return File(str(value), file_digest(value))
    if type(value) in (list, tuple) and _holds_handles(value):
        return type(value)(store_arguments(item, blobs, made) for item in value)
    if type(value) is dict and _holds_handles(list(value.values())):
        return {key: store_arguments(item, blobs, made) for key, item in value.items()}
    made.append(carried.save(blobs, value))
    return Stored(made[-1].digest)


def _holds_handles(value: Any) -> bool:
    found = False

    def look(leaf: Any) -> Any:
        nonlocal found
        found = found or isinstance(leaf, Ref | Path | Stored | File)
        return leaf

    map_refs(value, look)
    return found


def file_digest(path: Path) -> str:
    """The digest of a file's content; of a folder, that of its files' names and contents.

    Raises Invalid when there is nothing at the path.
    """
    if path.is_dir():
        whole = blake3()
        for member in sorted(path.rglob("*")):
            if member.is_file():
                whole.update(f"{member.relative_to(path)}\0{file_digest(member)}\0".encode())
        return whole.hexdigest()
    try:
        return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()
    except OSError as error:
        why = error if path.exists() else "there is nothing"
        raise Invalid(
            f"A step was given the path {path}, which can't be read: {why}.",
            hint="A Path argument is an input by content, so it must exist when the flow runs.",
            path=str(path),
        ) from None


def resolved(value: Any) -> Any:
    """Stored arguments with every Ref replaced by the output of its task, which is done."""

    def replace(leaf: Any) -> Any:
        return Stored(leaf.node.output or "") if isinstance(leaf, Ref) else leaf

    return map_refs(value, replace)


def inputs_of(arguments: Mapping[str, Any], env: InEnv | None = None) -> tuple[Input, ...]:
    """The inputs by parameter name; nested ones are named `models[2]`, `tables['april']`.

    The lock of an environment of its own is one too.
    """
    found: list[Input] = []
    for name, value in arguments.items():
        _note(name, value, found)
    if env is not None:
        found.append(Input(name=ENV_INPUT, digest=env.digest))
    return tuple(found)


def _note(name: str, value: Any, found: list[Input]) -> None:
    match value:
        case Ref():
            made: Made = value.node
            found.append(Input(name=name, digest=made.output or "", made_by=made.path))
        case Stored():
            found.append(Input(name=name, digest=value.digest))
        case File():
            found.append(Input(name=name, digest=value.digest, path=value.path))
        case list() | tuple():
            _note_shape(name, value, found)
            for at, item in enumerate(value):
                _note(f"{name}[{at}]", item, found)
        case dict():
            _note_shape(name, value, found)
            for key, item in value.items():
                _note(f"{name}[{key!r}]", item, found)
        case _:
            raise AssertionError(value)


def _note_shape(name: str, value: Any, found: list[Input]) -> None:
    """An empty container, or a tuple in a list's place, is a different input too."""
    shape = f"{type(value).__name__} of {len(value)}"
    found.append(Input(name=f"{name}:shape", digest=blake3(shape.encode()).hexdigest()))


def memo_of(code: str, inputs: tuple[Input, ...]) -> str:
    """The digest of code and inputs together: tasks with the same memo have the same output."""
    whole = blake3(code.encode())
    for item in sorted(inputs, key=lambda item: item.name):
        whole.update(f"\0{item.name}\0{item.digest}".encode())
    return whole.hexdigest()
