"""Delays: how long labels take to arrive, from what had arrived by a time."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from upturn.improve.measures.arrays import Floats, ratio

_POINTS = 400  # of a curve that is kept


class DelayCurve(msgspec.Struct, frozen=True, kw_only=True):
    """The share of labels that have arrived after a delay: `arrived[i]` from `delays_s[i]` on.

    Before the first delay it is 0. `rows` are the labels that it rests on.
    """

    delays_s: tuple[float, ...]
    arrived: tuple[float, ...]
    rows: int

    def at(self, age_s: Floats) -> Floats:
        """The share that has arrived at these ages.

        >>> DelayCurve(delays_s=(10.0,), arrived=(1.0,), rows=1).at(np.array([9.0, 10.0]))
        array([0., 1.])
        """
        places = np.searchsorted(np.array(self.delays_s), age_s, side="right")
        return np.concatenate(([0.0], np.array(self.arrived)))[places]

    def age_s(self, share: float) -> float:
        """The delay after which at least that share has arrived; infinite if it never has."""
        found = np.flatnonzero(np.array(self.arrived) >= share - 1e-12)
        return self.delays_s[found[0]] if len(found) else float("inf")


def arrivals(delay_s: Floats, age_s: Floats, weights: Floats | None = None) -> DelayCurve:
    """How the delays of labels are distributed, by those that had arrived: of rows, delay <= age.

    A row that is young is seen only if its label was quick, so what has arrived looks quicker than
    labels are. This is the product-limit estimator for right-truncated data in reverse time
    (Lynden-Bell 1971; for reports that are late: Lagakos, Barraj & De Gruttola 1988, Biometrika
    75(3); in whole periods it is the chain ladder, Mack 1993). Of delays beyond the longest age it
    knows nothing: shares are of the labels that arrive within the longest delay seen. It takes
    delays to be the same at all times. Rows whose delay is more than their age are left out.

    >>> arrivals(np.array([1.0, 1.0, 2.0]), np.array([1.0, 9.0, 9.0])).arrived
    (0.5, 1.0)
    """
    seen = (delay_s <= age_s) & np.isfinite(delay_s)
    delay_s, age_s = np.maximum(delay_s[seen], 0.0), age_s[seen]
    weights = np.ones(len(delay_s)) if weights is None else weights[seen]
    if not len(delay_s):
        return DelayCurve(delays_s=(), arrived=(), rows=0)
    steps, place = np.unique(delay_s, return_inverse=True)
    events = np.bincount(place, weights=weights)
    order = np.argsort(age_s, kind="stable")
    summed = np.concatenate(([0.0], np.cumsum(weights[order])))
    left = summed[np.searchsorted(age_s[order], steps, side="left")]  # too young to be seen so late
    at_risk = np.cumsum(events) - left
    # Between two delays F is divided by the share of those at risk that arrived before the later.
    kept = np.clip(1 - ratio(events, np.maximum(at_risk, events)), 0.0, 1.0)
    arrived = np.append(np.cumprod(kept[:0:-1])[::-1], 1.0)
    return _curve(steps, arrived, len(delay_s))


def labelled_by(delay_s: Floats, age_s: Floats) -> DelayCurve:
    """The share of rows that have a label after a delay, those included that never get one.

    `delay_s` is nan of a row without a label: of such a row it is only known that it has none at
    its age (the product-limit estimator for right-censored data, Kaplan & Meier 1958).

    >>> labelled_by(np.array([1.0, np.nan, np.nan]), np.array([5.0, 0.5, 5.0])).arrived
    (0.5,)
    """
    has = delay_s <= age_s
    time = np.where(has, np.maximum(delay_s, 0.0), age_s)
    steps, place = np.unique(time[has], return_inverse=True)
    events = np.bincount(place, minlength=len(steps)).astype(np.float64)
    at_risk = len(time) - np.searchsorted(np.sort(time), steps, side="left")
    arrived = np.asarray(1 - np.cumprod(1 - ratio(events, at_risk)), dtype=np.float64)
    return _curve(steps, arrived, int(has.sum()))


def _curve(steps: Floats, arrived: Floats, rows: int) -> DelayCurve:
    kept: NDArray[np.intp] = np.arange(len(steps))
    if len(steps) > _POINTS:  # thinned by share, the first and the last kept
        targets = np.linspace(arrived[0], arrived[-1], _POINTS)
        kept = np.unique(np.append(np.searchsorted(arrived, targets), len(steps) - 1))
        kept = kept[kept < len(steps)]
    return DelayCurve(
        delays_s=tuple(steps[kept].tolist()), arrived=tuple(arrived[kept].tolist()), rows=rows
    )
