"""A rehearsal on the terminal: the months, what each policy cost and was worth, and who won."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from upturn.improve.rehearsal import Policy, Rehearsal

_WIDE = 110  # columns of a terminal that holds all metrics of three policies
_FEW = 4  # policies whose months fit beside each other
NAMES = {"auc": "AUC", "log_loss": "log loss", "brier": "Brier", "mae": "MAE", "rmse": "RMSE"}


def print_rehearsal(found: Rehearsal, out: Console) -> None:
    """Print the months, what each policy cost and was worth, the decisions, and who won."""
    from upturn.cli.decisions import decisions_table

    title = f"{found.loop} from {found.start:%Y-%m-%d} until {found.end:%Y-%m-%d}"
    out.print(f"[bold]{title}[/]: {found.rows:,} rows, {found.labelled:,} with labels\n")
    if found.decisions and len(found.policies) <= _FEW:
        out.print(decisions_table(found.decisions), "")
    if len(found.policies) <= _FEW:
        wide = out.width >= _WIDE
        for metrics in [found.metrics] if wide else [(metric,) for metric in found.metrics]:
            out.print(months_table(found, metrics), "")
        out.print(differences_table(found), "")
    out.print(policies_table(found), "")
    out.print(found.conclusion, style="bold", highlight=False, markup=False)
    if found.suggestion is not None:
        out.print(f"Suggested: {found.suggestion.text}", highlight=False, markup=False)
    out.print(_spent(found), style="dim", highlight=False)


def _spent(found: Rehearsal) -> str:
    said = f"{found.seconds:.1f} s, {found.training_seconds:.1f} of them training."
    if found.reused:
        said += f" {len(found.reused)} of the loops did the same before, and were not run again."
    if found.decisions:
        said += f" The decisions with their evidence: upturn decisions {found.decisions_name}"
    return said


def months_table(found: Rehearsal, metrics: Sequence[str]) -> Table:
    """One line a month: volume, base rate, completeness, and each policy's metrics; then all."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("month", "rows", "labelled", "base rate"):
        table.add_column(name, justify="left" if name == "month" else "right")
    policies = [policy.name for policy in found.policies]
    for metric in metrics:
        for place, policy in enumerate(policies):
            label = f"{NAMES.get(metric, metric)}\n{policy}" if place == 0 else f"\n{policy}"
            table.add_column(label, justify="right")
    for month in found.months:
        table.add_row(
            month.month,
            f"{month.rows:,}",
            f"{month.completeness:.1%}",
            "" if month.base_rate is None else f"{month.base_rate:.1%}",
            *(
                _number(month.values[policy].get(metric))
                for metric in metrics
                for policy in policies
            ),
        )
    table.add_section()
    table.add_row(
        "all",
        f"{found.rows:,}",
        f"{found.labelled / found.rows:.1%}" if found.rows else "",
        "",
        *(_number(policy.values.get(metric)) for metric in metrics for policy in found.policies),
        style="bold",
    )
    return table


def differences_table(found: Rehearsal) -> Table:
    """The loop against each baseline, with 95 % intervals, and the retrains of each."""
    from rich.table import Table

    table = Table(
        "loop −", "metric", "difference", "95 % interval", "the loop is", box=None, pad_edge=False
    )
    for one in found.differences:
        seen = one.comparison
        said = {"open": "not shown to differ"}.get(one.verdict, one.verdict)
        table.add_row(
            one.against,
            NAMES.get(seen.metric, seen.metric),
            f"{seen.difference:+.4f}",
            f"[{seen.low:+.4f}, {seen.high:+.4f}]".replace("[", r"\["),
            said,
        )
    return table


def policies_table(found: Rehearsal) -> Table:
    """One line a policy: what it did, what that cost, and by how much it fell short of the best."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    titles = ["policy", "retrains", "releases", "trained", "on rows"]
    titles += [NAMES.get(metric, metric) for metric in found.metrics[:1]]
    if found.loss:
        titles += ["regret", "95 % interval"]
    for title in titles:
        table.add_column(title, justify="left" if title == "policy" else "right")
    for policy in found.policies:
        cells = [
            policy.name.replace("[", r"\["),
            str(policy.retrains),
            str(policy.changes),
            f"{policy.training_seconds:.1f} s" if policy.retrains else "",
            f"{policy.training_rows:,}" if policy.retrains else "",
            *(_number(policy.values.get(metric)) for metric in found.metrics[:1]),
        ]
        table.add_row(*cells, *_regret(found, policy))
    return table


def _regret(found: Rehearsal, policy: Policy) -> list[str]:
    seen = policy.regret
    if seen is None:
        return []
    if policy.name == found.best:
        return ["0", "the best in hindsight"]
    if seen.low is None or seen.high is None:
        return [f"{seen.total:+,.1f}", "–"]
    return [f"{seen.total:+,.1f}", rf"\[{seen.low:+,.1f}, {seen.high:+,.1f}]"]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
