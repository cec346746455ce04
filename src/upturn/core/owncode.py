"""Whose code a file is: the user's own, or Python's, an installed package's, Upturn's."""

import os
import sysconfig
from functools import cache
from pathlib import Path

_UPTURN = str(Path(__file__).resolve().parent.parent) + os.sep
_STDLIB = tuple(
    {
        os.path.realpath(path) + os.sep
        for path in (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
        if path
    }
)


@cache
def is_own_file(file: str) -> bool:
    """Whether the file is the user's own: not Python's, an installed one, or Upturn's.

    >>> is_own_file(__file__), is_own_file("/srv/churn.py")
    (False, True)
    """
    if file.startswith("<"):
        return not file.startswith("<frozen ")
    path = os.path.realpath(file) + os.sep
    installed = any(
        f"{os.sep}{folder}{os.sep}" in path for folder in ("site-packages", "dist-packages")
    )
    return not (installed or path.startswith(_UPTURN) or path.startswith(_STDLIB))
