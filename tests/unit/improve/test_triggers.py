"""Triggers: what each asks, and how they combine where something can't be told."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.errors import Invalid
from upturn.core.time import instant
from upturn.improve.evidence import AlarmsSeen, LabelsSeen
from upturn.improve.say import nearness
from upturn.improve.triggers import Finding, Signs, Trigger, after, alarm, drift, rows, stale

NOW = instant("2013-05-01")
DAY = timedelta(days=1)


def signs(**known: Any) -> Signs:
    return Signs(now=NOW, min_rows=500, trained_until=NOW - 10 * DAY, reference={}, **known)


class Says(Trigger, frozen=True):
    """Fires, does not, or can't tell."""

    answer: bool | None

    def ask(self, signs: Signs) -> Finding:
        return Finding(bool(self.answer), f"it is {self.answer}", known=self.answer is not None)


def told(trigger: Trigger) -> bool | None:
    found = trigger.ask(signs())
    assert found.known or not found.fired
    return found.fired if found.known else None


answers = st.sampled_from([True, False, None]).map(Says)
triggers = st.recursive(
    answers,
    lambda some: st.one_of(
        st.tuples(some, some).map(lambda two: two[0] | two[1]),
        st.tuples(some, some).map(lambda two: two[0] & two[1]),
        some.map(lambda one: ~one),
    ),
    max_leaves=6,
)


@given(triggers, triggers)
def test_they_combine_as_kleene_says(a: Trigger, b: Trigger) -> None:
    """Three values: an answer is known when it would be the same whatever the unknown is."""
    order = {False: 0, None: 1, True: 2}
    one, other = told(a), told(b)
    assert told(a | b) == max((one, other), key=order.__getitem__)
    assert told(a & b) == min((one, other), key=order.__getitem__)
    assert told(~a) == {True: False, False: True, None: None}[one]
    assert told(~(a | b)) == told(~a & ~b)
    assert len((a | ~b).parts) == len(a.parts) + len(b.parts)


def test_new_labelled_rows() -> None:
    def ask(count: int) -> Finding:
        seen = LabelsSeen(since=NOW - DAY, until=NOW, labelled=count)
        return rows(1000).ask(signs(labels=seen))

    assert (ask(999).fired, ask(1000).fired) == (False, True)
    assert ask(999).near == (999, 1000)
    assert rows(1000).needs == {"labels"}
    assert not rows(1000).ask(signs()).known


def test_a_calendar_counts_from_the_last_training() -> None:
    assert not after("7d").ask(signs(trained_at=NOW - 6 * DAY)).fired
    assert after("7d").ask(signs(trained_at=NOW - 7 * DAY)).fired
    both = stale("7d") & after("7d")
    assert not both.ask(signs(trained_at=NOW - 6 * DAY)).fired


def test_alarms_by_their_names() -> None:
    none, some = AlarmsSeen(), AlarmsSeen(going_on={"drift/dep_hour": "It drifted."})
    assert alarm("drift/*").ask(signs(alarms=some)).why == "the alarm 'drift/dep_hour': It drifted"
    assert not alarm("quality/*").ask(signs(alarms=some)).fired
    assert (~alarm("quality/*")).ask(signs(alarms=none)).fired
    # Nobody watches: neither that it drifted is known nor that it did not.
    assert not alarm("drift/*").ask(signs()).fired
    assert not (~alarm("drift/*")).ask(signs()).fired


def test_how_near_each_part_is() -> None:
    when = stale("40d") | (drift(psi=0.2) & rows(5000))
    seen = LabelsSeen(since=NOW - DAY, until=NOW, labelled=1200)
    assert nearness(when, signs(labels=seen)) == [
        ("stale", "10 of 40"),
        ("drift", "0 rows are too few of 500 to judge drift"),
        ("rows", "1,200 of 5,000"),
    ]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: rows(0), "is positive"),
        (lambda: after("0d"), "no length"),
        (lambda: alarm(""), "the name of an alarm"),
    ],
)
def test_what_cannot_be_a_trigger_says_so(make: Any, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        make()
