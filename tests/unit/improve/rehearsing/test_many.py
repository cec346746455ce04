"""Many policies over one past: what they share, what is kept, and that each is as if alone."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from unit.improve.loop_world import CHANGE, DAY, Flow, Handle, make_loop, past
from upturn.core.errors import Invalid
from upturn.core.records import Decision, Endpoint, Version
from upturn.core.settings import load_settings
from upturn.core.time import instant
from upturn.improve.loop import Loop
from upturn.improve.rehearsal import Rehearsal
from upturn.improve.rehearse import Progress, rehearse
from upturn.improve.rehearsing.vary import vary
from upturn.improve.rollout import beats
from upturn.improve.triggers import Trigger, drop, stale
from upturn.stores.workspace import Workspace, open_workspace

SPAN: dict[str, Any] = {"start": "2013-01-29", "end": "2013-02-22"}
LONG: dict[str, Any] = {"start": "2013-01-22", "end": "2013-03-11"}
DAYS = 25


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One for all tests of this module: to register a version takes longer than to rehearse it."""
    home = tmp_path_factory.mktemp("many")
    workspace = open_workspace(load_settings(home, {"UPTURN_HOME": str(home)}))
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def flow(workspace: Workspace) -> "Remembering":
    return Remembering(workspace, past(60))


class Remembering(Flow):
    """As a real flow: what was trained is not trained again, and is the same version."""

    def __init__(self, workspace: Workspace, table: pa.Table, **more: Any) -> None:
        super().__init__(workspace, table, **more)
        self.made: dict[Any, Handle] = {}
        self.asked: list[Any] = []

    def run(self, start: Any, end: Any) -> Handle:
        self.asked.append((start, end))
        if (start, end) not in self.made:
            self.made[start, end] = super().run(start, end)
        return self.made[start, end]


def three(flow: Flow, **changes: Any) -> dict[str, Loop]:
    return {
        "loop": make_loop(flow, **changes),
        "weekly": make_loop(flow, when=stale("7d"), gate=None, rollout=[], **changes),
        "strict": make_loop(flow, gate=beats("auc", by=0.9), **changes),
    }


