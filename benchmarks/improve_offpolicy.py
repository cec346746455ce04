"""Off-policy evaluation of a Parquet file of 10 M rounds, beside reading it and one SNIPS by numpy.

    python benchmarks/improve_offpolicy.py [--rows 10000000] [--actions 5]

Prints CPU seconds, the ratio to the floor and the peak memory of each process.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from child import cost

STEP = 1_000_000
COLUMNS = '["action", "reward", "propensity", "new"]'
SHARES = "{f'a{i}': 1 / ACTIONS for i in range(ACTIONS)}"
BODIES = {
    "floor: read, SNIPS": f"""
import numpy as np, pyarrow.parquet as pq
sums = np.zeros(5)
with pq.ParquetFile(PATH, pre_buffer=False) as file:
    for batch in file.iter_batches(65536, columns={COLUMNS}, use_threads=False):
        r, p, new = (batch[name].to_numpy() for name in ("reward", "propensity", "new"))
        w = new / p
        sums += [w.sum(), w @ r, w @ w, (w * w) @ r, (w * r) @ (w * r)]
print(sums[1] / sums[0])
""",
    "a column, no model": """
import upturn as up
print(up.evaluate_policy(PATH, "new", model=None).policies["policy"].value.estimate)
""",
    "shares, every estimator": f"""
import upturn as up
print(up.evaluate_policy(PATH, {SHARES}).policies["policy"].value.estimate)
""",
    "shares, context of 3": f"""
import upturn as up
found = up.evaluate_policy(PATH, {SHARES}, context=["x0", "x1", "x2"])
print(found.policies["policy"].value.estimate)
""",
    "three policies, bounded": f"""
import upturn as up
first = {{f"a{{i}}": float(i == 0) for i in range(ACTIONS)}}
found = up.evaluate_policy(
    PATH, {{"new": "new", "even": {SHARES}, "first": first}}, reward_range=(0, 1)
)
print(found.difference("even", "first").interval.estimate)
""",
    "by day (365 clusters)": """
import upturn as up
print(up.evaluate_policy(PATH, "new", model=None, cluster="day").policies["policy"].value.estimate)
""",
    "bootstrap of 200": """
import upturn as up
found = up.evaluate_policy(PATH, "new", model=None, bootstrap=200)
print(found.policies["policy"].value.estimate)
""",
}


def main() -> None:
    """Measure each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--actions", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        write(path, asked.rows, asked.actions)
        print(f"{asked.rows:,} rounds, {asked.actions} actions, {path.stat().st_size >> 20} MB")
        floor = 0.0
        for name, body in BODIES.items():
            code = f"PATH, ACTIONS = {str(path)!r}, {asked.actions}\n{body}"
            found = cost(code)
            floor = floor or found.cpu_s
            print(
                f"  {name:28} {found.cpu_s:7.2f} CPU s {found.cpu_s / floor:5.1f}×"
                f" {found.memory_gb:5.2f} GB   {found.said}",
                flush=True,
            )


def write(path: Path, rows: int, actions: int) -> None:
    """A log whose policy and rewards depend on the context."""
    random = np.random.default_rng(1)
    names = pa.array([f"a{i}" for i in range(actions)])
    writer = None
    for start in range(0, rows, STEP):
        n = min(STEP, rows - start)
        x = random.normal(size=(n, 3)).astype(np.float64)
        logits = 0.5 * x[:, :1] * np.linspace(-1, 1, actions)
        policy = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        action = (random.random((n, 1)) > policy.cumsum(axis=1)).sum(axis=1).clip(0, actions - 1)
        chance = 0.05 + 0.02 * action / actions + 0.02 * (x[:, 0] > 0)
        table = pa.table(
            {
                "action": names.take(pa.array(action)),
                "reward": (random.random(n) < chance).astype(np.float64),
                "propensity": policy[np.arange(n), action],
                "new": np.full(n, 1 / actions),
                "day": (start + np.arange(n)) * 365 // rows,
                **{f"x{i}": x[:, i] for i in range(3)},
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer:
        writer.close()


if __name__ == "__main__":
    main()
