"""Saving: files, figures, images, tables, text and any other value as files of a run."""

import contextlib
import mimetypes
import mmap
import os
from collections.abc import Iterator
from html import escape
from io import BytesIO
from pathlib import Path, PurePosixPath
from time import time_ns
from typing import Any

import msgspec

from upturn.core.blobstore import Buffer
from upturn.core.errors import Invalid, NotFound, Unavailable
from upturn.core.records import Artifact
from upturn.core.tracking import StoredFile
from upturn.develop.context import Sink
from upturn.stores import values
from upturn.stores.workspace import Workspace

VALUE = "application/x-upturn-value"  # what `values.load` reads
_MAPPED_FROM = 1 << 24  # bytes of a file that is not read into memory
_PREVIEW_ROWS = 20


def save(sink: Sink, thing: Any, name: str = "") -> list[StoredFile]:
    """Store a thing as files of the sink's run; see `up.save`. Raises Invalid and NotFound."""
    path = _path_of(thing, name)
    if path is not None:
        return [_put(sink, at, _content(file)) for file, at in _files(path, name)]
    at = _checked(name)
    if isinstance(thing, bytes | bytearray | memoryview):
        return [_put(sink, at, thing)]
    if isinstance(thing, str):
        return [_put(sink, at, thing.encode(), media=_media(at, "text/plain"))]
    rendered = _figure(thing, at) or _picture(thing, at)
    if rendered is not None:
        return [_put(sink, rendered[0], rendered[1])]
    table = _table(thing)
    if table is not None:
        return [_put_table(sink, table, at)]
    page = _page(thing)
    if page is not None:
        return [_put(sink, _with_suffix(at, ".html"), page.encode())]
    return [_put_value(sink, thing, at)]


def show(sink: Sink, thing: Any, title: str = "") -> None:
    """Put a thing on the page of the sink's run; see `up.show`."""
    media, data = rendered(thing)
    sink.exhibit(title or type(thing).__name__, media, _stored(sink.workspace, data))


def rendered(thing: Any) -> tuple[str, bytes]:
    """What a thing looks like: its media type and bytes."""
    if isinstance(thing, str):
        return "text/plain", thing.encode()
    if hasattr(thing, "savefig"):
        buffer = BytesIO()
        thing.savefig(buffer, format="svg")
        return "image/svg+xml", buffer.getvalue()
    for method, media in (
        ("_repr_html_", "text/html"),
        ("_repr_svg_", "image/svg+xml"),
        ("_repr_png_", "image/png"),
    ):
        render = getattr(thing, method, None)
        data = render() if callable(render) else None
        if isinstance(data, str):
            return media, data.encode()
        if isinstance(data, bytes):
            return media, data
    return "text/plain", str(thing).encode()


def _path_of(thing: Any, name: str) -> Path | None:
    """The file or folder that is meant; None for a value. Raises NotFound for one that isn't there.

    A text with a name is a path when there is a file there, and otherwise what it says.
    """
    if isinstance(thing, str) and name and (len(thing) > 4096 or "\n" in thing or "\0" in thing):
        return None
    if not isinstance(thing, os.PathLike | str):
        return None
    path = Path(thing)  # pyright: ignore[reportUnknownArgumentType]
    if path.exists():
        return path
    if isinstance(thing, str) and name:
        return None
    raise NotFound(
        f"There is no file {str(path)!r} to save.",
        hint='Text is saved under a name: up.save(text, "notes.txt")',
    )


def _files(path: Path, name: str) -> Iterator[tuple[Path, str]]:
    """The files at a path, and what each is called among the run's."""
    name = name or path.resolve().name
    if not path.is_dir():
        yield path, _checked(name)
        return
    for folder, folders, files in os.walk(path):
        folders.sort()
        for file in sorted(files):
            found = Path(folder, file)
            yield found, _checked(str(PurePosixPath(name, found.relative_to(path).as_posix())))


def _content(file: Path) -> Buffer:
    with file.open("rb") as opened:
        if os.fstat(opened.fileno()).st_size < _MAPPED_FROM:
            return opened.read()
        return memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))


def _checked(name: str) -> str:
    """The name, if it is that of a file among a run's."""
    path = PurePosixPath(name)
    parts = name.split("/")
    if not name or path.is_absolute() or any(part in ("", ".", "..") for part in parts):
        raise Invalid(
            f"{name!r} is no name of a file.", hint='Write it as "plots/roc.png".', name=name
        )
    if "\0" in name or "\\" in name or len(name) > 1000:
        raise Invalid(f"{name!r} is no name of a file.", hint="It has a character too many.")
    return name


def _put(sink: Sink, name: str, data: Buffer, *, media: str = "") -> StoredFile:
    digest = _blob(sink.workspace, data)
    return _note(sink, name, digest, memoryview(data).nbytes, media or _media(name))


