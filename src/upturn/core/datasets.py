"""Datasets: records of what data and which logged models a run says that it used or made."""

from datetime import datetime
from typing import Literal

from upturn.core.record import Record


class DatasetUse(Record, frozen=True, kw_only=True):
    """That a run used a dataset, which is told by its name and digest, not kept here."""

    table = "dataset_use"
    key = ("run", "seq")
    sequence = "seq"
    indexed = ("group", "name", "digest")

    run: str
    seq: int = 0
    group: str  # that the run is in
    name: str
    digest: str  # as who logged it computed it
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None
    tags: dict[str, str]
    at: datetime


class ModelUse(Record, frozen=True, kw_only=True):
    """That a run used or made a logged model."""

    table = "model_use"
    key = ("run", "seq")
    sequence = "seq"
    indexed = ("model",)

    run: str
    seq: int = 0
    model: str  # 'm-…'
    role: Literal["input", "output"]
    step: int = 0
    at: datetime
