"""No result is stale: projects of several modules, an edit, and whether the output changed.

A project is a chain of layers, each written in one of the ways in which people write Python
(`projects.py`). A digest that is the same before and after an edit promises that the step returns
the same; what it returns for several inputs tells. Reruns that were not needed are counted:
`pytest --hypothesis-show-statistics tests/property/test_stale.py`.
"""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from property.live import seen
from property.projects import KINDS, PLACES, WAYS, Layer, count, project

PLAIN = Layer("plain", "import", "module")
# Read from the source file: a comment in there is a result.
READS_SOURCE = {"source read"}

MANY = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

layers = st.lists(
    st.builds(
        Layer,
        st.sampled_from(list(KINDS)),
        st.sampled_from(list(WAYS)),
        st.sampled_from(list(PLACES)),
    ),
    min_size=1,
    max_size=4,
)


def compare(folder: Path, before: dict[str, str], after: dict[str, str]) -> tuple[bool, bool, bool]:
    """Whether the digest is another, whether the outputs are, and whether code was taken whole."""
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    one, outputs = seen(folder / "a", before)
    two, changed = seen(folder / "b", after)
    whole = any(part.kind == "opaque" for part in one.parts)
    return one.digest != two.digest, outputs != changed, whole


@pytest.mark.parametrize("kind", KINDS)
def test_each_way_to_write_a_function(kind: str, tmp_path: Path) -> None:
    check_each_number([Layer(kind, "import", "module"), PLAIN], tmp_path)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_reach_it(way: str, place: str, tmp_path: Path) -> None:
    check_each_number([Layer("constant", way, place), Layer("plain", way, place)], tmp_path)


def check_each_number(chain: list[Layer], folder: Path) -> None:
    numbers = [at % 4 + 2 for at in range(count(chain))]
    for at in range(len(numbers)):
        case = folder / str(at)
        case.mkdir()
        other = [number + (index == at) for index, number in enumerate(numbers)]
        differs, changed, _ = compare(case, project(chain, numbers), project(chain, other))
        assert differs or not changed, f"a stale result after an edit of number {at}"


@st.composite
def semantic(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str]]:
    """A project, and it with another number, operator, or way to reach a layer."""
    chain = draw(layers)
    numbers = [draw(st.integers(1, 6)) for _ in range(count(chain))]
    before = project(chain, numbers)
    match draw(st.sampled_from(["number", "operator", "way", "kind"])):
        case "number":
            at = draw(st.integers(0, len(numbers) - 1))
            numbers[at] += draw(st.integers(1, 3))
            return before, project(chain, numbers)
        case "operator":
            name = draw(st.sampled_from(sorted(before)))
            places = [found.start() for found in re.finditer(r" \+ ", before[name])]
            if not places:
                return before, dict(before)
            at, text = draw(st.sampled_from(places)), before[name]
            return before, {**before, name: f"{text[:at]} - {text[at + 3 :]}"}
        case "way":
            at = draw(st.integers(0, len(chain) - 1))
            way = draw(st.sampled_from(list(WAYS)))
            chain[at] = Layer(chain[at].kind, way, chain[at].place)
        case _:
            at = draw(st.integers(0, len(chain) - 1))
            chain[at] = Layer(draw(st.sampled_from(list(KINDS))), chain[at].way, chain[at].place)
            numbers += [1] * 10
    return before, project(chain, numbers)


@MANY
@given(pair=semantic())
def test_no_result_is_stale(
    pair: tuple[dict[str, str], dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    differs, changed, whole = compare(tmp_path_factory.mktemp("project"), *pair)
    assert differs or not changed, "a stale result"
    how = "needless, code taken whole" if whole else "needless"
    event("reused" if not differs else "rerun" if changed else how)


@st.composite
def cosmetic(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str], str]:
    """A project, and it with an edit that says the same."""
    chain = [layer for layer in draw(layers) if layer.kind not in READS_SOURCE] or [PLAIN]
    before = project(chain, [draw(st.integers(1, 6)) for _ in range(max(1, count(chain)))])
    name = draw(st.sampled_from(sorted(before)))
    lines = before[name].splitlines()
    what = draw(st.sampled_from(["comment", "blank", "spaces", "docstring", "unreached"]))
    if what == "comment":
        at = draw(st.integers(0, len(lines)))
        lines.insert(at, "# a comment")
    elif what == "blank":
        lines.insert(draw(st.integers(0, len(lines))), "\n\n")
    elif what == "spaces":
        lines = [
            line if {'"', "'"} & set(line) else f"{line.replace(' + ', '  +  ')}  "
            for line in lines
        ]
    elif what == "docstring":
        heads = [at for at, line in enumerate(lines) if re.match(r" *(def|class) .*:$", line)]
        heads = [at for at in heads if not lines[at + 1].lstrip().startswith('"')]
        if heads:
            at = draw(st.sampled_from(heads))
            indent = re.match(" *", lines[at + 1])
            assert indent is not None
            lines.insert(at + 1, f'{indent[0]}"""What it does."""')
    else:
        lines += ["UNREACHED = 1", "def unreached(x):", "    return x - UNREACHED"]
    return before, {**before, name: "\n".join(lines) + "\n"}, what


@MANY
@given(case=cosmetic())
def test_what_says_the_same_never_reruns(
    case: tuple[dict[str, str], dict[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    before, after, what = case
    differs, changed, whole = compare(tmp_path_factory.mktemp("project"), before, after)
    assert not changed
    # Where code is taken whole, its docstrings and all definitions count: they may be read.
    if not (whole and what in ("docstring", "unreached")):
        assert not differs
    event(f"{what}: {'needless' if differs else 'reused'}")
