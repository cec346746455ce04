"""evaluate_policy: what another policy would have earned, from a log with propensities."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from upturn.core.errors import Invalid
from upturn.improve.offpolicy.checks import cells
from upturn.improve.offpolicy.result import OffPolicy
from upturn.improve.offpolicy.reward_model import RewardModel, Ridge, predictions
from upturn.improve.offpolicy.rounds import Actions, Columns, Rounds, Source, is_log
from upturn.improve.offpolicy.tally import Options, Tally, Weighed
from upturn.improve.offpolicy.target import Policy, Probabilities, named_policies, probabilities

Floats = NDArray[np.float64]
Model = Literal["ridge"] | RewardModel | None
_MOST_CELLS = 50


def evaluate_policy(
    log: Any,
    policy: Any,
    *,
    action: str | None = None,
    reward: str | None = None,
    propensity: str = "propensity",
    model: Model = "ridge",
    context: Sequence[str] = (),
    cluster: str | None = None,
    by: str | None = None,
    reward_range: tuple[float, float] | None = None,
    alpha: float = 0.05,
    bootstrap: int = 0,
    tuned_rounds: int = 10_000,
    folds: int = 5,
    seed: int = 0,
    known_by: datetime | None = None,
) -> OffPolicy:
    """What a policy would have earned a round, from what another one did and earned.

    `log` is a table (pandas, polars, Arrow, a dict of columns), a Parquet file or a folder of
    them, or an endpoint's Log: there the actions are its arms and the rewards its labels, as far
    as known by `known_by` (now). `policy` is a share for each action, the name of a column with its
    probability of the logged action, or a function of a table (a chunk of the log) that gives
    probabilities: a dict of action to an array, or an array for the logged actions. Several come
    as a dict of name to policy, and are compared on the same rounds.

    Estimators: IPS (Horvitz & Thompson 1952), clipped (Ionides 2008), SNIPS (Swaminathan &
    Joachims 2015) and, where the policy says what it thinks of every action, the direct method,
    doubly robust (Dudík, Langford & Li 2011), self-normalised doubly robust and switch-DR (Wang,
    Agarwal & Dudík 2017) with a cross-fitted reward model: a ridge regression for each action on
    the `context` columns (without any, the mean by action), a function of a table that gives
    {action: expected rewards} (learned elsewhere, not from this log), or None.

    Intervals are of the delta method, for one look; `anytime` ones hold at every look and are
    tightest at `tuned_rounds`, which must not depend on the log. Of rewards within `reward_range`
    the `bounded` one holds with no approximation at all. Rows of one `cluster` (a unit, a day)
    may depend on each other; of a Log whose rows all have a unit that is the cluster, since a unit
    gets the same arm each time. `by` adds the same for each value of a column, such as the position
    in a list; the whole is then a round's average over positions. Memory does not grow with the
    rows. A reward model of our own reads the log twice.

    Raises Invalid where the log has no propensities, or ones that can't be.

    >>> log = {
    ...     "action": ["a", "b", "a", "b", "b", "a"],
    ...     "reward": [1, 0, 1, 1, 0, 0],
    ...     "propensity": [0.5] * 6,
    ... }
    >>> found = evaluate_policy(log, {"a": 1.0, "b": 0.0}, model=None)
    >>> round(found.policies["policy"].value.estimate, 3)  # two thirds of the rounds with a
    0.667
    """
    columns = Columns(
        action=action or ("arm" if is_log(log) else "action"),
        reward=reward or ("label" if is_log(log) else "reward"),
        propensity=propensity,
        cluster=cluster,
        by=by,
    )
    _check(alpha, folds, bootstrap, tuned_rounds, reward_range)
    if not (model is None or model == "ridge" or callable(model)):
        raise Invalid(
            f"{model!r} is no reward model.",
            hint='"ridge", a function of a table, or None to do without.',
        )
    source = Source(log, columns, known_by=known_by or datetime.now(UTC))
    named = named_policies(policy)
    wanted = _wanted(source, named, model, context)
    actions = Actions()
    ridge = _learned(source, actions, list(context), folds) if model == "ridge" else None
    options: Options | None = None
    tallies: dict[str | None, Tally] = {}
    for rounds in source.rounds(actions, wanted):
        given = [probabilities(name, one, rounds, actions) for name, one in named.items()]
        answers = _answers(model, ridge, rounds, actions)
        if options is None:
            modelled = tuple(answers is not None and one.every is not None for one in given)
            options = Options(
                alpha, source.clustered, reward_range, bootstrap, seed, tuned_rounds, modelled
            )
            tallies[None] = Tally(list(named), options, float(rounds.rewards.mean()))
        _check_range(rounds, reward_range)
        seen = _weighed(rounds, given, answers)
        tallies[None].add(seen)
        for value, rows in cells(rounds).items():
            if value not in tallies:
                if len(tallies) > _MOST_CELLS:
                    raise Invalid(f"{by!r} has more than {_MOST_CELLS} values.")
                tallies[value] = Tally(list(named), options, tallies[None].shift)
            tallies[value].add(seen.only(rows))
    if None not in tallies:
        raise Invalid(f"The log has no round with a {columns.reward!r}.")
    return _result(tallies, actions, source.waiting, named)


def _result(
    tallies: dict[str | None, Tally], actions: Actions, waiting: int, named: dict[str, Policy]
) -> OffPolicy:
    whole = tallies[None].result(actions.values, waiting)
    for name, one in whole.policies.items():
        if isinstance(named[name], dict) and one.mean_weight.estimate == 0:
            known = ", ".join(repr(value) for value in actions.values[:8])
            raise Invalid(f"No action of {name!r} is in the log.", hint=f"It knows: {known}.")
    by = {
        value: tally.result(actions.values, 0)
        for value, tally in tallies.items()
        if value is not None
    }
    return OffPolicy(
        rounds=whole.rounds,
        waiting=whole.waiting,
        logged=whole.logged,
        policies=whole.policies,
        differences=whole.differences,
        warnings=whole.warnings,
        by=dict(sorted(by.items())),
    )


def _check(
    alpha: float,
    folds: int,
    bootstrap: int,
    tuned_rounds: int,
    reward_range: tuple[float, float] | None,
) -> None:
    if not 0 < alpha < 1:
        raise Invalid(f"alpha is {alpha}, not between 0 and 1.")
    if folds < 2:
        raise Invalid(f"{folds} folds can't teach each other.", hint="Give at least 2.")
    if tuned_rounds < 1:
        raise Invalid(f"An interval can't be tightest at {tuned_rounds} rounds.")
    if bootstrap < 0:
        raise Invalid(f"{bootstrap} bootstrap replicates can't be drawn.")
    if reward_range is not None:
        low, high = reward_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise Invalid(f"{reward_range} is no range of rewards.")


def _check_range(rounds: Rounds, reward_range: tuple[float, float] | None) -> None:
    if reward_range is None:
        return
    low, high = reward_range
    outside = (rounds.rewards < low) | (rounds.rewards > high)
    if outside.any():
        raise Invalid(f"The reward {rounds.rewards[outside][0]:g} is outside of {reward_range}.")


def _wanted(
    source: Source, named: dict[str, Policy], model: Model, context: Sequence[str]
) -> list[str] | None:
    """The columns to read; None is all of them, for functions that may look at any."""
    for name in [*context, *(one for one in named.values() if isinstance(one, str))]:
        source.require(name)
    if callable(model) or any(callable(one) for one in named.values()):
        return None
    return [*context, *(one for one in named.values() if isinstance(one, str))]


def _learned(source: Source, actions: Actions, context: list[str], folds: int) -> Ridge:
    found = Ridge(context, folds)
    for rounds in source.rounds(actions, context):
        found.learn(rounds)
    if actions.values:
        found.fit()
    return found


def _answers(model: Model, ridge: Ridge | None, rounds: Rounds, actions: Actions) -> Floats | None:
    if ridge is not None:
        return ridge.predict(rounds, actions)
    return predictions(model, rounds, actions) if callable(model) else None


def _weighed(rounds: Rounds, given: Sequence[Probabilities], answers: Floats | None) -> Weighed:
    direct = [_direct(one.every, answers, len(rounds)) for one in given]
    taken = np.zeros(len(rounds))
    if answers is not None:
        taken = answers[np.arange(len(rounds)), rounds.codes]
    return Weighed(
        first=rounds.first,
        codes=rounds.codes,
        rewards=rounds.rewards,
        propensities=rounds.propensities,
        clusters=rounds.clusters,
        weights=np.array([one.taken / rounds.propensities for one in given]),
        direct=np.array(direct),
        modelled=taken,
        every=tuple(one.every for one in given),
    )


def _direct(every: Floats | None, answers: Floats | None, rows: int) -> Floats:
    if every is None or answers is None:
        return np.zeros(rows)
    known = every.shape[1]  # actions that others brought later have no share
    if len(every) == 1:
        return answers[:, :known] @ every[0]
    return np.einsum("ij,ij->i", answers[:, :known], every)
