"""Workspace: the settings and the open stores that every wing is given first."""

from dataclasses import dataclass
from pathlib import Path

from upturn.core.blobstore import BlobStore
from upturn.core.errors import Unavailable
from upturn.core.metastore import MetaStore
from upturn.core.settings import Settings, load_settings
from upturn.core.tracking import TrackingStore
from upturn.stores.bundle import copied


@dataclass(frozen=True, slots=True)
class Workspace:
    """The settings and the open stores. Safe to share between threads."""

    settings: Settings
    meta: MetaStore
    blobs: BlobStore
    tracking: TrackingStore

    @property
    def log_dir(self) -> Path:
        """Where the Log of predictions and feedback is: one directory an endpoint."""
        return self.settings.home / "log"

    @property
    def output_dir(self) -> Path:
        """Where the captured output of tasks is: `<run>/<step>/<index>.log`."""
        return self.settings.home / "output"

    def close(self) -> None:
        """Release files and connections."""
        self.tracking.close()
        self.meta.close()


def open_workspace(settings: Settings | None = None) -> Workspace:
    """Open the stores that the settings name (the process's own by default), made when missing.

    Raises Unavailable when the home can't be written.
    """
    from upturn.stores.disk import DiskBlobStore
    from upturn.stores.sqlite import SqliteMetaStore
    from upturn.stores.sqlite_tracking import SqliteTrackingStore

    settings = settings or load_settings()
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"The home {settings.home} can't be made: {error.strerror}.",
            hint="Point UPTURN_HOME to a directory that may be written, as on a volume.",
        ) from None
    bundle = settings.bundle
    records = settings.home / "upturn.db" if bundle is None else copied(bundle, settings.home)
    return Workspace(
        settings=settings,
        meta=SqliteMetaStore(records),
        blobs=DiskBlobStore((bundle or settings.home) / "blobs"),
        tracking=SqliteTrackingStore(records),
    )
