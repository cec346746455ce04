"""Curve: what one trial has logged so far, and whether a pruner would go on with it."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from upturn.core.errors import Problem

if TYPE_CHECKING:
    from optuna import Trial as OptunaTrial
    from optuna.trial import FrozenTrial

STUDY = "tune"  # one name for all: Hyperband chooses brackets by it


class Curve:
    """A Judge: hears what the trial logs, and ends it when the pruner says so.

    The pruner compares it with `past` alone: the trials whose results were known when this one was
    asked for. What others do meanwhile changes nothing, so the same curve gets the same answer,
    heard from the step while it runs or read from memory.
    """

    def __init__(
        self,
        number: int,
        *,
        metric: str | None,
        direction: Literal["maximize", "minimize"],
        pruner: Any = None,
        past: Sequence["FrozenTrial"] = (),
    ) -> None:
        self.fault: Exception | None = None
        self._number = number
        self._metric = metric
        self._direction: Literal["maximize", "minimize"] = direction
        self._pruner = pruner
        self._past = past
        self.begin()

    def begin(self) -> None:
        """An attempt begins."""
        self.points: dict[int, float] = {}  # of the metric, by step
        self.values: list[float] = []  # of the metric, in order, without a step included
        self.names: set[str] = set()  # of all that was logged
        self._trial: OptunaTrial | None = None

    def hear(self, metrics: Mapping[str, float], at_step: int | None) -> Problem | None:
        """The step logged this; why it is to be ended, if it is."""
        self.names.update(metrics)
        value = metrics.get(self._metric) if self._metric is not None else None
        if value is None:
            return None
        self.values.append(value)
        if at_step is None or at_step in self.points:
            return None
        self.points[at_step] = value
        try:
            pruned = self._pruner is not None and self._ask(value, at_step)
        except Exception as fault:  # noqa: BLE001  # any pruner's; the flow's thread raises it
            self.fault = fault
            return None
        if not pruned:
            return None
        return Problem(
            code="pruned",
            message=f"Pruned at step {at_step}, where {self._metric} was {value:.4g}.",
            hint="up.tune ended it: earlier trials had done better.",
            fields={"step": at_step},
        )

    def value(self, which: str) -> float | None:
        """The last of the metric's values, or the best; None when there is none."""
        if which == "last":
            return self.values[-1] if self.values else None
        known = [value for value in self.values if not math.isnan(value)]
        best = max if self._direction == "maximize" else min
        return best(known, default=math.nan if self.values else None)

    def noted(self) -> dict[str, Any]:
        """What the pruner noted of the trial, for its comparisons with later ones."""
        if self._trial is None:
            return {}
        return self._trial.study.get_trials(deepcopy=False)[self._number].system_attrs

    def _ask(self, value: float, at_step: int) -> bool:
        trial = self._trial = self._trial or self._begun()
        trial.report(value, at_step)
        return trial.should_prune()

    def _begun(self) -> "OptunaTrial":
        """The trial in a study of its own, in which the past is over and nothing else goes on."""
        import optuna
        from optuna.trial import TrialState, create_trial

        study = optuna.create_study(
            study_name=STUDY,
            direction=self._direction,
            pruner=copy.deepcopy(self._pruner),  # some learn from what they see
            sampler=optuna.samplers.RandomSampler(0),
        )
        study.add_trials(self._past)
        # So that it has its number; no pruner compares with what failed.
        gap = self._number - len(self._past)
        study.add_trials([create_trial(state=TrialState.FAIL)] * gap)
        return study.ask()
