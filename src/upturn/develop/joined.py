"""Joined: a worker's environment while a task runs that finds in it how to join its run.

Whoever sets one of the variables to something else means to go elsewhere, be it that a client does
so for them: then what belongs to it goes out of the environment.
"""

import contextlib
import os
import sys
from collections.abc import Generator, Mapping
from typing import Any

from upturn.core.executor import Setting
from upturn.develop.environ import running_with, values_of

_current: Mapping[str, Setting] = {}
_kept: dict[str, str] = {}  # what the user's modules set when this process imported them
_listening = False


@contextlib.contextmanager
def with_settings(settings: Mapping[str, Setting]) -> Generator[None]:
    """Set the variables in here, as far as the process has none of its own."""
    global _current  # noqa: PLW0603  # one task at a time
    if not settings:
        yield
        return
    _listen()
    with running_with(values_of(settings)):  # which puts back what was there
        _current = settings
        try:
            for name, setting in settings.items():
                os.environ[name] = setting.value
            for name, value in _kept.items():
                if name in settings:
                    os.environ[name] = value
            yield
        finally:
            _current = {}


def keep() -> None:
    """Let later tasks of the process find what was set to something else until now.

    The modules that did are not imported again.
    """
    for name, setting in _current.items():
        value = os.environ.get(name)
        if setting.ends and value is not None and value != setting.value:
            _kept[name] = value


def _listen() -> None:
    global _listening  # noqa: PLW0603  # a hook is of the process
    if not _listening:
        _listening = True
        sys.addaudithook(_hear)  # for good: there is no way to take one back


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if event != "os.putenv" or not _current:
        return
    name, value = os.fsdecode(args[0]), os.fsdecode(args[1])
    setting = _current.get(name)
    if setting is None or value == setting.value or value.rstrip("/") in setting.same:
        return
    for other in setting.ends:
        os.environ.pop(other, None)
