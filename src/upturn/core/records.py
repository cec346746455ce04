"""The records: frozen, immutable, one class for each noun of the platform; change is a new row."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from upturn.core.access import Audit, Session, Token
from upturn.core.datasets import DatasetUse, ModelUse
from upturn.core.errors import Problem
from upturn.core.findings import Alert, Approval, Check, Decision, Mute, Verdict
from upturn.core.linear_policy import LinearPolicy
from upturn.core.logged_models import LoggedModel, LoggedModelState, Trace
from upturn.core.naming import (
    Description,
    Group,
    Model,
    Proposal,
    Protection,
    Removal,
    Stage,
    Tagging,
)
from upturn.core.notices import Delivery, Hook
from upturn.core.record import Record
from upturn.core.schedules import Position, Schedule, Tick
from upturn.core.schema import Profile, Signature

RunStatus = Literal["queued", "running", "done", "failed", "cancelled", "skipped"]
TaskStatus = Literal["running", "done", "reused", "failed", "pruned", "cancelled"]
Source = Literal["flow", "track", "mlflow"]
Overlap = Literal["parallel", "queue", "newest", "skip"]


# Develop


class Run(Record, frozen=True, kw_only=True):
    """One execution of a flow, or of code that says of itself what it does."""

    table = "run"
    key = ("id",)
    indexed = ("flow", "parent", "started_at")

    id: str
    flow: str
    entry: str  # where the flow is: 'flights.py:delays', or 'module:flow'
    params: dict[str, Any]  # JSON values
    project: str
    started_at: datetime
    parent: str | None = None
    rehearsal: bool = False  # a loop was rehearsed: what it registers is not deployed unasked
    rerun_of: str | None = None  # path of the task, or tasks, that it runs again
    schedule: str | None = None  # the flow's, as it is written: '@weekly'
    overlap: Overlap = "parallel"  # what happens while another run of the flow goes on
    name: str = ""  # what somebody called it
    group: str = ""  # the id of the group that it is in
    who: str = ""  # who started it
    source: Source = "flow"  # what made it: a flow, up.track, or an MLflow client


class RunState(Record, frozen=True, kw_only=True):
    """A run's status since `at`; the last one holds."""

    table = "run_state"
    key = ("run", "seq")
    sequence = "seq"
    digests = ("result",)

    run: str
    seq: int = 0
    status: RunStatus
    at: datetime
    problem: Problem | None = None
    result: str | None = None  # digest of what the flow returned
    name: str | None = None  # what it is called from now on


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a task: an argument by the digest of its content."""

    name: str  # the parameter's name; '$STAGE' of a declared environment variable
    digest: str
    path: str | None = None  # of a file
    made_by: str | None = None  # the path of the task that made it


class Read(msgspec.Struct, frozen=True, array_like=True):
    """What a task was seen to read: bytes, the names in a folder, a tree of files, a database."""

    path: str  # relative to the project's folder, when it is in there
    kind: Literal["file", "names", "tree", "database"]
    digest: str  # empty when there was nothing
    stamp: str = ""  # with the same one the content is the same; empty when that isn't certain


class Task(Record, frozen=True, kw_only=True):
    """One execution of a step in a run: what it was given. What became of it is in its states."""

    table = "task"
    key = ("run", "step", "index", "seq")
    sequence = "seq"  # it is given anew when a run is resumed on other code
    indexed = ("memo",)
    digests = ("code",)  # and those of its inputs

    run: str
    step: str
    index: int
    seq: int = 0
    memo: str  # digest of code, inputs and environment: same memo, same output
    code: str  # digest of the code part
    inputs: tuple[Input, ...]
    layout: Any = None  # how the inputs are nested in the arguments, by parameter
    created_at: datetime


class TaskState(Record, frozen=True, kw_only=True):
    """A task's status since `at`; the last one holds."""

    table = "task_state"
    key = ("run", "step", "index", "seq")
    sequence = "seq"
    digests = ("output",)

    run: str
    step: str
    index: int
    seq: int = 0
    status: TaskStatus
    attempt: int
    at: datetime
    output: str | None = None  # digest, when done or reused
    reused_from: str | None = None  # path of the task whose output, or whose curve, this is
    seconds: float | None = None
    problem: Problem | None = None
    why: str = ""  # running though the memo is known: 'fresh', 'gone TASK', 'read PATH', …
    reads: tuple[Read, ...] = ()
    changed: tuple[str, ...] = ()  # files that changed while it read them: its output is not kept


