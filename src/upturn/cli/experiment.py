"""`upturn experiment FILE:EXPERIMENT`: what may be concluded from the arms so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from upturn.improve.experiment.aa import SelfCheck
    from upturn.improve.experiment.experiment import Experiment
    from upturn.improve.experiment.novelty import Novelty
    from upturn.improve.experiment.plan import Plan
    from upturn.improve.experiment.result import Analysis
    from upturn.improve.experiment.show import Shown

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
@click.option("--novelty", "days", type=int, help="Effects by day since a unit's first, as in 14.")
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
    days: int | None,
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
    _check_folder(html)
    if effect is not None:
        plan = experiment.plan(_history(data), effect=effect, power=power, at=at, per_day=per_day)
        _print(plan, as_json, show_plan)
    elif splits is not None:
        _print(
            experiment.self_check(_history(data), splits=splits, seed=seed, at=at),
            as_json,
            show_check,
        )
    elif days is not None:
        if at is None:
            raise click.UsageError("Give the column of the time with --at COLUMN.")
        rows = _history(data)
        _print(experiment.novelty(rows, arm=arm, at=at, days=days), as_json, show_novelty)
    else:
        window = (since, until)
        found = _analyzed(experiment, data, arm, at, outcomes, window)
        if html is not None:
            from upturn.improve.experiment.page import experiment_page

            html.write_text(experiment_page(found), encoding="utf-8")
        _print(found, as_json, show)


def _check_folder(html: Path | None) -> None:
    from upturn.core.errors import NotFound

    if html is not None and (html.is_dir() or not html.parent.is_dir()):
        raise NotFound(f"The page can't be written to {html}.", hint="Name a file in a folder.")


def _history(data: str | None) -> str:
    if data is None:
        raise click.UsageError("Give the rows with --data FILE.")
    return data


def _analyzed(
    experiment: Experiment,
    data: str | None,
    arm: str,
    at: str | None,
    outcomes: str | None,
    window: tuple[str | None, str | None],
) -> Analysis:
    from upturn.core.errors import NotFound
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
        try:
            log = read_log(endpoint, workspace)
        except NotFound as error:
            hint = error.hint or "Give the rows with --data FILE, or deploy it."
            raise NotFound(error.message, hint=hint) from None
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
    from upturn.improve.experiment import show as shown

    yield f"[bold]{plain(found.experiment)}[/]: {plain(shown.sizes(found))}"
    yield _shown(shown.effects_table(found))
    if found.guardrails:
        yield _shown(shown.guardrails_table(found))
    if found.segments:
        yield _shown(shown.segments_table(found))
    if found.interactions:
        yield _shown(shown.interactions_table(found))
    yield f"[dim]{plain(shown.how(found))}[/]"
    for note in found.notes:
        yield plain(note)
    yield f"[bold]{plain(found.verdict)}[/]"


def _shown(found: Shown) -> Table:
    from upturn.cli.render import plain

    table = _table(*found.columns[: found.texts])
    for name in found.columns[found.texts : -1]:
        table.add_column(name, justify="right")
    table.add_column(found.columns[-1])
    for row, status in zip(found.rows, found.statuses, strict=True):
        colour = _COLOURS.get(status, "default")
        table.add_row(*map(plain, row[:-1]), f"[{colour}]{plain(row[-1])}[/]")
    return table


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


def show_novelty(found: Sequence[Novelty]) -> Iterator[RenderableType]:
    """The effects by days since a unit's first row, and whether they change."""
    from upturn.cli.render import plain
    from upturn.improve.experiment.verdict import interval_text

    table = _table("metric", "arm")
    for name in ("day", "units", "difference"):
        table.add_column(name, justify="right")
    for one in found:
        for day in one.days:
            gap = plain(interval_text(day.difference, signed=True))
            table.add_row(one.metric, one.arm, str(day.day), f"{day.units:,}", gap)
    yield table
    for one in found:
        change = interval_text(one.change, signed=True)
        said = {
            "fades": f"fades: {change} from the first half of the days to the second",
            "grows": f"grows: {change} from the first half of the days to the second",
            "open": f"is not shown to change: {change}",
            "unsaid": "can't be said to change: too few units were there for all days",
        }[one.trend]
        yield plain(f"The effect of {one.arm} on {one.metric} {said}.")


def _table(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False, title_justify="left")
