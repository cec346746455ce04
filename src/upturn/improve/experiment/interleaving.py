"""Interleaving: two rankings shown as one list, and which of them the clicks prefer."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np

from upturn.core.errors import Invalid
from upturn.improve.statistics.fixed import clopper_pearson
from upturn.improve.statistics.interval import Interval
from upturn.improve.statistics.special import edge, log_beta_ratio

Item = TypeVar("Item", bound=Hashable)
Team = Literal["a", "b"]


class Interleaved(msgspec.Struct, frozen=True):
    """One list out of two. `teams` has for each item which ranking gets its clicks; "" of none."""

    items: tuple[Hashable, ...]
    teams: tuple[Team | Literal[""], ...]
    first: Team  # which ranking was let go first, by the coin


class Preference(msgspec.Struct, frozen=True):
    """Which ranking won how many lists, and the share that b wins of those that somebody won."""

    a_wins: int
    b_wins: int
    ties: int
    fixed: Interval  # exact binomial (Clopper & Pearson 1934), for one look
    anytime: Interval  # holds at every look

    @property
    def says(self) -> str:
        """One sentence with its numbers."""
        decided = self.a_wins + self.b_wins
        if not decided:
            return f"No list of {self.ties:,} was won by either ranking: nothing can be said."
        found = self.anytime
        ends = (
            f"b wins {found.estimate:.1%} of {decided:,} lists that somebody won, "
            f"{found.level:.0%} between {found.low:.1%} and {found.high:.1%} at every look"
        )
        if not found.excludes(0.5):
            return f"Neither ranking is shown to be preferred: {ends}."
        return f"{'b' if found.estimate > 0.5 else 'a'} is preferred: {ends}."


def team_draft(a: Sequence[Item], b: Sequence[Item], *, length: int, seed: int) -> Interleaved:
    """Both rankings pick their best item that is not yet there, a coin says who goes first.

    Radlinski, Kurup & Joachims (2008), algorithm 2: as two captains choose their teams. In each
    round of two picks a new coin is thrown, so that random clicks win as often for either. `seed`
    has to differ from list to list: a hash of the request's id, say. Raises Invalid where a
    ranking has an item twice.

    >>> found = team_draft(["x", "y", "z"], ["z", "x", "w"], length=3, seed=3)
    >>> len(found.items), set(found.teams) <= {"a", "b"}
    (3, True)
    """
    _check(a, b, length, seed)
    random = np.random.default_rng(seed)
    ranks: dict[Team, Sequence[Item]] = {"a": a, "b": b}
    items: list[Item] = []
    teams: list[Team | Literal[""]] = []
    coins: list[Team] = []
    while len(items) < length:
        order: tuple[Team, Team] = ("a", "b") if random.random() < 0.5 else ("b", "a")
        coins.append(order[0])
        picks: list[Item] = []
        for team in order:
            picks += [one for one in ranks[team] if one not in items and one not in picks][:1]
        if not picks:  # both rankings are at their ends
            break
        items += picks
        # One pick alone, because a ranking is at its end, would be one more team member for luck.
        teams += order if len(picks) == 2 else ("",)
    return Interleaved(tuple(items[:length]), tuple(teams[:length]), coins[0])


def balanced(a: Sequence[Item], b: Sequence[Item], *, length: int, seed: int) -> Interleaved:
    """Merged so that the list's top holds as many of either ranking's top, one coin for all.

    Joachims (2002, 2003). Judge it by `balanced_winner`. It is here to be compared with: where the
    rankings are nearly the same, random clicks prefer one of them, as Radlinski, Kurup & Joachims
    (2008) say: of a = 1 2 3 and b = 2 3 1, b wins two clicks of three. `team_draft` does not.
    """
    _check(a, b, length, seed)
    first: Team = "a" if np.random.default_rng(seed).random() < 0.5 else "b"
    items: list[Item] = []
    at_a = at_b = 0
    while len(items) < length and at_a < len(a) and at_b < len(b):
        if at_a < at_b or (at_a == at_b and first == "a"):
            pick, at_a = a[at_a], at_a + 1
        else:
            pick, at_b = b[at_b], at_b + 1
        if pick not in items:
            items.append(pick)
    return Interleaved(tuple(items), ("",) * len(items), first)


def winner(shown: Interleaved, clicked: Iterable[Hashable]) -> Team | None:
    """The ranking whose team got more of the clicks; None of a tie. Other items don't count.

    >>> winner(Interleaved(("x", "z"), ("a", "b"), "a"), ["z"])
    'b'
    """
    clicks = set(clicked)
    votes = Counter(
        team for item, team in zip(shown.items, shown.teams, strict=True) if item in clicks
    )
    return _greater(votes["a"], votes["b"])


def balanced_winner(
    a: Sequence[Item], b: Sequence[Item], shown: Interleaved, clicked: Iterable[Hashable]
) -> Team | None:
    """The ranking with more clicked items in its top k, k the least that holds the lowest click."""
    clicks = [item for item in shown.items if item in set(clicked)]
    if not clicks:
        return None
    last = clicks[-1]
    ranks: list[list[Hashable]] = [list(a), list(b)]
    depth = min(rank.index(last) + 1 for rank in ranks if last in rank)
    return _greater(
        sum(item in clicks for item in a[:depth]), sum(item in clicks for item in b[:depth])
    )


def preference(winners: Iterable[Team | None], *, alpha: float = 0.05) -> Preference:
    """Which ranking is preferred, by who won each list (None: nobody).

    Ties say nothing about who is better, and are left out (the sign test). The fixed interval is
    exact for one look; the anytime-valid one comes from the mixture of binomial likelihoods over
    the uniform prior (Robbins 1970), which is a martingale: k!·m!/(n + 1)! / (p^k (1 − p)^m) is
    1 / alpha or more at some look with probability alpha at most. Lists have to be independent:
    give one winner a user where users come back.

    >>> found = preference(["b"] * 60 + ["a"] * 20 + [None] * 20)
    >>> print(found.says)
    b is preferred: b wins 75.0% of 80 lists that somebody won, 95% between 57.9% and 88.0% at
    every look.
    """
    if not 0 < alpha < 1:
        raise Invalid(f"alpha is {alpha}, not between 0 and 1.")
    counts = Counter(winners)
    unknown = set(counts) - {"a", "b", None}
    if unknown:
        raise Invalid(f"A winner is 'a', 'b' or None, not {min(map(repr, unknown))}.")
    k, m = counts["b"], counts["a"]
    return Preference(m, k, counts[None], _exact(k, k + m, alpha), _mixture(k, k + m, alpha))


def _check(a: Sequence[Hashable], b: Sequence[Hashable], length: int, seed: int) -> None:
    given: Any = seed
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 0:
        raise Invalid(
            f"{seed!r} is no seed.", hint="Give a number from 0 on, another for each list."
        )
    if length < 1:
        raise Invalid(f"A list of {length} items can't be shown.")
    for name, rank in (("a", a), ("b", b)):
        items: Sequence[Any] = rank
        if not all(isinstance(item, Hashable) for item in items):
            raise Invalid(f"Ranking {name} has items that can't be told apart.", hint="Give ids.")
        if len(set(rank)) < len(rank):
            twice = next(item for item, count in Counter(rank).items() if count > 1)
            raise Invalid(f"Ranking {name} has {twice!r} more than once.")


def _greater(a: int, b: int) -> Team | None:
    if a == b:
        return None
    return "a" if a > b else "b"


def _exact(k: int, n: int, alpha: float) -> Interval:
    if not n:
        return _interval(k, n, (0.0, 1.0), math.nan, alpha, "Clopper-Pearson")
    return clopper_pearson(k, n, alpha=alpha, null=0.5)


def _mixture(k: int, n: int, alpha: float) -> Interval:
    """By a mixture of binomial likelihoods over all chances alike (Robbins 1970).

    By contrast to `rates.rate_interval` the prior is the same whatever rate is asked about, and
    there is no number of lists to tune it to.
    """
    mixed = log_beta_ratio(1, 1, k, n - k)

    def evidence(p: float) -> float:
        """The log of the mixture's likelihood ratio against p."""
        return mixed - _times(k, p) - _times(n - k, 1 - p)

    def allowed(p: float) -> bool:
        return evidence(p) < -math.log(alpha)

    low = edge(allowed, k / n, 0.0) if k else 0.0
    high = edge(allowed, k / n, 1.0) if k < n else 1.0
    p_value = math.exp(min(0.0, -evidence(0.5))) if n else math.nan
    return _interval(k, n, (low, high), p_value, alpha, "beta-binomial confidence sequence")


def _interval(
    k: int, n: int, ends: tuple[float, float], p_value: float, alpha: float, method: str
) -> Interval:
    return Interval(
        estimate=k / n if n else math.nan,
        low=ends[0],
        high=ends[1],
        level=1 - alpha,
        p_value=p_value,
        method=method,
        null=0.5,
    )


def _times(count: int, p: float) -> float:
    if count == 0:
        return 0.0
    return count * math.log(p) if p > 0 else -math.inf
