"""Experiment: arms of an endpoint's route, or of any table, compared on metrics."""

from __future__ import annotations

from typing import Any

from upturn.core.errors import Invalid
from upturn.improve.experiment.aa import SelfCheck, self_check
from upturn.improve.experiment.analysis import analyze_source
from upturn.improve.experiment.design import Design
from upturn.improve.experiment.log_rows import log_rows
from upturn.improve.experiment.novelty import Novelty, novelty_of
from upturn.improve.experiment.plan import Plan, plan_source
from upturn.improve.experiment.result import Analysis
from upturn.improve.experiment.source import open_source
from upturn.improve.log import StoredLog


class Experiment(Design):
    """Arms compared on metrics, by intervals that hold whenever one looks.

    - `arms`: their names and the shares of units that each was given; the first is the `control`.
    - `metrics`: up.Mean, up.Proportion, up.Ratio, up.Count and up.Quantile.
    - `unit`: the column of what was randomised, a user say. Rows of one unit are made one first.
      None: each row is a unit.
    - `guardrails`: up.non_inferior(METRIC, margin=…): what must not get worse.
    - `segments`: columns by whose values the effects are looked at too.
    - `method`: "anytime" (intervals and p-values hold at every look), "fixed" (one look) or
      "group-sequential" (the planned `looks`, shares of the planned `units`).
    - `correction` of the metrics' and arms' p-values: "holm", "bh" or None.
    - `adjustment` by covariates: "pooled" (CUPED) or "interacted" (Lin's regression).

    >>> import numpy as np
    >>> import upturn as up
    >>> draw = np.random.default_rng(3)
    >>> new = draw.random(4000) < 0.5
    >>> table = {"arm": np.where(new, "new", "old"), "spent": draw.normal(10 + new, 2)}
    >>> experiment = up.Experiment("prices", arms=["old", "new"], metrics=[up.Mean("spent")])
    >>> experiment.analyze(table, arm="arm").effects[0].status
    'better'
    """

    __slots__ = ()

    def analyze(
        self,
        data: Any,
        *,
        arm: str = "arm",
        at: str | None = None,
        outcomes: Any = None,
        since: Any = None,
        until: Any = None,
    ) -> Analysis:
        """What the rows say so far.

        `data` is a pandas, polars or Arrow table, columns, a path or pattern of Parquet or CSV
        files, a DuckDB relation, or an endpoint's Log (up.read_log). `arm` is the column of the
        arm, `at` that of the row's time: with it, a unit's first row says its arm, and effects are
        given over time. Of a Log, both are known, and `outcomes` may be a table with a row or
        several for each unit.

        Raises NotFound for columns that are not there and Invalid for those that don't fit.
        """
        if isinstance(data, StoredLog):
            rows = log_rows(self, data, outcomes=outcomes, since=since, until=until)
            with open_source(rows.table) as source:
                return analyze_source(rows.design, source, arm="arm", at="at", notes=rows.notes)
        _only_log(outcomes=outcomes, since=since, until=until)
        with open_source(data) as source:
            return analyze_source(self, source, arm=arm, at=at)

    def novelty(
        self, data: Any, *, arm: str = "arm", at: str, days: int = 14
    ) -> tuple[Novelty, ...]:
        """The effects by days since a unit's first row, and whether late ones differ from early.

        The table has rows over time, several for each unit.
        """
        with open_source(data) as source:
            return novelty_of(self, source, arm=arm, at=at, days=days)

    def plan(
        self,
        history: Any,
        *,
        effect: float = 0.02,
        power: float = 0.8,
        at: str | None = None,
        per_day: float | None = None,
    ) -> Plan:
        """How many units and days it takes to see a relative effect, from the user's own history.

        `history` is a table as it would have been without an experiment: it needs no arm. How many
        units come a day is `per_day`, or what the column `at` says.
        """
        with open_source(history) as source:
            return plan_source(self, source, effect=effect, power=power, at=at, per_day=per_day)

    def self_check(
        self, history: Any, *, splits: int = 1000, seed: int = 0, at: str | None = None
    ) -> SelfCheck:
        """How often this design finds a difference where there is none: A/A tests on history."""
        with open_source(history) as source:
            return self_check(self, source, splits=splits, seed=seed, at=at)


def _only_log(**given: Any) -> None:
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise Invalid(
            f"{named[0]}=… is for the Log of an endpoint.", hint="Join and cut a table before."
        )
