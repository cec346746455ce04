"""The route's choice: sticky, in the shares that were asked for, and moving as few as it must."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.errors import Invalid
from upturn.core.records import Arm, Slice
from upturn.core.routing import SPACE, check_arms, choose, position, reshare

UNITS = [f"N{number:05d}" for number in range(4000)]


def arms(*shares: float, shadow: bool = False) -> list[Arm]:
    """Answering arms with these shares, the first one with what is left."""
    rest = [1.0 - sum(shares), *shares]
    made = [Arm(name=f"a{at}", version=at + 1, share=share) for at, share in enumerate(rest)]
    extra = [Arm(name="s", version=9, shadow=True)] if shadow else []
    return [*extra, *made]


shares = st.lists(st.floats(0, 0.3), max_size=3)


@st.composite
def any_arms(draw: st.DrawFn) -> list[Arm]:
    """Arms of any names and shares that sum to one."""
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True))
    weights = draw(st.lists(st.integers(0, 50), min_size=len(names), max_size=len(names)))
    weights[0] += not any(weights)
    total = sum(weights)
    return [
        Arm(name=name, version=1, share=weight / total)
        for name, weight in zip(names, weights, strict=True)
    ]


def held(slices: tuple[Slice, ...]) -> dict[str, int]:
    """How much of the space each arm has."""
    found: Counter[str] = Counter()
    begin = 0
    for one in slices:
        found[one.arm] += one.until - begin
        begin = one.until
    return dict(found)


@given(st.text(), st.text())
def test_a_position_lies_in_the_space_and_stays(unit: str, salt: str) -> None:
    try:
        unit.encode(), salt.encode()
    except UnicodeEncodeError:
        return
    assert 0 <= position(unit, salt) < SPACE
    assert position(unit, salt) == position(unit, salt)


@given(st.lists(any_arms(), min_size=1, max_size=6))
def test_a_change_of_shares_moves_as_few_as_it_must(history: list[list[Arm]]) -> None:
    """The mass that changes hands is what shrinking arms give up, whatever came before."""
    slices = reshare((), history[0])
    for now in history[1:]:
        before, after = slices, reshare(slices, now)
        assert [one.until for one in after] == sorted({one.until for one in after})
        assert after[-1].until == SPACE
        for arm in now:
            assert abs(held(after).get(arm.name, 0) - arm.share * SPACE) <= len(now)
        must_move = sum(
            max(0, size - held(after).get(name, 0)) for name, size in held(before).items()
        )
        ends = sorted({0, *(one.until for one in before), *(one.until for one in after)})
        moved = sum(
            end - begin
            for begin, end in itertools.pairwise(ends)
            if owner(before, begin) != owner(after, begin)
        )
        assert moved == must_move
        slices = after


def owner(slices: tuple[Slice, ...], place: int) -> str:
    return next(one.arm for one in slices if place < one.until)


@given(any_arms())
def test_the_same_shares_move_nobody(same: list[Arm]) -> None:
    slices = reshare((), same)
    assert reshare(slices, same) == slices
    shadow = Arm(name="s", version=9, shadow=True)
    assert reshare(slices, [shadow, *same]) == slices


@pytest.mark.parametrize("given_shares", [(), (0.05,), (0.5,), (0.2, 0.3), (0.0, 1.0)])
def test_units_are_spread_as_the_shares_say(given_shares: tuple[float, ...]) -> None:
    route = arms(*given_shares)
    slices = reshare((), route)
    counts = Counter(choose(slices, unit, "salt") for unit in UNITS)
    for arm in route:
        # Five standard deviations of a binomial share: chance alone never gets there.
        slack = 5 * (arm.share * (1 - arm.share) / len(UNITS)) ** 0.5
        assert counts[arm.name] / len(UNITS) == pytest.approx(arm.share, abs=slack)


def test_a_hundred_thousand_units_are_split_within_one_percent() -> None:
    slices = reshare(reshare((), arms(0.1)), arms(0.5))
    units = [f"user-{number}" for number in range(100_000)]
    taken = sum(choose(slices, unit, "pricing") == "a1" for unit in units)
    assert taken / len(units) == pytest.approx(0.5, abs=0.01)


@given(st.floats(0, 0.4), st.floats(0, 0.3), st.floats(0, 0.3), st.text("ab", max_size=4))
def test_growing_an_arm_moves_units_to_it_alone(
    first: float, small: float, growth: float, salt: str
) -> None:
    before = reshare((), arms(first, small))
    after = reshare(before, arms(first, small + growth))
    for unit in UNITS[:300]:
        was, is_ = choose(before, unit, salt), choose(after, unit, salt)
        assert was == is_ or (was, is_) == ("a0", "a2")


def test_another_salt_draws_other_units() -> None:
    slices = reshare((), arms(0.1))
    on = [{unit for unit in UNITS if choose(slices, unit, salt) == "a1"} for salt in "ab"]
    overlap = len(on[0] & on[1]) / len(UNITS)
    assert overlap == pytest.approx(0.01, abs=0.01)


def test_a_shadow_answers_nobody() -> None:
    slices = reshare((), arms(0.5, shadow=True))
    assert "s" not in {choose(slices, unit, "salt") for unit in UNITS[:200]}


@given(shares)
def test_shares_that_sum_to_one_make_a_route(given_shares: list[float]) -> None:
    check_arms(arms(*given_shares, shadow=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "an arm that answers"),
        ([Arm(name="s", version=1, shadow=True)], "an arm that answers"),
        ([Arm(name="a", version=1, share=0.9)], "sum to 1, not to 0.9"),
        ([Arm(name="a", version=1, share=0.5)] * 2, "the same name"),
        (
            [Arm(name="a", version=1, share=1.5), Arm(name="b", version=2, share=-0.5)],
            "between 0 and 1",
        ),
        (
            [Arm(name="a", version=1, share=1), Arm(name="s", version=2, share=0.1, shadow=True)],
            "A shadow arm answers nobody",
        ),
    ],
)
def test_what_is_no_route_is_refused(wrong: list[Arm], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        check_arms(wrong)
