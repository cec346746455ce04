"""Logged models: models that an MLflow client logged in an experiment, and how that ended."""

from datetime import datetime
from typing import Literal

from upturn.core.record import Record


class LoggedModel(Record, frozen=True, kw_only=True):
    """A model that was logged; its files are those of the owner `id` in the tracking store."""

    table = "logged_model"
    key = ("id",)
    indexed = ("group", "run")

    id: str  # 'm-' and 32 hexadecimal digits
    group: str
    run: str | None
    name: str
    type: str
    who: str
    at: datetime


class LoggedModelState(Record, frozen=True, kw_only=True):
    """A logged model's status since `at`; the last one holds."""

    table = "logged_model_state"
    key = ("id", "seq")
    sequence = "seq"

    id: str
    seq: int = 0
    status: Literal["pending", "ready", "failed"]
    at: datetime


class Trace(Record, frozen=True, kw_only=True):
    """A trace that an MLflow client logged, as JSON in its own form; the last one holds."""

    table = "trace"
    key = ("id", "seq")
    sequence = "seq"
    indexed = ("group",)

    id: str
    seq: int = 0
    group: str
    info: str
    removed: bool = False
    at: datetime
