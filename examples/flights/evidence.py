"""What the year left in the store: drift, estimates, guards, and a rehearsal of other policies."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise

import msgspec
from data import FEATURES
from flights import loop
from live import Year

import upturn as up
from upturn.core.records import Decision, Version
from upturn.improve.evidence import Evidence, GuardSeen
from upturn.improve.guards import guards_seen
from upturn.improve.monitor.estimated import fit_estimator
from upturn.improve.monitor.report import MonitorReport, WindowReport, monitor
from upturn.improve.rehearsal import Policy, Rehearsal
from upturn.improve.state import Rollout, state_from_json
from upturn.improve.statistics.interval import Interval

METRICS = ("auc", "log_loss")  # those that are estimated without labels as well
LEARNED = timedelta(days=56)  # of labels before a month, that its estimate is learned from
BETWEEN = timedelta(hours=6)  # looks that are taken again for the plot
QUIET = ("keep", "watch", "wait")
FIRST = 1  # the version that the year begins with
# Beside the loop itself: it retrains half as often, or its gate lets more through.
VARIANTS = up.vary(loop, {"when.after": ["70d"]}), up.vary(loop, {"gate.alpha": [0.3]})
POLICIES = {name: one for several in VARIANTS for name, one in several.items()}


@dataclass(frozen=True)
class Look:
    """What the guard saw of a candidate in a stage at one time."""

    at: datetime
    guard: GuardSeen

    @property
    def harm(self) -> tuple[float, float, float] | None:
        """How much worse the candidate is, with the interval; None while it can't be said."""
        seen = self.guard.comparison
        return None if seen is None else loop.guard[0].harm(seen)

    @property
    def says(self) -> str:
        """What may be concluded, at this look as at any other."""
        seen, guard = self.guard.comparison, loop.guard[0]
        if seen is None:
            return "can't be said yet"
        if guard.broken(seen):
            return "shown to be worse"
        return "shown to be no worse" if guard.cleared(seen) else "neither is shown"


@dataclass(frozen=True)
class Trial:
    """One stage of a candidate, with the looks that the loop took at it."""

    state: Rollout
    looks: tuple[Look, ...]
    ended: str  # the action by which it did

    @property
    def name(self) -> str:
        """As in 'canary'."""
        return type(self.state.stage).__name__.lower()

    @property
    def doubt(self) -> tuple[bool, float]:
        """How far it was from being shown to be no worse: a rollback first, then the interval."""
        harm = self.looks[-1].harm
        return self.ended == "rollback", float("inf") if harm is None else harm[2]


@dataclass(frozen=True)
class Found:
    """All that the report shows."""

    year: Year
    drift: MonitorReport
    estimated: dict[str, dict[str, Interval]]  # by month and metric
    trials: tuple[Trial, ...]
    rehearsal: Rehearsal

    @property
    def decisions(self) -> list[Decision]:
        """Those by which something changed."""
        return [one for one in self.year.decisions if one.action not in QUIET]

    @property
    def foreseen(self) -> int:
        """How many of these the rehearsal had on the same day."""
        rehearsed = {(one.at, one.action) for one in self.rehearsal.decisions}
        return sum((one.at, one.action) in rehearsed for one in self.decisions)

    @property
    def closest(self) -> tuple[Trial, ...]:
        """The stages of the candidate of which the guards were least sure."""
        if not self.trials:
            return ()
        candidate = max(self.trials, key=lambda one: one.doubt).state.candidate
        return tuple(one for one in self.trials if one.state.candidate == candidate)

    @property
    def ends(self) -> str:
        """How the stages ended, counted by what was shown."""
        last = [trial.looks[-1].says for trial in self.trials if trial.ended not in QUIET]
        said = ", ".join(
            f"{last.count(words)} {words}" for words in sorted(set(last), reverse=True)
        )
        return f"At the end of {len(last)} stages, margin {loop.guard[0].margin:g}: {said}."

    @property
    def most_drifted(self) -> list[str]:
        """The features, the one with the worst month first."""
        worst = {
            name: max(window.psi.get(name, 0.0) for window in self.drift.windows)
            for name in FEATURES
        }
        return sorted(worst, key=lambda name: -worst[name])

    def called(self, policy: Policy) -> str:
        """A policy for people."""
        said = {"never": "never retrain", "calendar": f"every {self.rehearsal.calendar}"}
        return said.get(policy.kind, policy.name)

    def within(self, metric: str) -> tuple[int, int]:
        """In how many months the estimate's interval held what labels said, and of how many."""
        pairs = [
            (guessed[metric], window.performance.values[metric])
            for window in self.drift.windows
            if metric in (guessed := self.estimated[window.name])
        ]
        return sum(not one.excludes(value) for one, value in pairs), len(pairs)


def gather(year: Year) -> Found:
    """Ask the Log and the decisions, and rehearse the loop with other thresholds."""
    rehearsal = up.rehearse(
        year.workspace,
        POLICIES,
        start=year.start,
        end=year.end,
        initial=FIRST,
    )
    version = year.workspace.meta.get(Version, loop.endpoint.model_name, FIRST)
    report = monitor(
        year.workspace,
        loop.endpoint.name,
        since=year.start,
        until=year.end,
        now=year.end,
        every="month",
        baseline=version,
    )
    estimated = {one.name: estimate(year, one, version) for one in report.windows}
    return Found(year, report, estimated, tuple(trials(year.decisions)), rehearsal)


def estimate(year: Year, window: WindowReport, version: Version) -> dict[str, Interval]:
    """The metrics of a month as they could be told without one label of it; nothing at first."""
    asked = {"known_by": window.since, "shadow": False}
    past = year.log.joined(since=window.since - LEARNED, until=window.since, **asked)
    learned = fit_estimator(past, metrics=METRICS, signature=version.signature)
    if learned.unsaid:
        return {}
    found = learned.estimate(year.log.joined(since=window.since, until=window.until, **asked))
    return {name: one for name, one in found.intervals.items() if one.said}


def trials(decisions: list[Decision]) -> Iterator[Trial]:
    """The stages that candidates went through, in order, from what the decisions have stored."""
    steps = [(state_from_json(one.state), after) for one, after in pairwise(decisions)]
    stages = [(state, after) for state, after in steps if isinstance(state, Rollout)]
    for _, group in groupby(stages, key=lambda one: (one[0].candidate.version, one[0].index)):
        taken = list(group)
        looks = tuple(
            Look(after.at, guard)
            for _, after in taken
            for guard in msgspec.convert(after.evidence, Evidence).guards[:1]
        )
        if looks:
            yield Trial(taken[0][0], looks, taken[-1][1].action)


def hourly(year: Year, trial: Trial) -> list[Look]:
    """The guard asked again, more often than the loop did: its intervals hold at every look."""
    last = trial.looks[-1].at
    count = int((last - trial.state.since) / BETWEEN)
    times = [last - place * BETWEEN for place in range(count)][::-1]
    return [Look(at, guards_seen(loop, trial.state, year.log, year.actions, at)[0]) for at in times]
