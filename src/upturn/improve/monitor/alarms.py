"""Alarms: which columns have drifted for good, asked of every window, for a whole model at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from upturn.core.errors import Invalid
from upturn.improve.monitor.distances import Stability
from upturn.improve.monitor.drift import Drift
from upturn.improve.statistics.distributions import t_quantile
from upturn.improve.statistics.e_values import detector_path
from upturn.improve.statistics.multiplicity import e_benjamini_hochberg

Floats = NDArray[np.float64]
LIMIT = 0.05  # of PSI beyond chance: half of what is commonly taken for a change
PATIENCE = 1000  # windows
_STAKES = (0.25, 0.5, 0.75, 1.0)  # the part of what there is that is bet on each window
_FEWEST = 7  # windows of reference, to tell what a column is used to
_UNSURE = 0.01  # that a bound of what any of the columns is used to is too low

Figures = tuple[Floats, Floats]
WindowDrifts = tuple[datetime, Mapping[str, Drift | Stability]]


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one column after the last window.

    `evidence` is the detector's statistic: about how many windows without a change one would have
    to watch for as much. `began_at` is the window with which its rise began, of a column that is
    `raised`. `limit` is the PSI beyond chance that is not called drift.
    """

    column: str
    raised: bool
    evidence: float
    began_at: datetime | None
    limit: float
    windows: int


def alarms(
    windows: Sequence[WindowDrifts],
    *,
    reference: Sequence[WindowDrifts] = (),
    limit: float = LIMIT,
    patience: float = PATIENCE,
) -> list[Alarm]:
    """The columns' alarms after the last window, by name of column; windows in the order of time.

    **The question.** With many rows every difference is significant, and rows of one day go
    together, so that no p-value of rows means anything. What is asked is whether a column is
    farther from its baseline than matters: whether the PSI of a window is, given all windows before
    it, more than `limit` beyond chance on average. Of a column with seven windows of `reference` or
    more (drift of parts of the baseline against the rest of it) the limit is what it is used to, if
    that is more: an upper bound of its mean there (see `habits`).

    **The evidence.** PSI is not negative, so PSI / (limit + chance) has a mean of at most 1 while
    there is no drift: it is an e-value, however rows within a window and columns depend on each
    other (Markov's inequality; Vovk & Wang 2021, arXiv 1912.06116). A Shiryaev-Roberts e-detector
    sums the products that begin at each window (Shin, Ramdas & Rinaldo 2024, arXiv 2203.03532),
    staking 25, 50, 75 or 100 % on each; the mean of the four is an e-detector too.

    **The control.** At each window e-BH at 1 / `patience` (Wang & Ramdas 2022, arXiv 2009.02824)
    says which columns have an alarm: e-d-BH of Dandapanthula & Ramdas (2025, arXiv 2501.04130).
    Where k of m columns are raised, their statistics add up to m · `patience`, so the mean of all,
    an e-detector itself, has reached `patience`: while nothing drifts, a first false alarm in
    *any* column comes after `patience` windows or more on average.

    Raises Invalid for a limit or a patience that is none.
    """
    columns = sorted({name for _, found in windows for name in found})
    starts = [start for start, _ in windows]
    past = _figures(reference, columns)
    return judge(columns, starts, _figures(windows, columns), past, limit, patience)


def judge(
    columns: Sequence[str],
    starts: Sequence[datetime],
    figures: Figures,
    past: Figures,
    limit: float = LIMIT,
    patience: float = PATIENCE,
) -> list[Alarm]:
    """The same from figures: PSI and what chance gives of it, each an array (columns, windows).

    `starts` are when the windows begin; `past` is of windows of reference, of which there may be
    none.
    """
    check_alarms(limit, patience)
    psi, chance = figures
    if not psi.size:
        return []
    limits = np.maximum(limit, habits(*past))
    paths = evidence(psi, chance, limits, patience)
    now = raised(paths, patience)[:, -1]
    begun = _begun(psi, chance, limits)
    return [
        Alarm(
            column=column,
            raised=bool(now[place]),
            evidence=float(np.exp(min(paths[place, -1], 700.0))),
            began_at=starts[int(begun[place])] if now[place] else None,
            limit=float(limits[place]),
            windows=int(np.count_nonzero(~np.isnan(psi[place]))),
        )
        for place, column in enumerate(columns)
    ]


