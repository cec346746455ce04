"""Collections as operations: what `upturn gc` would remove of a store, and its removal."""

from datetime import datetime
from typing import Annotated

import msgspec

from upturn.api.operation import AnyOperation, Ask, Operation, Request
from upturn.core.errors import Invalid
from upturn.core.time import duration
from upturn.deploy.serve.problems import Forbidden
from upturn.develop.collect import Loss, Plan, collect, plan_collection

_MOST_LOSSES = 20
WITHIN_S = 15.0  # a request is answered well before its client gives up


class Removable(Request, frozen=True, kw_only=True):
    """What may go: of runs that are older, but for the newest some of each flow."""

    older_than: str = "30d"
    keep_runs: Annotated[int, msgspec.Meta(ge=0)] = 0


class RunLoss(msgspec.Struct, frozen=True, kw_only=True):
    """What would go of one run, or ('') of no run."""

    run: str
    flow: str = ""
    started_at: datetime | None = None
    tasks: int
    blobs: int
    blob_bytes: int


class GcPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be removed, the biggest losses first, and what would stay."""

    blobs: int
    blob_bytes: int
    outputs: int
    output_bytes: int
    forgotten: int  # runs that were removed longer ago: what they logged goes
    losses: tuple[RunLoss, ...]
    more_losses: int  # runs that `losses` leaves out
    more_bytes: int
    too_new: int  # used a moment ago: they stay till the next time
    too_new_bytes: int
    kept_blobs: int
    kept_bytes: int


class GcDone(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed; when not `finished`, asking again goes on."""

    blobs: int
    blob_bytes: int
    outputs: int
    output_bytes: int
    finished: bool


def plan(ask: Ask, request: Removable) -> GcPlan:
    """What would be removed of the store: nothing that is kept refers to it."""
    return report(_planned(ask, request))


def make(ask: Ask, request: Removable) -> GcDone:
    """Remove what nothing refers to that is kept, for some seconds; ask again until it is done."""
    planned = _planned(ask, request)
    if planned.is_empty:
        return GcDone(blobs=0, blob_bytes=0, outputs=0, output_bytes=0, finished=True)
    done = collect(ask.workspace, planned, by=ask.asker.name, within_s=WITHIN_S)
    return GcDone(
        blobs=done.blobs,
        blob_bytes=done.blob_bytes,
        outputs=done.outputs,
        output_bytes=done.output_bytes,
        finished=done.status == "done",
    )


def report(planned: Plan) -> GcPlan:
    """The plan, as it is shown."""
    rest = planned.losses[_MOST_LOSSES:]
    return GcPlan(
        blobs=len(planned.blobs),
        blob_bytes=planned.blob_bytes,
        outputs=len(planned.outputs),
        output_bytes=planned.output_bytes,
        forgotten=len(planned.forgotten),
        losses=tuple(map(_loss, planned.losses[:_MOST_LOSSES])),
        more_losses=len(rest),
        more_bytes=sum(loss.blob_bytes for loss in rest),
        too_new=planned.too_new,
        too_new_bytes=planned.too_new_bytes,
        kept_blobs=planned.kept_blobs,
        kept_bytes=planned.kept_bytes,
    )


def _planned(ask: Ask, request: Removable) -> Plan:
    if ask.asker.projects is not None:
        raise Forbidden(
            "Blobs are shared by all projects, and your token is for some.",
            hint="Ask with an admin's token for all projects.",
        )
    older_than = duration(request.older_than)
    if older_than.total_seconds() < 0:
        raise Invalid(f"{request.older_than!r} is no age.", hint="Write it as 30d.")
    return plan_collection(ask.workspace, older_than=older_than, keep_runs=request.keep_runs)


def _loss(loss: Loss) -> RunLoss:
    run = loss.run
    return RunLoss(
        run="" if run is None else run.id,
        flow="" if run is None else run.flow,
        started_at=None if run is None else run.started_at,
        tasks=loss.tasks,
        blobs=loss.blobs,
        blob_bytes=loss.blob_bytes,
    )


PLAN = Operation(
    "collections.plan", "GET", "/api/v1/collections/plan", Removable, GcPlan, plan, role="admin"
)
MAKE = Operation(
    "collections.make", "POST", "/api/v1/collections", Removable, GcDone, make, role="admin"
)
OPERATIONS: tuple[AnyOperation, ...] = (PLAN, MAKE)
