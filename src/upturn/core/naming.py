"""Naming: records of what things are called, where they belong, and whether they are hidden."""

from datetime import datetime
from typing import Literal

from upturn.core.record import Record


class Group(Record, frozen=True, kw_only=True):
    """Runs that belong together, under a name within a project; the last one holds.

    A flow's runs are in the group of the flow's name. MLflow calls a group an experiment.
    """

    table = "group"
    key = ("id", "seq")
    sequence = "seq"
    indexed = ("name",)

    id: str  # a number as text, counted over all projects
    seq: int = 0
    name: str
    project: str
    who: str
    created_at: datetime
    at: datetime


class Model(Record, frozen=True, kw_only=True):
    """A name of versions, and the project that it belongs to; the last one holds."""

    table = "model"
    key = ("name", "seq")
    sequence = "seq"

    name: str
    seq: int = 0
    project: str
    who: str
    created_at: datetime
    at: datetime
    renamed_to: str | None = None  # its versions are there now, with the same numbers


class Description(Record, frozen=True, kw_only=True):
    """That a thing is described by this text (Markdown); the last one holds."""

    table = "description"
    key = ("path", "seq")
    sequence = "seq"

    path: str  # 'run/k3f9x2', 'group/3', 'model/delays', 'version/delays:7'
    seq: int = 0
    text: str
    who: str
    at: datetime


class Removal(Record, frozen=True, kw_only=True):
    """That a thing was removed from what is shown, or restored; the last one holds.

    What is removed keeps everything, until `upturn gc` comes by.
    """

    table = "removal"
    key = ("path", "seq")
    sequence = "seq"

    path: str  # 'run/k3f9x2', 'group/3', 'model/delays', 'version/delays:7'
    seq: int = 0
    removed: bool
    why: str = ""
    who: str
    at: datetime


class Tagging(Record, frozen=True, kw_only=True):
    """That a tag of a model or a version was set, or (None) taken away, by itself."""

    table = "tagging"
    key = ("path", "seq")
    sequence = "seq"

    path: str  # 'model/delays', 'version/delays:7'
    seq: int = 0
    name: str
    value: str | None
    who: str
    at: datetime


class Protection(Record, frozen=True, kw_only=True):
    """Whether an alias of a model is only moved to what somebody else approved; the last holds."""

    table = "protection"
    key = ("model", "alias", "seq")
    sequence = "seq"

    model: str
    alias: str
    seq: int = 0
    on: bool
    why: str = ""
    who: str
    at: datetime


class Proposal(Record, frozen=True, kw_only=True):
    """That somebody asks for an alias to point to a version, or what another one said to it."""

    table = "proposal"
    key = ("model", "alias", "seq")
    sequence = "seq"

    model: str
    alias: str
    seq: int = 0
    number: int
    status: Literal["asked", "approved", "rejected"]
    why: str = ""
    who: str
    at: datetime


class Stage(Record, frozen=True, kw_only=True):
    """MLflow's stage of a version (aliases took its place there, too); the last one holds."""

    table = "stage"
    key = ("model", "number", "seq")
    sequence = "seq"

    model: str
    number: int
    seq: int = 0
    stage: str  # 'None', 'Staging', 'Production', 'Archived'
    who: str
    at: datetime
