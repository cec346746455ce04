"""Endpoints: what clients call, created once and changed by a newer record of the same name."""

import re
from datetime import datetime

import msgspec

from upturn.core.errors import Invalid
from upturn.core.records import Endpoint
from upturn.stores.workspace import Workspace

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def create_endpoint(workspace: Workspace, endpoint: Endpoint, *, now: datetime) -> Endpoint:
    """Store the endpoint and return it as stored; one that is stored so already is left as it is.

    A change (another unit, durable or not) is a newer record. Raises Invalid for a name that can't
    be part of an address, and for another model: give that an endpoint of its own.
    """
    if not _NAME.fullmatch(endpoint.name):
        raise Invalid(
            f"{endpoint.name!r} can't name an endpoint.",
            hint="Use up to 63 letters, digits, '.', '-' and '_', a letter or a digit first.",
        )
    stored = workspace.meta.find(Endpoint, endpoint.name)
    if stored is None:
        return workspace.meta.add(msgspec.structs.replace(endpoint, seq=1, at=now))
    if stored.model_name != endpoint.model_name:
        raise Invalid(
            f"Endpoint {endpoint.name!r} serves model {stored.model_name!r}, "
            f"not {endpoint.model_name!r}.",
            hint="Give the other model an endpoint of its own name.",
        )
    if (stored.unit, stored.durable) == (endpoint.unit, endpoint.durable):
        return stored
    # The next number is said, not asked for: of two writers at a time one gets a Conflict.
    return workspace.meta.add(msgspec.structs.replace(endpoint, seq=stored.seq + 1, at=now))


def get_endpoint(workspace: Workspace, name: str) -> Endpoint:
    """The endpoint of that name as it is now. Raises NotFound, with the nearest name as a hint."""
    return workspace.meta.get(Endpoint, name)
