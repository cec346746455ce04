"""Steward: the process that does a store's duties for a server, each under a lease of its own.

Of several servers on one store a single one does a duty at a time: who holds `duty/NAME`. Each duty
is looked at in a thread of its own, so that one that takes long keeps no other from its turn.
"""

import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from upturn.core.duty import Duty
from upturn.core.errors import UpturnError
from upturn.core.parent import end_with_parent
from upturn.core.settings import load_settings
from upturn.core.time import utcnow
from upturn.server.stewardship import NOTHING_TO_DO
from upturn.stores.workspace import Workspace, open_workspace

LEASE = "duty/"
ENDED = 75  # the status with which it ends when it was asked to
_LEAST_TTL_S = 15.0  # how long a duty waits for another server when the one that does it died
_RENEW_S = 3.0
_ENDS_S = 20.0  # what a look that goes on is given at the end
_log = logging.getLogger("upturn.steward")


class _Turn:
    """A duty, when it is looked at next, and the lease that says that it is this server's."""

    def __init__(self, duty: Duty[Workspace], workspace: Workspace, owner: str) -> None:
        self._duty = duty
        self._workspace = workspace
        self._owner = owner
        self._ttl_s = max(_LEAST_TTL_S, 3 * duty.every_s)
        self._failed = ""
        self._said: str | None = None  # the failure that the lease tells of; None: not ours
        self._claimed_at = 0.0
        self.name = f"{LEASE}{duty.name}"

    def run(self, ending: threading.Event) -> None:
        """Look again and again, until it is to end."""
        while not ending.is_set():
            began = monotonic()
            try:
                if self.claim():
                    self._look()
                    self.claim()
            except UpturnError as error:  # a busy store: at the next time
                _log.warning("%s: %s", self.name, error)
            ending.wait(max(0.05, self._duty.every_s - (monotonic() - began)))

    def _look(self) -> None:
        try:
            self._duty.look(self._workspace, utcnow())
            self._failed = ""
        except Exception as error:  # noqa: BLE001 (said here, and tried again at its next time)
            text = f"{type(error).__name__}: {error}"
            if text != self._failed:  # once, not every second
                _log.exception("%s failed.", self.name)
            self._failed = text[:300]

    def claim(self) -> bool:
        """Take or keep the lease; it is written only when others would miss something otherwise."""
        fresh = monotonic() - self._claimed_at < min(_RENEW_S, self._ttl_s / 3)
        if fresh and self._said == self._failed:
            return True
        payload = {"every_s": self._duty.every_s, "failed": self._failed}
        mine = self._workspace.meta.claim(
            self.name, self._owner, ttl_s=self._ttl_s, payload=payload
        )
        self._said = self._failed if mine else None
        self._claimed_at = monotonic() if mine else 0.0
        return mine

    @property
    def is_mine(self) -> bool:
        """Whether this server does it, as far as it knows."""
        return self._said is not None

    def release(self) -> None:
        """Let another server do it."""
        self._workspace.meta.release(self.name, self._owner)


def do_duties(
    workspace: Workspace, duties: Sequence[Duty[Workspace]], owner: str, ending: threading.Event
) -> None:
    """Look at the duties as `owner` until it is to end; then let another server have them."""
    turns = [_Turn(duty, workspace, owner) for duty in duties]
    threads = [
        threading.Thread(target=turn.run, args=(ending,), name=turn.name, daemon=True)
        for turn in turns
    ]
    for thread in threads:
        thread.start()
    while not ending.wait(_RENEW_S):
        for turn in turns:  # a look that takes long keeps its lease
            if turn.is_mine:
                try:
                    turn.claim()
                except UpturnError as error:
                    _log.warning("%s: %s", turn.name, error)
    until = monotonic() + _ENDS_S
    for thread in threads:
        thread.join(max(0.0, until - monotonic()))
    for turn in turns:
        turn.release()


def main() -> int:
    """Do the duties of the store for the server that started this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to answer
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    parent, root, owner = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    del sys.argv[1:]
    end_with_parent(parent, signal.SIGTERM)
    sys.path.insert(0, root)  # flows and loops are found from the project's root
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    from upturn.wiring import duties

    found = duties()
    if not found:
        return NOTHING_TO_DO
    workspace = open_workspace(load_settings(Path(root)))
    try:
        do_duties(workspace, found, owner, ending)
    finally:
        workspace.close()
    return ENDED


if __name__ == "__main__":
    sys.exit(main())
