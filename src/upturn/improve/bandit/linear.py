"""LinTS and LinUCB: shares by a row's own values, learned by ridge regression for each arm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.linear_policy import Encoded, LinearArm, LinearPolicy
from upturn.core.log import FEATURE_PREFIX
from upturn.core.records import Version
from upturn.improve.bandit.rows import Counted
from upturn.model.contextual import encoded, probabilities
from upturn.model.tables import floats

Floats = NDArray[np.float64]
_MOST_VALUES = 50  # of a text that get a column


@dataclass(frozen=True, slots=True)
class LinTS:
    """Linear Thompson sampling (Agrawal & Goyal 2013): a row's arm is drawn with the probability
    that it is the best for such rows.

    - `inputs`: the model's inputs that are looked at, by name.
    - `scale`: how wide posteriors are taken (v of the paper over the noise); 1 is Bayes' rule.
    - `ridge`: the prior's weight in rows, which pulls coefficients towards 0.

    >>> LinTS(["age", "plan"]).scale
    1.0
    """

    inputs: Sequence[str]
    scale: float = 1.0
    ridge: float = 1.0

    def __post_init__(self) -> None:
        """Raises Invalid for what can't be."""
        _check(self.inputs, self.ridge, scale=self.scale)


@dataclass(frozen=True, slots=True)
class LinUCB:
    """LinUCB with an arm's own coefficients (Li, Chu, Langford & Schapire 2010, algorithm 1): a row
    gets the arm that may be the best by most, but for the minimum of the others.

    - `inputs`: the model's inputs that are looked at, by name.
    - `alpha`: how many standard errors of an arm's expected reward are added to it. The paper takes
      rewards' noise for 1; here it is estimated, so that the unit of rewards makes no difference.
    - `ridge`: the prior's weight in rows, which pulls coefficients towards 0.

    >>> LinUCB(["age", "plan"]).alpha
    1.0
    """

    inputs: Sequence[str]
    alpha: float = 1.0
    ridge: float = 1.0

    def __post_init__(self) -> None:
        """Raises Invalid for what can't be."""
        _check(self.inputs, self.ridge, alpha=self.alpha)


Contextual = LinTS | LinUCB


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """A policy that was learned, and what it comes to on the rows that it was learned from."""

    policy: LinearPolicy
    noise: float  # the rewards' standard deviation about what is expected
    shares: dict[str, float]  # the mean probability of each arm
    moved: float  # the mean change of probabilities, against those in force
    value: float  # mean expected reward of the policy, by its own model
    uniform: float  # that of equal shares


def inputs_of(version: Version, names: Sequence[str]) -> tuple[Encoded, ...]:
    """How the inputs of those names become numbers, by the data that the version was trained on.

    Raises Invalid for a name that is no input, or one that is a time.
    """
    fields = {one.name: one for one in version.signature.inputs}
    return tuple(_input(version, fields, name) for name in names)


def _input(version: Version, fields: Mapping[str, Any], name: str) -> Encoded:
    field = fields.get(name)
    if field is None:
        raise Invalid(
            f"{version.name} takes no {name!r}, which the policy is to look at.",
            hint=did_you_mean(name, fields),
        )
    column = version.profile.column(name)
    if field.type in ("date", "datetime"):
        raise Invalid(f"{name!r} is a time; a policy takes numbers and texts.")
    if field.type == "str":
        values = tuple(column.values) if column is not None and column.values else field.categories
        return Encoded(name=name, values=tuple(values or ())[:_MOST_VALUES])
    if column is None or column.mean is None:
        return Encoded(name=name)
    return Encoded(name=name, mean=column.mean, scale=column.std or 1.0)


def encode_log(inputs: Sequence[Encoded], table: pa.Table) -> Floats:
    """The Log's rows as a policy sees them: (rows, 1 + columns). Raises Invalid without one."""

    def column(one: Encoded) -> Any:
        name = f"{FEATURE_PREFIX}{one.name}"
        if name not in table.column_names:
            raise Invalid(f"The Log's rows have no {one.name!r}; is it redacted?")
        values = table[name]
        if one.values is None:
            return floats(values)
        return pc.cast(values, pa.string()).to_pylist()

    if not len(table):
        width = sum(1 if one.values is None else len(one.values) for one in inputs)
        return np.empty((0, 1 + width))
    return encoded(inputs, column, len(table))


