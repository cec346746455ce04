"""Rehearsal: policies on past data with a simulated clock, beside never retraining and others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from typing import Any

import msgspec

from upturn.core.errors import Invalid, RunFailed, did_you_mean
from upturn.core.ids import new_id
from upturn.core.records import Endpoint, Version
from upturn.core.rehearsing import rehearsing
from upturn.core.time import end_instant, instant, spell
from upturn.improve.actions import window_params
from upturn.improve.evidence import Trained, TrainingFailed
from upturn.improve.loop import Duration
from upturn.improve.metrics import METRICS
from upturn.improve.past.kept import Kept, digest_of, digest_of_array, key_of
from upturn.improve.past.log import Columns
from upturn.improve.past.rows import Past, past_of, past_of_log
from upturn.improve.past.scores import Scores
from upturn.improve.past.trainings import Trainings, Window
from upturn.improve.rehearsal import PREFIX, Policy, Rehearsal, loss_for, metrics_for
from upturn.improve.rehearsing.conclude import conclusion
from upturn.improve.rehearsing.costs import costs
from upturn.improve.rehearsing.judge import judge, rows_of
from upturn.improve.rehearsing.oracle import oracle
from upturn.improve.rehearsing.plans import BASELINES, Policies, plans_of
from upturn.improve.rehearsing.policies import run_policy
from upturn.improve.rehearsing.shared import Clock, Done, Plan, Progress, Shared
from upturn.improve.rehearsing.suggest import suggest
from upturn.improve.rollout import parts
from upturn.stores.workspace import Workspace

__all__ = ["BASELINES", "Progress", "rehearse"]


def rehearse(
    workspace: Workspace,
    policies: Policies,
    *,
    start: str | date | datetime,
    end: str | date | datetime,
    history: Any = None,
    initial: int | None = None,
    baselines: Sequence[str] = ("never", "calendar"),
    calendar: Duration | Sequence[Duration] = "30d",
    progress: Callable[[Progress], None] | None = None,
    seed: int = 0,
    fresh: bool = False,
) -> Rehearsal:
    """Run policies over the rows from `start` to `end` with a simulated clock, and judge them.

    `policies` is a loop, several by name or in a list, or what `up.vary` made of one; a Version
    among them is a policy that answers with it and never trains. A date as `end` is the last day,
    included; an instant is the first that is left out.

    A loop's clock moves by its `every`. At each step the rows since the last one are answered by
    the arms of the simulated route, the labels that became known are told, and the very `tick` that
    runs a real loop decides. Rows come from `history` (a table, or `up.history` of one), else from
    the loop's own `history`, else from the endpoint's Log. The first champion is version `initial`,
    else one trained on the `window` before `start`. Trainings are real runs of the loop's flow.

    The baselines: `never` keeps the first champion; `calendar` trains on the last `window` every
    `calendar` (several may be given) and deploys what comes, without a gate; `oracle` answers each
    week by whichever version of those known by then that week turns out to suit best, a bound and
    no policy. They take the first loop's window and flow.

    What versions say of the past, and what loops did over it, is kept in the store by content, and
    runs reuse what others made: rehearsing again takes seconds, after Ctrl-C too. `fresh` makes all
    but the trainings again. `progress` is told from several threads, one at a time.

    Differences come with the 95 % interval of a bootstrap that draws days (`compare_paired`),
    regrets with one that holds for all policies together and draws blocks of days.

    What is simulated is only as good as the history: labels and features have to be those known at
    the time, answers have no influence on what happens, and there are no latencies to guard.

    Raises Invalid when there is nothing to rehearse on, RunFailed when the first training fails.
    """
    token = rehearsing.set(True)
    try:
        began = time.perf_counter()
        since, until = instant(start), end_instant(end)
        if since >= until:
            raise Invalid(
                f"A rehearsal from {since:%Y-%m-%d} until {until:%Y-%m-%d} has no days.",
                hint="Give a --start before the --end.",
            )
        for name in baselines:
            if name not in BASELINES:
                raise Invalid(f"There is no baseline {name!r}.", hint=did_you_mean(name, BASELINES))
        plans = plans_of(policies, baselines, calendar, initial)
        one = _Rehearsing(workspace, plans, since, until, initial, progress, fresh=fresh)
        found = one.run(history, oracle="oracle" in baselines, seed=seed)
        return msgspec.structs.replace(found, seconds=time.perf_counter() - began)
    finally:
        rehearsing.reset(token)


class _Rehearsing:
    """One rehearsal that goes on."""

    def __init__(
        self,
        workspace: Workspace,
        plans: Sequence[Plan],
        start: datetime,
        end: datetime,
        initial: int | None,
        progress: Callable[[Progress], None] | None,
        *,
        fresh: bool,
    ) -> None:
        self._workspace = workspace
        self._plans = plans
        self._start, self._end = start, end
        self._initial = initial
        self._fresh = fresh
        self._lead = next((one for one in plans if one.kind == "loop"), plans[0])
        self._endpoint = self._endpoint_of(self._lead)
        self._clock = Clock(start, end, progress or (lambda _: None))
        for plan in plans:
            self._clock.expect(plan)
        self._trainings = Trainings(self._clock.doing)
        self._versions: dict[int, Version] = {}

    def run(self, history: Any, *, oracle: bool, seed: int) -> Rehearsal:
        """All of it: run, then judge."""
        # Before any training, what is wrong with versions and history is said at once.
        for plan in self._plans:
            self._given(plan)
        self._clock.doing("reading the history")
        past = self._past(history)
        firsts = {plan.name: self._first(plan) for plan in self._plans}
        shared = self._shared(past)
        done = self._run_all(shared, firsts)
        if oracle:
            self._clock.doing("scoring all versions")
            done.append(self._oracle(shared, firsts, done))
        self._clock.doing("comparing")
        return self._judged(shared, firsts, done, seed)

    def _endpoint_of(self, plan: Plan) -> Endpoint:
        if plan.loop is not None:
            return plan.loop.endpoint
        assert plan.model is not None
        return Endpoint(plan.model)

    def _find(self, number: int) -> Version:
        if number not in self._versions:
            model = self._endpoint.model_name
            self._versions[number] = self._workspace.meta.get(Version, model, number)
        return self._versions[number]

    def _given(self, plan: Plan) -> int | None:
        """The version that a policy is said to begin with. Raises NotFound if it is not there."""
        given = plan.version if plan.version is not None else self._initial
        return None if given is None else self._find(given).number

    def _first(self, plan: Plan) -> Trained | int:
        """The version that a policy begins with."""
        given = self._given(plan)
        if given is not None:
            return given
        assert plan.loop is not None
        window = Window(plan.loop.train, self._start - plan.loop.window, self._start)
        made = self._trainings.on(window)
        if isinstance(made, TrainingFailed):
            raise RunFailed(
                f"The first training failed: {made.problem.message}",
                hint=f"upturn resume {made.run}" if made.run else made.problem.hint,
            )
        return made

    def _past(self, history: Any) -> Past:
        loop = self._lead.loop
        own = None if loop is None else loop.history
        if history is None and own is None:
            return past_of_log(self._workspace, self._endpoint, self._start, self._end)
        if history is None:
            assert own is not None
            history = own(**window_params(own, self._start, self._end))
        return past_of(history, self._endpoint, self._start, self._end)

    def _shared(self, past: Past) -> Shared:
        name = PREFIX + new_id()
        kept = Kept(self._workspace, name, fresh=self._fresh)
        return Shared(
            workspace=self._workspace,
            past=past,
            digest=_digest(past),
            columns=Columns(past),
            scores=Scores(self._workspace, past, self._find, kept),
            trainings=self._trainings,
            kept=kept,
            find=self._find,
            clock=self._clock,
            start=self._start,
            end=self._end,
            name=name,
            lead=self._lead.name,
        )

    def _run_all(self, shared: Shared, firsts: Mapping[str, Trained | int]) -> list[Done]:
        """Each policy in a thread, as many at a time as there are cores.

        This thread trains what they ask for. When one fails, or on Ctrl-C, all end.
        """
        found: dict[str, Done] = {}

        def run(plan: Plan) -> None:
            found[plan.name] = run_policy(shared, plan, firsts[plan.name])

        cores = self._workspace.settings.cores
        threads = ThreadPoolExecutor(min(len(self._plans), cores), "rehearse")
        tasks = [threads.submit(run, plan) for plan in self._plans]
        try:
            self._trainings.serve(tasks)
        finally:
            self._trainings.stop()
            threads.shutdown(wait=True, cancel_futures=True)
        return [found[plan.name] for plan in self._plans]

    def _oracle(
        self, shared: Shared, firsts: Mapping[str, Trained | int], done: Sequence[Done]
    ) -> Done:
        known: dict[int, datetime] = {}
        for first in firsts.values():
            known[first.version if isinstance(first, Trained) else first] = self._start
        for one in done:
            for window, made in one.made:
                if isinstance(made, Trained):
                    at = max(window.until, self._start)
                    known[made.version] = min(at, known.get(made.version, at))
        metrics = self._metrics(known)
        truth = shared.past.truth(self._find(next(iter(known))), self._end)
        return oracle(shared, known, truth, loss_for(metrics))

    def _metrics(self, versions: Mapping[int, object] | Sequence[int]) -> tuple[str, ...]:
        loop = self._lead.loop
        asked = None
        if loop is not None and loop.gate is not None:
            gates = [one.metric for one in parts(loop.gate) if one.metric in METRICS]
            asked = gates[0] if gates else None
        return metrics_for(asked, self._find(next(iter(versions))).signature.output)

    def _judged(
        self,
        shared: Shared,
        firsts: Mapping[str, Trained | int],
        done: Sequence[Done],
        seed: int,
    ) -> Rehearsal:
        began = firsts[self._lead.name]
        version = self._find(began.version if isinstance(began, Trained) else began)
        metrics = self._metrics([version.number])
        calendars = [plan for plan in self._plans if plan.kind == "calendar"]
        every = next((plan.every for plan in calendars), None)
        lead = next(one for one in done if one.plan.name == self._lead.name)
        outline = Rehearsal(
            id=shared.name.removeprefix(PREFIX),
            loop=self._lead.loop.name if self._lead.loop is not None else self._lead.name,
            endpoint=self._endpoint.name,
            model=self._endpoint.model_name,
            start=self._start,
            end=self._end,
            calendar="" if every is None else spell(every),
            metrics=metrics,
            loss=loss_for(metrics),
            decisions=lead.decisions,
            policies=tuple(self._policy(shared, one) for one in done),
            training_seconds=self._trainings.seconds,
            trainings=self._trainings.count,
            reused=tuple(one.plan.name for one in done if one.reused),
        )
        truth = shared.past.truth(version, self._end)
        judged = judge(outline, shared.past, truth, done, seed=seed)
        rows = rows_of(shared.past, truth, done)
        suggested = suggest(judged, rows, done, seed=seed)
        judged = msgspec.structs.replace(judged, suggestion=suggested)
        return msgspec.structs.replace(judged, conclusion=conclusion(judged))

    def _policy(self, shared: Shared, done: Done) -> Policy:
        seconds, rows = costs(shared, done)
        return Policy(
            name=done.plan.name,
            kind=done.plan.kind,
            retrains=sum(one.action == "retrain" for one in done.events),
            changes=done.changes,
            values={},
            training_seconds=seconds,
            training_rows=rows,
            settings=dict(done.plan.settings),
            events=done.events,
            decisions_name=done.decisions_name,
        )


def _digest(past: Past) -> str:
    """The digest of all that a rehearsal sees of its rows."""
    import pyarrow as pa

    own: dict[str, Any] = {"label": past.labels, "unit": pa.array(past.units, pa.string())}
    return key_of(
        digest_of(past.inputs),
        digest_of(pa.table(own)),
        digest_of_array(past.at),
        digest_of_array(past.known_at),
    )
