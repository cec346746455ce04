"""What may be concluded from an experiment: its sentence, guardrails, Log and error rates."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import upturn as up
from upturn.cli import cli
from upturn.core.errors import Invalid, NotFound, UpturnError
from upturn.core.log import PredictionBatch
from upturn.core.records import Endpoint, Verdict
from upturn.core.settings import load_settings
from upturn.core.time import instant, micros
from upturn.improve.experiment.bounds import Rule
from upturn.improve.experiment.estimate import difference, estimate_arrays
from upturn.improve.experiment.mismatch import sample_ratio
from upturn.stores.logfile import LogWriter
from upturn.stores.workspace import Workspace, open_workspace

ARMS = {"control": 0.5, "new": 0.5}


def table(
    n: int = 8000, *, lift: float = 0.0, refunds: float = 0.02, seed: int = 1
) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    new = draw.random(n) < 0.5
    before = draw.gamma(4, 5, n)
    return {
        "arm": np.where(new, "new", "control"),
        "user": np.arange(n),
        "revenue": 0.8 * before + draw.gamma(4, 2, n) * (1 + lift * new),
        "before": before,
        "refunded": draw.random(n) < np.where(new, refunds, 0.02),
        "country": np.array(["AT", "CH", "DE", None])[draw.integers(0, 4, n)],
        "at": np.datetime64("2026-01-01", "us") + draw.integers(0, 10, n).astype("timedelta64[D]"),
    }


def experiment(**options: Any) -> up.Experiment:
    given: dict[str, Any] = {
        "arms": ARMS,
        "unit": "user",
        "metrics": [up.Mean("revenue", covariate="before")],
    }
    return up.Experiment("checkout", **(given | options))


def test_a_shown_effect_may_be_stopped_now() -> None:
    found = experiment().analyze(table(lift=0.1), at="at")
    assert found.effects[0].status == "better"
    assert found.verdict.startswith("new raises revenue by 3.")
    assert found.verdict.endswith("this holds at every look: it may be stopped now.")
    assert found.effects[0].reduction > 0.75
    assert len(found.over_time) == 10
    assert found.over_time[-1].difference == found.effects[0].difference
    lower = experiment(metrics=[up.Mean("revenue", better="lower")]).analyze(table(lift=0.2))
    assert lower.effects[0].status == "worse"
    assert "new does harm" in lower.verdict


def test_nothing_shown_says_how_long_it_may_take() -> None:
    found = experiment().analyze(table(lift=0.01), at="at")
    assert found.effects[0].status == "open"
    assert found.verdict.startswith("Nothing can be said yet: new changes revenue by +")
    assert "at this rate about" in found.verdict
    fixed = experiment(method="fixed").analyze(table())
    assert "looking again later needs another method" in fixed.verdict


def test_arms_of_the_wrong_size_are_not_to_be_read() -> None:
    rows = table(lift=0.2)
    keep = (rows["arm"] == "control") | (np.arange(8000) % 5 > 0)
    found = experiment().analyze({name: values[keep] for name, values in rows.items()})
    assert found.mismatch.found
    assert found.verdict.startswith("Don't read it: sample ratio mismatch, p = ")
    assert "units where" in found.verdict


def test_guardrails_pass_fail_or_stay_open() -> None:
    def status(refunds: float, margin: float, relative: bool = False) -> tuple[str, str]:
        metric = up.Proportion("refunded", better="lower")
        rail = up.non_inferior(metric, margin=margin, relative=relative)
        made = experiment(guardrails=[rail])
        found = made.analyze(table(20_000, lift=0.1, refunds=refunds))
        return found.guardrails[0].status, found.verdict

    assert status(0.02, 0.02)[0] == "passed"
    assert "refunded is within the margin" in status(0.02, 0.02)[1]
    assert status(0.02, 0.001)[0] == "open"
    assert "go on until the guardrails have an answer" in status(0.02, 0.001)[1]
    assert status(0.08, 0.01)[0] == "failed"
    assert "new does harm" in status(0.08, 0.01)[1]
    assert status(0.08, 0.5, relative=True)[0] == "failed"


def test_what_cant_be_said_is_said() -> None:
    def why(**columns: Any) -> str:
        metric = up.Mean("x", covariate=[name for name in columns if name == "c"])
        arms = columns.pop("arm", np.array(["control", "new"] * 100))
        found = up.Experiment("x", arms=ARMS, metrics=[metric]).analyze({"arm": arms, **columns})
        effect = found.effects[0]
        assert effect.status == "unsaid"
        assert math.isinf(effect.difference.high)
        assert effect.why in found.verdict or found.mismatch.found
        return effect.why

    assert "all units have the same value" in why(x=np.full(200, 0.1))
    assert "of the 50 units" in why(x=np.arange(20.0), arm=np.array(["control", "new"] * 10))
    assert "new has 0 of" in why(x=np.arange(200.0), arm=np.array(["control"] * 200))
    assert "not a finite number" in why(x=np.tile([1e308, -1e308, 1e308, 1e308], 50))
    assert "has 0 of" in why(x=np.full(200, np.nan))
    rare = up.Experiment("x", arms=ARMS, metrics=[up.Proportion("x")])
    few = rare.analyze({"arm": np.array(["control", "new"] * 500), "x": np.arange(1000) < 3})
    assert few.effects[0].why == "only 3 units are x; it takes 10"
    # Ten in both arms together would do; but of the small one's 100 units none may be expected.
    canary = up.Experiment("x", arms={"control": 0.9, "new": 0.1}, metrics=[up.Proportion("x")])
    arm = np.where(np.arange(1000) % 10 == 0, "new", "control")
    small = canary.analyze({"arm": arm, "x": np.arange(1000) % 50 == 7})
    assert small.effects[0].why == "new has 100 of the 500 units that it takes"
    none = rare.analyze({"arm": pa.array([], pa.string()), "x": pa.array([], pa.bool_())})
    assert none.verdict == "Nothing can be said yet: no unit of any arm is there."
    with pytest.raises(NotFound, match=r"none of the arms 'control', 'new'\. It has: 'A', 'B'"):
        rare.analyze({"arm": ["B", "A", None], "x": [True, False, True]})
    one = rare.analyze({"arm": ["new"], "x": [True]})
    assert one.effects[0].status == "unsaid"
    ratio = up.Experiment("x", arms=ARMS, metrics=[up.Ratio("x", "y"), up.Quantile("x", 0.5)])
    zero = ratio.analyze({"arm": ["control", "new"] * 60, "x": [1.0] * 120, "y": [0.0] * 120})
    assert [effect.status for effect in zero.effects] == ["unsaid", "unsaid"]


def test_segments_tell_where_an_effect_is_and_whether_it_differs() -> None:
    rows = table(24_000)
    at = rows["country"] == "AT"
    rows["revenue"] = rows["revenue"] + 2.0 * (at & (rows["arm"] == "new"))
    found = experiment(segments="country").analyze(rows)
    status = {one.value: one.effect.status for one in found.segments}
    assert status == {"AT": "better", "CH": "open", "DE": "open", "(missing)": "open"}
    assert (found.interactions[0].value, found.interactions[0].p_adjusted < 0.01) == ("AT", True)
    plain = experiment(segments="country").analyze(table(24_000))
    assert plain.interactions[0].p_value > 0.05


def test_an_effect_that_fades_is_a_novelty() -> None:
    draw = np.random.default_rng(2)
    n, days = 2000, 6
    new = draw.random(n) < 0.5
    k = np.arange(days)
    effect = new[:, None] * np.where(k < 2, 1.0, 0.0)
    rows = {
        "arm": np.repeat(np.where(new, "new", "control"), days),
        "user": np.repeat([f"u{i}" for i in range(n)], days),
        "revenue": (draw.normal(5, 1, (n, days)) + effect).ravel(),
        "at": np.tile(np.datetime64("2026-01-01", "us") + k.astype("timedelta64[D]"), n),
    }
    found = experiment(metrics=[up.Mean("revenue")]).novelty(rows, at="at", days=days)[0]
    assert found.trend == "fades"
    assert [one.difference.excludes(0) for one in found.days] == [True, True] + [False] * 4
    late, early = rows["revenue"].reshape(n, days)[:, 3:], rows["revenue"].reshape(n, days)[:, :3]
    change = late.mean(axis=1) - early.mean(axis=1)
    assert found.change.estimate == pytest.approx(change[new].mean() - change[~new].mean())
    assert found.change.estimate == pytest.approx(-2 / 3, abs=0.1)


def test_a_plan_foresees_what_the_experiment_takes() -> None:
    plan = experiment(method="anytime").plan(table(20_000), effect=0.03, at="at").metrics[0]
    assert plan.anytime_units > plan.fixed_units > 100
    assert plan.reduction > 0.75
    assert plan.fixed_days == pytest.approx(plan.fixed_units / 2000)
    rates = [week.fixed for week in plan.by_week]
    assert rates == sorted(rates, reverse=True)
    # So many units find the effect in about 8 of 10 experiments.
    hits = 0
    for seed in range(60):
        rows = table(plan.fixed_units, seed=100 + seed)
        rows["revenue"] = rows["revenue"] + 0.03 * plan.value * (rows["arm"] == "new")
        hits += experiment(method="fixed").analyze(rows).effects[0].status == "better"
    assert 40 <= hits <= 57


def test_the_self_check_finds_alpha_and_less() -> None:
    rows = table(6000)
    rows["orders"] = np.random.default_rng(0).poisson(0.3, 6000)
    metrics = [
        up.Mean("revenue", covariate="before"),
        up.Proportion("refunded"),
        up.Ratio("revenue", "before"),
        up.Count("orders"),
    ]
    anytime = experiment(metrics=metrics).self_check(rows, splits=400, at="at")
    assert anytime.sound
    assert all(one.rate <= 0.05 for one in anytime.metrics)
    assert all(one.peeking_rate > 0.12 for one in anytime.metrics)  # what looking costs others
    fixed = experiment(metrics=metrics, method="fixed").self_check(rows, splits=400)
    assert all(0.02 < one.rate < 0.09 for one in fixed.metrics)
    assert all(one.uniform_p > 0.001 for one in fixed.metrics)
    assert fixed == experiment(metrics=metrics, method="fixed").self_check(rows, splits=400)


def test_looking_all_the_time_finds_nothing_where_nothing_is() -> None:
    draw = np.random.default_rng(4)
    looks = np.unique(np.geomspace(100, 20_000, 40).astype(int))
    wrong = peeked = 0
    for _ in range(200):
        y = draw.exponential(1, 20_000)
        x = y + draw.normal(0, 1, 20_000)
        new = draw.random(20_000) < 0.5
        sums = np.stack([np.ones_like(y), y, x, y * y, x * y, x * x])
        both = np.stack([np.cumsum(sums * ~new, axis=1), np.cumsum(sums * new, axis=1)])
        n, sy, sx, yy, xy, xx = np.moveaxis(both[:, :, looks - 1], 1, 0)  # (arms, looks) each
        mean = np.stack([sy, sx], axis=-1) / n[..., None]
        raw = np.stack([np.stack([yy, xy], -1), np.stack([xy, xx], -1)], -2) / n[..., None, None]
        cov = raw - mean[..., :, None] * mean[..., None, :]
        found = estimate_arrays(n.T, mean.swapaxes(0, 1), cov.swapaxes(0, 1), ratio=False)
        gap, variance = difference(found, 1, 0)
        z = np.abs(gap) / np.sqrt(variance)
        wrong += bool((z > [Rule().multiplier(int(one)) for one in looks]).any())
        peeked += bool((z > 1.96).any())
    assert wrong <= 15  # of 200: 10 are allowed on average
    assert peeked > 40


def test_quantiles_of_equal_arms_do_not_differ_however_often_one_looks() -> None:
    draw = np.random.default_rng(12)
    made = up.Experiment("x", arms=ARMS, unit="user", metrics=[up.Quantile("x", 0.9)])
    once = up.Experiment("x", arms=ARMS, metrics=[up.Quantile("x", 0.9)], method="fixed")
    wrong = covered = 0
    for _ in range(30):
        users = np.repeat(np.arange(1000), 3)
        # Rows of a user are alike: taken for independent, they would be far too sure.
        x = np.repeat(draw.lognormal(0, 1, 1000), 3) * draw.lognormal(0, 0.2, 3000)
        arm = np.where(draw.random(1000) < 0.5, "new", "control")[users]
        names = np.array([f"u{user}" for user in users])
        looks = [
            made.analyze({"arm": arm[:end], "user": names[:end], "x": x[:end]})
            for end in (600, 1200, 3000)
        ]
        wrong += any(one.effects[0].status != "open" for one in looks)
        first = once.analyze({"arm": arm[::3], "x": x[::3]})
        covered += not first.effects[0].difference.excludes(0)
    assert wrong <= 3
    assert covered >= 25


def test_sizes_are_tested_at_every_look() -> None:
    draw = np.random.default_rng(6)
    wrong = 0
    for _ in range(300):
        counts = draw.multinomial(50, [0.5, 0.3, 0.2], 40).cumsum(axis=0)
        shares = {"a": 0.5, "b": 0.3, "c": 0.2}
        p_values = [
            sample_ratio(dict(zip("abc", row, strict=True)), shares).p_value
            for row in counts.tolist()
        ]
        wrong += min(p_values) < 0.05
    assert wrong <= 20
    off = sample_ratio({"a": 500_000, "b": 510_000}, {"a": 0.5, "b": 0.5})
    assert off.p_value < 1e-15


def test_several_arms_and_metrics_share_one_alpha() -> None:
    rows = table(9000)
    draw = np.random.default_rng(9)
    rows["arm"] = np.array(["control", "b", "c"])[draw.integers(0, 3, 9000)]
    rows["revenue"] = rows["revenue"] + 1.0 * (rows["arm"] == "c")
    metrics = [up.Mean("revenue", covariate="before"), up.Proportion("refunded")]
    made = up.Experiment("x", arms=["control", "b", "c"], metrics=metrics)
    found = made.analyze(rows)
    assert [(one.metric, one.arm, one.status) for one in found.effects] == [
        ("revenue", "b", "open"),
        ("revenue", "c", "better"),
        ("refunded", "b", "open"),
        ("refunded", "c", "open"),
    ]
    assert found.effects[1].p_adjusted == pytest.approx(4 * found.effects[1].difference.p_value)
    assert found.verdict.startswith("c raises revenue by")


def test_what_is_no_experiment_is_refused() -> None:
    for options, message in [
        ({"arms": {"control": 0.5}}, "not two or more"),
        ({"arms": {"control": 0.5, "new": 0.4}}, "sum to 1, not to 0.9"),
        ({"control": "nw"}, "Did you mean 'new'"),
        ({"method": "anytme"}, "Did you mean 'anytime'"),
        ({"metrics": []}, "needs a metric"),
        ({"metrics": ["revenue"]}, "is no metric"),
        ({"metrics": [up.Mean("a"), up.Count("a")]}, "Two metrics are called 'a'"),
        ({"alpha": 2.0}, "alpha of 2.0"),
        ({"method": "group-sequential"}, "how many units are planned"),
        ({"looks": [0.5, 0.4, 1]}, "not rising shares"),
        ({"guardrails": [up.Mean("a")]}, "no guardrail"),
    ]:
        with pytest.raises(Invalid, match=message):
            experiment(**options)
    with pytest.raises(Invalid, match="margin of -1"):
        up.non_inferior(up.Mean("a"), margin=-1)
    with pytest.raises(Invalid, match="no quantile"):
        up.Quantile("a", 95)
    with pytest.raises(Invalid, match="winsorize"):
        up.Mean("a", winsorize=0.01)


def test_planned_looks_wait_and_then_say() -> None:
    made = experiment(method="group-sequential", units=16_000, looks=4)
    assert "the first look is planned at 4,000 units" in made.analyze(table(2000)).verdict
    assert "the next look is planned at 12,000 units" in made.analyze(table(8000)).verdict
    assert "may be stopped now" in made.analyze(table(8000, lift=0.1)).verdict
    once = experiment(method="fixed", units=8000)
    early = once.analyze(table(2000, lift=0.3), at="at")
    assert "the only look is planned at 8,000 units" in early.verdict
    assert early.over_time == ()
    assert "raises revenue" in once.analyze(table(8000, lift=0.1)).verdict
    assert "that was the last look" in made.analyze(table(16_000, seed=3)).verdict


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    workspace = open_workspace(load_settings(tmp_path, {"UPTURN_HOME": str(tmp_path / "home")}))
    yield workspace
    workspace.close()


def write_log(workspace: Workspace, rows: int = 3000) -> None:
    workspace.meta.add(Endpoint(name="checkout", unit="user"))
    writer = LogWriter(workspace.log_dir / "checkout")
    draw = np.random.default_rng(0)
    start = micros(instant("2026-02-01"))
    for arm in ARMS:
        users = [f"{arm}{i % (rows // 3)}" for i in range(rows)]
        score = draw.random(rows) + (0.1 if arm == "new" else 0.0)
        batch = PredictionBatch(
            ids=[f"{arm}-{i:020d}" for i in range(rows)],
            at=[start + i * 60_000_000 for i in range(rows)],
            received_at=start,
            route=1,
            arm=arm,
            version=1,
            shadow=False,
            units=users,
            propensity=0.5,
            features={"age": draw.integers(20, 60, rows).tolist()},
            scores=score.tolist(),
            answers=None,
            latency_s=0.001,
        )
        future = writer.write(batch, durable=True)
        assert future is not None
        future.result(10)
    writer.close()


def test_the_arms_of_a_route_are_compared_from_its_log(workspace: Workspace) -> None:
    write_log(workspace)
    metrics = [up.Ratio("score", covariate="features.age"), up.Count(name="calls")]
    made = up.Experiment("checkout", arms=ARMS, metrics=metrics, unit="user")
    log = up.read_log("checkout", workspace)
    found = made.analyze(log)
    assert [one.units for one in found.arms] == [1000, 1000]
    assert found.effects[0].status == "better"
    assert found.effects[0].difference.estimate == pytest.approx(0.1, abs=0.03)
    assert found.effects[1].status == "unsaid"  # all call three times

    bought = {"user": ["new0", "new0", "control1"], "paid": [2.0, 3.0, 4.0]}
    spent = up.Experiment("checkout", arms=ARMS, metrics=[up.Count("paid")], unit="user")
    joined = spent.analyze(log, outcomes=bought)
    assert joined.units == 2000
    assert joined.effects[0].value == pytest.approx(0.005)
    assert joined.effects[0].control_value == pytest.approx(0.004)
    timed = bought | {"at": [instant(f"2026-0{month}-05") for month in (1, 2, 3)]}
    before = spent.analyze(log, outcomes=timed, until="2026-03-01")
    assert before.effects[0].value == pytest.approx(0.003)  # neither before nor after
    assert before == spent.analyze(log, outcomes=timed, until="2026-03-01")
    with pytest.raises(NotFound, match="none of the arms a, b"):
        up.Experiment("checkout", arms=["a", "b"], metrics=metrics).analyze(log)
    shares = up.Experiment("checkout", arms={"control": 0.9, "new": 0.1}, metrics=metrics)
    assert "0.5 of the units, not 0.9" in " ".join(shares.analyze(log).notes)


def test_the_command_prints_keeps_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPTURN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table(table(lift=0.1)), "rows.parquet")
    Path("shop.py").write_text(
        "import upturn as up\n"
        "checkout = up.Experiment('checkout', arms=['control', 'new'], unit='user',\n"
        "    metrics=[up.Mean('revenue', covariate='before')], segments=['country'],\n"
        "    guardrails=[up.non_inferior(up.Proportion('refunded', better='lower'), margin=.02)])\n"
    )

    def run(*args: str) -> Any:
        return CliRunner().invoke(
            cli,
            ["experiment", "shop.py:checkout", "--data", "rows.parquet", *args],
            catch_exceptions=False,
            env={"COLUMNS": "200"},
        )

    said = run("--at", "at", "--html", "page.html")
    assert said.exit_code == 0
    assert "it may be stopped now" in " ".join(said.output.split())
    page = Path("page.html").read_text()
    assert "<svg" in page
    assert "raises revenue" in page
    first, again = (msgspec.json.decode(run("--json").output) for _ in range(2))
    assert first == again
    workspace = open_workspace()
    kept = workspace.meta.get(Verdict, "checkout")
    workspace.close()
    assert (kept.seq, kept.says, kept.report) == (3, first["verdict"], first)
    assert "units, anytime" in run("--plan", "0.02", "--at", "at").output
    assert "A/A tests" in run("--self-check", "50").output
    assert "on revenue" in run("--novelty", "2", "--at", "at").output
    assert "--at COLUMN" in run("--novelty", "2").output
    for args, message in [
        (["--arm", "amr"], "Did you mean 'arm'"),
        (["--html", "nowhere/page.html"], "can't be written"),
        (["--data", "shop.py"], "shop.py can't be read"),
        (["--since", "2026-01-01"], "is for the Log"),
    ]:
        with pytest.raises(UpturnError, match=message):
            run(*args)