def learn(
    how: Contextual,
    inputs: Sequence[Encoded],
    rows: Counted,
    arms: Sequence[str],
    *,
    least: float,
    before: LinearPolicy | None,
) -> Learned:
    """The policy that the rows with a reward speak for; `before` is the one in force.

    Per arm A = ridge·I + Σ w·x·xᵀ, b = Σ w·r·x, coefficients A⁻¹b, whose covariance is noise² · A⁻¹
    times the design effect of units, since a unit's rows depend on each other. w is 1 / rate of
    logging, 1 on average. Unlike an arm's mean these need no weighing by propensities, as far as
    the context explains when and why an arm was chosen.
    """
    seen = encode_log(inputs, rows.table)
    fits = [_fit(seen, rows, place, how.ridge) for place in range(len(arms))]
    freedom = sum(max(0.0, one.count - seen.shape[1]) for one in fits)
    squares = sum(one.squares for one in fits)
    noise = math.sqrt(squares / freedom) if freedom > 0 else 0.0
    width = how.scale if isinstance(how, LinTS) else how.alpha
    kind: Literal["LinTS", "LinUCB"] = "LinTS" if isinstance(how, LinTS) else "LinUCB"
    made = LinearPolicy(
        kind=kind,
        least=least,
        inputs=tuple(inputs),
        arms=tuple(
            LinearArm(
                name=name,
                mean=tuple(one.mean.tolist()),
                covariance=_tuples((width * noise) ** 2 * one.effect * one.inverse),
            )
            for name, one in zip(arms, fits, strict=True)
        ),
    )
    now = probabilities(made, seen)
    same = before is not None and before.inputs == made.inputs
    was = probabilities(before, seen) if same and before is not None else np.full(now.shape, 0.0)
    expected = seen @ np.stack([one.mean for one in fits], 1)
    mean = now.mean(0) if len(now) else np.full(len(arms), 1.0 / len(arms))
    return Learned(
        policy=made,
        noise=noise,
        shares=dict(zip(arms, mean.tolist(), strict=True)),
        moved=float(np.abs(now - was).max(1).mean()) if len(now) else 0.0,
        value=float((now * expected).sum(1).mean()) if len(now) else 0.0,
        uniform=float(expected.mean()) if len(now) else 0.0,
    )


@dataclass(frozen=True, slots=True)
class _Fit:
    mean: Floats
    inverse: Floats
    squares: float  # of the errors
    count: float
    effect: float  # of units: how much more variance there is than in independent rows


def _fit(seen: Floats, rows: Counted, place: int, ridge: float) -> _Fit:
    taken = (rows.arm == place) & ~np.isnan(rows.reward)
    x, reward, weight = seen[taken], rows.reward[taken], rows.weight[taken]
    weight = weight / weight.mean() if len(weight) else weight
    gram = ridge * np.eye(seen.shape[1]) + (x * weight[:, None]).T @ x
    inverse = np.linalg.inv(gram)
    inverse = (inverse + inverse.T) / 2
    mean = inverse @ (x.T @ (weight * reward))
    errors = weight * (reward - x @ mean)
    unit = np.unique(rows.unit[taken], return_inverse=True)[1].reshape(-1)
    alone = float(errors @ errors)
    together = float(np.square(np.bincount(unit, weights=errors)).sum()) if len(errors) else 0.0
    return _Fit(
        mean=mean,
        inverse=inverse,
        squares=float(weight @ np.square(reward - x @ mean)),
        count=float(len(errors)),
        effect=max(1.0, together / alone) if alone > 0 else 1.0,
    )


def _tuples(matrix: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, matrix.tolist()))


def _check(inputs: Sequence[str], ridge: float, **widths: float) -> None:
    if isinstance(inputs, str) or not inputs:
        raise Invalid(
            f"inputs={inputs!r}: a policy looks at inputs by their names.",
            hint=f"Write inputs=[{inputs!r}]." if inputs else "Without any, take Thompson().",
        )
    if len(set(inputs)) != len(inputs):
        raise Invalid(f"inputs={list(inputs)!r}: one is named twice.")
    for name, value in {"ridge": ridge, **widths}.items():
        if not (math.isfinite(value) and value > 0.0):
            raise Invalid(f"{name}={value!r}: a number above 0.")
