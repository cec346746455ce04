"""RunLease: what says that a run's driver lives: a lease in the store, renewed while it does."""

import threading

from upturn.core.errors import Conflict
from upturn.core.metastore import MetaStore
from upturn.develop.runs import this_driver

LEASE_TTL_S = 8.0
RENEW_S = 2.0


class RunLease:
    """The lease on one run, held by `owner` from `hold` to `let_go`. Thread-safe."""

    def __init__(self, meta: MetaStore, owner: str, *, ttl_s: float = LEASE_TTL_S) -> None:
        self._meta, self._owner, self._ttl_s = meta, owner, ttl_s
        self._name: str | None = None
        self._leasing = threading.Lock()

    def hold(self, run: str) -> None:
        """Keep the lease of the run until `let_go`. Raises Conflict when another process has it."""
        with self._leasing:
            self._name = f"run/{run}"
            self._claim(self._name)

    def renew(self) -> None:
        """Hold it for longer, if it is held. Raises Conflict when another process has it."""
        with self._leasing:
            if self._name is not None:
                self._claim(self._name)

    def let_go(self) -> None:
        """Give the lease back."""
        with self._leasing:  # so that no renewal takes it again
            if self._name is not None:
                self._meta.release(self._name, self._owner)
                self._name = None

    def _claim(self, name: str) -> None:
        if not self._meta.claim(name, self._owner, ttl_s=self._ttl_s, payload=this_driver()):
            raise Conflict(
                f"Another process drives {name}.",
                hint="When that was killed, the run is seen as lost within 10 seconds.",
            )
