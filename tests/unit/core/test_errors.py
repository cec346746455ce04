"""Errors: a fact, a way out, and a record that tells both."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.errors import Invalid, NotFound, Problem, StepFailed, UpturnError, did_you_mean


def test_an_error_says_its_fact_and_its_way_out() -> None:
    error = NotFound("No model 'chrun'.", hint="Did you mean 'churn'?", model="chrun")
    assert str(error) == "No model 'chrun'. Did you mean 'churn'?"
    assert str(NotFound("No model.")) == "No model."
    assert error.problem == Problem(
        code="not_found",
        message="No model 'chrun'.",
        hint="Did you mean 'churn'?",
        fields={"model": "chrun"},
    )


def every_error() -> list[type[UpturnError]]:
    found = [UpturnError]
    for kind in found:  # grows while it is read
        found.extend(kind.__subclasses__())
    return [kind for kind in found if kind.__module__ == "upturn.core.errors"]


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_for_http_and_for_the_shell(kind: type[UpturnError]) -> None:
    assert 400 <= kind.http_status < 600
    assert kind.exit_status in (1, 2)
    assert kind.code.isidentifier()
    assert kind.__doc__


def test_codes_tell_errors_apart() -> None:
    codes = [kind.code for kind in every_error()]
    assert len(codes) == len(set(codes))
    assert Invalid.exit_status == 2, "as every command line says of wrong usage"


def test_a_failed_step_keeps_its_own_problem() -> None:
    problem = Problem(code="step_killed", message="Ended by SIGKILL.", hint="Why?")
    error = StepFailed(problem, path="run/a/b/0")
    assert error.problem is problem
    assert error.path == "run/a/b/0"
    assert str(error) == "Ended by SIGKILL. Why?"


def test_a_hint_names_the_nearest_word_or_lists_what_there_is() -> None:
    assert did_you_mean("dealys", ["delays", "churn"]) == "Did you mean 'delays'?"
    assert did_you_mean("x", ["b", "a", "a"]) == "There is: 'a', 'b'."
    assert did_you_mean("x", []) == ""
    assert did_you_mean("x", map(str, range(100, 120))).endswith("'107', ….")


@given(st.text(), st.lists(st.text()))
def test_a_hint_is_had_for_any_words(word: str, known: list[str]) -> None:
    hint = did_you_mean(word, known)
    assert bool(hint) == bool(known)
