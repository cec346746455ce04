"""Who: the person behind a command, as records name them."""

import getpass
import socket


def who() -> str:
    """Who does something to the store: 'ada@host'."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        name = "?"
    return f"{name}@{socket.gethostname()}"
