"""The reporter of a run in this terminal, or in this pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from upturn.cli.progress import Lines
from upturn.core.settings import wants_plain_lines

if TYPE_CHECKING:
    from upturn.cli.live import Live


def terminal_reporter() -> Lines | Live:
    """A live view where there is a terminal to draw on, else lines."""
    encoding = (getattr(sys.stderr, "encoding", None) or "").lower()
    if not encoding.startswith("utf") or not sys.stderr.isatty() or wants_plain_lines():
        return Lines()
    from upturn.cli.live import Live

    return Live()
