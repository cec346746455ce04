"""Sensitivity on the page: what each threshold cost and was worth, and which one is suggested."""

from __future__ import annotations

from collections.abc import Sequence

from upturn.improve.page import plots
from upturn.improve.page.html import Html, Tone, badge, figure, note, section, table
from upturn.improve.rehearsal import Policy, Rehearsal

_TONES: dict[str, Tone] = {"yes": "good", "same": "good", "no": "warning", "open": "warning"}


def sensitivity(found: Rehearsal) -> Html | None:
    """The variants of a loop beside each other; None when there is but one loop."""
    loops = [one for one in found.policies if one.kind == "loop"]
    if len(loops) < 2 or not found.loss:
        return None
    parts: list[str] = []
    if found.suggestion is not None:
        parts.append(note(f"Suggested: {found.suggestion.text}", _TONES[found.suggestion.holds]))
    parts.append(figure(_regrets(loops), _words(found)))
    if any(one.settings for one in loops):
        parts.append(_table(found, loops))
    lead = "The same past under other settings: how much hangs on each, and what it costs."
    return section("How sensitive it is", *parts, lead=lead)


def _words(found: Rehearsal) -> str:
    return (
        f"Regret against {found.best}, with 95 % intervals that hold together: where they overlap"
        " 0, the setting can't be told from the best."
    )


def _regrets(loops: Sequence[Policy]) -> Html:
    rows = [
        plots.Row(
            label=f"{one.name} ({one.retrains} retrains)",
            estimate=one.regret.total,
            low=float("nan") if one.regret.low is None else one.regret.low,
            high=float("nan") if one.regret.high is None else one.regret.high,
        )
        for one in loops
        if one.regret is not None
    ]
    return plots.intervals(rows, title="Regret by setting", reference=0.0, x_label="regret")


def _table(found: Rehearsal, loops: Sequence[Policy]) -> Html:
    names = list(dict.fromkeys(path for one in loops for path in one.settings))
    titles = [*names, *found.metrics[:1], "regret", "retrains", "releases", "trained, s", ""]
    rows = [
        [
            *(one.settings.get(name, "as it is") for name in names),
            *(_number(one.values.get(metric)) for metric in found.metrics[:1]),
            "" if one.regret is None else f"{one.regret.total:+,.1f}",
            one.retrains,
            one.changes,
            f"{one.training_seconds:.1f}",
            _standing(found, one),
        ]
        for one in loops
    ]
    return table(titles, rows, numeric=range(len(names), len(titles) - 1))


def _standing(found: Rehearsal, policy: Policy) -> str:
    if found.suggestion is not None and found.suggestion.name == policy.name:
        return badge("suggested", "good")
    if policy.regret is not None and (policy.regret.low or 0) > 0:
        return badge("worse", "warning")
    return ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
