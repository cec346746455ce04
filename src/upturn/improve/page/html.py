"""HTML of a page: one document that needs nothing else, and is safe whatever it says."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from upturn.improve.page.style import CSS

Tone = Literal["", "good", "warning", "critical"]
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
_SLUG = re.compile(r"[^a-z0-9]+")
# A second lock: even markup that slipped through could neither run nor load anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Html(str):
    """Text that is markup already; any other text is escaped where it enters a page."""

    __slots__ = ()


def escape(text: object) -> Html:
    """The text as markup that shows it; what is Html already stays as it is.

    Characters that neither HTML nor XML may hold become U+FFFD.

    >>> escape("<script>"), escape(Html("<b>"))
    ('&lt;script&gt;', '<b>')
    """
    if isinstance(text, Html):
        return text
    shown = str(text).encode("utf-8", "replace").decode()
    return Html(html.escape(_CONTROL.sub("\ufffd", shown)))


def page(title: str, *sections: str, subtitle: str = "", nav: bool = True) -> Html:
    """A whole document: it loads nothing, runs nothing, and fits paper, phone and dark rooms.

    The sections come from `section`; with `nav`, three or more get links at the top.

    >>> page("delays", section("Drift", "None.")).startswith("<!doctype html>")
    True
    """
    name = escape(title)
    below = f"<p class=sub>{escape(subtitle)}</p>" if subtitle else ""
    body = "".join(escape(part) for part in sections)
    links = _links(sections) if nav else ""
    return Html(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="color-scheme" content="light dark"><title>{name}</title>'
        f"<style>{CSS}</style></head>\n<body><main><header><h1>{name}</h1>{below}{links}</header>"
        f"{body}</main></body></html>\n"
    )


def section(title: str, *parts: str | None, lead: str = "") -> Html:
    """A part of the page under a heading; text is escaped, nothing is left out but None."""
    opening = f"<p class=lead>{escape(lead)}</p>" if lead else ""
    inner = "".join(_block(part) for part in parts if part is not None)
    return Html(
        f'\n<section id="{_slug(title)}"><h2>{escape(title)}</h2>{opening}{inner}</section>'
    )


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numeric: Sequence[int] | None = None,
    caption: str = "",
) -> Html:
    """A table; the columns whose places are `numeric` are set right, all but the first if None."""
    right = set(range(1, len(columns)) if numeric is None else numeric)
    name = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = "".join(_cell("th", text, place in right) for place, text in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(_cell("td", text, place in right) for place, text in enumerate(row)) + "\n"
        for row in rows
    )
    return Html(
        f"<div class=scroll><table>{name}<thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def note(text: str, tone: Tone = "") -> Html:
    """A remark beside the figures."""
    return Html(f'<p class="note {tone}">{escape(text)}</p>')


def figure(svg: str, caption: str = "") -> Html:
    """A plot with what it shows in words."""
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return Html(f"<figure><div class=scroll>{escape(svg)}</div>{words}</figure>")


def grid(*parts: str) -> Html:
    """Small figures side by side, as many a row as fit."""
    inner = "".join(_block(part) for part in parts)
    return Html(f"<div class=grid>{inner}</div>")


def tiles(figures: Iterable[tuple[str, object, str]]) -> Html:
    """The figures that matter most: name, value, and a word below."""
    shown = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(word)}</small></dd></div>"
        for name, value, word in figures
    )
    return Html(f"<dl class=tiles>{shown}</dl>")


def badge(text: str, tone: Tone = "") -> Html:
    """A word in a colour; the word says it too."""
    return Html(f'<span class="badge {tone}">{escape(text)}</span>')


def code(text: str) -> Html:
    """A command or a name, as one types it."""
    return Html(f"<code>{escape(text)}</code>")


def join(*parts: str) -> Html:
    """Texts and markup in a row, each escaped as it needs."""
    return Html("".join(escape(part) for part in parts))


def details(summary: str, *parts: str) -> Html:
    """Parts that open on demand (and on paper)."""
    inner = "".join(_block(part) for part in parts)
    return Html(f"<details><summary>{escape(summary)}</summary>{inner}</details>")


def _block(part: str) -> str:
    return part if isinstance(part, Html) else f"<p>{escape(part)}</p>"


def _cell(tag: str, text: object, right: bool) -> str:
    """End tags of cells and rows are optional in HTML; left out they save a fifth of a table."""
    scope = " scope=col" if tag == "th" else ""
    return f"<{tag}{scope}{' class=n' if right else ''}>{escape(text)}"


def _slug(title: str) -> str:
    return _SLUG.sub("-", title.lower()).strip("-") or "section"


def _links(sections: Sequence[str]) -> str:
    found = [
        re.match(r'\n?<section id="([^"]*)"><h2>(.*?)</h2>', part, re.DOTALL) for part in sections
    ]
    shown = [f'<a href="#{one[1]}">{one[2]}</a>' for one in found if one]
    return f"<nav>{''.join(shown)}</nav>" if len(shown) > 2 else ""
