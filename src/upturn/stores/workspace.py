"""Workspace: the settings and the open stores that every wing is given first."""

import os
from dataclasses import dataclass
from pathlib import Path

from upturn.core.access import Role
from upturn.core.blobstore import BlobStore
from upturn.core.errors import Invalid, Unavailable
from upturn.core.metastore import MetaStore
from upturn.core.settings import Settings, load_settings, server_url
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
        """Where the Log of predictions and feedback is: one directory an endpoint.

        Raises Invalid when a server keeps it: its files are there.
        """
        if self.is_remote:
            raise Invalid(
                f"The Log of predictions lies at the server {self.settings.server}.",
                hint="Ask there, without UPTURN_SERVER; feedback can be sent from here.",
            )
        return self.settings.home / "log"

    @property
    def output_dir(self) -> Path:
        """Where the captured output of tasks is: `<run>/<step>/<index>.log`."""
        return self.settings.home / "output"

    @property
    def is_remote(self) -> bool:
        """Whether a server keeps the records and blobs; what else there is lies in its home."""
        return bool(self.settings.server)

    def close(self) -> None:
        """Release files and connections."""
        self.tracking.close()
        self.meta.close()


def open_workspace(settings: Settings | None = None) -> Workspace:
    """Open the stores that the settings name (the process's own by default), made when missing.

    With a server, they are its stores; nothing is asked of it yet. Raises Unavailable when the home
    can't be written.
    """
    settings = settings or load_settings()
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"The home {settings.home} can't be made: {error.strerror}.",
            hint="Point UPTURN_HOME to a directory that may be written, as on a volume.",
        ) from None
    return _served(settings) if settings.server else _local(settings)


def connect(server: str, *, token: str = "") -> Workspace:
    """Use that server from now on, here and in processes that are started here; its workspace.

    The same as setting UPTURN_SERVER and UPTURN_TOKEN. Raises Unavailable when nobody answers
    there, and what the server says of a token that it does not know.
    """
    from upturn.stores.remote.connection import Server

    url = server_url(server)
    Server(url, token).greet()
    os.environ["UPTURN_SERVER"] = url
    os.environ.pop("UPTURN_TOKEN", None)
    if token:
        os.environ["UPTURN_TOKEN"] = token
    return open_workspace()


def presume_met(settings: Settings) -> None:
    """Wait for the settings' server when it is not there just now, as for one that was."""
    from upturn.stores.remote.connection import server_of

    server_of(settings.server, settings.token).presume_met()


def role_at(settings: Settings) -> Role | None:
    """What the settings' token may do at their server; None where that does not say."""
    from upturn.stores.remote.connection import server_of

    return server_of(settings.server, settings.token).greet().role


def _served(settings: Settings) -> Workspace:
    from upturn.stores.remote.blobs import RemoteBlobStore
    from upturn.stores.remote.cache import Cache
    from upturn.stores.remote.connection import server_of
    from upturn.stores.remote.meta import RemoteMetaStore
    from upturn.stores.remote.tracking import RemoteTrackingStore

    server = server_of(settings.server, settings.token)
    return Workspace(
        settings=settings,
        meta=RemoteMetaStore(server),
        blobs=RemoteBlobStore(server, Cache(settings.home / "cache")),
        tracking=RemoteTrackingStore(server),
    )


def _local(settings: Settings) -> Workspace:
    from upturn.stores.connections import Connections
    from upturn.stores.disk import DiskBlobStore
    from upturn.stores.sqlite import SqliteMetaStore
    from upturn.stores.sqlite_tracking import SqliteTrackingStore

    bundle = settings.bundle
    records = Connections(
        settings.home / "upturn.db" if bundle is None else copied(bundle, settings.home)
    )
    return Workspace(
        settings=settings,
        meta=SqliteMetaStore(records),
        blobs=DiskBlobStore((bundle or settings.home) / "blobs"),
        tracking=SqliteTrackingStore(records),
    )
