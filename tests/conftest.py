"""What every test has: a workspace of its own, and Hypothesis set up for this machine or for CI."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# On CI the same examples every time: a failure there can be had here, with CI=true. Elsewhere new
# ones each time. A shared machine is slow at times, which is no failure.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci",
    settings.get_profile("dev"),
    derandomize=True,
    database=None,
    print_blob=True,
    max_examples=50,  # where they count, a test says how many itself
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(scope="module")
def frozen() -> None:
    """Leave what there is out of collections: statsmodels' Holm asks for one each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def workspace_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return this test's UPTURN_HOME, not made yet; no test can reach the user's own."""
    home = tmp_path / "upturn-home"
    monkeypatch.setenv("UPTURN_HOME", str(home))
    return home
