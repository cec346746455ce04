"""Guardrails: whether an arm is shown to be no worse than the control by a margin."""

from __future__ import annotations

from upturn.improve.experiment.metrics import Guardrail
from upturn.improve.experiment.result import Effect, GuardrailSeen, GuardrailStatus


def guarded(guardrail: Guardrail, effect: Effect) -> GuardrailSeen:
    """What the interval of an effect says of a margin.

    It passes when the whole interval is on the good side of the margin, and fails when the whole
    interval is beyond it; a relative margin is judged by the lift's interval. All guardrails have
    to pass, so none needs a correction for the others (Berger 1982, intersection-union).
    """
    interval = effect.lift if guardrail.relative else effect.difference
    sign = 1 if effect.better == "higher" else -1
    low, high = sorted((sign * interval.low, sign * interval.high))
    status: GuardrailStatus = "open"
    if effect.status == "unsaid":
        status = "unsaid"
    elif low > -guardrail.margin:
        status = "passed"
    elif high < -guardrail.margin:
        status = "failed"
    return GuardrailSeen(
        effect=effect, margin=guardrail.margin, relative=guardrail.relative, status=status
    )
