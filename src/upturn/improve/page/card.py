"""Card page: a model's card as one document in HTML, made from the same card as its Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from upturn.improve.page.html import Html, code, details, join, note, page, section, table
from upturn.model.card import Card
from upturn.model.card_text import brief_row, facts_of, number_text
from upturn.model.difference import Difference, field_text

_MOST = 200  # rows of a table


def card_page(card: Card, difference: Difference | None = None) -> Html:
    """The card as a page; with a difference: what changed since the version before."""
    parts = [
        _about(card),
        *_serving(card),
        *_made(card),
        *_numbers(card),
        *_changes(difference),
        _takes(card),
        *_environment(card),
    ]
    return page(f"{card.model}:{card.number}", *parts, subtitle=f"A model of {card.project}")


def _about(card: Card) -> Html:
    said = [
        paragraph.strip()
        for text in (card.model_description, card.description)
        for paragraph in text.split("\n\n")
        if paragraph.strip()
    ]
    gone = note("Removed: it is not shown, and can't be deployed.", "warning")
    rows = [*facts_of(card).items()]
    rows += [
        (f"{one.status} as {one.alias}", f"by {one.who}, {one.at:%Y-%m-%d %H:%M}  {one.why}")
        for one in card.approvals
    ]
    shown = table(("", ""), rows, numeric=())
    return section("About", *([gone] if card.removed else []), *said, shown)


def _serving(card: Card) -> Iterator[Html]:
    rows = [
        (one.endpoint, one.arm, "shadow" if one.shadow else f"{one.share:.1%}", one.revision)
        for one in card.serves
    ]
    yield from _tabled("Serves", ("endpoint", "arm", "share", "route"), rows, numeric=(2, 3))


def _made(card: Card) -> Iterator[Html]:
    if card.data is not None:
        said = f"{card.data.type} {card.data.summary}".strip()
        files = [f"from {name}" for name in card.data.files]
        yield section("Data", said, join("", code(f"artifact/{card.data.digest}")), *files)
    if card.code is not None:
        made = [join("Fitted by ", code(card.code.task))] if card.code.task else []
        made += [join("Registered by ", code(card.task))] if card.task else []
        yield section("Code", card.code.entry, *made)


def _numbers(card: Card) -> Iterator[Html]:
    yield from _tabled("Parameters", ("parameter", "value"), card.params.items())
    yield from _tabled("Metrics", ("metric", "value"), sorted(card.metrics.items()))
    names = sorted({metric for values in card.slices.values() for metric in values})
    rows = [(part, *(found.get(name) for name in names)) for part, found in card.slices.items()]
    yield from _tabled("Metrics by slice", ("slice", *names), sorted(rows, key=lambda row: row[0]))


def _changes(difference: Difference | None) -> Iterator[Html]:
    if difference is None or difference.nothing:
        return
    rows = [
        (kind, change.name, change.before, change.after)
        for kind, found in difference.changes().items()
        for change in found
    ]
    header = ("", "", difference.before, difference.after)
    diff = "\n".join(difference.code)
    shown = [details("Code", Html(f"<pre>{code(diff)}</pre>"))] if diff else []
    yield section(f"Since {difference.before}", _table(header, rows), *shown)


def _takes(card: Card) -> Html:
    signature = card.signature
    said = f"Answers: {signature.output}"
    said += f" of {signature.target}" if signature.target else ""
    said += f", one of {', '.join(map(str, signature.classes))}" if signature.classes else ""
    rows = [(field.name, field_text(field)) for field in signature.inputs]
    header = ("column", "missing", "mean", "std", "low", "high", "most frequent")
    profile = _table(header, map(brief_row, card.profile), numeric=range(1, 6))
    inputs = _table(("input", "type"), rows)
    return section("Signature", said, inputs, details("Training data in brief", profile))


def _environment(card: Card) -> Iterator[Html]:
    found = card.environment
    if found.python or found.distributions:
        packages = table(("package", "version"), found.distributions.items(), numeric=())
        yield section("Environment", f"Python {found.python}", details("Packages", packages))


def _tabled(
    title: str,
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    numeric: Sequence[int] = (),
) -> Iterator[Html]:
    held = list(rows)
    if held:
        yield section(title, _table(header, held, numeric=numeric))


def _table(
    header: Sequence[str], rows: Iterable[Sequence[Any]], *, numeric: Sequence[int] = ()
) -> Html:
    held = [[number_text(value, plain=True) for value in row] for row in rows]
    left = f"{len(held) - _MOST} more are left out." if len(held) > _MOST else ""
    return table(header, held[:_MOST], numeric=numeric, caption=left)
