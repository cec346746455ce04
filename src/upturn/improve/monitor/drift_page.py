"""Parts of a page about drift: symptoms, heatmap, figures, distributions, of any report on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from upturn.improve.monitor.drift import Drift
from upturn.improve.monitor.report import Distribution
from upturn.improve.monitor.symptom import Severity, Symptom
from upturn.improve.page import plots
from upturn.improve.page.html import (
    Html,
    Tone,
    badge,
    details,
    figure,
    grid,
    note,
    section,
    table,
)
from upturn.improve.page.scales import number, share

TONES: dict[Severity, Tone] = {"fine": "good", "warning": "warning", "critical": "critical"}
ROWS = 60  # of a table or a heatmap; the rest is counted
_ACROSS = 60  # windows that are drawn apart


class Window(Protocol):
    """A window of time."""

    @property
    def name(self) -> str: ...

    @property
    def psi(self) -> Mapping[str, float]: ...


class Drifted(Protocol):
    """A report that has drift."""

    @property
    def drift(self) -> Sequence[Drift]: ...

    @property
    def windows(self) -> Sequence[Window]: ...

    @property
    def distributions(self) -> Sequence[Distribution]: ...


def symptom_table(symptoms: Sequence[Symptom]) -> Html | None:
    """What is not fine, the worst first; None where nothing was looked at."""
    found = [one for one in symptoms if one.severity != "fine"]
    if found:
        return table(["", "what", "since"], [_symptom(one) for one in found[:ROWS]], numeric=[])
    return note("Nothing to see to.", "good") if symptoms else None


def drift_section(report: Drifted) -> Html | None:
    """The PSI by column and window, and all distances as a table; None without drift."""
    if not report.drift:
        return None
    shown = report.drift[:ROWS]
    columns = [one.column for one in shown]
    more = len(report.drift) - ROWS
    rest = note(f"{more} columns that drifted less are not shown.") if more > 0 else None
    numbers = table(_HEAD, [_figures(one) for one in shown])
    return section(
        "Drift", _heatmap(report.windows, columns), details("The figures", numbers), rest
    )


def distribution_section(report: Drifted) -> Html | None:
    """Each column now and in the baseline, the most drifted first."""
    order = {one.column: place for place, one in enumerate(report.drift)}
    found = sorted(report.distributions, key=lambda one: order.get(one.column, len(order)))
    if not found:
        return None
    shown = [figure(distribution(one)) for one in found[:ROWS]]
    lead = "Shares of rows in the baseline's bins, the most drifted column first."
    return section("Distributions", grid(*shown), lead=lead)


def distribution(one: Distribution) -> Html:
    """One column now and in the baseline."""
    known = sum(one.before) + one.other[0], sum(one.now) + one.other[1]
    missing = tuple(
        part / (part + rest) if part + rest else 0.0
        for part, rest in zip(one.missing, known, strict=True)
    )
    pair = (missing[0], missing[1]) if any(missing) else None
    if one.kind == "number":
        return plots.histogram_pair(one.edges, one.before, one.now, title=one.column, missing=pair)
    return plots.category_pair(
        one.values, one.before, one.now, title=one.column, other=one.other, missing=pair
    )


def _symptom(one: Symptom) -> list[object]:
    since = f"{one.began_at:%Y-%m-%d %H:%M}" if one.began_at else ""
    when = Html(f"<time>{since.removesuffix(' 00:00')}</time>")
    return [badge(one.severity, TONES[one.severity]), one.says, when]


def _heatmap(windows: Sequence[Window], columns: Sequence[str]) -> Html | None:
    if not windows:
        return None
    size = -(-len(windows) // _ACROSS)
    runs = [windows[begin : begin + size] for begin in range(0, len(windows), size)]
    names = [run[0].name for run in runs]
    values = [
        [max((w.psi[name] for w in run if name in w.psi), default=None) for run in runs]
        for name in columns
    ]
    drawn = plots.heatmap(columns, names, values, title="PSI beyond chance by column and window")
    words = (
        "PSI beyond chance, by column and window. Below 0.1 is usual, from 0.2 on a great change."
    )
    if size > 1:
        words += f" Each field is the greatest of {size} windows."
    return figure(drawn, words)


_HEAD = [
    "column",
    "PSI",
    "by chance",
    "KS",
    "Wasserstein",
    "Jensen-Shannon",
    "Hellinger",
    "variation",
    "chi² p",
    "missing",
    "before",
    "unseen",
]


def _figures(one: Drift) -> list[object]:
    p_value = "" if one.p_value != one.p_value else f"{one.p_value:.2g}"
    return [
        one.column,
        number(one.psi),
        number(one.psi_noise),
        _within(one.ks, one.ks_error, "+"),
        _within(one.wasserstein, one.wasserstein_error, "±"),
        *(number(value) for value in (one.jensen_shannon, one.hellinger, one.total_variation)),
        p_value,
        share(one.missing),
        share(one.missing_before),
        share(one.unseen) if one.unseen else "",
    ]


def _within(value: float | None, error: float | None, sign: str) -> str:
    if value is None or error is None:
        return ""
    return f"{number(value)} {sign} {number(error)}" if error >= 0.0005 else number(value)
