"""Log rows: an endpoint's Log as the table of an experiment, joined with outcomes by unit."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.errors import Invalid, NotFound
from upturn.core.time import instant, utcnow
from upturn.improve.experiment.design import Design
from upturn.improve.experiment.source import open_source, quoted
from upturn.improve.log import LogView

_SHARE_OFF = 0.001


@dataclass(frozen=True, slots=True)
class LogRows:
    """The rows, the design with the Log's own unit, and what is to be known about them."""

    table: pa.Table
    design: Design
    notes: tuple[str, ...]


def log_rows(
    design: Design,
    log: LogView,
    *,
    outcomes: Any = None,
    since: datetime | str | None = None,
    until: datetime | str | None = None,
) -> LogRows:
    """The answered rows of a Log, without shadows: `arm`, `at`, `unit`, `label`, `score`,
    `latency_s`, `features.<name>`.

    With `outcomes`, a row for each of a unit's outcomes from its first prediction until the end
    (of all of them, where outcomes have no `at`), with the Log's columns of that first one. The
    unit is that of the route; where it has none, each prediction is a unit.

    Raises NotFound when no row is there.
    """
    begin = instant(since) if isinstance(since, str) else since
    end = (instant(until) if isinstance(until, str) else until) or utcnow()
    rows = log.joined(known_by=end, since=begin, until=end, shadow=False, features=True)
    if not rows.num_rows:
        raise NotFound(
            f"The Log of {log.endpoint} has no predictions in that time.",
            hint="Look further back with since=…",
        )
    there = {str(one) for one in pc.unique(rows["arm"]).to_pylist()}
    if not there & set(design.arms):
        raise NotFound(
            f"The Log of {log.endpoint} has none of the arms {', '.join(design.arms)}.",
            hint=f"It has: {', '.join(sorted(there))}.",
        )
    notes = list(_shares(design, rows))
    by_unit = rows["unit"].null_count < rows.num_rows
    if outcomes is not None:
        if not by_unit:
            raise Invalid(
                f"The route of {log.endpoint} has no unit, so outcomes can't be joined.",
                hint='Deploy it with a unit: up.Endpoint(…, unit="user_id").',
            )
        rows = _with_outcomes(rows, outcomes, design.unit or "unit", end)
    return LogRows(rows, with_unit(design, "unit" if by_unit else None), tuple(notes))


def with_unit(design: Design, unit: str | None) -> Design:
    """The design with another column for its unit."""
    made = copy.copy(design)
    object.__setattr__(made, "unit", unit)
    return made


def _shares(design: Design, rows: pa.Table) -> list[str]:
    """What to know where the route did not give the arms the shares that the experiment says."""
    found = rows.group_by("arm").aggregate([("propensity", "min"), ("propensity", "max")])
    made: list[str] = []
    for row in found.to_pylist():
        share = design.arms.get(row["arm"])
        low, high = row["propensity_min"], row["propensity_max"]
        if share is None or low is None:
            continue
        if high - low > _SHARE_OFF:
            made.append(
                f"The route gave {row['arm']} shares from {low:.3g} to {high:.3g} over this time: "
                "days of different shares are mixed; compare within one share (since=…, until=…)."
            )
        elif abs(low - share) > _SHARE_OFF:
            made.append(f"The route gave {row['arm']} {low:.3g} of the units, not {share:.3g}.")
    return made


def _with_outcomes(rows: pa.Table, outcomes: Any, unit: str, end: datetime) -> pa.Table:
    with open_source(outcomes) as source:
        source.check(unit, what="the unit of the outcomes")
        timed = "at" in source.columns
        if timed:
            source.check_time("at", what="the time of an outcome")
        taken = [one for one in source.columns if one not in (unit, "at")]
        twice = sorted(set(taken) & set(rows.column_names))
        if twice:
            raise Invalid(
                f"Both the Log and the outcomes have a column {twice[0]!r}.",
                hint="Give the outcomes' another name.",
            )
        chosen = ", ".join(quoted(one) for one in taken)
        time = '"at" AS at__, ' if timed else ""
        asked = f"SELECT CAST({quoted(unit)} AS VARCHAR) AS unit__, {time}{chosen} FROM data"
        if timed:  # what came later would change what was concluded then
            asked += f" WHERE at__ < TIMESTAMPTZ '{end.isoformat()}'"
        table = source.ask(asked).to_arrow_table()
    return _joined(rows, table, {"timed": timed}, taken)


def _joined(
    rows: pa.Table, outcomes: pa.Table, how: Mapping[str, bool], taken: list[str]
) -> pa.Table:
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("log", rows)
        connection.register("outcomes", outcomes)
        after = 'AND o.at__ >= l."at"' if how["timed"] else ""
        chosen = ", ".join(f"o.{quoted(one)}" for one in taken)
        return connection.sql(f"""
            WITH seen AS (
                SELECT *, row_number() OVER (PARTITION BY unit ORDER BY "at", id, arm) AS place
                FROM log WHERE unit IS NOT NULL
            ), l AS (SELECT * EXCLUDE (place) FROM seen WHERE place = 1)
            SELECT l.*, {chosen} FROM l LEFT JOIN outcomes AS o ON o.unit__ = l.unit {after}
        """).to_arrow_table()
