"""`upturn experiment FILE:EXPERIMENT`: what may be concluded from the arms so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from upturn.improve.experiment.aa import SelfCheck
    from upturn.improve.experiment.experiment import Experiment
    from upturn.improve.experiment.plan import Plan
    from upturn.improve.experiment.result import Analysis, Effect

_COLOURS = {"better": "green", "worse": "red", "passed": "green", "failed": "red"}


@click.command("experiment")
@click.argument("target", metavar="FILE:EXPERIMENT")
@click.option("--data", help="A Parquet or CSV file, or a pattern.  [default: the endpoint's Log]")
@click.option("--arm", default="arm", show_default=True, help="The column of the arm.")
@click.option("--at", help="The column of the time, for effects over time.")
@click.option("--outcomes", help="With the Log: a file of outcomes by unit.")
@click.option("--since", help="With the Log: the first day, or instant with a time zone.")
@click.option("--until", help="With the Log: the end of the time.  [default: now]")
@click.option("--plan", "effect", type=float, help="Plan for a relative effect, as in 0.02.")
@click.option("--power", default=0.8, show_default=True, help="With --plan.")
@click.option("--per-day", type=float, help="With --plan: units a day.  [default: by --at]")
@click.option("--self-check", "splits", type=int, help="So many A/A tests on the data, as in 1000.")
@click.option("--seed", default=0, show_default=True, help="With --self-check.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page to this file.")
def command(
    target: str,
    data: str | None,
    arm: str,
    at: str | None,
    outcomes: str | None,
    since: str | None,
    until: str | None,
    effect: float | None,
    power: float,
    per_day: float | None,
    splits: int | None,
    seed: int,
    as_json: bool,
    html: Path | None,
) -> None:
    """Say what may be concluded from an experiment now, and keep it as a Verdict.

    The experiment is an up.Experiment in a Python file. Its rows are those of --data, or of the Log
    of its endpoint. With --plan or --self-check, --data is the history before the experiment.
    """
    from upturn.cli.target import load_target
    from upturn.improve.experiment.experiment import Experiment

    experiment = load_target(target, Experiment)
    if effect is not None:
        plan = experiment.plan(_history(data), effect=effect, power=power, at=at, per_day=per_day)
        _print(plan, as_json, show_plan)
    elif splits is not None:
        _print(
            experiment.self_check(_history(data), splits=splits, seed=seed, at=at),
            as_json,
            show_check,
        )
    else:
        window = (since, until)
        found = _analyzed(experiment, data, arm, at, outcomes, window)
        if html is not None:
            from upturn.improve.experiment.page import experiment_page

            html.write_text(experiment_page(found), encoding="utf-8")
        _print(found, as_json, show)


def _history(data: str | None) -> str:
    if data is None:
        raise click.UsageError("Give the history with --data FILE.")
    return data


def _analyzed(
    experiment: Experiment,
    data: str | None,
    arm: str,
    at: str | None,
    outcomes: str | None,
    window: tuple[str | None, str | None],
) -> Analysis:
    from upturn.core.time import instant, utcnow
    from upturn.improve.experiment.keep import keep
    from upturn.improve.log import read_log
    from upturn.stores.workspace import open_workspace

    since, until = (None if one is None else instant(one) for one in window)
    now = utcnow()
    workspace = open_workspace()
    try:
        if data is not None:
            given = {"outcomes": outcomes, "since": since, "until": until}
            found = experiment.analyze(data, arm=arm, at=at, **given)
            keep(workspace, experiment, found, now=now)
            return found
        endpoint = experiment.endpoint or experiment.name
        until = until or now
        log = read_log(endpoint, workspace)
        found = experiment.analyze(log, outcomes=outcomes, since=since, until=until)
        keep(workspace, experiment, found, now=now, endpoint=endpoint, since=since, until=until)
        return found
    finally:
        workspace.close()


def _print(found: Any, as_json: bool, shown: Callable[[Any], Iterator[RenderableType]]) -> None:
    import msgspec

    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    from upturn.cli.render import console

    for part in shown(found):
        console().print(part)


def show(found: Analysis) -> Iterator[RenderableType]:
    """The verdict, and the tables that it rests on."""
    from upturn.cli.render import plain

    sizes = ", ".join(f"{one.arm} {one.units:,}" for one in found.arms)
    yield f"[bold]{plain(found.experiment)}[/]: {plain(sizes)} units"
    yield _effects(found)
    if found.guardrails:
        yield _guardrails(found)
    if found.segments:
        yield _segments(found)
    level = f"{1 - found.alpha:.0%}"
    held = {"anytime": "at every look", "fixed": "for one look"}.get(
        found.method, "at planned looks"
    )
    line = f"Each interval holds with {level} by itself, {held}"
    if found.correction and len(found.effects) > 1:
        how = {"holm": "Holm", "bh": "Benjamini & Hochberg"}[found.correction]
        line += f"; p is adjusted for {len(found.effects)} comparisons ({how})"
    yield f"[dim]{line}. Lift: Fieller.[/]"
    for note in found.notes:
        yield plain(note)
    yield f"[bold]{plain(found.verdict)}[/]"


def _effects(found: Analysis) -> Table:
    table = _table("metric", "arm")
    for name in (found.control, "arm's", "difference", "lift", "p", "says"):
        table.add_column(name, justify="left" if name == "says" else "right")
    for one in found.effects:
        table.add_row(one.metric, one.arm, *_figures(one), _status(one.status, one.why))
    return table


def _guardrails(found: Analysis) -> Table:
    table = _table("guardrail", "arm")
    for name in ("difference", "lift", "margin", "says"):
        table.add_column(name, justify="left" if name == "says" else "right")
    for one in found.guardrails:
        _, _, gap, lift, _ = _figures(one.effect)
        margin = f"{one.margin:.1%}" if one.relative else f"{one.margin:.4g}"
        says = _status(one.status, one.effect.why)
        table.add_row(one.effect.metric, one.effect.arm, gap, lift, margin, says)
    return table


def _segments(found: Analysis) -> Table:
    table = _table("segment", "metric", "arm")
    for name in ("units", "difference", "lift", "p", "says"):
        table.add_column(name, justify="left" if name == "says" else "right")
    for one in found.segments:
        _, _, gap, lift, p = _figures(one.effect)
        name = f"{one.segment} = {one.value}"
        says = _status(one.effect.status, one.effect.why)
        row = (name, one.effect.metric, one.effect.arm, f"{one.effect.units:,}", gap, lift, p, says)
        table.add_row(*row)
    return table


def _figures(one: Effect) -> tuple[str, str, str, str, str]:
    from upturn.cli.render import plain
    from upturn.improve.experiment.verdict import interval_text, p_text

    gap = "" if one.why else plain(interval_text(one.difference, signed=True))
    lifted = not one.why and math.isfinite(one.lift.low)
    lift = plain(interval_text(one.lift, per_cent=True, signed=True)) if lifted else ""
    p = "" if math.isnan(one.p_adjusted) else p_text(one.p_adjusted)
    values = ["" if math.isnan(v) else f"{v:.4g}" for v in (one.control_value, one.value)]
    return values[0], values[1], gap, lift, p


def _status(status: str, why: str) -> str:
    from upturn.cli.render import plain

    said = {"open": "not shown", "unsaid": f"can't be said: {why}"}.get(status, status)
    return f"[{_COLOURS.get(status, 'default')}]{plain(said)}[/]"


def show_plan(plan: Plan) -> Iterator[RenderableType]:
    """How many units and days it takes, and what can be found by when."""
    rate = f", {plan.per_day:,.0f} a day" if plan.per_day else ""
    yield f"[bold]{plan.experiment}[/], planned from {plan.units:,} units{rate}"
    table = _table("metric")
    names = ("mean", "std", "CUPED", "effect", "units, anytime", "days", "units, one look", "days")
    for name in names:
        table.add_column(name, justify="right")
    for one in plan.metrics:
        table.add_row(
            one.metric,
            f"{one.value:.4g}",
            f"{one.std:.4g}",
            f"−{one.reduction:.0%}" if one.reduction > 0.005 else "",
            f"{one.effect:.1%}",
            *(
                text
                for units, days in (
                    (one.anytime_units, one.anytime_days),
                    (one.fixed_units, one.fixed_days),
                )
                for text in (
                    "can't be said" if units is None else f"{units:,}",
                    "" if days is None else f"{days:.1f}",
                )
            ),
        )
    yield table
    weeks = [one for one in plan.metrics if one.by_week]
    if weeks:
        yield _weeks(plan)
    yield (
        f"[dim]Found with a chance of {plan.power:.0%} at alpha {plan.alpha:.4g} a comparison. "
        "Looking at any time, most experiments with such an effect may be stopped before.[/]"
    )


def _weeks(plan: Plan) -> Table:
    table = _table("least effect after weeks")
    shown = [one for one in plan.metrics if one.by_week]
    for week in shown[0].by_week:
        table.add_column(str(week.weeks), justify="right")
    for one in shown:
        table.add_row(f"{one.metric}, anytime", *(f"{week.anytime:.1%}" for week in one.by_week))
        table.add_row(f"{one.metric}, one look", *(f"{week.fixed:.1%}" for week in one.by_week))
    return table


def show_check(found: SelfCheck) -> Iterator[RenderableType]:
    """How often something was found where there is nothing."""
    from upturn.cli.render import plain

    yield (
        f"[bold]{found.experiment}[/]: {found.splits:,} A/A tests on {found.units:,} units, "
        f"{found.looks} looks each, {found.method}"
    )
    table = _table("metric")
    for name in ("found", "rate", "95 % interval", "a fixed test, peeking", "p-values uniform: p"):
        table.add_column(name, justify="right")
    for one in found.metrics:
        colour = "default" if one.sound else "red"
        table.add_row(
            one.metric,
            str(one.found),
            f"[{colour}]{one.rate:.1%}[/]",
            plain(f"[{one.low:.1%}, {one.high:.1%}]"),
            f"{one.peeking_rate:.1%}",
            f"{one.uniform_p:.2g}",
        )
    yield table
    if found.sound:
        yield f"No more than the {found.alpha:.0%} that alpha allows."
    else:
        yield "[red]More than alpha allows[/]: are rows of one unit taken for units?"


def _table(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False, title_justify="left")
