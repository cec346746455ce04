"""Steps that run in environments of their own: this file is imported there, with Upturn alone."""

import sys
from typing import Any

import upturn as up

OLD = up.env("six==1.16.0")
NEW = up.env("six==1.17.0", "semver==3.0.2")


def six_version() -> str:
    import six

    return f"six {six.__version__}"


@up.step(env=OLD)
def with_old(number: int) -> str:
    return f"{six_version()}, {number}"


@up.step(env=NEW)
def with_new(number: int) -> str:
    return f"{six_version()}, {number}"


@up.step(env=up.env(" SIX ==1.16.0"))
def spelled_otherwise(number: int) -> str:
    return f"{six_version()}, {number}"


@up.step
def joined(parts: list[str]) -> str:
    return "; ".join(parts)


@up.step(env=OLD)
def where(name: str) -> dict[str, Any]:
    """Tell what an environment sees of Python, of Upturn and of the driver's packages."""
    import subprocess

    try:
        __import__(name)
        found = True
    except ImportError:
        found = False
    started = "import sys, six; print(six.__version__)"
    return {
        "prefix": sys.prefix,
        "upturn": sys.modules["upturn"].__file__,
        "found": found,
        "started": subprocess.check_output(["python", "-c", started], text=True).strip(),
    }


@up.step(env=OLD)
def sized(value: Any) -> int:
    return len(value)


@up.step(env=OLD)
def taken(value: Any) -> str:
    return type(value).__name__


@up.step(env=NEW)
def newest() -> Any:
    import semver

    return semver.Version(1, 2, 3)


@up.step(env=NEW)
def next_after(version: Any) -> str:
    return str(version.bump_minor())


@up.step
def here(version: Any) -> str:
    return str(version)


@up.step(env=OLD)
def crashes() -> None:
    import os

    os._exit(3)


def nested_in(offset: int) -> Any:
    @up.step(env=OLD)
    def nested(number: int) -> str:
        return f"{six_version()}, {number + offset}"

    return nested


@up.step(env=OLD)
def imports(name: str) -> None:
    __import__(name)


@up.step(env=up.env("six==99.0"))
def impossible() -> None:
    """Never runs."""