def _note(sink: Sink, name: str, digest: str, size: int, media: str) -> StoredFile:
    at = time_ns() // 1000
    file = StoredFile(run=sink.run, path=name, digest=digest, size_bytes=size, media=media, at=at)
    sink.note({"file": msgspec.to_builtins(file)})
    return file


def _blob(workspace: Workspace, data: Buffer) -> str:
    """Store bytes; in the home when the store is away, for whoever brings them there later."""
    try:
        return workspace.blobs.put([data])
    except Unavailable:
        return _at_home(workspace).put([data])


def _stored(workspace: Workspace, value: Any) -> Artifact:
    try:
        return values.save(workspace.blobs, value)
    except Unavailable:
        return values.save(_at_home(workspace), value)


def _at_home(workspace: Workspace) -> Any:
    from upturn.stores.disk import DiskBlobStore

    return DiskBlobStore(workspace.settings.home / "blobs")


def _media(name: str, otherwise: str = "application/octet-stream") -> str:
    if name.endswith(".parquet"):
        return "application/vnd.apache.parquet"
    return mimetypes.guess_type(name)[0] or otherwise


def _with_suffix(name: str, suffix: str) -> str:
    return name if PurePosixPath(name).suffix else f"{name}{suffix}"


def _figure(thing: Any, name: str) -> tuple[str, bytes] | None:
    """A figure of matplotlib, in the format that the name asks for."""
    if not hasattr(thing, "savefig"):
        return None
    name = _with_suffix(name, ".svg")
    buffer = BytesIO()
    thing.savefig(buffer, format=PurePosixPath(name).suffix[1:])
    return name, buffer.getvalue()


def _picture(thing: Any, name: str) -> tuple[str, bytes] | None:
    """An image as PIL has it, or whatever a notebook shows as PNG or SVG."""
    png, svg = getattr(thing, "_repr_png_", None), getattr(thing, "_repr_svg_", None)
    if type(thing).__module__.startswith("PIL."):
        name = _with_suffix(name, ".png")
        buffer = BytesIO()
        suffix = PurePosixPath(name).suffix[1:].lower()
        thing.save(buffer, format={"jpg": "jpeg"}.get(suffix, suffix))
        return name, buffer.getvalue()
    for render, suffix in ((svg, ".svg"), (png, ".png")):
        data: Any = render() if callable(render) else None
        if data is not None:
            picture = data.encode() if isinstance(data, str) else bytes(data)
            return _with_suffix(name, suffix), picture
    return None


def _page(thing: Any) -> str | None:
    """HTML, of what knows how to be shown so."""
    for method in ("to_html", "_repr_html_"):
        render = getattr(thing, method, None)
        page = render() if callable(render) else None
        if isinstance(page, str):
            return page
    return None


def _table(thing: Any) -> Any:
    """A table of pandas, polars or Arrow as an Arrow table; None for anything else."""
    if type(thing).__module__.partition(".")[0] not in ("pandas", "polars", "pyarrow"):
        return None
    import narwhals as nw

    frame = nw.from_native(thing, pass_through=True, eager_only=True)
    return frame.to_arrow() if isinstance(frame, nw.DataFrame) else None


def _put_table(sink: Sink, table: Any, name: str) -> StoredFile:
    import pyarrow as pa

    buffer = pa.BufferOutputStream()
    if name.endswith(".csv"):
        import pyarrow.csv

        pyarrow.csv.write_csv(table, buffer)
    else:
        import pyarrow.parquet

        name = _with_suffix(name, ".parquet")
        pyarrow.parquet.write_table(table, buffer)
    preview = _stored(sink.workspace, _preview(table).encode())
    sink.exhibit(name, "text/html", preview)
    return _put(sink, name, memoryview(buffer.getvalue()))


def _preview(table: Any) -> str:
    """The first rows of an Arrow table, as HTML."""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.column_names)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row.values()) + "</tr>"
        for row in table.slice(0, _PREVIEW_ROWS).to_pylist()
    )
    size = f"{table.num_rows} rows × {table.num_columns} columns"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p>{size}</p>"


def _put_value(sink: Sink, thing: Any, name: str) -> StoredFile:
    """Numbers, lists and dicts as JSON, arrays as .npy; the rest as `values.load` reads it."""
    if type(thing).__module__ == "numpy" and hasattr(thing, "dtype") and not thing.dtype.hasobject:
        import numpy as np

        buffer = BytesIO()
        np.save(buffer, thing, allow_pickle=False)
        return _put(sink, _with_suffix(name, ".npy"), buffer.getvalue())
    if thing is None or isinstance(thing, dict | list | tuple | int | float):
        with contextlib.suppress(TypeError, ValueError):
            data = msgspec.json.format(msgspec.json.encode(thing), indent=2)
            return _put(sink, _with_suffix(name, ".json"), data)
    artifact = _stored(sink.workspace, thing)
    return _note(sink, name, artifact.digest, artifact.size_bytes, VALUE)
