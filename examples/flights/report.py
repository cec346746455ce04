"""The demo's report: policies by month, drift, estimates, guards, decisions, and one lineage."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from evidence import METRICS, Found, gather
from flights import loop
from live import Year
from page import render
from rich.console import Console
from rich.table import Table

from upturn.improve.rehearsal import Policy
from upturn.improve.statistics.interval import Interval

HERE = Path(__file__).resolve().parent
SHOWN = ("auc", "log_loss", "brier")
DRIFTED = 8  # features in the table of drift
UNTIL, SPAN = "--until 2014-01-01", "--initial 1 --start 2013-04-01 --end 2013-12-31"
FURTHER = (
    ("upturn decisions delays", "each decision; with its number, in full"),
    ("upturn runs; upturn deploy delays", "the trainings; serve again"),
    (f"upturn monitor delays --last 275d {UNTIL} --html drift.html", ""),
    (f"upturn rehearse flights.py:loop {SPAN} --vary when.after=70d --html loop.html", ""),
)


def print_report(year: Year, *, seconds: Callable[[], float]) -> None:
    """Print all that was found, and write it to `report.txt` and `report.html` in the store."""
    found = gather(year)
    home = year.workspace.settings.home
    out = Console(record=True, highlight=False, width=118)
    rows = found.rehearsal
    out.print(f"\n[bold]{rows.rows:,} flights, {rows.labelled:,} of which landed[/]\n")
    out.print(_months(found))
    out.print("\n[bold]What each policy cost and was worth[/]  (95 % intervals by days)\n")
    out.print(_policies(found))
    out.print(f"\n{rows.conclusion}", style="bold", markup=False)
    if rows.suggestion is not None:
        out.print(f"Suggested: {rows.suggestion.text}", markup=False)
    out.print(
        f"The rehearsal, without a server, foresaw {found.foreseen} of the "
        f"{len(found.decisions)} decisions that the live loop took, on the same day."
    )
    out.print(
        "\n[bold]Drift by feature and month[/]  (PSI beyond chance against what delays:1 learned"
        " on; 0.2 is a great change)\n"
    )
    out.print(_drift(found))
    out.print("\n[bold]Realised, and estimated before a label was in[/]  (CBPE; 95 % intervals)\n")
    out.print(_estimates(found))
    out.print(f"\n{_held(found)}")
    out.print(
        f"\n[bold]The guards[/]  (harm in {loop.guard[0].metric}; either end of an interval holds"
        " at every look, 95 %)\n"
    )
    out.print(_guards(found))
    quiet = len(year.decisions) - len(found.decisions)
    out.print(f"\n[bold]What the loop decided[/]  ({quiet} quiet days left out)\n")
    out.print(_decisions(found))
    out.print("\n[bold]One prediction, back to its sources[/]\n")
    traced = _lineage(year.sample)
    out.print(traced, markup=False, soft_wrap=True)
    out.print(
        f"The flight asked about is row {year.sample_row} of flights.csv, and each row of the"
        " training data says in flight_id which row it is."
    )
    (home / "report.html").write_text(render(found, traced, FURTHER), encoding="utf-8")
    out.print(f"\n{seconds():.0f} s in all. Look further, in examples/flights:")
    for command, what in FURTHER:
        out.print(f"  {command:43} {what}".rstrip(), markup=False, soft_wrap=True)
    out.print(f"The same as a page, with plots: {home / 'report.html'}", soft_wrap=True)
    (home / "report.txt").write_text(out.export_text(), encoding="utf-8")


def _months(found: Found) -> Table:
    """By month: the loop as it was lived, from the Log, beside the baselines."""
    table = Table(box=None, pad_edge=False)
    table.add_column("month\n")
    for name in ("flights\n", "late\n", "labels\n"):
        table.add_column(name, justify="right")
    for metric in SHOWN:
        for policy in ("loop", "never", "calendar"):
            title = metric.replace("_", " ") if policy == "loop" else ""
            table.add_column(f"{title}\n{policy}", justify="right")
    lived = found.drift.periods
    for month in found.rehearsal.months:
        live = lived[month.month]
        cells = [
            month.month,
            f"{live.rows:,}",
            f"{month.base_rate or 0:.1%}",
            f"{live.completeness:.1%}",
        ]
        for metric in SHOWN:
            cells.append(_number(live.values[metric]))
            cells += [_number(month.values[name][metric]) for name in ("never", "calendar")]
        table.add_row(*cells)
    return table


def _policies(found: Found) -> Table:
    rehearsal = found.rehearsal
    titles = ["policy", "retrains", "releases", "log loss", "AUC"]
    table = _table([*titles, "loop − it, log loss", "regret, nats", "95 % interval"])
    differences = {
        one.against: one.comparison
        for one in rehearsal.differences
        if one.comparison.metric == "log_loss"
    }
    for policy in rehearsal.policies:
        seen = differences.get(policy.name)
        table.add_row(
            found.called(policy),
            str(policy.retrains),
            str(policy.changes),
            *(_number(policy.values[metric]) for metric in ("log_loss", "auc")),
            "" if seen is None else _ends(seen.difference, seen.low, seen.high, "+.4f"),
            *_regret(found, policy),
        )
    return table


def _regret(found: Found, policy: Policy) -> tuple[str, str]:
    seen = policy.regret
    if seen is None:
        return "", ""
    if policy.name == found.rehearsal.best:
        return "0", "the best in hindsight"
    low, high = seen.low, seen.high
    known = low is not None and high is not None
    return f"{seen.total:+.0f}", f"\\[{low:+.0f}, {high:+.0f}]" if known else "too few days"


def _drift(found: Found) -> Table:
    """The features that drifted most in any month, and the month's PSI beyond chance."""
    windows = found.drift.windows
    table = _table(["feature", *(one.name for one in windows)])
    for name in found.most_drifted[:DRIFTED]:
        values = [one.psi.get(name) for one in windows]
        table.add_row(name, *("" if one is None else _shade(one) for one in values))
    return table


