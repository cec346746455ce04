"""A built folder's store: its blobs are read where they lie, its records are copied to be used."""

import contextlib
import os
import secrets
from pathlib import Path

from upturn.core.errors import Unavailable


def copied(bundle: Path, home: Path) -> Path:
    """Where the records of the bundle lie in the home; copied there when they are not yet.

    A store of records is written to by those who only read it (who serves it holds a lease), and a
    bundle may lie where nothing can be written. Another bundle has another copy, so that a home
    which outlives an update, as on a volume, serves what was built last.
    """
    from blake3 import blake3

    content = (bundle / "upturn.db").read_bytes()
    path = home / f"bundle-{blake3(content).hexdigest()[:16]}.db"
    if path.exists():
        return path
    fresh = home / f".{path.name}.{secrets.token_hex(4)}"
    try:
        fresh.write_bytes(content)
        os.replace(fresh, path)  # another process has copied the same
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise Unavailable(
            f"The home {home} can't be written: {error.strerror}.",
            hint="Point UPTURN_HOME to a directory that may be written, as on a volume.",
        ) from None
    return path