class Memo(Record, frozen=True, kw_only=True):
    """That a task with this memo made this output; the last one holds."""

    table = "memo"
    key = ("memo", "seq")
    sequence = "seq"

    memo: str
    seq: int = 0
    output: str
    task: str  # its path
    at: datetime
    reads: tuple[Read, ...] = ()  # it holds as long as they are the same
    only: str = ""  # the one project in which it holds; '': in all


class Artifact(Record, frozen=True, kw_only=True):
    """What is known of an immutable value without reading its bytes."""

    table = "artifact"
    key = ("digest",)

    digest: str
    codec: str
    type: str  # 'polars.DataFrame'
    size_bytes: int
    summary: str = ""  # '80789 rows × 22 columns'


class Exhibit(Record, frozen=True, kw_only=True):
    """One thing that a task showed on its run's page."""

    table = "exhibit"
    key = ("run", "step", "index", "seq")
    sequence = "seq"
    digests = ("artifact",)

    run: str
    step: str
    index: int
    seq: int = 0
    title: str
    media: str  # 'text/plain', 'text/html', 'image/png', 'image/svg+xml', …
    artifact: str  # digest of its bytes
    at: datetime


# Deploy


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The Python and the distributions that a version was made with."""

    python: str
    distributions: dict[str, str]


class Timing(msgspec.Struct, frozen=True, array_like=True):
    """How long a model took for a batch of rows, in its other form and as it was registered."""

    rows: int
    form_s: float
    plain_s: float


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """What came of making a model a faster equal form: whether it may answer, and why.

    It may when it gave the same as the model on every row compared: rows of the training data, and
    others made up around them.
    """

    kind: Literal["onnx"] = "onnx"
    equal: bool
    why: str  # 'the same on 20,064 rows within 1e-05', 'KMeans has no other form', …
    rows: int = 0  # compared
    differ: int = 0  # of them by more than the tolerance
    largest: float = 0.0  # difference
    tolerance: float = 0.0  # absolute for probabilities, relative for numbers
    limit: float | None = None  # the model raises on numbers beyond it, and so must the form
    known_text: bool = False  # the model raises on text not seen in training: likewise
    timings: tuple[Timing, ...] = ()
    libraries: dict[str, str] = {}  # distributions that made and tried it, with their versions


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a model is loaded with, by the name of the file or folder that it came in."""

    name: str
    path: str  # 'w.npz'; 'tokens/vocab.txt' for a file in a folder
    digest: str


class Version(Record, frozen=True, kw_only=True):
    """One immutable registered model."""

    table = "version"
    key = ("model", "number")
    sequence = "number"
    indexed = ("artifact", "run")
    digests = ("artifact", "data", "code", "form_artifact")

    model: str
    number: int = 0
    artifact: str  # digest of the model; '' of one that is files, or is kept elsewhere
    data: str | None  # digest of the training data
    signature: Signature
    profile: Profile
    environment: Environment
    run: str | None
    task: str | None  # path of the task that registered it
    params: dict[str, Any] = {}  # of the flow that made it
    metrics: dict[str, float] = {}  # what the steps that made the model logged
    code: str = ""
    at: datetime
    form: Form | None = None  # of a version from before there were forms
    form_artifact: str | None = None  # digest of the form, when it is equal and ever faster
    files: tuple[ModelFile, ...] = ()  # that an up.Model is loaded with; a whole MLflow model
    format: Literal["value", "mlflow"] = "value"
    source: str = ""  # where an MLflow client says that its files are

    @property
    def name(self) -> str:
        """'delays:7'."""
        return f"{self.model}:{self.number}"