def _shade(psi: float) -> str:
    text = f"{psi:.2f}"
    return f"[bold]{text}[/]" if psi >= 0.2 else text


def _estimates(found: Found) -> Table:
    titles = [f"{name}, {kind}" for name in ("AUC", "log loss") for kind in ("labels", "estimated")]
    table = _table(["month", *titles])
    for window in found.drift.windows:
        cells = [window.name]
        for metric in METRICS:
            cells.append(_interval(window.intervals.get(metric)))
            cells.append(_interval(found.estimated[window.name].get(metric)))
        table.add_row(*cells)
    return table


def _held(found: Found) -> str:
    said = [
        "{} of {} months for {}".format(*found.within(metric), name)
        for metric, name in zip(METRICS, ("AUC", "log loss"), strict=True)
    ]
    return f"What labels said later was within the estimate's interval in {', in '.join(said)}."


def _guards(found: Found) -> Table | str:
    """How each stage ended, in one line, and the looks at the one that was least sure."""
    if not found.closest:
        return "No candidate came so far."
    table = _table(["least sure of", "seen", "rows", "harm", "interval"])
    table.add_column("so that")
    for trial in found.closest:
        for look in trial.looks:
            harm = look.harm
            table.add_row(
                f"delays:{trial.state.candidate.version}, {trial.name}",
                f"{look.at:%d %b}",
                f"{look.guard.rows:,}",
                "" if harm is None else f"{harm[0]:+.4f}",
                "" if harm is None else f"\\[{harm[1]:+.4f}, {harm[2]:+.4f}]",
                look.says,
            )
    table.caption = found.ends
    table.caption_style = ""
    table.caption_justify = "left"
    return table


def _decisions(found: Found) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("day", "action", "why"):
        table.add_column(name)
    for decision in found.decisions:
        table.add_row(f"{decision.at:%d %b}", decision.action, decision.why.replace("[", "\\["))
    return table


def _lineage(prediction: str) -> str:
    command = [sys.executable, "-m", "upturn", "lineage", prediction]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True).stdout


def _table(titles: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place else "left")
    return table


def _interval(one: Interval | None) -> str:
    return "–" if one is None else _ends(one.estimate, one.low, one.high, ".3f")


def _ends(value: float, low: float, high: float, form: str) -> str:
    return f"{value:{form}} \\[{low:{form}}, {high:{form}}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