def did(found: Rehearsal, name: str) -> list[tuple[Any, ...]]:
    policy = found.policy(name)
    assert policy is not None
    return [(one.at, one.action) for one in policy.events]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of policies as their ticks run."""
    from upturn.improve.rehearsing import policies

    ran: list[str] = []
    real = policies.tick

    def tick(*arguments: Any, name: str, **more: Any) -> list[Decision]:
        ran.append(name)
        return real(*arguments, name=name, **more)

    monkeypatch.setattr(policies, "tick", tick)
    return ran


def test_each_does_what_it_does_alone_and_a_window_is_trained_on_once(
    workspace: Workspace, flow: Remembering
) -> None:
    heard, before = list[Progress](), len(flow.asked)
    together = rehearse(
        workspace, three(flow), **SPAN, calendar=["14d", "7d"], progress=heard.append
    )
    asked = flow.asked[before:]
    assert len(asked) == len(set(asked)) == together.trainings
    names = [policy.name for policy in together.policies]
    assert names == ["loop", "weekly", "strict", "never", "every 14d", "every 7d"]
    assert heard[-1].done == heard[-1].total == 3 * DAYS
    for name, loop in three(flow).items():
        alone = rehearse(workspace, {name: loop}, **SPAN, baselines=[], fresh=True)
        assert did(alone, name) == did(together, name)
        one, other = alone.policy(name), together.policy(name)
        assert one is not None
        assert other is not None
        assert (one.values, one.retrains, one.changes) == (
            other.values,
            other.retrains,
            other.changes,
        )
        assert one.training_rows == other.training_rows
    strict, never = together.policy("strict"), together.policy("never")
    assert strict is not None
    assert never is not None
    assert strict.values == never.values
    assert strict.regret is not None
    assert never.regret is not None
    assert strict.regret.total == pytest.approx(never.regret.total)
    assert "strict" in together.conclusion


def test_decisions_of_each_are_kept_under_its_name(workspace: Workspace, flow: Remembering) -> None:
    found = rehearse(workspace, three(flow), **SPAN, baselines=[])
    for policy in found.policies:
        stored = workspace.meta.select(Decision, loop=policy.decisions_name)
        assert {one.at for one in stored} >= {one.at for one in policy.events}
    assert found.policies[0].decisions_name == found.decisions_name
    assert found.policies[1].decisions_name == f"{found.decisions_name}/weekly"


def test_costs_and_regret_add_up(workspace: Workspace, flow: Remembering) -> None:
    found = rehearse(workspace, three(flow), **SPAN, calendar="7d")
    best = found.policy(found.best)
    assert best is not None
    assert best.regret is not None
    assert (best.regret.total, best.regret.low, best.regret.high) == (0, 0, 0)
    for policy in found.policies:
        assert policy.regret is not None
        assert policy.regret.total >= 0
        curve = found.curve(policy.name, "regret")
        assert curve is not None
        assert curve.values[-1] == pytest.approx(policy.regret.total)
        mine, its = policy.values["log_loss"], best.values["log_loss"]
        assert mine is not None
        assert its is not None
        assert policy.regret.total == pytest.approx((mine - its) * found.labelled, abs=1e-6)
        assert (policy.training_rows > 0) == (policy.retrains > 0)
    never = found.curve("never", "auc")
    assert never is not None
    early = [value for at, value in zip(never.at, never.values, strict=True) if at <= CHANGE]
    late = [
        value for at, value in zip(never.at, never.values, strict=True) if at > CHANGE + 7 * DAY
    ]
    assert min(filter(None, early)) > max(filter(None, late))


def test_a_second_time_no_loop_is_run_again(
    workspace: Workspace, flow: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = rehearse(workspace, three(flow), **SPAN)
    ran = counted(monkeypatch)
    again = rehearse(workspace, three(flow), **SPAN)
    assert ran == []
    assert again.reused == ("loop", "weekly", "strict")
    for policy in once.policies:
        other = again.policy(policy.name)
        assert other is not None
        assert (other.values, other.events, other.regret) == (
            policy.values,
            policy.events,
            policy.regret,
        )
    assert again.curves == once.curves
    stored = workspace.meta.select(Decision, loop=again.decisions_name)
    assert [one.state for one in stored] == [one.state for one in once.decisions]
    # A further policy is run; the others are known.
    more = three(flow) | {"often": make_loop(flow, when=stale("3d"))}
    assert rehearse(workspace, more, **SPAN).reused == ("loop", "weekly", "strict")
    assert {name.partition("/")[2].partition("/")[2] for name in ran} == {"often"}


def other_label(table: pa.Table) -> pa.Table:
    labels = table["label"].to_pylist()
    labels[-1500] = not labels[-1500]
    return table.set_column(2, "label", pa.array(labels))


def known_later(table: pa.Table) -> pa.Table:
    at = np.asarray(table["known_at"].cast(pa.int64()).fill_null(0)).copy()
    at[-1500] += 3_600_000_000
    known = pa.array(at, mask=np.asarray(table["known_at"].is_null())).cast(
        pa.timestamp("us", "UTC")
    )
    return table.set_column(1, "known_at", known)


def other_input(table: pa.Table) -> pa.Table:
    a = np.asarray(table["a"]).copy()
    a[-1500] += 0.001
    return table.set_column(4, "a", pa.array(a))


@pytest.mark.parametrize("change", [other_label, known_later, other_input])
def test_another_past_is_another_result(
    workspace: Workspace, flow: Remembering, change: Callable[[pa.Table], pa.Table]
) -> None:
    table = flow.table
    rehearse(workspace, make_loop(flow), **SPAN, baselines=[])
    same = make_loop(flow, history=lambda start, end: table.slice(0))
    assert rehearse(workspace, same, **SPAN, baselines=[]).reused == ("loop",)
    changed = make_loop(flow, history=lambda start, end: change(table))
    assert rehearse(workspace, changed, **SPAN, baselines=[]).reused == ()


@pytest.mark.parametrize(
    "change",
    [
        {"when": stale("21d") | drop("auc", 0.06)},
        {"gate": beats("auc", alpha=0.04)},
        {"min_rows": 301},
        {"name": "another"},
        {"monitor_window": "8d"},
        {"cooldown": "4d"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_loop_is_another_result(
    workspace: Workspace, flow: Remembering, change: dict[str, Any]
) -> None:
    rehearse(workspace, make_loop(flow), **SPAN, baselines=[], initial=None)
    again = rehearse(workspace, make_loop(flow, **change), **SPAN, baselines=[])
    assert again.reused == ()


class Duller(Remembering):
    """The flow after an edit: later trainings see half of the rows."""

    def run(self, start: Any, end: Any) -> Handle:
        if end > instant(SPAN["start"]):
            start = start + (end - start) / 2
        return super().run(start, end)


def test_a_training_that_makes_another_version_makes_another_result(
    workspace: Workspace, flow: Remembering
) -> None:
    duller = Duller(workspace, past(60))
    once = rehearse(workspace, make_loop(flow), **SPAN, baselines=["never"])
    first = instant("2013-01-08"), instant("2013-01-29")
    duller.made[first] = flow.made[first]
    again = rehearse(workspace, make_loop(duller), **SPAN, baselines=["never"])
    assert len(duller.made) > 1
    assert again.reused == ()
    assert again.policy("loop") != once.policy("loop")
    never = once.policy("never")
    other = again.policy("never")
    assert never is not None
    assert other is not None
    assert never.values == other.values


class Own(Trigger, frozen=True):
    """A trigger of somebody's own: what its code says, no text does."""

    def ask(self, signs: Any) -> Any:
        return stale("9d").ask(signs)


