"""Kinds: which records and tables go with a run that is exported, and why the others don't."""

from upturn.core.datasets import DatasetUse, ModelUse
from upturn.core.logged_models import LoggedModel, LoggedModelState, Trace
from upturn.core.naming import Description, Group
from upturn.core.record import Record
from upturn.core.records import (
    Artifact,
    Edge,
    Exhibit,
    Memo,
    Run,
    RunState,
    Task,
    TaskState,
    Version,
)

# In the order in which a run's file has them: what is read first is what the rest is of.
GO: tuple[type[Record], ...] = (
    Group,
    Run,
    RunState,
    Task,
    TaskState,
    Exhibit,
    DatasetUse,
    ModelUse,
    LoggedModel,
    LoggedModelState,
    Trace,
    Version,
    Description,
    Memo,
    Artifact,
    Edge,
)

# Records of these say one thing under one key for ever: another content there is a conflict.
FIXED: tuple[type[Record], ...] = (
    Run,
    RunState,
    Task,
    TaskState,
    Exhibit,
    DatasetUse,
    ModelUse,
    LoggedModel,
    LoggedModelState,
)

# Of these a file has the last one, without its number: each store counts its own.
UNNUMBERED: tuple[type[Record], ...] = (Group, Trace, Description, Memo)

# By table: why its records stay where they are.
STAY: dict[str, str] = {
    "model": "a version brings its model's name; whose the model is, the store that imports says",
    "alias": "what a name points to is a decision about the store that it is in",
    "stage": "MLflow's form of an alias",
    "tagging": "what this store's hooks are told of; the tags themselves go",
    "protection": "a rule about aliases",
    "proposal": "a question about an alias",
    "endpoint": "what is served, and how, is of the store that serves it",
    "route": "as endpoints",
    "decision": "as endpoints",
    "check": "a monitor's answers are about an endpoint",
    "verdict": "an experiment's answers are about an endpoint",
    "alert": "as checks",
    "mute": "as checks",
    "approval": "an answer to a decision",
    "pin": "what is kept is for the store that imports to say",
    "removal": "who imports a run wants to see it",
    "collection": "what was removed from this store",
    "token": "a secret of this store",
    "session": "a secret of this store",
    "audit": "who changed this store",
    "schedule": "what this store starts",
    "tick": "as schedules",
    "position": "as schedules",
    "hook": "whom this store tells",
    "delivery": "whom this store told",
}

# The tables that hold no records: by what they are exported, or why not.
NATIVE: dict[str, str] = {
    "param": "exported: lines of kind param",
    "tag": "exported: lines of kind tag",
    "series": "exported: made again from the points",
    "point_batch": "exported: metrics-*.parquet",
    "point_pack": "exported: metrics-*.parquet",
    "run_file": "exported: lines of kind file, and blobs",
    "run_now": "stays: made again from the records",
    "group_now": "stays: made again from the records",
    "model_now": "stays: made again from the records",
    "version_now": "stays: made again from the records",
    "forgetting": "stays: runs that this store deletes",
    "lease": "stays: who holds what just now",
    "receipt": "stays: which puts came over a connection",
    "metric": "stays: its rows became points when the store was migrated",
}

BY_TABLE = {kind.table: kind for kind in GO}
