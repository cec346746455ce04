"""Card text: a card and a difference as Markdown, for terminals, pages and files."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from upturn.model.card import Card, ColumnBrief
from upturn.model.difference import Change, Difference, field_text

_SHORT = 12  # characters of a digest
_MOST = 200  # rows of a table


def card_markdown(card: Card, difference: Difference | None = None) -> str:
    """The card as Markdown; with a difference: what changed since the version before."""
    lines = [f"# {card.model}:{card.number}", ""]
    if card.removed:
        lines += ["**Removed**: it is not shown, and can't be deployed.", ""]
    for text in (card.model_description, card.description):
        if text:
            lines += [text, ""]
    lines += _facts(card)
    lines += _serving(card)
    lines += _made(card)
    lines += _numbers(card)
    if difference is not None and not difference.nothing:
        lines += ["", f"## Since {difference.before}", *_difference_lines(difference, 3)]
    lines += _takes(card)
    lines += _section("Environment", _environment(card))
    return "\n".join(lines).rstrip() + "\n"


def difference_markdown(difference: Difference) -> str:
    """What differs between two versions, as Markdown."""
    head = f"# {difference.before} → {difference.after}\n"
    if difference.nothing:
        return f"{head}\nThey do not differ in model, data, code, parameters or metrics.\n"
    return head + "\n".join(_difference_lines(difference, 2)).rstrip() + "\n"


def number_text(value: Any, *, plain: bool = False) -> str:
    """A value in a table of Markdown, or `plain`.

    >>> number_text(0.123456789), number_text(None), number_text("a|b")
    ('0.123457', '', 'a\\\\|b')
    """
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join((text if plain else text.replace("|", "\\|")).split())


def facts_of(card: Card) -> dict[str, str]:
    """What is to be said of it in a line each, by what it is."""
    facts = {
        "registered": f"{card.at:%Y-%m-%d %H:%M} UTC" + (f" by {card.who}" if card.who else ""),
        "project": card.project,
        "aliases": ", ".join(card.aliases),
        "model": f"{card.artifact_type} {card.artifact[:_SHORT]}".strip(),
        "format": "" if card.format == "value" else card.format,
        "source": card.source,
        "form": card.form.why if card.form is not None else "",
        "tags": ", ".join(f"{name}={value}" for name, value in sorted(card.tags.items())),
    }
    return {name: value for name, value in facts.items() if value}


def brief_row(column: ColumnBrief) -> Sequence[Any]:
    """A column of the training data as a row of a table."""
    most = ", ".join(f"{value} {share:.0%}" for value, share in column.most)
    missing = f"{column.missing:.1%}"
    return (column.name, missing, column.mean, column.std, column.low, column.high, most)


def _facts(card: Card) -> Iterator[str]:
    for name, value in facts_of(card).items():
        yield f"- **{name}**: {number_text(value)}"
    for one in card.approvals:
        why = f": {one.why}" if one.why else ""
        yield f"- **{one.status}** as {one.alias} by {one.who}, {one.at:%Y-%m-%d %H:%M}{why}"


def _serving(card: Card) -> Iterator[str]:
    rows = [
        (one.endpoint, one.arm, "shadow" if one.shadow else f"{one.share:.1%}", str(one.revision))
        for one in card.serves
    ]
    return _section("Serves", _table(("endpoint", "arm", "share", "route"), rows))


def _made(card: Card) -> Iterator[str]:
    if card.data is not None:
        yield from ("", "## Data", "")
        yield f"- {card.data.type} {card.data.summary}".rstrip()
        yield f"- `artifact/{card.data.digest}`"
        yield from (f"- from {name}" for name in card.data.files)
    if card.code is not None:
        yield from ("", "## Code", "", f"- {card.code.entry}")
        if card.code.task:
            yield f"- fitted by `{card.code.task}`, code `{card.code.digest[:_SHORT]}`"
        if card.task:
            yield f"- registered by `{card.task}`"


def _numbers(card: Card) -> Iterator[str]:
    yield from _section("Parameters", _table(("parameter", "value"), card.params.items()))
    yield from _section("Metrics", _table(("metric", "value"), sorted(card.metrics.items())))
    names = sorted({metric for values in card.slices.values() for metric in values})
    rows = [(part, *(found.get(name) for name in names)) for part, found in card.slices.items()]
    yield from _section("Metrics by slice", _table(("slice", *names), sorted(rows)))


def _takes(card: Card) -> Iterator[str]:
    rows = [(field.name, field_text(field)) for field in card.signature.inputs]
    signature = card.signature
    said = [
        f"Answers: {signature.output}" + (f" of {signature.target}" if signature.target else "")
    ]
    if signature.classes:
        said[0] += f", one of {', '.join(map(str, signature.classes))}"
    yield from _section("Signature", [*said, "", *_table(("input", "type"), rows)])
    header = ("column", "missing", "mean", "std", "low", "high", "most frequent")
    yield from _section("Training data in brief", _table(header, map(brief_row, card.profile)))


def _environment(card: Card) -> list[str]:
    found = card.environment
    if not found.python and not found.distributions:
        return []
    packages = " ".join(f"{name}=={version}" for name, version in found.distributions.items())
    return [f"Python {found.python}", "", packages]


def _difference_lines(difference: Difference, level: int) -> Iterator[str]:
    header = ("", difference.before, difference.after)
    for title, found in difference.changes().items():
        yield from _section(title, _table(header, map(_row, found)), level=level)
    if difference.code:
        yield from ("", f"{'#' * level} Code", "", "```diff")
        yield from difference.code
        yield "```"


def _row(change: Change) -> Sequence[Any]:
    name, before, after = change.name, change.before, change.after
    if name in ("artifact", "digest"):
        before, after = (str(one or "")[:_SHORT] for one in (before, after))
    return (name, before, after)


def _section(title: str, lines: Iterable[str], *, level: int = 2) -> Iterator[str]:
    held = list(lines)
    if held:
        yield from ("", f"{'#' * level} {title}", "", *held)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    held = list(rows)
    if not held:
        return []
    lines = [_line(header), _line(["---"] * len(header))]
    lines += [_line([number_text(value) for value in row]) for row in held[:_MOST]]
    return lines


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
