"""The route's choice: sticky, in the shares that were asked for, and moving as few as it must."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.errors import Invalid
from upturn.core.records import Arm
from upturn.core.routing import check_arms, choose, position

UNITS = [f"N{number:05d}" for number in range(4000)]


def arms(*shares: float, shadow: bool = False) -> list[Arm]:
    """Answering arms with these shares, the first one with what is left."""
    rest = [1.0 - sum(shares), *shares]
    made = [Arm(name=f"a{at}", version=at + 1, share=share) for at, share in enumerate(rest)]
    extra = [Arm(name="s", version=9, shadow=True)] if shadow else []
    return [*extra, *made]


shares = st.lists(st.floats(0, 0.3), max_size=3)


@given(st.text(), st.text())
def test_a_position_lies_in_the_unit_interval_and_stays(unit: str, salt: str) -> None:
    try:
        unit.encode(), salt.encode()
    except UnicodeEncodeError:
        return
    assert 0.0 <= position(unit, salt) < 1.0
    assert position(unit, salt) == position(unit, salt)


@given(shares, st.sampled_from(UNITS), st.text("abc", max_size=5))
def test_a_unit_stays_on_its_arm(given_shares: list[float], unit: str, salt: str) -> None:
    route = arms(*given_shares)
    assert choose(route, unit, salt) == choose(list(route), unit, salt)
    assert (
        choose(route, unit, salt).name == choose(arms(*given_shares, shadow=True), unit, salt).name
    )


@pytest.mark.parametrize("given_shares", [(), (0.05,), (0.5,), (0.2, 0.3), (0.0, 1.0)])
def test_units_are_spread_as_the_shares_say(given_shares: tuple[float, ...]) -> None:
    route = arms(*given_shares)
    counts = Counter(choose(route, unit, "salt").name for unit in UNITS)
    for arm in route:
        # Five standard deviations of a binomial share: chance alone never gets there.
        slack = 5 * (arm.share * (1 - arm.share) / len(UNITS)) ** 0.5
        assert counts[arm.name] / len(UNITS) == pytest.approx(arm.share, abs=slack)


@given(st.floats(0, 0.4), st.floats(0, 0.3), st.floats(0, 0.3), st.text("ab", max_size=4))
def test_growing_the_last_arm_moves_units_to_it_alone(
    first: float, small: float, growth: float, salt: str
) -> None:
    before, after = arms(first, small), arms(first, small + growth)
    for unit in UNITS[:300]:
        was, is_ = choose(before, unit, salt).name, choose(after, unit, salt).name
        assert was == is_ or (was, is_) == ("a0", "a2")


def test_another_salt_draws_other_units() -> None:
    route = arms(0.1)
    on = [{unit for unit in UNITS if choose(route, unit, salt).name == "a1"} for salt in "ab"]
    overlap = len(on[0] & on[1]) / len(UNITS)
    assert overlap == pytest.approx(0.01, abs=0.01)


def test_a_shadow_answers_nobody() -> None:
    route = arms(0.5, shadow=True)
    assert not any(choose(route, unit, "salt").shadow for unit in UNITS[:200])


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
