"""The rehearsal's page: who won and by how much, over time, at what cost, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from upturn.improve.metrics import get_metric
from upturn.improve.page import plots
from upturn.improve.page.html import (
    Html,
    badge,
    code,
    escape,
    figure,
    note,
    page,
    section,
    table,
    tiles,
)
from upturn.improve.rehearsal import Policy, Rehearsal
from upturn.improve.rehearsing.sensitivity import sensitivity
from upturn.improve.rehearsing.timeline import timeline

_SHOWN = 6  # lines in one plot: as many as there are colours to tell apart
_LEVEL = 0.05
_NAMES = {"auc": "AUC", "log_loss": "log loss", "brier": "Brier", "mae": "MAE", "rmse": "RMSE"}
_UNITS = {"log_loss": "nats", "rmse": "squared error", "mae": "absolute error"}


def rehearsal_page(found: Rehearsal, *, made_at: datetime | None = None) -> Html:
    """The rehearsal as one self-contained page; the same rehearsal, the same bytes."""
    span = f"{found.start:%Y-%m-%d} until {found.end:%Y-%m-%d} UTC"
    labels = f"{found.rows:,} rows, {found.labelled:,} with labels"
    written = [f"written {made_at:%Y-%m-%d %H:%M}"] if made_at else []
    parts = [
        _verdict(found),
        _policies(found),
        _over_time(found),
        _regret(found),
        _decisions(found),
        sensitivity(found),
        _months(found),
        _method(found),
    ]
    return page(
        f"{found.loop}: what each policy would have been worth",
        *(part for part in parts if part is not None),
        subtitle=" · ".join([span, labels, *written]),
    )


def _verdict(found: Rehearsal) -> Html:
    figures: list[tuple[str, object, str]] = [
        ("policies", len(found.policies), "over the same rows"),
        ("trainings", found.trainings, f"different ones, {found.training_seconds:.0f} s"),
    ]
    if found.best:
        figures.append(("best in hindsight", found.best, f"by {_name(found.loss)}"))
    if found.suggestion is not None:
        figures.append(("suggested", found.suggestion.name, "see how sensitive it is"))
    said = [found.conclusion]
    return section("Verdict", *said, tiles(figures))


def _policies(found: Rehearsal) -> Html:
    titles = ["policy", "retrains", "releases", "trained, s", "on rows"]
    titles += [_name(metric) for metric in found.metrics]
    if found.loss:
        titles += [f"regret, {_unit(found.loss)}", "95 % interval", "the best?"]
    rows = [_policy(found, one) for one in found.policies]
    lead = (
        "Retrains are trainings after the first; their seconds are those of the steps when they"
        " ran, their rows the labelled ones in each training's data."
    )
    return section("Policies", table(titles, rows), lead=lead)


def _policy(found: Rehearsal, policy: Policy) -> list[object]:
    cells: list[object] = [
        _whole(policy.name),
        policy.retrains,
        policy.changes,
        f"{policy.training_seconds:.1f}" if policy.retrains else "",
        f"{policy.training_rows:,}" if policy.retrains else "",
        *(_number(policy.values.get(metric)) for metric in found.metrics),
    ]
    seen = policy.regret
    if not found.loss:
        return cells
    if seen is None:
        return [*cells, "", "", ""]
    known = seen.low is not None and seen.high is not None and policy.name != found.best
    interval = f"{seen.low:+,.1f} to {seen.high:+,.1f}" if known else ""
    return [*cells, f"{seen.total:+,.1f}", interval, _standing(found, policy)]


def _standing(found: Rehearsal, policy: Policy) -> str:
    if policy.kind == "oracle":
        return badge("a bound")
    if policy.name == found.best:
        return badge("best", "good")
    seen = policy.regret
    if seen is None or seen.low is None:
        return ""
    if seen.low > 0:
        return badge("worse", "warning")
    return badge("can't be told from it")


def _over_time(found: Rehearsal) -> Html | None:
    if not found.metrics or not found.curves:
        return None
    shown = _lines(found)
    plotted = [
        figure(_plot(found, shown, metric, marks=place == 0), _caption(metric))
        for place, metric in enumerate(found.metrics)
    ]
    left = len(found.policies) - len(shown)
    lead = "Each period by its own days; the band is the 95 % interval of the first line alone."
    if left:
        lead += f" {left} more policies are in the tables."
    return section("Over time", *plotted, lead=lead)


def _caption(metric: str) -> str:
    better = "more" if get_metric(metric).greater_is_better else "less"
    return f"{_name(metric)}: {better} is better."


def _plot(found: Rehearsal, shown: Sequence[Policy], metric: str, *, marks: bool) -> Html:
    series: list[plots.Series] = []
    for place, policy in enumerate(shown):
        curve = found.curve(policy.name, metric)
        if curve is None:
            continue
        series.append(
            plots.Series(
                policy.name,
                curve.at,
                curve.values,
                curve.low if place == 0 else (),
                curve.high if place == 0 else (),
                style="solid" if policy.kind == "loop" else "dashed",
                colour=place,
            )
        )
    return plots.lines(
        series,
        title=f"{_name(metric)} of each policy over time",
        y_label=_name(metric),
        marks=_releases(found, shown) if marks else (),
    )


def _releases(found: Rehearsal, shown: Sequence[Policy]) -> list[plots.Mark]:
    """The first loop's changes of the version that answers."""
    first = next((policy for policy in shown if policy.kind == "loop"), None)
    words = {"promote": "promoted", "rollback": "rolled back"}
    events = () if first is None else first.events
    return [
        plots.Mark(one.at, f"{found.model}:{one.version} {words[one.action]}")
        for one in events
        if one.action in words
    ]


