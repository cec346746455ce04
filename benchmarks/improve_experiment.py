"""A/B of many users: five metrics from Parquet, against DuckDB's own averages and variances."""

import argparse
import sys
import tempfile
from pathlib import Path

import duckdb
from child import show

LIMITS = (2.5, 0.35)
METRICS = ("revenue", "converted", "clicks", "views", "orders", "minutes", "revenue_before")
ASKED = ", ".join(f"avg({one}::DOUBLE), var_samp({one}::DOUBLE)" for one in METRICS)
# The least that anybody has to compute.
FLOOR = """
import duckdb
with duckdb.connect(config={{"threads": 1}}) as db:
    db.sql("SELECT variant, {asked} FROM '{path}' GROUP BY variant").fetchall()
"""
OURS = """
import upturn as up
experiment = up.Experiment(
    "checkout",
    arms={{"control": 0.5, "new": 0.5}},
    unit="user_id",
    metrics=[
        up.Mean("revenue", covariate="revenue_before"),
        up.Proportion("converted"),
        up.Ratio("clicks", "views"),
        up.Count("orders"),
        up.Mean("minutes"),
    ],
)
experiment.analyze("{path}", arm="variant").verdict
"""


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


def main() -> None:
    """Make the users and print the figures; exit with 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=10_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "users.parquet"
        make(path, given.users)
        print(f"A/B of {given.users:,} users, 5 metrics, one adjusted")
        show("floor: averages and variances in DuckDB", FLOOR.format(asked=ASKED, path=path))
        kept = show("an experiment, analysed", OURS.format(path=path), *LIMITS)
    sys.exit(not kept)


if __name__ == "__main__":
    main()
