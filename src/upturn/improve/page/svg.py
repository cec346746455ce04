"""SVG: the elements that plots are drawn with, in few bytes and with words for those who listen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from upturn.improve.page.html import Html, escape

Point = tuple[float, float]


def drawing(width: float, height: float, title: str, desc: str, *parts: str, kind: str) -> Html:
    """A whole picture. The title and the description are what a screen reader says.

    A `wide` one is not made smaller than can be read: on a phone it scrolls.
    """
    name = f' class="{kind}"' if kind else ""
    return Html(
        f'<svg viewBox="0 0 {at(width)} {at(height)}" role="img"{name}>'
        f"<title>{escape(title)}</title><desc>{escape(desc)}</desc>{''.join(parts)}</svg>"
    )


def at(place: float) -> str:
    """A coordinate, to a tenth of a pixel.

    >>> at(3.04), at(2.25), at(-0.01)
    ('3', '2.2', '0')
    """
    text = f"{place:.1f}"
    text = text.removesuffix(".0")
    return "0" if text == "-0" else text


def text(x: float, y: float, words: object, kind: str = "", *, turn: bool = False) -> str:
    """Words at a place; `kind` is a class or two: m (middle), e (end), t (text), h (heading)."""
    name = f' class="{kind}"' if kind else ""
    turned = f' transform="rotate(-90 {at(x)} {at(y)})"' if turn else ""
    return f'<text x="{at(x)}" y="{at(y)}"{name}{turned}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<path class="{kind}" d="M{at(x1)} {at(y1)}L{at(x2)} {at(y2)}"/>'


def rect(x: float, y: float, width: float, height: float, kind: str, title: str = "") -> str:
    """A box, with words for those who point at it."""
    box = f'<rect class="{kind}" x="{at(x)}" y="{at(y)}" width="{at(width)}" height="{at(height)}"'
    return f"{box}><title>{escape(title)}</title></rect>" if title else f"{box}/>"


def dot(x: float, y: float, radius: float, kind: str, title: str = "") -> str:
    """A point, with words for those who point at it."""
    circle = f'<circle class="{kind}" cx="{at(x)}" cy="{at(y)}" r="{at(radius)}"'
    return f"{circle}><title>{escape(title)}</title></circle>" if title else f"{circle}/>"


def group(kind: str, *parts: str) -> str:
    """Parts of one colour: c0 to c5."""
    return f'<g class="{kind}">{"".join(parts)}</g>'


def curve(points: Iterable[Point], kind: str) -> str:
    """A line through the points, broken where one is nan."""
    drawn: list[str] = []
    pen = "M"
    for x, y in points:
        if math.isnan(x) or math.isnan(y):
            pen = "M"
            continue
        drawn.append(f"{pen}{at(x)} {at(y)}")
        pen = "L"
    return f'<path class="{kind}" d="{"".join(drawn)}"/>' if drawn else ""


def area(upper: Sequence[Point], lower: Sequence[Point], kind: str) -> str:
    """What lies between two lines, broken where either is nan."""
    drawn: list[str] = []
    run: list[tuple[Point, Point]] = []
    for pair in [*zip(upper, lower, strict=True), None]:
        if pair is not None and not any(math.isnan(y) for _, y in pair):
            run.append(pair)
            continue
        if len(run) > 1:
            round_trip = [a for a, _ in run] + [b for _, b in reversed(run)]
            drawn.append("M" + "L".join(f"{at(x)} {at(y)}" for x, y in round_trip) + "Z")
        run = []
    return f'<path class="{kind}" d="{"".join(drawn)}"/>' if drawn else ""


def cut(words: object, most: int) -> str:
    """The words, cut to so many characters with an ellipsis.

    >>> cut("a long name", 6)
    'a lon…'
    """
    shown = str(words)
    return shown if len(shown) <= most else shown[: most - 1] + "…"
