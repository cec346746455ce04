"""A small world for loops: past rows whose cause changes halfway, and a flow to learn them."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.linear_model import LogisticRegression

from upturn.core.errors import Problem, StepFailed
from upturn.core.records import Endpoint, Version
from upturn.core.time import instant, micros, utcnow
from upturn.improve.loop import Loop
from upturn.improve.rollout import beats, canary, full, no_worse, shadow
from upturn.improve.triggers import drop, stale
from upturn.model.registry import register_version
from upturn.stores.workspace import Workspace

START, END = instant("2013-01-01"), instant("2013-03-12")
CHANGE = instant("2013-02-05")  # from then on the label follows `b` rather than `a`
DAY = timedelta(days=1)
TIME = pa.timestamp("us", "UTC")


def past(rows_a_day: int = 150, *, seed: int = 0) -> pa.Table:
    """Rows from START to END: what a loop's history returns."""
    random = np.random.default_rng(seed)
    rows = rows_a_day * (END - START).days
    at = np.sort(random.integers(micros(START), micros(END), rows))
    a, b = random.normal(size=(2, rows))
    cause = np.where(at < micros(CHANGE), a, b)
    late = random.random(rows) < 1 / (1 + np.exp(1 - 2 * cause))
    known = pa.array(
        at + random.integers(1, 8 * 3_600_000_000, rows), mask=random.random(rows) < 0.03
    )
    return pa.table(
        {
            "at": pa.array(at).cast(TIME),
            "known_at": known.cast(TIME),
            "label": late,
            "aircraft": [f"N{number}" for number in random.integers(0, 300, rows)],
            "a": a,
            "b": b,
        }
    )


class Handle:
    """A finished run."""

    def __init__(self, result: Version) -> None:
        self.id = "k3f9x2"
        self._result = result

    def result(self) -> Version:
        return self._result


class Flow:
    """Learns from the past rows of [start, end), in this process; `fails` after that many runs."""

    name = "delays"
    entry = "flights.py:delays"

    def __init__(self, workspace: Workspace, table: pa.Table, *, fails: int = 10**9) -> None:
        self.workspace = workspace
        self.table = table
        self.fails = fails
        self.ran: list[tuple[datetime, datetime]] = []

    def run(self, start: datetime, end: datetime) -> Handle:
        self.ran.append((start, end))
        if len(self.ran) > self.fails:
            raise StepFailed(Problem(code="step_failed", message="It broke."), path="run/x/train/0")
        at = np.asarray(self.table["at"].cast(pa.int64()))
        rows = self.table.filter(pa.array((at >= micros(start)) & (at < micros(end))))
        data = rows.select(["a", "b", "label"])
        model = LogisticRegression().fit(
            np.column_stack([data["a"], data["b"]]), np.asarray(data["label"])
        )
        version = register_version(
            self.workspace,
            "delays",
            model,
            data=data,
            target="label",
            params={"start": start.isoformat(), "end": end.isoformat()},
            now=utcnow(),
        )
        return Handle(version)


def make_loop(flow: Flow, **changes: Any) -> Loop:
    """A loop over that world."""
    given: dict[str, Any] = {
        "window": "21d",
        "holdout": "7d",
        "monitor_window": "7d",
        "cooldown": "3d",
        "min_rows": 300,
        "when": stale("21d") | drop("auc", 0.05),
        "gate": beats("auc"),
        "rollout": [shadow("1d"), canary(0.5, "1d", min_rows=30), full()],
        "guard": [no_worse("log_loss", 0.05), no_worse("latency_p99", 0.2)],
        "history": lambda start, end: flow.table,
    }
    return Loop(Endpoint("delays", unit="aircraft"), train=flow, **(given | changes))