class Alias(Record, frozen=True, kw_only=True):
    """That a name of a model points to a version, or (0) to none; the last one holds."""

    table = "alias"
    key = ("model", "name", "seq")
    sequence = "seq"

    model: str
    name: str
    seq: int = 0
    number: int
    why: str
    at: datetime
    who: str = ""


class Endpoint(Record, frozen=True, kw_only=False):
    """What clients call. `unit` names the input that keeps a caller on one arm.

    Of the Log: `redact` names fields that are never written to it, `log_rates` says by arm ('*' for
    all others) which share of the rows is, `keep_log` how long they are kept: '90d', None for ever.

    >>> Endpoint("delays", unit="tail_number").model_name
    'delays'
    """

    table = "endpoint"
    key = ("name", "seq")
    sequence = "seq"

    name: str
    unit: str | None = None
    model: str | None = None  # the endpoint's own name, unless given
    durable: bool = False  # answers only after the prediction is on disk
    seq: int = 0
    at: datetime | None = None
    redact: tuple[str, ...] = ()
    log_rates: dict[str, float] = {}
    keep_log: str | None = None

    @property
    def model_name(self) -> str:
        """The model that this endpoint serves versions of."""
        return self.model or self.name


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a route: a version with a share of the units, or a shadow of every request."""

    name: str
    version: int
    share: float = 0.0
    shadow: bool = False


class Slice(msgspec.Struct, frozen=True, array_like=True):
    """A part of the space of units, up to `until`, and the name of the arm that answers there."""

    until: int
    arm: str


class Route(Record, frozen=True, kw_only=True):
    """Who answers for an endpoint: an immutable revision; the last one holds."""

    table = "route"
    key = ("endpoint", "revision")
    sequence = "revision"

    endpoint: str
    revision: int = 0
    model: str
    arms: tuple[Arm, ...]
    salt: str  # of the hash that places units
    slices: tuple[Slice, ...] = ()  # of the space in which it places them
    policy: LinearPolicy | None = None  # by which a row's own values say where: instead of slices
    why: str
    at: datetime


# Lineage


class Edge(Record, frozen=True, kw_only=True):
    """That `target` was made from, or rests on, `source`. Both are paths."""

    table = "edge"
    key = ("source", "target", "role")
    indexed = ("target",)

    source: str
    target: str
    role: str


# What is kept


class Pin(Record, frozen=True, kw_only=True):
    """That a run, a step's tasks, a task or an artifact is to be kept; the last one holds."""

    table = "pin"
    key = ("path", "seq")
    sequence = "seq"

    path: str  # 'run/k3f9x2', 'run/k3f9x2/train', 'run/k3f9x2/train/3', 'artifact/…'
    seq: int = 0
    pinned: bool
    why: str = ""
    who: str
    at: datetime


class Collection(Record, frozen=True, kw_only=True):
    """That blobs which nothing kept refers to were removed; one is put before, and one after."""

    table = "collection"
    key = ("seq",)
    sequence = "seq"

    seq: int = 0
    status: Literal["began", "done", "stopped"]
    who: str
    at: datetime
    older_than_s: float
    keep_runs: int
    blobs: int = 0  # to be removed when it began, removed when it is done
    blob_bytes: int = 0
    outputs: int = 0  # files of what tasks printed
    output_bytes: int = 0


KINDS: tuple[type[Record], ...] = (
    Run,
    RunState,
    Task,
    TaskState,
    Memo,
    Artifact,
    Exhibit,
    Version,
    Alias,
    Endpoint,
    Route,
    Decision,
    Check,
    Verdict,
    Alert,
    Mute,
    Approval,
    Edge,
    Pin,
    Collection,
    Group,
    Model,
    Description,
    Removal,
    Token,
    Session,
    Audit,
    Protection,
    Proposal,
    Stage,
    Schedule,
    Tick,
    Position,
    Hook,
    Delivery,
    DatasetUse,
    ModelUse,
    LoggedModel,
    LoggedModelState,
    Trace,
    Tagging,
)
