"""Features counted as they lie are those of the joined rows, whatever files they lie in."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from upturn.core.log import PredictionBatch
from upturn.core.records import Environment, Version
from upturn.core.schema import Field, Signature
from upturn.core.settings import load_settings
from upturn.core.time import instant, micros
from upturn.improve.log import StoredLog
from upturn.improve.log_snapshot import Snapshot
from upturn.improve.monitor.drift import PREDICTION, observed
from upturn.improve.monitor.feature_tally import FeatureTally
from upturn.improve.monitor.quality import quality
from upturn.improve.monitor.tally import OTHERS
from upturn.improve.monitor.windows import instants, windows
from upturn.model.profile import profile_table
from upturn.model.profile_counts import count_into
from upturn.stores.logfile import LogWriter
from upturn.stores.workspace import Workspace, open_workspace

START = instant("2013-04-01")
HOUR = timedelta(hours=1)
END = START + 60 * HOUR
ROWS = 80
SEGMENTS = {"origin": ["JFK", "LGA"]}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    home = tmp_path_factory.mktemp("counted")
    workspace = open_workspace(load_settings(home, {"UPTURN_HOME": str(home)}))
    writer = fill(workspace.log_dir / "delays")
    yield workspace
    writer.close()
    workspace.close()


def fill(folder: Path) -> LogWriter:
    """Sealed files of twelve hours each; the last hours are in a journal that is still open."""
    random = np.random.default_rng(1)
    writer = LogWriter(folder)
    for hour in range(60):
        if hour and hour % 12 == 0:
            writer.close()
            writer = LogWriter(folder)
        for version, shadow, error in ((1, False, ""), (2, True, ""), (2, False, "boom")):
            writer.write(batch(random, hour, version, shadow=shadow, error=error))
        # Written late: a file's rows overlap with those of the one before.
        writer.write(batch(random, max(0, hour - 20), 1 + hour % 2))
    done = writer.write(batch(random, 59, 1), durable=True)
    assert done is not None
    done.result(30)
    return writer


def batch(
    random: np.random.Generator, hour: int, version: int, *, shadow: bool = False, error: str = ""
) -> PredictionBatch:
    at = micros(START + hour * HOUR)
    made = features(random, ROWS)
    if hour % 5 == 0:
        del made["flag"]  # a client that does not send it
    return PredictionBatch(
        ids=[f"{random.integers(0, 2**60):028x}" for _ in range(ROWS)],
        at=(at + np.sort(random.integers(0, 3_600_000_000, ROWS))).tolist(),
        received_at=at,
        route=1,
        arm="champion",
        version=version,
        shadow=shadow,
        units=None,
        propensity=1.0,
        features={name: values.to_pylist() for name, values in made.items()},
        scores=None if error else random.random(ROWS).tolist(),
        answers=None,
        latency_s=0.002,
        error=error,
    )


def features(random: np.random.Generator, rows: int) -> dict[str, Any]:
    odd = random.random(rows) < 0.1
    return {
        "hour": pa.array(random.random(rows), mask=odd),
        "wind": pa.array(random.normal(scale=1 + odd, size=rows)),
        "origin": pa.array(np.array(["JFK", "LGA", "EWR"])[random.integers(0, 3, rows)], mask=odd),
        "flag": pa.array(random.random(rows) < 0.5),
        "empty": pa.nulls(rows),
    }


def version() -> Version:
    random = np.random.default_rng(2)
    base = pa.table(features(random, 2000) | {"prediction": random.random(2000)})
    kinds = {"hour": "float", "wind": "float", "origin": "str", "flag": "bool", "empty": "float"}
    inputs = tuple(Field(name=name, type=kind) for name, kind in kinds.items())  # pyright: ignore[reportArgumentType]
    return Version(
        model="delays",
        number=1,
        artifact="0" * 64,
        data=None,
        signature=Signature(inputs=inputs, output="probability", classes=(False, True)),
        profile=profile_table(base),
        environment=Environment(python="3.12", distributions={}),
        run=None,
        task=None,
        at=START,
    )


def tallied(snapshot: Snapshot, every: str) -> FeatureTally:
    tally = FeatureTally(windows(START, END - HOUR, every), version(), SEGMENTS)
    for part in snapshot.parts(START, END - HOUR, tally.names):
        tally.add(part)
    return tally


@pytest.mark.parametrize("every", ["1d", "5h"])
def test_counts_are_those_of_the_joined_rows(workspace: Workspace, every: str) -> None:
    log = StoredLog(workspace, "delays")
    until = END - HOUR
    found = tallied(log.snapshot(START, until, END), every)
    rows = log.joined(since=START, until=until, known_by=END, features=True, shadow=False)
    places = windows(START, until, every).places(instants(rows))
    own = pc.equal(rows["version"], pa.scalar(1, pa.int32()))
    seen = observed(rows)
    origins = seen["origin"].to_pylist()
    codes = np.array([{"JFK": 0, "LGA": 1}.get(one, OTHERS) for one in origins])
    groups = [(("window", place), places == place) for place in np.unique(places).tolist()]
    groups += [(("origin", code), codes == code) for code in (0, 1, OTHERS)]
    assert len(found.columns) == 6
    for number, column in enumerate(found.columns):
        for (kind, place), chosen in groups:
            some = np.asarray(own) & chosen if column.name == PREDICTION else chosen
            values = seen[column.name].filter(pa.array(some))
            counts = (
                found.by_window[place, number]
                if kind == "window"
                else found.in_segment(kind, place, number)
            )
            assert counts == count_into(column, values), (column.name, kind, place)


def test_what_is_odd_is_what_is_odd_of_the_joined_rows(workspace: Workspace) -> None:
    log = StoredLog(workspace, "delays")
    found = tallied(log.snapshot(START, END - HOUR, END), "1d")
    rows = log.joined(since=START, until=END - HOUR, known_by=END, features=True)
    mine = version()
    assert found.quality is not None
    assert found.quality.symptoms() == quality(mine.signature, mine.profile, rows)


def test_slim_rows_are_the_joined_ones(workspace: Workspace) -> None:
    log = StoredLog(workspace, "delays")
    until = START + 7 * HOUR
    rows = log.joined(since=START, until=until, known_by=END, features=True)
    snapshot = log.snapshot(START, END, END)
    slim = snapshot.slim(START, until, ["origin", "none such"], answers=True)
    assert "features.origin" in slim.column_names
    assert slim.equals(rows.select(slim.column_names))
    assert "answer" not in snapshot.slim(START, until).column_names


def test_a_snapshot_does_not_see_what_is_written_later(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    workspace = open_workspace(load_settings(tmp_path, {"UPTURN_HOME": str(tmp_path)}))
    folder = workspace.log_dir / "delays"

    def write() -> None:
        writer = LogWriter(folder)
        writer.write(batch(random, 1, 1))
        writer.close()

    write()
    snapshot = StoredLog(workspace, "delays").snapshot(START, END, END)
    write()
    assert snapshot.slim(START, END).num_rows == ROWS
    assert sum(part.num_rows for part in snapshot.parts(START, END, ["hour"])) == ROWS
    workspace.close()
