"""Command: alerts as JSON on the standard input of a program."""

from __future__ import annotations

import subprocess
from typing import Any

import msgspec

from upturn.core.errors import Invalid
from upturn.improve.alerts.channel import Message, Undelivered

_SAID = 200  # characters of what it complained that are repeated


class Command(msgspec.Struct, frozen=True):
    """Runs a program for each message, without a shell, with the JSON that webhooks get as input.

    It has `timeout_s` seconds; any exit status but 0 counts as not delivered.

    >>> Command(("./page.sh", "--team", "growth")).name
    'command ./page.sh'
    """

    words: tuple[str, ...]
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        """Raises Invalid unless there is a program to run."""
        words: Any = self.words  # whatever was given
        plain = not isinstance(words, str) and all(isinstance(one, str) for one in words)
        if not plain or not words:
            raise Invalid(
                f"{self.words!r} is not a program with its arguments.",
                hint='Write up.Command(("./page.sh", "--team", "growth")).',
            )

    @property
    def name(self) -> str:
        """See Channel."""
        return f"command {self.words[0]}"

    def send(self, message: Message) -> None:
        """See Channel."""
        try:
            done = subprocess.run(
                self.words,
                input=msgspec.json.encode(message.as_json()),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=self.timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Undelivered(
                f"{self.words[0]} had not ended after {self.timeout_s:g} s."
            ) from None
        except OSError as error:
            raise Undelivered(f"{self.words[0]} can't be run: {error.strerror}.") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-_SAID:]
            raise Undelivered(f"{self.words[0]} ended with {done.returncode}: {said}".rstrip(": "))
