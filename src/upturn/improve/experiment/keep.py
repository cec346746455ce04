"""Keep: an analysis as a Verdict record, which can be had again from the same rows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from upturn.core.records import Verdict
from upturn.improve.experiment.design import Design
from upturn.improve.experiment.result import Analysis
from upturn.stores.workspace import Workspace


def keep(
    workspace: Workspace,
    design: Design,
    found: Analysis,
    *,
    now: datetime,
    endpoint: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Verdict:
    """Store what was found, with what was asked."""
    made = Verdict(
        experiment=design.name,
        endpoint=endpoint,
        since=since,
        until=until,
        spec=as_json(design.spec()),
        report=as_json(found),
        says=found.verdict,
        at=now,
    )
    return workspace.meta.add(made)


def as_json(found: Any) -> dict[str, Any]:
    """Results as JSON values: what is not a finite number is null."""
    return msgspec.json.decode(msgspec.json.encode(found))
