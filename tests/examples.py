"""Modules of the examples in tests: imported from their folder, and forgotten afterwards."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@contextmanager
def example(folder: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module of that name in examples/FOLDER."""
    monkeypatch.syspath_prepend(str(EXAMPLES / folder))
    before = set(sys.modules)
    yield importlib.import_module(name)
    for own in {path.stem for path in (EXAMPLES / folder).glob("*.py")} - before:
        sys.modules.pop(own, None)
