"""`upturn profile` and `upturn drift`, as people use them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import upturn as up
from upturn.cli import _status
from upturn.core.time import utcnow
from upturn.model.registry import register_version


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    random = np.random.default_rng(1)
    for name, shift in (("old", 0.0), ("new", 1.0)):
        table = pa.table({"x": random.normal(size=500) + shift, "[b]": random.normal(size=500)})
        pq.write_table(table, f"{name}.parquet")
    return tmp_path


def test_a_profile_is_kept_and_compared_with(files: Path, capsys: Any) -> None:
    assert _status(["profile", "old.parquet", "--out", "old.json"]) == 0
    shown = capsys.readouterr().out
    assert "500 rows" in shown
    assert "[b]" in shown
    assert _status(["drift", "new.parquet", "--against", "old.json", "--html", "page.html"]) == 0
    shown = capsys.readouterr().out
    assert "critical  x drifted" in shown
    assert "Page: page.html" in shown
    assert "x drifted" in (files / "page.html").read_text("utf-8")
    assert _status(["drift", "new.parquet", "--against", "old.parquet", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["drift"][0]["column"] == "x"
    assert found["drift"][0]["ks_error"] == 0
    assert _status(["profile", "old.parquet", "--json", "--column", "x"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["columns"]] == ["x"]


def test_a_script_is_told_by_the_status(files: Path) -> None:
    against = ["--against", "old.parquet"]
    assert _status(["drift", "new.parquet", *against, "--fail-on", "critical"]) == 3
    assert _status(["drift", "old.parquet", *against, "--fail-on", "warning"]) == 0
    quiet = [*against, "--column", "[b]", "--fail-on", "warning"]
    assert _status(["drift", "new.parquet", *quiet]) == 0


def test_a_version_is_compared_with(files: Path, capsys: Any) -> None:
    data = {"x": [float(i) for i in range(100)], "y": [i % 2 for i in range(100)]}
    workspace = up.open_workspace()
    register_version(
        workspace, "m", lambda rows: [0.5] * len(rows), data=data, target="y", now=utcnow()
    )
    workspace.close()
    assert _status(["drift", "new.parquet", "--against", "m:1"]) == 0
    assert "x drifted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nwe.parquet", "--against", "old.parquet"], "Did you mean 'new.parquet'?"),
        (["new.parquet", "--against", "gone.parquet"], "No file 'gone.parquet'."),
        (["new.parquet", "--against", "m:7"], "No model 'm'."),
        (["new.parquet", "--against", "bad.json"], "bad.json is no profile"),
        (["new.parquet", "--against", "old.parquet", "--column", "z"], "no column 'z'"),
        (["new.parquet", "--against", "old.parquet", "--time", "x"], "holds no times"),
        (["new.parquet", "--against", "old.parquet", "--html", "no/p.html"], "can't be written"),
    ],
)
def test_a_mistake_is_one_fact_and_one_way_out(
    files: Path, capsys: Any, arguments: list[str], says: str
) -> None:
    (files / "bad.json").write_text('{"rows": "many"}')
    assert _status(["drift", *arguments]) > 0
    shown = capsys.readouterr().err
    assert says in shown
    assert "Traceback" not in shown