def test_a_loop_whose_definition_holds_code_is_never_taken_as_known(
    workspace: Workspace, flow: Remembering
) -> None:
    for _ in range(2):
        found = rehearse(workspace, make_loop(flow, when=Own()), **SPAN, baselines=[])
        assert found.reused == ()


def test_after_ctrl_c_nothing_is_lost_and_no_thread_is_left(
    workspace: Workspace, flow: Remembering
) -> None:
    threads = threading.active_count()

    def interrupted(now: Progress) -> None:
        if now.done > DAYS + 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rehearse(workspace, three(flow), **SPAN, progress=interrupted, fresh=True)
    assert threading.active_count() == threads
    versions = {one.number for one in workspace.meta.select(Version, model="delays")}
    found = rehearse(workspace, three(flow), **SPAN)
    fresh = rehearse(workspace, three(flow), **SPAN, fresh=True)
    assert versions <= {one.number for one in workspace.meta.select(Version, model="delays")}
    assert [policy.events for policy in found.policies] == [one.events for one in fresh.policies]


class Broken(Remembering):
    def run(self, start: Any, end: Any) -> Handle:
        if end > instant("2013-02-10"):
            raise RuntimeError("a defect of ours, not of the training")
        return super().run(start, end)


def test_an_error_ends_all_and_is_raised(workspace: Workspace) -> None:
    threads = threading.active_count()
    with pytest.raises(RuntimeError, match="a defect of ours"):
        rehearse(workspace, three(Broken(workspace, past(60))), **SPAN, calendar="5d")
    assert threading.active_count() == threads


def test_the_oracle_is_no_worse_than_anybody(workspace: Workspace, flow: Remembering) -> None:
    found = rehearse(
        workspace,
        three(flow),
        **SPAN,
        baselines=["never", "calendar", "oracle"],
    )
    oracle = found.policy("oracle")
    assert oracle is not None
    assert oracle.regret is not None
    assert oracle.regret.total <= 0
    assert found.best != "oracle"
    for policy in found.policies:
        bound, value = oracle.values["log_loss"], policy.values["log_loss"]
        assert bound is not None
        assert value is not None
        assert bound <= value


