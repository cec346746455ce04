"""The demo's page: the year's evidence as plots, one document that loads nothing."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from evidence import METRICS, Found, hourly
from flights import loop

from upturn.improve.monitor.report import WindowReport
from upturn.improve.page import plots
from upturn.improve.page.html import (
    Html,
    Tone,
    badge,
    code,
    details,
    escape,
    figure,
    note,
    page,
    section,
    table,
    tiles,
)
from upturn.improve.page.scales import number
from upturn.improve.rehearsal import Policy
from upturn.improve.rehearsing.timeline import timeline
from upturn.improve.statistics.interval import Interval

NAMES = {"auc": "AUC", "log_loss": "log loss"}
TONES: dict[str, Tone] = {"promote": "good", "rollback": "critical", "refuse": "warning"}
SAID: dict[str, Tone] = {"shown to be no worse": "good", "shown to be worse": "critical"}


def render(found: Found, lineage: str, further: Sequence[tuple[str, str]]) -> Html:
    """All that the year left behind, on one page."""
    return page(
        "A year of flights, and the loop that looked after the model",
        _outcome(found),
        _policies(found),
        _drift(found),
        _estimates(found),
        _guards(found),
        _decisions(found),
        _lineage(lineage),
        section("Look further", table(["in examples/flights", ""], _commands(further), numeric=[])),
        subtitle=(
            "Will a flight from New York arrive 15 or more minutes late? Asked at its scheduled"
            f" departure, on {found.rehearsal.rows:,} flights from {_day(found.rehearsal.start)} to"
            f" {_day(found.rehearsal.end - timedelta(days=1))}."
        ),
    )


def _day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y}"


def _outcome(found: Found) -> Html:
    rehearsal = found.rehearsal
    late = found.drift.performance.values.get("base_rate", 0.0)
    figures: list[tuple[str, object, str]] = [
        ("flights", f"{rehearsal.rows:,}", f"{late:.1%} late, {rehearsal.labelled:,} landed"),
        ("decisions", len(found.year.decisions), f"{len(found.decisions)} that changed something"),
        ("foreseen", f"{found.foreseen} of {len(found.decisions)}", "by the rehearsal, to the day"),
    ]
    for name, words in (("loop", "log loss, loop"), ("never", "log loss, never")):
        policy = rehearsal.policy(name)
        if policy is not None:
            value = number(policy.values.get("log_loss"), 4)
            figures.append((words, value, f"{policy.retrains} retrains"))
    return section("What came of it", tiles(figures), rehearsal.conclusion)


# --- Policies ------------------------------------------------------------------------------


def _policies(found: Found) -> Html:
    rehearsal = found.rehearsal
    suggested = rehearsal.suggestion
    tone: Tone = "good" if suggested and suggested.holds in ("yes", "same") else ""
    titles = ["policy", "retrains", "releases", "log loss", "AUC", "regret, nats"]
    rows = [
        [found.called(one), one.retrains, one.changes]
        + [number(one.values.get(metric), 4) for metric in ("log_loss", "auc")]
        + [_nats(found, one)]
        for one in rehearsal.policies
    ]
    made = timeline(
        [(found.called(one), one.events) for one in rehearsal.policies if one.events],
        start=rehearsal.start,
        end=rehearsal.end,
    )
    return section(
        "What other policies would have been worth",
        table(titles, rows),
        note(f"Suggested: {suggested.text}", tone) if suggested else None,
        _regret(found),
        figure(made, "What each policy did, and when."),
        lead=(
            "The loop that ran, rehearsed over the same flights beside never retraining, a calendar"
            " without a gate, and itself with other thresholds."
        ),
    )


def _nats(found: Found, policy: Policy) -> str:
    seen = policy.regret
    if seen is None:
        return "—"
    if policy.name == found.rehearsal.best:
        return "the best"
    if seen.low is None or seen.high is None:
        return f"{seen.total:+,.0f}"
    return f"{seen.total:+,.0f} ({seen.low:+,.0f} to {seen.high:+,.0f})"


def _regret(found: Found) -> Html | None:
    """Regret summed up over time, of all but the best."""
    rehearsal = found.rehearsal
    series: list[plots.Series] = []
    for place, policy in enumerate(rehearsal.policies):
        curve = rehearsal.curve(policy.name, "regret")
        if policy.name == rehearsal.best or curve is None:
            continue
        banded = policy.name in ("loop", "never")
        series.append(
            plots.Series(
                found.called(policy),
                curve.at,
                curve.values,
                curve.low if banded else (),
                curve.high if banded else (),
                style="solid" if policy.kind == "loop" else "dashed",
                colour=place,
            )
        )
    if not series:
        return None
    drawn = plots.lines(
        series,
        title="regret of each policy, summed up over the year",
        y_label="regret, nats",
        reference=0.0,
        marks=_releases(found),
    )
    best = next(one for one in rehearsal.policies if one.name == rehearsal.best)
    return figure(
        drawn,
        f"Log loss summed over flights, less that of {found.called(best)}, the best in hindsight:"
        " lower is better. Marks are releases of the loop, bands 95 % intervals of two.",
    )


def _releases(found: Found) -> list[plots.Mark]:
    promoted = [one for one in found.decisions if one.action == "promote"]
    return [plots.Mark(one.at, one.why.partition(" ")[0]) for one in promoted]


# --- Drift and performance -----------------------------------------------------------------


def _drift(found: Found) -> Html:
    windows = found.drift.windows
    names = found.most_drifted
    drawn = plots.heatmap(
        names,
        [_month(one) for one in windows],
        [[one.psi.get(name) for one in windows] for name in names],
        title="drift by feature and month",
    )
    return section(
        "Drift by feature and month",
        figure(drawn, "From 0.1 on it is worth a look, from 0.2 a great change."),
        lead=(
            "How far each feature of a month's flights is from what delays:1 learned on, January to"
            " March: PSI beyond what chance gives."
        ),
    )


def _month(window: WindowReport) -> str:
    return f"{window.since:%b}"


def _estimates(found: Found) -> Html:
    rows = [
        [window.name]
        + [
            _ends(one)
            for metric in METRICS
            for one in (window.intervals.get(metric), found.estimated[window.name].get(metric))
        ]
        for window in found.drift.windows
    ]
    held = ", ".join(
        f"{NAMES[metric]} in {within} of {of} months"
        for metric in METRICS
        for within, of in [found.within(metric)]
    )
    titles = [f"{NAMES[metric]}, {kind}" for metric in METRICS for kind in ("labels", "estimated")]
    return section(
        "Realised, and estimated before a label was in",
        *[figure(_realised(found, metric)) for metric in METRICS],
        f"What labels said later was within the estimate's interval: {held}.",
        details("The figures", table(["month", *titles], rows)),
        lead=(
            "An estimate (CBPE) calibrates scores on the labels of the eight weeks before the month"
            " and looks at no label of its own. It sees inputs and scores move; it can't see that"
            " what they mean has changed. Bands are 95 % intervals."
        ),
    )


def _realised(found: Found, metric: str) -> Html:
    windows = found.drift.windows
    middles = [_middle(one) for one in windows]
    seen = [one.intervals.get(metric) for one in windows]
    guessed = [found.estimated[one.name].get(metric) for one in windows]
    name = NAMES[metric]
    return plots.lines(
        [
            _series(f"{name} by labels", middles, seen, "solid", 0),
            _series("estimated without them", middles, guessed, "dashed", 1),
        ],
        title=f"{name} by month, realised and estimated",
        y_label=name,
        marks=_releases(found) if metric == METRICS[0] else (),
        height=220,
    )


def _series(
    name: str,
    at: Sequence[datetime],
    values: Sequence[Interval | None],
    style: str,
    colour: int,
) -> plots.Series:
    return plots.Series(
        name,
        at,
        [None if one is None else one.estimate for one in values],
        [None if one is None else one.low for one in values],
        [None if one is None else one.high for one in values],
        "dashed" if style == "dashed" else "solid",
        colour,
    )


def _middle(window: WindowReport) -> datetime:
    return window.since + (window.until - window.since) / 2


def _ends(one: Interval | None) -> str:
    return "—" if one is None else f"{one.estimate:.3f} ({one.low:.3f} to {one.high:.3f})"


# --- The guards ----------------------------------------------------------------------------


def _guards(found: Found) -> Html:
    guard = loop.guard[0]
    lead = (
        "In each stage a guard asks whether the candidate's"
        f" {NAMES.get(guard.metric, guard.metric)} is worse by more than {guard.margin:g}. Its"
        " interval is a confidence sequence: either end holds at every look at once, with 95 %, so"
        " that one may look as often as one likes, and act at any time."
    )
    if not found.closest:
        return section("The guards", "No candidate came so far.", lead=lead)
    version = found.closest[0].state.candidate.version
    rows = [
        [f"{look.at:%d %b}", trial.name, f"{look.guard.rows:,}"]
        + (["—", "—"] if look.harm is None else _harm(look.harm))
        + [badge(look.says, SAID.get(look.says, ""))]
        for trial in found.closest
        for look in trial.looks
    ]
    titles = ["looked", "stage", "rows", "harm", "interval", "so that"]
    return section(
        "The guards",
        figure(
            _watched(found),
            f"The rollout of delays:{version}, the one of which the guards were least sure. Asked"
            " again every six hours from the Log; the dashed line is the margin.",
        ),
        table(titles, rows, numeric=range(2, 5), caption="The looks that the loop took."),
        found.ends,
        lead=lead,
    )


def _harm(harm: tuple[float, float, float]) -> list[object]:
    return [f"{harm[0]:+.4f}", f"{harm[1]:+.4f} to {harm[2]:+.4f}"]


def _watched(found: Found) -> Html:
    guard = loop.guard[0]
    series: list[plots.Series] = []
    begun: list[plots.Mark] = []
    for place, trial in enumerate(found.closest):
        looks = [one for one in hourly(found.year, trial) if one.harm is not None]
        harms = [one.harm or (0.0, 0.0, 0.0) for one in looks]
        series.append(
            plots.Series(
                f"in the {trial.name}",
                [one.at for one in looks],
                *([harm[end] for harm in harms] for end in range(3)),
                colour=place,
            )
        )
        begun.append(plots.Mark(trial.state.since, f"{trial.name} begins"))
    return plots.lines(
        series,
        title=f"harm in {guard.metric} with its interval over the days of a rollout",
        y_label=f"harm: {NAMES.get(guard.metric, guard.metric)}",
        marks=begun,
        reference=guard.margin,
        zero=True,
        height=260,
    )


# --- Decisions and lineage -----------------------------------------------------------------


def _decisions(found: Found) -> Html:
    rows = [
        [
            Html(f"<time>{one.at:%d %b}</time>"),
            badge(one.action, TONES.get(one.action, "")),
            one.why,
        ]
        for one in found.decisions
    ]
    shown = table(["day", "", "why"], rows, numeric=[])
    return section("What the loop decided", details(f"All {len(rows)} decisions", shown))


def _lineage(text: str) -> Html:
    drawn = Html(f"<div class=scroll><pre>{escape(text)}</pre></div>")
    return section("One prediction, back to its sources", drawn)


def _commands(further: Sequence[tuple[str, str]]) -> list[list[object]]:
    return [[code(command), what] for command, what in further]
