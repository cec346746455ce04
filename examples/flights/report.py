"""The demo's report: each policy by month, the decisions, and one prediction's lineage."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from flights import loop
from live import Year
from rich.console import Console
from rich.table import Table

import upturn as up
from upturn.improve.monitor.performance import performance_by
from upturn.improve.rehearsal import Rehearsal

HERE = Path(__file__).resolve().parent
SHOWN = ("auc", "log_loss", "brier")
QUIET = ("keep", "watch", "wait")


def print_report(year: Year, *, seconds: Callable[[], float]) -> None:
    """Rehearse the policy for the baselines, and print all, also to `report.txt` in the store."""
    found = up.rehearse(year.workspace, loop, start=year.start, end=year.end, initial=1)
    out = Console(record=True, highlight=False, width=118)
    out.print(f"\n[bold]{found.rows:,} flights, {found.labelled:,} of which landed[/]\n")
    out.print(_months(year, found))
    out.print(
        "\n[bold]What each policy cost and was worth[/] (95 % intervals of a bootstrap by day)\n"
    )
    out.print(_policies(year, found))
    out.print(f"\n{_honestly(year, found)}", style="bold")
    out.print(f"\n[bold]What the loop decided[/]  ({_quiet(year)} quiet days left out)\n")
    out.print(_decisions(year))
    out.print("\n[bold]One prediction, back to its sources[/]\n")
    out.print(_lineage(year.sample), markup=False, soft_wrap=True)
    out.print(
        f"The flight asked about is row {year.sample_row} of flights.csv, and each row of the"
        " training data says in flight_id which row it is."
    )
    out.print(f"\n{seconds():.0f} s in all. Look further, in examples/flights:")
    for line in (
        "upturn decisions delays                       each decision; with its number, in full",
        "upturn monitor delays --until 2014-01-01      drift and performance",
        "upturn rehearse flights.py:loop --start 2013-04-01 --end 2013-12-31",
        "upturn runs; upturn deploy delays             the trainings; serve again",
    ):
        out.print(f"  {line}", markup=False)
    (year.workspace.settings.home / "report.txt").write_text(out.export_text())


def _months(year: Year, found: Rehearsal) -> Table:
    """By month: the loop as it was lived, from the Log, beside the baselines."""
    joined = year.log.joined(known_by=year.end, since=year.start, until=year.end, shadow=False)
    lived = dict(performance_by(joined, "month", SHOWN))
    table = Table(box=None, pad_edge=False)
    table.add_column("month\n")
    for name in ("flights\n", "late\n", "labels\n"):
        table.add_column(name, justify="right")
    for metric in SHOWN:
        for policy in ("loop", "never", "calendar"):
            title = metric.replace("_", " ") if policy == "loop" else ""
            table.add_column(f"{title}\n{policy}", justify="right")
    for month in found.months:
        live = lived[month.month]
        cells = [
            month.month,
            f"{live.rows:,}",
            f"{month.base_rate or 0:.1%}",
            f"{live.completeness:.1%}",
        ]
        for metric in SHOWN:
            cells.append(f"{live.values[metric]:.4f}")
            cells += [_number(month.values[name][metric]) for name in ("never", "calendar")]
        table.add_row(*cells)
    return table


def _policies(year: Year, found: Rehearsal) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in (
        "policy",
        "retrains",
        "releases",
        "log loss",
        "AUC",
        "Brier",
        "loop − it, log loss",
    ):
        table.add_column(name, justify="left" if name == "policy" else "right")
    differences = {
        one.against: one.comparison
        for one in found.differences
        if one.comparison.metric == "log_loss"
    }
    for policy in found.policies:
        seen = differences.get(policy.name)
        table.add_row(
            {"loop": "loop", "never": "never retrain", "calendar": f"every {found.calendar}"}[
                policy.name
            ],
            str(policy.retrains),
            str(policy.changes),
            *(_number(policy.values[metric]) for metric in ("log_loss", "auc", "brier")),
            "" if seen is None else f"{seen.difference:+.4f} \\[{seen.low:+.4f}, {seen.high:+.4f}]",
        )
    return table


def _honestly(year: Year, found: Rehearsal) -> str:
    """Who won, and whether the rehearsed loop is the one that was lived."""
    lived = [(d.at, d.action) for d in year.decisions if d.action not in QUIET]
    rehearsed = [(d.at, d.action) for d in found.decisions if d.action not in QUIET]
    same = len(set(lived) & set(rehearsed))
    return (
        f"{found.conclusion}\nThe rehearsal, without a server, foresaw {same} of the "
        f"{len(lived)} decisions that the live loop took, on the same day."
    )


def _decisions(year: Year) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("day", "action", "why"):
        table.add_column(name)
    for decision in year.decisions:
        if decision.action not in QUIET:
            table.add_row(f"{decision.at:%d %b}", decision.action, decision.why.replace("[", "\\["))
    return table


def _quiet(year: Year) -> int:
    return sum(decision.action in QUIET for decision in year.decisions)


def _lineage(prediction: str) -> str:
    command = [sys.executable, "-m", "upturn", "lineage", prediction]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True).stdout


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
