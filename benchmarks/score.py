"""Batch scoring: `upturn score` of a Parquet file, beside the bare library in one process.

    python benchmarks/score.py [--rows 1000000] [--models lightgbm logistic xgboost]

Prints seconds, rows a second, the ratio to the floor (read all, predict, write, with the library's
own threads) and the peak memory of the process tree: resident, where pages that processes share
count for each, and proportional, where they count once.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from upturn.core.machine import process_tree

COLUMNS = 30
FLOOR = """
import sys, pyarrow.parquet as pq
from upturn.stores import values
from upturn.stores.workspace import open_workspace
from upturn.model.registry import get_version

workspace = open_workspace()
model = values.load(workspace.blobs, get_version(workspace, sys.argv[1]).artifact)
table = pq.read_table(sys.argv[2])
scores = model.predict_proba(table.to_pandas())[:, 1]
pq.write_table(table.append_column("prediction", [scores]), sys.argv[3], compression="zstd",
               use_dictionary=False)
"""


def main() -> None:
    """Measure each model: first the floor, then upturn score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--models", nargs="+", default=["lightgbm", "logistic", "xgboost"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "upturn.toml").write_text("")
        rows = root / "rows.parquet"
        write_rows(rows, asked.rows)
        print(
            f"{asked.rows:,} rows of {COLUMNS} floats, {rows.stat().st_size >> 20} MB, load", end=""
        )
        print(f" {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
        for name in asked.models:
            register(root, name)
            floor = measured(root, sys.executable, "-c", FLOOR, name, str(rows), "floor.parquet")
            ours = measured(root, sys.executable, "-m", "upturn", "score", name, str(rows))
            for what, (seconds, resident, proportional) in (("floor", floor), ("upturn", ours)):
                print(
                    f"{name:9} {what:7} {seconds:6.2f} s {asked.rows / seconds:10,.0f} rows/s"
                    f"  {resident >> 20:5} MB resident, {proportional >> 20:5} MB proportional"
                )
            print(f"{name:9} ratio   {ours[0] / floor[0]:6.2f}")


def write_rows(path: Path, count: int) -> None:
    """Random floats, and as few row groups as pyarrow makes by itself."""
    random = np.random.default_rng(0)
    columns = {f"x{number}": random.normal(size=count) for number in range(COLUMNS)}
    pq.write_table(pa.table(columns), path, compression="zstd")


def register(root: Path, name: str) -> None:
    """Fit a model and register it, in a process of its own."""
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import score; score.fit({name!r})"
    subprocess.run([sys.executable, "-c", code], cwd=root, env=environ(root), check=True)


def fit(name: str) -> None:
    """What runs there."""
    import pandas as pd

    import upturn as up

    random = np.random.default_rng(1)
    data = pd.DataFrame(random.normal(size=(20_000, COLUMNS)), columns=names())
    target = data["x0"] + data["x1"] * data["x2"] + random.normal(size=len(data)) > 0
    model = unfitted(name).fit(data, target)
    up.register(name, model, data=data.assign(y=target), target="y")


def names() -> list[str]:
    """Of the columns."""
    return [f"x{number}" for number in range(COLUMNS)]


def unfitted(name: str) -> Any:
    """The model that the name stands for."""
    match name:
        case "lightgbm":
            from lightgbm import LGBMClassifier

            return LGBMClassifier(n_estimators=200, verbose=-1)
        case "xgboost":
            from xgboost import XGBClassifier

            return XGBClassifier(n_estimators=200)
        case _:
            from sklearn.linear_model import LogisticRegression

            return LogisticRegression(max_iter=1000)


def environ(root: Path) -> dict[str, str]:
    """With a home of its own."""
    return {**os.environ, "UPTURN_HOME": str(root / ".upturn")}


def measured(root: Path, *command: str) -> tuple[float, int, int]:
    """Seconds, and the peak of resident and of proportional memory, sampled."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=root, env=environ(root), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    resident = proportional = 0
    while process.poll() is None:
        members = process_tree(process.pid)
        resident = max(resident, sum(memory(pid, "Rss:") for pid in members))
        proportional = max(proportional, sum(memory(pid, "Pss:") for pid in members))
        time.sleep(0.05)
    assert process.returncode == 0, command
    return time.perf_counter() - began, resident, proportional


def memory(pid: int, name: str) -> int:
    """Bytes that the kernel sums up for a process; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


if __name__ == "__main__":
    main()