def check_alarms(limit: float, patience: float) -> None:
    """Raise Invalid for a limit or a patience that is none."""
    if not limit > 0 or not patience >= 1:
        raise Invalid(
            f"A limit of {limit:g} and a patience of {patience:g} make no alarm.",
            hint="A limit is above 0, as 0.05; a patience is in windows, 1 or more, as 1000.",
        )


def evidence(psi: Floats, chance: Floats, limits: Floats, patience: float = PATIENCE) -> Floats:
    """The log of the detectors' statistic after each window: arrays of (columns, windows).

    `limits` has one for each column; of a window that is nan nothing is known. No more is kept than
    raises an alarm for one column alone, so that it ends soon after the drift does; less evidence
    can but raise fewer.

    >>> found = evidence(np.array([[0.0, 0.25, 0.25]]), np.zeros((1, 3)), np.array([0.05]))
    >>> np.exp(found).round(1).tolist()
    [[0.4, 4.5, 19.9]]
    """
    ratio = np.nan_to_num(psi / (limits[:, None] + chance), nan=1.0)
    most = math.log(len(_STAKES) * max(1, len(psi)) * patience)
    stakes = np.array(_STAKES)[:, None]
    kept = np.full((len(_STAKES), len(psi)), -np.inf)
    found = np.empty_like(ratio)
    for at in range(ratio.shape[1]):
        with np.errstate(divide="ignore"):  # nothing is left of a stake of all on a PSI of 0
            kept = np.logaddexp(kept, 0.0) + np.log(1 - stakes + stakes * ratio[:, at])
        kept = np.minimum(kept, most)
        found[:, at] = np.logaddexp.reduce(kept, axis=0) - math.log(len(_STAKES))
    return found


def raised(evidence: Floats, patience: float = PATIENCE) -> NDArray[np.bool_]:
    """Which columns have an alarm after each window: arrays of (columns, windows)."""
    capped = np.exp(np.minimum(evidence, 700.0))
    alpha = 1 / max(patience, 1 + 1e-9)
    rows = [e_benjamini_hochberg(window.tolist(), alpha) for window in capped.T]
    return np.array(rows, np.bool_).reshape(capped.T.shape).T


def _begun(psi: Floats, chance: Floats, limits: Floats) -> NDArray[np.int64]:
    """The window from which on the last rise goes: where the best product begins (Page 1954)."""
    with np.errstate(divide="ignore"):
        best = detector_path(np.log(psi / (limits[:, None] + chance)), cusum=True)
    at = np.arange(psi.shape[1])
    # It begins after the last window at which nothing was left of the evidence.
    last = np.where(best <= 0, at + 1, 0).max(axis=1)
    return np.minimum(last, psi.shape[1] - 1)


def _figures(windows: Sequence[WindowDrifts], columns: Sequence[str]) -> Figures:
    """PSI and what chance gives of it, nan where a window lacks a column: (columns, windows)."""
    psi = np.full((len(columns), len(windows)), np.nan)
    chance = psi.copy()
    for at, (_, found) in enumerate(windows):
        for place, column in enumerate(columns):
            if (one := found.get(column)) is not None:
                psi[place, at], chance[place, at] = one.psi, one.psi_noise
    return psi, chance


def habits(psi: Floats, chance: Floats) -> Floats:
    """Upper bounds of the columns' mean PSI beyond chance, from windows of reference.

    Student's t bounds that hold for all columns at once with 99 % (Bonferroni), which takes windows
    for alike and independent. 0 of columns with fewer than seven windows. Arrays of (columns,
    windows).
    """
    found = np.zeros(len(psi))
    for place, excess in enumerate(psi - chance):
        known = excess[np.isfinite(excess)]
        if len(known) >= _FEWEST:
            error = float(known.std(ddof=1)) / math.sqrt(len(known))
            reach = t_quantile(1 - _UNSURE / len(psi), len(known) - 1)
            found[place] = float(known.mean()) + reach * error
    return found
