"""A/B of many users: five metrics from Parquet, against DuckDB's own averages and variances."""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

METRICS = ("revenue", "converted", "clicks", "views", "orders", "minutes", "revenue_before")


def make(path: Path, users: int) -> None:
    """Write users with an arm, outcomes and what was known before."""
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(f"""
            COPY (
                SELECT id AS user_id, CASE WHEN hash(id) % 2 = 0 THEN 'new' ELSE 'control' END
                    AS variant,
                    before AS revenue_before, 0.5 * before + 20 * random() AS revenue,
                    random() < 0.1 AS converted, floor(8 * random())::INTEGER AS clicks,
                    1 + floor(20 * random())::INTEGER AS views,
                    floor(3 * random())::INTEGER AS orders, 60 * random() AS minutes
                FROM (SELECT range AS id, 40 * random() AS before FROM range({users}))
            ) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 200000)""")


def floor(path: Path) -> None:
    """Average and variance of the columns by arm: the least that anybody has to compute."""
    asked = ", ".join(f"avg({one}::DOUBLE), var_samp({one}::DOUBLE)" for one in METRICS)
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.sql(f"SELECT variant, {asked} FROM '{path}' GROUP BY variant").fetchall()


def ours(path: Path) -> None:
    """an experiment with a unit and five metrics, one of them adjusted."""
    import upturn as up

    experiment = up.Experiment(
        "checkout",
        arms={"control": 0.5, "new": 0.5},
        unit="user_id",
        metrics=[
            up.Mean("revenue", covariate="revenue_before"),
            up.Proportion("converted"),
            up.Ratio("clicks", "views"),
            up.Count("orders"),
            up.Mean("minutes"),
        ],
    )
    print(experiment.analyze(path, arm="variant").verdict, file=sys.stderr)


def measured(what: str, path: Path) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak memory in GB, in a process of its own."""
    began = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    made = subprocess.run(
        [sys.executable, __file__, "--only", what, "--path", str(path)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - began, float(made.stdout) / 1e6


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=10_000_000)
    parser.add_argument("--only", choices=("floor", "ours", "nothing"))
    parser.add_argument("--path", type=Path)
    given = parser.parse_args()
    if given.only:
        {"floor": floor, "ours": ours, "nothing": lambda _: None}[given.only](given.path)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "users.parquet"
        make(path, given.users)
        found = {what: measured(what, path) for what in ("floor", "ours", "nothing")}
    print(f"A/B of {given.users:,} users, 5 metrics, one adjusted")
    for what, (cpu, wall, memory) in found.items():
        print(f"{what:8} {cpu:6.2f} CPU s {wall:6.2f} s {memory:5.2f} GB")
    print(f"ours / floor: {found['ours'][0] / found['floor'][0]:.2f} in CPU")


if __name__ == "__main__":
    main()
