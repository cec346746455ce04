"""Tally: what is added up over a log's rounds, and the results that follow from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from upturn.improve.offpolicy.anytime import EmpiricalBernstein
from upturn.improve.offpolicy.checks import (
    Propensities,
    few_rewards,
    support_warnings,
    unsupported,
)
from upturn.improve.offpolicy.estimators import (
    ESTIMATORS,
    WIDTH,
    Estimator,
    columns,
    interval,
    quantile,
    share_ends,
)
from upturn.improve.offpolicy.moments import ClusterMoments, RowMoments
from upturn.improve.offpolicy.resampling import PoissonBootstrap, cluster_means
from upturn.improve.offpolicy.result import Difference, Estimate, OffPolicy, PolicyValue
from upturn.improve.offpolicy.thresholds import Cut, Thresholds
from upturn.improve.statistics.interval import Interval
from upturn.improve.statistics.sequences import asymptotic_interval

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Options:
    """How a log is judged."""

    alpha: float
    clusters: bool
    reward_range: tuple[float, float] | None
    bootstrap: int
    seed: int
    tuned_rounds: int
    modelled: tuple[bool, ...]  # of each policy, whether a reward model speaks of it


@dataclass(frozen=True, slots=True)
class Weighed:
    """Some rounds and what each policy makes of them."""

    first: int
    codes: NDArray[np.int64]
    rewards: Floats
    propensities: Floats
    clusters: Sequence[Any] | None
    weights: Floats  # (policies, rows)
    direct: Floats  # (policies, rows): what the model says of the policy
    modelled: Floats  # (rows,): what it says of the action taken
    every: tuple[Floats | None, ...]  # of each policy (rows or 1, actions)

    def only(self, rows: NDArray[np.bool_]) -> "Weighed":
        """Some of them."""
        clusters = self.clusters
        return Weighed(
            first=self.first,
            codes=self.codes[rows],
            rewards=self.rewards[rows],
            propensities=self.propensities[rows],
            clusters=None if clusters is None else list(compress(clusters, rows)),
            weights=self.weights[:, rows],
            direct=self.direct[:, rows],
            modelled=self.modelled[rows],
            every=tuple(one if one is None or len(one) == 1 else one[rows] for one in self.every),
        )


@dataclass
class Tally:
    """Sums over rounds; the memory that it takes is that of policies and actions, not of rounds."""

    names: Sequence[str]
    options: Options
    shift: float  # taken from rewards, so that sums of squares lose no digits
    propensities: Propensities = field(default_factory=Propensities)
    range: tuple[float, float] = (math.inf, -math.inf)
    _moments: RowMoments | ClusterMoments = field(init=False)
    _thresholds: list[Thresholds] = field(init=False)
    _bounded: list[EmpiricalBernstein] = field(init=False)
    _drawn: PoissonBootstrap | None = None
    _shares: bool = True  # whether all rewards are 0 and 1
    _heaviest: Floats = field(init=False)
    _squares: Floats = field(init=False)
    _masses: list[Floats] = field(init=False)
    _earned: Floats = field(init=False)

    def __post_init__(self) -> None:
        width, count = 1 + WIDTH * len(self.names), len(self.names)
        options = self.options
        self._moments = ClusterMoments(width) if options.clusters else RowMoments(width)
        self._thresholds = [Thresholds(options.clusters) for _ in self.names]
        self._heaviest, self._squares = np.zeros(count), np.zeros(count)
        self._masses = [np.zeros(0) for _ in self.names]
        self._earned = np.zeros((count, 2))
        bounds = options.reward_range if not options.clusters else None
        self._bounded = [
            EmpiricalBernstein.start(*bounds, alpha=options.alpha, tuned=options.tuned_rounds)
            for _ in self.names
            if bounds
        ]
        if options.bootstrap and not options.clusters:
            self._drawn = PoissonBootstrap(width, options.bootstrap, options.seed)

    # ---- adding up ------------------------------------------------------------------------

    def add(self, seen: Weighed) -> None:
        """Take some rounds, in the log's order."""
        self.propensities.add(seen.codes, seen.propensities)
        low, high = self.range
        self.range = min(low, float(seen.rewards.min())), max(high, float(seen.rewards.max()))
        self._shares &= bool(((seen.rewards == 0) | (seen.rewards == 1)).all())
        rewards = seen.rewards - self.shift
        parts = [rewards[:, None]]
        for place, weights in enumerate(seen.weights):
            direct = seen.direct[place]
            modelled = self.options.modelled[place]
            parts.append(
                columns(
                    weights,
                    rewards,
                    direct - self.shift if modelled else direct,
                    seen.modelled - self.shift if modelled else seen.modelled,
                )
            )
            model = (direct, seen.modelled)
            self._thresholds[place].add(weights, seen.rewards, model, seen.clusters)
            self._heaviest[place] = max(self._heaviest[place], float(weights.max()))
            self._squares[place] += float(weights @ weights)
            earned = weights * seen.rewards
            self._earned[place] += float(earned.sum()), float(earned @ earned)
            self._add_mass(place, seen.every[place], len(weights))
            if self._bounded:
                self._bounded[place] = self._bounded[place].add(weights, seen.rewards)
        joined = np.hstack(parts)
        self._moments.add(joined, seen.clusters)
        if self._drawn is not None:
            self._drawn.add(joined, seen.first)

    def _add_mass(self, place: int, every: Floats | None, rows: int) -> None:
        if every is None:
            return
        mass = every[0] * rows if len(every) == 1 else every.sum(axis=0)
        grown = np.zeros(max(len(mass), len(self._masses[place])))
        grown[: len(self._masses[place])] = self._masses[place]
        grown[: len(mass)] += mass
        self._masses[place] = grown

    # ---- what follows ---------------------------------------------------------------------

    def result(self, actions: list[Any], waiting: int) -> OffPolicy:
        """What the policies would have earned by these rounds."""
        rounds = self.propensities.rows
        drawn = self._replicates()
        policies = {
            name: self._policy(place, name, actions, drawn) for place, name in enumerate(self.names)
        }
        earned = self.shift + float(self._moments.mean[0])
        logged = self._estimate("the log", earned, self._unit(0), None, effective=rounds)
        return OffPolicy(
            rounds=rounds,
            waiting=waiting,
            logged=logged,
            policies=policies,
            differences=tuple(self._differences(policies)),
            warnings=tuple(
                self.propensities.warnings(actions, independent=not self.options.clusters)
            ),
        )

    def _policy(
        self, place: int, name: str, actions: list[Any], drawn: Floats | None
    ) -> PolicyValue:
        options, rounds = self.options, self.propensities.rows
        modelled = options.modelled[place]
        estimates: dict[str, Estimate] = {}
        for key, estimator in ESTIMATORS.items():
            if modelled or not estimator.modelled:
                estimates[key] = self._by(key, estimator, place, drawn)
        low, high = options.reward_range or self.range
        thresholds = self._thresholds[place]
        estimates["clipped"] = self._cut(
            "clipped", thresholds.clipped(low, high), (low, high), place
        )
        if modelled:
            cut = thresholds.switched(low, high)
            estimates["switch-DR"] = self._cut("switch-DR", cut, (low - high, high - low), place)
        total = self._moments.mean[1 + WIDTH * place] * rounds
        mean = self._interval(
            total / rounds, self._variance(self._unit(1 + WIDTH * place)), "delta", null=1.0
        )
        effective = self._effective(place)
        lacking = unsupported(self._masses[place], self.propensities, actions, rounds)
        largest = self._heaviest[place] / total if total else 0.0
        return PolicyValue(
            name=name,
            rounds=rounds,
            best="DR" if modelled else "SNIPS",
            estimates=estimates,
            effective_rounds=effective,
            max_weight=float(self._heaviest[place]),
            mean_weight=mean,
            unsupported=lacking,
            bounded=self._bounds(place, estimates["IPS"].interval.estimate),
            warnings=support_warnings(name, lacking, mean, effective, largest, self._few(place)),
        )

    def _few(self, place: int) -> bool:
        return few_rewards(*self._earned[place])

    def _by(self, key: str, estimator: Estimator, place: int, drawn: Floats | None) -> Estimate:
        own = slice(1 + WIDTH * place, 1 + WIDTH * (place + 1))
        value = float(estimator.value(self._moments.mean[own], self.shift))
        if key == "DM":
            why = "the model's own error is not in the log."
            return self._estimate(key, value, None, None, why=why)
        if math.isnan(value):
            why = "the log never took what it takes."
            return self._estimate(key, value, None, None, why=why)
        replicates = None if drawn is None else estimator.value(drawn[:, own], self.shift)
        effective = self._effective(place)
        return self._estimate(
            key,
            value,
            self._gradient(key, place),
            replicates,
            effective=effective,
            few=self._few(place),
        )

    def _effective(self, place: int) -> float:
        total = self._moments.mean[1 + WIDTH * place] * self.propensities.rows
        return float(total**2 / self._squares[place]) if self._squares[place] else 0.0

    def _gradient(self, key: str, place: int) -> Floats:
        own = slice(1 + WIDTH * place, 1 + WIDTH * (place + 1))
        found = np.zeros(1 + WIDTH * len(self.names))
        found[own] = ESTIMATORS[key].gradient(self._moments.mean[own], self.shift)
        return found

    def _estimate(
        self,
        estimator: str,
        value: float,
        gradient: Floats | None,
        replicates: Floats | None,
        *,
        effective: float = 0.0,
        few: bool = False,
        why: str = "",
    ) -> Estimate:
        variance = math.nan if gradient is None else self._variance(gradient)
        found = self._interval(value, variance, "delta")
        if self._shares and not why:
            found = self._of_shares(found, variance, effective, few)
        if not why and math.isnan(found.low):
            why = "its rounds do not vary." if variance == 0 else "there are too few rounds."
        return Estimate(
            estimator=estimator,
            interval=found,
            anytime=self._anytime(value, variance),
            se=math.sqrt(variance) if variance > 0 else math.nan,
            bootstrap=None if replicates is None else self._percentiles(value, replicates),
            why=why,
        )

    def _of_shares(self, found: Interval, variance: float, effective: float, few: bool) -> Interval:
        z = quantile(self.options.alpha, self._clusters)
        ends = share_ends(found.estimate, variance, effective, z, few=few)
        if ends is None:
            return found
        return msgspec.structs.replace(found, low=ends[0], high=ends[1], method="delta, Wilson")

    def _cut(self, name: str, cut: Cut, missed: tuple[float, float], place: int) -> Estimate:
        """An estimate whose ends also hold what was cut off: between low and high of it."""
        low, high = missed
        found = self._interval(cut.value, cut.variance, "delta")
        if self._shares:
            found = self._of_shares(found, cut.variance, self._effective(place), self._few(place))
        anytime = self._anytime(cut.value, cut.variance)
        below, above = min(cut.beyond * low, 0.0), max(cut.beyond * high, 0.0)
        return Estimate(
            estimator=name,
            interval=_widened(found, below, above),
            anytime=_widened(anytime, below, above),
            se=math.sqrt(cut.variance) if cut.variance > 0 else math.nan,
            threshold=cut.threshold,
            bias_bound=max(-below, above),
            why="its rounds do not vary." if math.isnan(found.low) else "",
        )

    def _differences(self, policies: dict[str, PolicyValue]) -> list[Difference]:
        """Each policy and the log's own, and each two policies, on the same rounds."""
        values = [one.value.estimate for one in policies.values()]
        gradients = [self._gradient(one.best, place) for place, one in enumerate(policies.values())]
        names = [*self.names, "the log"]
        values.append(self.shift + float(self._moments.mean[0]))
        gradients.append(self._unit(0))
        found: list[Difference] = []
        for place, name in enumerate(self.names):
            for other, than in enumerate(names):
                if other == place:
                    continue
                apart = values[place] - values[other]
                variance = self._variance(gradients[place] - gradients[other])
                found.append(
                    Difference(
                        name=name,
                        than=than,
                        interval=self._interval(apart, variance, "delta, paired"),
                        anytime=self._anytime(apart, variance),
                    )
                )
        return found

    def _variance(self, gradient: Floats) -> float:
        if np.isnan(gradient).any():
            return math.nan
        return self._moments.variance(gradient)

    def _unit(self, place: int) -> Floats:
        return np.eye(1 + WIDTH * len(self.names))[place]

    def _interval(
        self, value: float, variance: float, method: str, *, null: float = 0.0
    ) -> Interval:
        alpha = self.options.alpha
        return interval(
            value, variance, alpha=alpha, clusters=self._clusters, method=method, null=null
        )

    @property
    def _clusters(self) -> int | None:
        return self._moments.units if self.options.clusters else None

    def _anytime(self, value: float, variance: float) -> Interval:
        n, options = self._moments.units, self.options
        return asymptotic_interval(
            value, variance * n, n, alpha=options.alpha, tuned_n=max(options.tuned_rounds, 2)
        )

    def _bounds(self, place: int, value: float) -> Interval | None:
        if not self._bounded:
            return None
        low, high = self._bounded[place].ends()
        return Interval(
            estimate=value,
            low=low,
            high=high,
            level=1 - self.options.alpha,
            p_value=math.nan,
            method="empirical Bernstein confidence sequence",
        )

    def _replicates(self) -> Floats | None:
        options = self.options
        if isinstance(self._moments, ClusterMoments) and options.bootstrap:
            return cluster_means(self._moments, options.bootstrap, options.seed)
        return None if self._drawn is None else self._drawn.means()

    def _percentiles(self, value: float, replicates: Floats) -> Interval:
        alpha = self.options.alpha
        low, high = np.nanquantile(replicates, [alpha / 2, 1 - alpha / 2])
        return Interval(
            estimate=value,
            low=float(low),
            high=float(high),
            level=1 - alpha,
            p_value=math.nan,
            method="bootstrap percentiles",
        )


def _widened(found: Interval, below: float, above: float) -> Interval:
    low, high, method = found.low + below, found.high + above, f"{found.method}, bias bound"
    return msgspec.structs.replace(found, low=low, high=high, p_value=math.nan, method=method)