def _regret(found: Rehearsal) -> Html | None:
    if not found.best:
        return None
    shown = [policy for policy in _lines(found) if policy.name != found.best][: _SHOWN - 1]
    series: list[plots.Series] = []
    for place, policy in enumerate(shown):
        curve = found.curve(policy.name, "regret")
        if curve is not None:
            series.append(
                plots.Series(
                    policy.name,
                    curve.at,
                    curve.values,
                    curve.low,
                    curve.high,
                    style="solid" if policy.kind == "loop" else "dashed",
                    colour=place,
                )
            )
    if not series:
        return None
    unit = _unit(found.loss)
    drawn = plots.lines(
        series,
        title=f"Regret against {found.best}, summed up",
        y_label=f"regret, {unit}",
        reference=0.0,
    )
    lead = (
        f"By how much more than {found.best}, the best policy in hindsight, each lost until then:"
        f" {_name(found.loss)} summed over rows, in {unit}. Bands are 95 % intervals of each time"
        " and policy alone; those in the table of policies hold together."
    )
    return section("Regret", figure(drawn), _chosen(found), lead=lead)


def _chosen(found: Rehearsal) -> Html | None:
    one = found.selection
    if one is None or one.p != one.p:
        return None
    words = "is more than luck" if one.p < _LEVEL else "may be luck"
    return note(
        f"{one.best} looks best of {one.among}, and was picked for that. That it beats"
        f" {one.against} {words}, having counted that {one.among} were tried: p = {one.p:.3f}."
    )


def _decisions(found: Rehearsal) -> Html | None:
    shown = [policy for policy in found.policies if policy.events]
    if not shown:
        return None
    drawn = timeline(
        [(policy.name, policy.events) for policy in shown], start=found.start, end=found.end
    )
    stored = [
        [_whole(policy.name), code(f"upturn decisions {policy.decisions_name}")]
        for policy in shown
        if policy.decisions_name is not None
    ]
    listed = table(["policy", "its decisions, with their evidence"], stored, numeric=[])
    return section("Decisions", figure(drawn), listed if stored else None)


def _months(found: Rehearsal) -> Html | None:
    if not found.months or not found.metrics:
        return None
    metric = found.metrics[0]
    titles = ["month", "rows", "labelled", "base rate", *(one.name for one in found.policies)]
    rows: list[list[object]] = [
        [
            _whole(month.month),
            f"{month.rows:,}",
            f"{month.completeness:.1%}",
            "" if month.base_rate is None else f"{month.base_rate:.3g}",
            *(_number(month.values[one.name].get(metric)) for one in found.policies),
        ]
        for month in found.months
    ]
    return section("By month", table(titles, rows, caption=_caption(metric)))


def _method(found: Rehearsal) -> Html:
    said = [
        "The very policy that runs a live loop decided here, on what was known at each time."
        " Features and labels are as good as the history is; answers had no influence on what"
        " happened, and there were no latencies to guard.",
    ]
    if found.best:
        said.append(
            f"Days were drawn in blocks of {found.block_days:.1f} days on average, all policies on"
            " the same ones (Politis & Romano 1994; length by Politis & White 2004). Regrets'"
            " intervals hold together for all pairs of policies (Romano & Wolf 2005), so they allow"
            " for the best having been picked by the same days. “Worse” is an interval above 0."
        )
    return section("How this was had", *said)


def _lines(found: Rehearsal) -> list[Policy]:
    """The policies that are drawn: the first loop, the best, the suggestion, baselines, others."""
    suggested = "" if found.suggestion is None else found.suggestion.name
    first = next((one.name for one in found.policies if one.kind == "loop"), "")

    def rank(policy: Policy) -> int:
        if policy.name == first:
            return 0
        if policy.name in (found.best, suggested):
            return 1
        return 3 if policy.kind == "loop" else 2

    chosen = sorted(found.policies, key=rank)[:_SHOWN]
    return chosen


def _whole(name: str) -> Html:
    """A name that is not broken into lines."""
    return Html(f"<span class=n>{escape(name)}</span>")


def _name(metric: str) -> str:
    return _NAMES.get(metric, metric)


def _unit(loss: str) -> str:
    return _UNITS.get(loss, _name(loss))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
