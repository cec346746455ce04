"""A page is one valid document that shows whatever it is given, and runs none of it."""

import math
from collections.abc import Callable
from datetime import timedelta
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.time import instant
from upturn.improve.page import plots
from upturn.improve.page.html import Html, badge, escape, figure, grid, page, section, table
from upturn.improve.page.scales import number, span, ticks, time_ticks

DAY = timedelta(days=1)
START = instant("2013-04-01")
EVIL = "<script>alert(1)</script>\" onload='x' & \x00\x0b\ud800"
FLOATS = st.floats() | st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf, 1e308, 5e-324])

Draw = Callable[[list[float], str], str]


class Reader(HTMLParser):
    """Collects the tags and attributes of a document."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def read(document: str) -> Reader:
    reader = Reader()
    reader.feed(document)
    reader.close()
    return reader


def forest(values: list[float], name: str) -> str:
    rows = [plots.Row(label=name, estimate=v, low=v - 1, high=v + 1) for v in values]
    return plots.intervals(rows, title=name, x_label=name)


def reliability(values: list[float], name: str) -> str:
    points = [
        plots.Reliability(predicted=v, observed=v, low=v, high=math.nan, rows=place)
        for place, v in enumerate(values)
    ]
    return plots.calibration(points, title=name)


def over_time(values: list[float], name: str) -> str:
    at = [START + place * DAY for place in range(len(values))]
    series = [plots.Series(name, at, values, values, values[::-1]), plots.Series(name, at, values)]
    marks = [plots.Mark(START, name), plots.Mark(START + DAY, name)]
    band = plots.Band(START, START + DAY, name)
    return plots.lines(series, title=name, y_label=name, marks=marks, bands=[band], reference=0.5)


DRAWN: dict[str, Draw] = {
    "lines over time": over_time,
    "lines over numbers": lambda v, n: plots.lines([plots.Series(n, v, v)], title=n, zero=True),
    "histograms": lambda v, n: plots.histogram_pair(
        v[1:], v, v[::-1], title=n, missing=(0.1, math.nan)
    ),
    "categories": lambda v, n: plots.category_pair(
        [f"{n}{i}" for i in range(len(v))], [1] * len(v), range(len(v)), title=n, other=(1, 2)
    ),
    "calibration": reliability,
    "intervals": forest,
    "heatmap": lambda v, n: plots.heatmap([n, n], [n] * len(v), [v, [None] * len(v)], title=n),
    "bars": lambda v, n: plots.bars([n] * len(v), v, title=n),
    "spark": lambda v, n: plots.spark(v, title=n),
}


@pytest.mark.parametrize("kind", DRAWN)
@given(values=st.lists(FLOATS, max_size=12), name=st.text(max_size=8) | st.just(EVIL))
def test_a_plot_is_xml_with_words_and_finite_places(
    kind: str, values: list[float], name: str
) -> None:
    drawn = DRAWN[kind](values, name)
    root = ElementTree.fromstring(drawn)
    assert root.tag == "svg"
    assert root.get("role") == "img"
    assert [child.tag for child in root][:2] == ["title", "desc"]
    assert not root.findall(".//script")
    for element in root.iter():
        for attribute in ("x", "y", "width", "height", "d", "cx", "cy", "r", "viewBox"):
            place = element.get(attribute, "")
            assert "nan" not in place, place
            assert "inf" not in place, place
        assert float(element.get("width", "0")) >= 0
        assert float(element.get("height", "0")) >= 0
        assert not {key for key in element.attrib if key.startswith("on")}
    assert isinstance(drawn, Html)
    assert drawn == DRAWN[kind](values, name)


def test_a_page_runs_and_loads_nothing() -> None:
    parts = [
        section(
            EVIL,
            EVIL,
            table([EVIL, "n"], [[EVIL, badge(EVIL, "critical")]], caption=EVIL),
            grid(*(figure(draw([0.1, 0.5], EVIL), EVIL) for draw in DRAWN.values())),
            lead=EVIL,
        )
    ] * 3
    document = page(EVIL, *parts, subtitle=EVIL)
    document.encode()
    found = read(document)
    assert "script" not in found.tags
    assert "link" not in found.tags
    assert "img" not in found.tags
    names = {name for name, _ in found.attributes}
    assert not {name for name in names if name.startswith("on") or name in ("src", "action")}
    assert {value for name, value in found.attributes if name == "href"} == {
        "#script-alert-1-script-onload-x"
    }
    assert "http://" not in document
    assert "https://" not in document
    assert "url(" not in document
    assert "default-src 'none'" in document
    assert "prefers-color-scheme:dark" in document
    assert "@media print" in document


def test_text_is_escaped_once_and_markup_never() -> None:
    assert escape("a < b & 'c'") == "a &lt; b &amp; &#x27;c&#x27;"
    assert escape(escape("<")) == "&lt;"
    assert "<td>&lt;i&gt;<td class=n><b>1</b>" in table(["a", "b"], [["<i>", Html("<b>1</b>")]])


def test_a_line_breaks_where_nothing_is_known_and_bands_follow() -> None:
    x = [1.0, 2.0, 3.0, 4.0, 5.0]
    y = [1.0, 2.0, math.nan, 2.0, 1.0]
    root = ElementTree.fromstring(plots.lines([plots.Series("a", x, y, y, y)], title="t"))
    curve = next(one for one in root.iter("path") if one.get("class") == "l")
    area = next(one for one in root.iter("path") if one.get("class") == "b")
    assert curve.get("d", "").count("M") == 2
    assert area.get("d", "").count("Z") == 2


def test_an_interval_without_an_end_reaches_the_edge() -> None:
    row = plots.Row(label="a", estimate=1.0, low=-math.inf, high=2.0)
    assert "(−∞ to 2)" in plots.intervals([row], title="t")


def test_many_points_are_thinned_and_the_last_one_stays() -> None:
    x = [float(place) for place in range(100_000)]
    drawn = plots.lines([plots.Series("a", x, x)], title="t")
    assert len(drawn) < 60_000
    assert "99,999 at 99,999" in drawn


@given(low=st.floats(-1e9, 1e9), length=st.floats(1e-6, 1e9))
def test_ticks_are_within_in_order_and_few(low: float, length: float) -> None:
    low, high = span([low, low + length])
    found = ticks(low, high)
    reach = (high - low) * 1e-6
    assert found == sorted(found)
    assert len(found) <= 11
    assert all(low - reach <= tick <= high + reach for tick in found)


@given(begin=st.integers(0, 2_000_000_000), length=st.floats(60.0, 1e9))
def test_ticks_of_time_are_within_in_order_and_named(begin: int, length: float) -> None:
    found = time_ticks(begin, begin + length)
    places = [place for place, _ in found]
    assert places == sorted(set(places))
    assert all(begin <= place <= begin + length for place in places)
    assert len(found) <= 16
    assert all(name for _, name in found)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "0"), (-12.5, "−12.5"), (1e12, "1e+12"), (math.inf, "∞"), (100.0, "100")],
)
def test_numbers_for_people(value: float, text: str) -> None:
    assert number(value) == text
