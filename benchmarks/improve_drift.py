"""Profiles of tables and drift on them: 25 numbers, 17 texts, 4 booleans and 4 dates from Parquet.

    python benchmarks/improve_drift.py [--rows 1000000] [--many 10000000] [--keep FOLDER]

Half of the columns lack some values; texts have 5 to 5,000 different ones. Each figure is of a
process of its own, start and imports included. The floor reads every column and finds the least and
the greatest, with DuckDB; beside it, DuckDB's own SUMMARIZE, which is approximate.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from child import show

STEP = 1_000_000
FLOOR = """
import duckdb
with duckdb.connect(config={{"threads": 1}}) as db:
    db.sql("SELECT min(COLUMNS(*)), max(COLUMNS(*)) FROM '{now}'").to_arrow_table()
"""
SUMMARIZE = """
import duckdb
with duckdb.connect(config={{"threads": 1}}) as db:
    db.sql("SUMMARIZE SELECT * FROM '{now}'").to_arrow_table()
"""
PROFILE = """
import msgspec, pathlib, upturn as up
pathlib.Path("{profile}").write_bytes(msgspec.json.encode(up.profile("{before}")))
"""
REPORT = """
import pathlib, upturn as up
from upturn.improve.monitor.tables_page import render
pathlib.Path("{page}").write_text(render(up.compare_tables("{before}", "{now}")))
"""
SAVED = """
import msgspec, pathlib, upturn as up
from upturn.core.schema import Profile
from upturn.improve.monitor.tables_page import render
saved = msgspec.json.decode(pathlib.Path("{profile}").read_bytes(), type=Profile)
pathlib.Path("{page}").write_text(render(up.compare_tables(saved, "{now}")))
"""


def make(path: Path, rows: int, *, shift: float = 0.0) -> None:
    """Write a table; `shift` moves some of the numbers."""
    random = np.random.default_rng(int(1 + 10 * shift))
    writer = None
    for begin in range(0, rows, STEP):
        table = part(random, min(STEP, rows - begin), shift)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


def part(random: np.random.Generator, rows: int, shift: float) -> pa.Table:
    """Some of the rows."""

    def lacking(share: float) -> np.ndarray:
        return random.random(rows) < share

    columns: dict[str, object] = {}
    for i in range(25):
        values = random.normal(size=rows) + shift if i % 3 else np.exp(random.normal(size=rows))
        values = random.integers(0, 1000, rows) if i % 5 == 4 else values
        columns[f"number_{i}"] = pa.array(values, mask=lacking(0.05) if i % 2 else None)
    for i in range(17):
        few = (5, 50, 500, 5000)[i % 4]
        codes = np.minimum(random.geometric(3 / few, rows), few) - 1
        values = pa.array([f"value {j}" for j in range(few)])
        mask = lacking(0.02) if i % 2 else None
        columns[f"text_{i}"] = values.take(pa.array(codes, mask=mask))
    for i in range(4):
        columns[f"flag_{i}"] = pa.array(random.random(rows) < 0.3, mask=lacking(0.01))
        seconds = pa.array((1.7e9 + random.random(rows) * 3e7).astype(np.int64))
        columns[f"at_{i}"] = seconds.cast(pa.timestamp("s", "UTC")).cast(pa.timestamp("us", "UTC"))
    return pa.table(columns)


def main() -> None:
    """Make the tables and print the figures; exit with 1 if a limit is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--many", type=int, default=10_000_000)
    parser.add_argument("--keep", type=Path, help="where the tables are, or are to stay")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        one, other, many = (folder / f"{name}.parquet" for name in ("before", "now", "many"))
        made = ((one, given.rows, 0.0), (other, given.rows, 0.3), (many, given.many, 0.3))
        for path, rows, shift in made:
            if not path.exists():
                make(path, rows, shift=shift)
        names = {"profile": folder / "profile.json", "page": folder / "page.html", "before": one}
        few, lots = names | {"now": other}, names | {"now": many}
        print(f"{given.rows:,} rows x 50 columns, {other.stat().st_size / 1e6:,.0f} MB")
        show("floor: min and max in DuckDB", FLOOR.format(**few))
        show("DuckDB's SUMMARIZE", SUMMARIZE.format(**few))
        show("importing upturn and its page", SAVED.format(**few).split("saved =")[0])
        show("profile", PROFILE.format(**few))
        kept = show("report with page, of two tables", REPORT.format(**few), 8, 0.8)
        size = names["page"].stat().st_size / 1e6
        kept &= show("report with page, against a saved profile", SAVED.format(**few), 2.5, 0.8)
        print(f"{given.many:,} rows x 50 columns, {many.stat().st_size / 1e6:,.0f} MB")
        show("floor: min and max in DuckDB", FLOOR.format(**lots))
        show("profile", PROFILE.format(**lots | {"before": many, "profile": folder / "p.json"}))
        kept &= show("report with page, against a saved profile", SAVED.format(**lots), 15, 0.8)
        kept &= size <= 1
        print(f"the page has {size:.2f} MB, at most 1")
    sys.exit(not kept)


if __name__ == "__main__":
    main()
