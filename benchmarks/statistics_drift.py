"""Drift: false alarms a year of fifty columns looked at daily, and how soon a change is found.

Fifty columns of twenty bins are looked at every day. A year is simulated again and again: without
any change (independent rows; rows of a day that go together; weeks with another weekend), and with
one. The default: limit 0.05, patience 1,000 windows, so 0.365 false alarms a year at most. Beside
it, what many do: a threshold of 0.1 on the PSI, and a chi-square test at 5 %, each day.
"""

import numpy as np

from upturn.improve.monitor.alarms import LIMIT, PATIENCE, evidence, habits, raised
from upturn.improve.statistics.distributions import chi2_isf

COLUMNS, BINS, DAYS, REFERENCE = 50, 20, 365, 56
Array = np.ndarray


def psi_of(base: Array, counts: Array) -> tuple[Array, Array]:
    """PSI and what chance gives of it, of counts over the last axis."""
    bins = base.shape[-1]
    n, m = base.sum(-1, keepdims=True), counts.sum(-1, keepdims=True)
    p, q = (base + 0.5) / (n + bins / 2), (counts + 0.5) / (m + bins / 2)
    return ((q - p) * np.log(q / p)).sum(-1), ((bins - 1) * (1 / n + 1 / m))[..., 0]


def chi2_of(base: Array, counts: Array) -> Array:
    """Pearson's statistic, of counts over the last axis."""
    n, m = base.sum(-1, keepdims=True), counts.sum(-1, keepdims=True)
    return (n * m * ((base / n - counts / m) ** 2 / (base + counts))).sum(-1)


def shifted(psi: float) -> Array:
    """Shares of bins, uniform ones tilted so that their PSI is as said."""
    slope = np.linspace(-1, 1, BINS)
    low, high = 0.0, 10.0
    for _ in range(60):
        tilt = (low + high) / 2
        q = np.exp(tilt * slope)
        q /= q.sum()
        found = float(((q - 1 / BINS) * np.log(q * BINS)).sum())
        low, high = (tilt, high) if found < psi else (low, tilt)
    return q


def world(
    random: np.random.Generator,
    rows: int,
    days: int,
    *,
    common: float = 0.0,
    weekend: float = 0.0,
    change: Array | None = None,
    changed: int = 0,
) -> Array:
    """Counts (columns, days, bins). `common`: a day's tilt, that all of its rows share; `weekend`:
    the PSI of two days in seven; `change`: shares of the first `changed` columns."""
    slope = np.linspace(-1, 1, BINS)
    tilt = common * random.normal(size=(COLUMNS, days, 1))
    logs = tilt * slope
    logs[:, np.arange(days) % 7 >= 5] += np.log(shifted(weekend) * BINS) if weekend else 0.0
    if change is not None:
        logs[:changed] += np.log(change * BINS)
    shares = np.exp(logs)
    return random.multinomial(rows, shares / shares.sum(-1, keepdims=True))


def limits_of(counts: Array) -> Array:
    """What columns are used to, as `alarms` has it: each day of reference against the others."""
    whole = counts.sum(1, keepdims=True)
    return np.maximum(LIMIT, habits(*psi_of(whole - counts, counts)))


def false_alarms(name: str, rows: int, years: int, *, known: bool, **kind: float) -> None:
    """A line of the table: how many false alarms a year, by each method."""
    random = np.random.default_rng(1)
    ours = naive = tested = 0
    for _ in range(years):
        past = world(random, rows, REFERENCE, **kind)
        base = past.sum(1, keepdims=True)
        counts = world(random, rows, DAYS, **kind)
        psi, chance = psi_of(base, counts)
        limits = limits_of(past) if known else np.full(COLUMNS, LIMIT)
        alarm = raised(evidence(psi, chance, limits))
        # Of a run of days with an alarm the first counts.
        ours += int((alarm[:, 1:] & ~alarm[:, :-1]).sum() + alarm[:, 0].sum())
        naive += int((psi >= 0.1).sum())
        tested += int((chi2_of(base, counts) >= chi2_isf(0.05, BINS - 1)).sum())
    limit = "its own" if known else f"{LIMIT}"
    print(
        f"  {name:34} {rows:6,} {limit:>8} {ours / years:9.3f} {naive / years:12,.1f} "
        f"{tested / years:12,.0f}"
    )


def delays(psi: float, changed: int, rows: int, tries: int, **kind: float) -> None:
    """A line of the table: after how many days a change is found in all of the changed columns."""
    random = np.random.default_rng(2)
    found: list[int] = []
    for _ in range(tries):
        past = world(random, rows, REFERENCE, **kind)
        quiet = world(random, rows, 60, **kind)
        after = world(random, rows, 120, change=shifted(psi), changed=changed, **kind)
        base = past.sum(1, keepdims=True)
        figures = psi_of(base, np.concatenate([quiet, after], 1))
        alarm = raised(evidence(*figures, limits_of(past)))[:changed, 60:]
        first = np.where(alarm.any(1), alarm.argmax(1) + 1, 999)
        found += first.tolist()
    middle, late = np.quantile(found, [0.5, 0.9]).astype(int)
    say = [f"{one}" if one < 999 else "not in 120" for one in (middle, late)]
    print(f"  {psi:5} {changed:3} of {COLUMNS} {rows:7,} {say[0]:>10} {say[1]:>10}")


def run(*, quick: bool) -> None:
    """Print both tables."""
    years, tries = (3, 5) if quick else (40, 40)
    promised = DAYS / PATIENCE
    print(f"False alarms a year, {COLUMNS} columns, each day, {years} years; {promised} promised:")
    print(
        "                                       rows    limit  e-alarms   PSI >= 0.1  chi² p<0.05"
    )
    for rows in (100, 1_000, 20_000):
        false_alarms("independent rows", rows, years, known=False)
    false_alarms("a day's rows go together, PSI 0.02", 20_000, years, known=False, common=0.26)
    false_alarms("a day's rows go together, PSI 0.1", 20_000, years, known=False, common=0.57)
    false_alarms("a day's rows go together, PSI 0.1", 20_000, years, known=True, common=0.57)
    false_alarms("weekends at PSI 0.3", 20_000, years, known=False, weekend=0.3)
    false_alarms("weekends at PSI 0.3", 20_000, years, known=True, weekend=0.3)
    print("Days until a change is found (half of the columns, nine in ten):")
    print("    PSI   columns    rows       half      90 %")
    for psi in (0.1, 0.25, 1.0):
        for changed in (1, 10):
            delays(psi, changed, 1_000, tries)
    print("  the same, a day's rows go together (PSI 0.02 of each day):")
    for psi in (0.1, 0.25):
        delays(psi, 1, 20_000, tries, common=0.26)
