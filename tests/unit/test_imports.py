"""What an import costs: nothing heavy is loaded before it is used."""

import subprocess
import sys

import pytest

HEAVY = {
    "alembic",
    "click",
    "duckdb",
    "narwhals",
    "numpy",
    "optuna",
    "pandas",
    "polars",
    "pyarrow",
    "rich",
    "sklearn",
    "sqlalchemy",
    "starlette",
}


def loaded_by(code: str) -> set[str]:
    """The top-level modules that are loaded once `code` has run in a process of its own."""
    show = "import sys; print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    run = [sys.executable, "-c", f"{code}\n{show}"]
    return set(subprocess.run(run, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import upturn", set[str]()),
        ("import upturn as up; up.step, up.flow, up.register, up.Endpoint, up.tune", set[str]()),
        ("from upturn.cli import cli; cli.main(['--help'], standalone_mode=False)", {"click"}),
        ("import upturn.develop.forkserver", set[str]()),
        ("import upturn.cli.run", {"click"}),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_used(code: str, allowed: set[str]) -> None:
    assert loaded_by(code) & HEAVY <= allowed


def test_every_name_of_the_facade_is_there() -> None:
    code = "import upturn as up\nfor name in up.__all__: getattr(up, name)\nassert dir(up)"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import upturn as up\nup.stepp"
    failed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "has no attribute 'stepp'" in failed.stderr
