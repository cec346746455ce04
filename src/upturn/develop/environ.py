"""Declared environment variables: inputs of a step, and how a worker gets the driver's values."""

import contextlib
import os
import re
from collections.abc import Generator, Iterable, Mapping

from blake3 import blake3

from upturn.core.errors import Invalid
from upturn.core.records import Input

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def names_of(declared: Iterable[object]) -> tuple[str, ...]:
    """The declared names, sorted. Raises Invalid for what can't be the name of a variable."""
    if isinstance(declared, str):
        raise Invalid(
            f"environ is {declared!r}, not a list of names.", hint=f'Write environ=["{declared}"].'
        )
    return tuple(sorted({_checked(name) for name in declared}))


def _checked(name: object) -> str:
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise Invalid(
        f"{name!r} is no name of a variable of the environment.",
        hint='Write the names alone: environ=["STAGE", "REGION"].',
    )


def values_of(names: Iterable[str]) -> dict[str, str | None]:
    """The variables as they are in this process now; None for one that is not set."""
    return {name: os.environ.get(name) for name in names}


def inputs_from(environ: Mapping[str, str | None]) -> tuple[Input, ...]:
    """An input `$NAME` for each: the digest of its value, which may be a secret, never the value.

    >>> [item.name for item in inputs_from({"STAGE": "test", "REGION": None})]
    ['$STAGE', '$REGION']
    """
    return tuple(
        Input(name=f"${name}", digest=_digest(name, value)) for name, value in environ.items()
    )


def _digest(name: str, value: str | None) -> str:
    text = f"unset\0{name}" if value is None else f"set\0{name}\0{value}"
    return blake3(text.encode("utf-8", "surrogateescape")).hexdigest()


@contextlib.contextmanager
def running_with(environ: Mapping[str, str | None]) -> Generator[None]:
    """Set the variables in here, and what they were before afterwards."""
    before = values_of(environ)
    _set(environ)
    try:
        yield
    finally:
        _set(before)


def _set(environ: Mapping[str, str | None]) -> None:
    for name, value in environ.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
