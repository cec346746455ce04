"""Changed: how a command notes what it did in the audit log."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upturn.stores.workspace import Workspace


def changed(workspace: Workspace, action: str, path: str, detail: str = "") -> None:
    """Note a change that this command made. A server that made it for us has noted it itself."""
    from upturn.core.access import VIA
    from upturn.core.who import who
    from upturn.stores.audit import note

    if os.environ.get("UPTURN_SERVER"):
        return
    note(
        workspace.meta,
        who=who(),
        via=VIA.get(),
        action=action,
        path=path,
        status=0,
        detail=detail,
    )
