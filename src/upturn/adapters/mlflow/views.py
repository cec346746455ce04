"""View types and statuses, which clients send as names or as numbers."""

from typing import Literal

from upturn.adapters.mlflow.errors import bad_value
from upturn.core.records import RunStatus

View = Literal["active", "removed", "all"]
_VIEWS: dict[str, View] = {
    "1": "active",
    "2": "removed",
    "3": "all",
    "ACTIVE_ONLY": "active",
    "DELETED_ONLY": "removed",
    "ALL": "all",
}
_STATUSES: dict[str, RunStatus] = {
    "1": "running",
    "2": "queued",
    "3": "done",
    "4": "failed",
    "5": "cancelled",
    "RUNNING": "running",
    "SCHEDULED": "queued",
    "FINISHED": "done",
    "FAILED": "failed",
    "KILLED": "cancelled",
}


def view_of(given: int | str, path: str) -> View:
    """Whether what is shown, what was removed, or both is meant."""
    found = _VIEWS.get(str(given))
    if found is None:
        raise bad_value(path, given)
    return found


def removed_of(view: View) -> bool | None:
    """The same for a search of the store."""
    return {"active": False, "removed": True, "all": None}[view]


def status_of(given: int | str) -> RunStatus:
    """A run's status."""
    found = _STATUSES.get(str(given))
    if found is None:
        raise bad_value("status", given)
    return found
