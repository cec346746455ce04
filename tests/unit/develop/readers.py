"""Steps that read files by themselves; each writes into a note that it ran."""

import functools
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import upturn as up
from unit.develop.steps import write


@up.step
def text_of(path: str, note: str) -> str:
    write(note, "text_of")
    return Path(path).read_text()


@up.step
def text_if_any(path: str, note: str) -> str:
    write(note, "text_if_any")
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return "nothing"


@up.step
def names_in_folder(path: str, note: str) -> list[str]:
    write(note, "names_in_folder")
    return sorted(item.name for item in Path(path).glob("*.csv"))


@up.step
def rows_of(path: str, note: str) -> list[Any]:
    write(note, "rows_of")
    connection = sqlite3.connect(path)
    try:
        return [list(row) for row in connection.execute("SELECT * FROM t ORDER BY 1")]
    finally:
        connection.close()


@up.step
def written_and_read(path: str, note: str) -> str:
    write(note, "written_and_read")
    Path(path).write_text("my own")
    other = Path(path + ".tmp")
    other.write_text("renamed")
    os.replace(other, path + ".2")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a").write_text("a")
        names = os.listdir(folder)
        (Path(folder) / "a").read_text()
    return Path(path).read_text() + Path(path + ".2").read_text() + names[0]


@up.step
def appended_and_read(path: str, note: str) -> str:
    write(note, "appended_and_read")
    with open(path, "a") as file:
        file.write("+")
    return Path(path).read_text()


@up.step
def read_slowly(path: str, note: str, gate: str) -> str:
    text = Path(path).read_text()
    write(note, "read_slowly")
    deadline = time.monotonic() + 30
    while not os.path.exists(gate):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return text


@up.step
def read_by_thread(path: str, note: str) -> str:
    write(note, "read_by_thread")
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(Path(path).read_text()))
    thread.start()
    thread.join()
    return found[0]


@up.step
def read_by_child(path: str, note: str) -> str:
    write(note, "read_by_child")
    code = "import sys; print(open(sys.argv[1]).read(), end='')"
    return subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    ).stdout


@up.step
def parquet_sum(path: str, note: str) -> int:
    import polars as pl

    write(note, "parquet_sum")
    return int(pl.read_parquet(up.File(path))["x"].sum())


@up.step
def parquet_sums(path: str, note: str) -> list[int]:
    import duckdb
    import pandas as pd
    import pyarrow.parquet as pq

    write(note, "parquet_sums")
    file = up.File(path)
    ((found,),) = duckdb.sql(f"SELECT sum(x)::BIGINT FROM '{file}'").fetchall()
    column: Any = pq.read_table(file)["x"]
    return [int(pd.read_parquet(file)["x"].sum()), sum(column.to_pylist()), found]


@up.step
def rows_in_folder(path: str, note: str) -> int:
    import polars as pl

    write(note, "rows_in_folder")
    return pl.scan_parquet(up.File(path)).collect().height


@up.step
def given_file(files: list[Any], note: str) -> list[str]:
    write(note, "given_file")
    return [f"{type(file).__name__} {file.read_text()}" for file in files]


@up.step
def claimed(path: str, note: str) -> str:
    write(note, "claimed")
    try:
        with open(path, "x") as file:
            file.write("mine")
    except FileExistsError:
        pass
    return Path(path).read_text()


@up.step
def by_libraries(folder: str, note: str) -> list[int]:
    import numpy as np
    import pandas as pd

    write(note, "by_libraries")
    return [int(pd.read_csv(f"{folder}/a.csv")["x"][0]), int(np.load(f"{folder}/a.npy")[0])]


@functools.cache
def looked_up(path: str) -> dict[str, int]:
    return json.loads(Path(path).read_text())


@up.step
def cached_value(path: str, key: str, note: str) -> int:
    write(note, f"cached_value {key}")
    return looked_up(path)[key]


@up.step(environ=["UNIT_STAGE"])
def stage(note: str) -> str | None:
    write(note, "stage")
    return os.environ.get("UNIT_STAGE")


@up.step(environ=["UNIT_STAGE"])
def stage_of_module(note: str, folder: str) -> str:
    sys.path.insert(0, folder)
    try:
        import staged
    finally:
        sys.path.remove(folder)

    write(note, "stage_of_module")
    return staged.STAGE


@up.step
def undeclared(note: str, number: int) -> str | None:
    write(note, "undeclared")
    return os.environ.get("UNIT_STAGE")


@up.step(cache=False)
def read_uncached(path: str, note: str) -> str:
    write(note, "read_uncached")
    return Path(path).read_text()


@up.step
def fail_unless(path: str, text: str) -> None:
    assert text is not None
    if not os.path.exists(path):
        raise RuntimeError("not yet")


@up.step(environ=["UNIT_STAGE"])
def failing_by_stage(note: str) -> str:
    if os.environ["UNIT_STAGE"] == "bad":
        raise ValueError("bad stage")
    return os.environ["UNIT_STAGE"]


def performed(folder: str, program: list[list[str]]) -> list[Any]:
    """What a program of operations on the files of a folder gives."""
    return [_performed(Path(folder), *operation) for operation in program]


def _performed(folder: Path, verb: str, name: str, other: str) -> Any:
    path = folder / name
    match verb:
        case "read":
            try:
                return path.read_text()
            except FileNotFoundError:
                return None
        case "list":
            return sorted(os.listdir(folder))
        case "write":
            path.write_text(other)
        case "append":
            with path.open("a") as file:
                file.write(other)
        case "claim":
            try:
                with path.open("x") as file:
                    file.write(other)
            except FileExistsError:
                return "taken"
        case "rename":
            try:
                path.rename(folder / other)
            except FileNotFoundError:
                return "nothing to rename"
        case _:
            path.unlink(missing_ok=True)
    return None


@up.step
def program_run(folder: str, program: list[list[str]], salt: str) -> list[Any]:
    return performed(folder, program)
