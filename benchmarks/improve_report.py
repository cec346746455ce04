"""The report with page of an endpoint's Log: 28 days, 50 features, three quarters labelled.

    python benchmarks/improve_report.py [--rows 1000000] [--keep FOLDER]

Features are 25 numbers, 17 texts, 4 booleans and 4 more numbers; the Log lies in a file a day, as
compaction leaves it. The figure is of `upturn monitor NAME --html`, in a process of its own, start
and imports included. The floor reads every feature and finds the least and the greatest.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from child import show
from improve_drift import part

DAYS = 28
DAY = 86_400_000_000
LIMITS = (8, 0.8)
FLOOR = """
import duckdb
with duckdb.connect(config={{"threads": 1}}) as db:
    asked = "SELECT min(COLUMNS('features.*')), max(COLUMNS('features.*')) FROM '{log}'"
    db.sql(asked).to_arrow_table()
"""
REPORT = """
import click
from upturn.cli.monitor import command
asked = ["delays", "--until", "2013-04-29T00:00Z", "--html", "{page}", *{more}]
command.main(asked, standalone_mode=False)
"""


def make(home: Path, rows: int) -> None:
    """Write a home with an endpoint, its champion and its Log."""
    from upturn.core.records import Arm, Endpoint, Environment, Route, Version
    from upturn.core.schema import Field, Signature
    from upturn.core.time import instant, micros
    from upturn.model.profile import profile_table
    from upturn.model.tables import field_type
    from upturn.stores.workspace import open_workspace

    start = instant("2013-04-01")
    random = np.random.default_rng(1)
    base = features(random, min(rows, 200_000))
    fields = [Field(name=one.name, type=field_type(one.type) or "str") for one in base.schema]
    workspace = open_workspace()
    workspace.meta.add(Endpoint(name="delays", at=start))
    workspace.meta.add(
        Version(
            model="delays",
            artifact="0" * 64,
            data=None,
            signature=Signature(inputs=tuple(fields), output="probability", classes=(False, True)),
            profile=profile_table(base.append_column("prediction", [random.random(len(base))])),
            environment=Environment(python="3.12", distributions={}),
            run=None,
            task=None,
            at=start - timedelta(days=1),
        )
    )
    arm = Arm(name="champion", version=1, share=1.0)
    workspace.meta.add(
        Route(endpoint="delays", model="delays", arms=(arm,), salt="s", why="first", at=start)
    )
    for day in range(DAYS):
        write_day(workspace.log_dir / "delays", micros(start) + day * DAY, rows // DAYS, random)
    workspace.close()


def features(random: np.random.Generator, rows: int) -> pa.Table:
    """Fifty columns: those of tables, with more numbers instead of times."""
    table = part(random, rows, 0.0)
    times = [name for name in table.column_names if name.startswith("at_")]
    for name in times:
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, [random.gamma(2.0, size=rows)])
    return table


def write_day(folder: Path, begin: int, rows: int, random: np.random.Generator) -> None:
    """Write a day's predictions, and the feedback that came in an hour later."""
    from upturn.stores.log_tables import schema
    from upturn.stores.segments import write_parquet

    at = np.sort(random.integers(0, DAY - 3_700_000_000, rows)) + begin
    noise = random.integers(0, 2**62, rows)
    ids = [f"{one // 1000:012x}{other:016x}" for one, other in zip(at, noise, strict=True)]
    score = random.random(rows)
    own: dict[str, Any] = {
        "id": ids,
        "at": at,
        "received_at": at,
        "route": [1] * rows,
        "arm": ["champion"] * rows,
        "version": [1] * rows,
        "shadow": [False] * rows,
        "propensity": [1.0] * rows,
        "score": score,
        "latency_s": random.gamma(2.0, 0.001, rows),
        "request": ids,
        "rate": [1.0] * rows,
    }
    made = features(random, rows)
    table = pa.table(
        {one.name: column(own.get(one.name), rows, one.type) for one in schema("predictions")}
        | {f"features.{name}": made[name] for name in made.column_names}
    )
    labelled = np.flatnonzero(random.random(rows) < 0.75)
    told: dict[str, Any] = {
        "id": pa.array(ids).take(pa.array(labelled)),
        "label": (random.random(len(labelled)) < score[labelled]).astype(np.float64),
        "known_at": at[labelled] + 3_600_000_000,
        "received_at": at[labelled] + 3_600_000_000,
    }
    feedback = pa.table(
        {
            one.name: column(told.get(one.name), len(labelled), one.type)
            for one in schema("feedback")
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    for kind, rows_of in (("predictions", table), ("feedback", feedback)):
        path = folder / f"{kind}-{begin // 1000:013d}-1-{0:08x}.parquet"
        write_parquet(path, [rows_of], rows_of.schema)


def column(values: Any, rows: int, kind: pa.DataType) -> Any:
    """A column of the Log: nulls where there is nothing."""
    return pa.nulls(rows, kind) if values is None else pa.array(values).cast(kind)


def main() -> None:
    """Make the Log and print the figures; exit with 1 if a limit is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="where the Log is, or is to stay")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = (given.keep or Path(temporary)).absolute() / "home"
        os.environ["UPTURN_HOME"] = str(home)
        if not home.exists():
            # In a process of its own: what it leaves behind is no part of what is measured.
            made = f"from improve_report import *; make(Path({str(home)!r}), {given.rows})"
            subprocess.run([sys.executable, "-c", made], check=True, cwd=Path(__file__).parent)
        page = home.parent / "page.html"
        log = home / "log" / "delays" / "predictions-*.parquet"
        print(f"{given.rows:,} rows x 50 features, {DAYS} days")
        show("floor: min and max in DuckDB", FLOOR.format(log=log))
        kept = show("report with page", REPORT.format(page=page, more=[]), *LIMITS)
        more = ["--by", "text_0", "--by", "text_1"]
        show("the same by two features", REPORT.format(page=page, more=more))
        size = page.stat().st_size / 1e6
        kept &= size <= 1
        print(f"the page has {size:.2f} MB, at most 1")
    sys.exit(not kept)


if __name__ == "__main__":
    main()
