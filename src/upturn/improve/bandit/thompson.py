"""Thompson: shares by the probability that each arm is the best, given what it earned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from upturn.core.errors import Invalid, did_you_mean
from upturn.improve.bandit.best import Beta, Posterior, Student
from upturn.improve.bandit.evidence import ArmSeen

Kind = Literal["bernoulli", "gaussian"]
_KINDS = ("bernoulli", "gaussian")


@dataclass(frozen=True, slots=True)
class Thompson:
    """Thompson sampling (Thompson 1933; Chapelle & Li 2011) in batches: between two ticks each arm
    has the share of units that is its probability of being the best.

    - `bernoulli`: rewards within [0, 1]; `prior` are the successes and failures of a Beta, 1 or
      more each.
    - `gaussian`: any numbers; the posterior of a mean is Student's t about what was seen, with no
      prior (Jeffreys').

    >>> Thompson().kind
    'bernoulli'
    """

    kind: Kind = "bernoulli"
    prior: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        """Raises Invalid for another kind, and for a prior below 1."""
        if self.kind not in _KINDS:
            raise Invalid(
                f"There is no {self.kind!r} Thompson sampling.",
                hint=did_you_mean(self.kind, _KINDS),
            )
        if not (len(self.prior) == 2 and all(1.0 <= one < 1e9 for one in self.prior)):
            raise Invalid(f"prior={self.prior!r}: a Beta's two parameters, each 1 or more.")

    def posteriors(self, arms: Sequence[ArmSeen]) -> list[Posterior]:
        """What is believed of each arm's mean reward.

        Raises Invalid when rewards are beyond [0, 1] for "bernoulli".
        """
        if self.kind == "bernoulli":
            return [self._beta(arm) for arm in arms]
        # An arm whose rewards were all the same is no surer than the others are spread.
        pooled = max((arm.reward.se * arm.reward.effective**0.5 for arm in arms), default=0.0)
        return [_student(arm, pooled) for arm in arms]

    def _beta(self, arm: ArmSeen) -> Beta:
        if arm.low < 0.0 or arm.high > 1.0:
            raise Invalid(
                f"Rewards of {arm.name!r} go from {arm.low:g} to {arm.high:g}, beyond 0 and 1.",
                hint='Take Thompson("gaussian"), or scale them.',
            )
        found = arm.reward
        return Beta(
            a=self.prior[0] + found.mean * found.effective,
            b=self.prior[1] + (1.0 - found.mean) * found.effective,
        )


def _student(arm: ArmSeen, pooled: float) -> Student:
    found = arm.reward
    scale = found.se or (pooled / found.effective**0.5 if found.effective else 0.0)
    return Student(mean=found.mean, scale=scale, df=max(found.df, 1.0))