def test_versions_that_never_train_are_policies_too(
    workspace: Workspace, flow: Remembering
) -> None:
    rehearse(workspace, make_loop(flow), **SPAN, baselines=[])
    ran = len(flow.ran)
    one, two = (workspace.meta.get(Version, "delays", number) for number in (1, 2))
    found = rehearse(workspace, [one, two], **SPAN, history=past(60))
    assert len(flow.ran) == ran
    assert [policy.name for policy in found.policies] == ["delays:1", "delays:2"]
    assert found.trainings == 0
    assert found.decisions == ()
    beside = rehearse(workspace, {"loop": make_loop(flow), "old": one}, **SPAN)
    old, alone = beside.policy("old"), found.policy("delays:1")
    assert old is not None
    assert alone is not None
    assert old.values == alone.values


def test_what_cannot_be_rehearsed_together_says_so(workspace: Workspace, flow: Remembering) -> None:
    loop = make_loop(flow)
    elsewhere = Loop(Endpoint("arrivals"), train=flow, when=stale("9d"))
    with pytest.raises(Invalid, match="about the model 'delays', 'b' about 'arrivals'"):
        rehearse(workspace, {"a": loop, "b": elsewhere}, **SPAN)
    by_row = make_loop(flow)
    object.__setattr__(by_row, "endpoint", Endpoint("delays"))
    with pytest.raises(Invalid, match="about different endpoints"):
        rehearse(workspace, {"a": loop, "b": by_row}, **SPAN)
    with pytest.raises(Invalid, match="There is no policy"):
        rehearse(workspace, [], **SPAN)
    with pytest.raises(Invalid, match="called 'never', as a baseline is"):
        rehearse(workspace, {"never": loop}, **SPAN)
    with pytest.raises(Invalid, match="no name of a policy"):
        rehearse(workspace, {"a/b": loop}, **SPAN)
    wrong: Any = {"x": "flights.py:loop"}
    with pytest.raises(Invalid, match="'x' is a str, which can't be rehearsed"):
        rehearse(workspace, wrong, **SPAN)
    with pytest.raises(Invalid, match="calendar's period has a length"):
        rehearse(workspace, loop, **SPAN, calendar=["0d"])
    with pytest.raises(Invalid, match="no baseline 'oracel'"):
        rehearse(workspace, loop, **SPAN, baselines=["oracel"])


def test_two_of_a_name_get_numbers(workspace: Workspace, flow: Remembering) -> None:
    found = rehearse(workspace, [make_loop(flow), make_loop(flow, when=stale("9d"))], **SPAN)
    assert [one.name for one in found.policies[:2]] == ["delays", "delays-2"]


def test_a_suggestion_is_chosen_early_and_the_later_part_has_no_say(
    workspace: Workspace, flow: Remembering
) -> None:
    table = flow.table
    loops = vary(make_loop(flow, gate=None, rollout=[]), {"when.stale.after": ["8d", "60d"]})
    found = rehearse(workspace, loops, **LONG).suggestion
    assert found is not None
    assert found.split == instant("2013-01-22") + timedelta(days=29)
    assert found.name in loops
    assert found.retrains <= found.best_retrains
    assert found.validated is not None
    assert found.text.startswith(f"{found.name}: before 2013-02-20")
    late = np.asarray(table["at"].cast(pa.int64())) >= found.split.timestamp() * 1_000_000
    turned = table.set_column(2, "label", pa.array(np.asarray(table["label"]) ^ late))
    other = rehearse(workspace, loops, **LONG, history=turned).suggestion
    assert other is not None
    assert (other.name, other.best, other.split) == (found.name, found.best, found.split)
    assert other.validated != found.validated
    short = rehearse(workspace, loops, start="2013-01-22", end="2013-02-05")
    assert short.suggestion is None
