"""AUC is the share of pairs won, however it is computed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.improve.compare import compare_paired
from upturn.improve.metrics import auc

rows = st.lists(
    st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=40
)


def pairs_won(rows: list[tuple[bool, int, int]]) -> float:
    won = weight = 0.0
    for label, score, w in rows:
        for other, below, v in rows:
            if label and not other:
                weight += w * v
                won += w * v * (1.0 if score > below else 0.5 if score == below else 0.0)
    return won / weight if weight else float("nan")


@given(rows)
def test_auc_is_the_share_of_pairs_won(rows: list[tuple[bool, int, int]]) -> None:
    labels, scores, weights = (np.array(column, float) for column in zip(*rows, strict=True))
    assert auc(labels, scores, weights) == pytest.approx(pairs_won(rows), nan_ok=True)


@given(rows)
def test_auc_of_the_opposite_score_is_the_rest(rows: list[tuple[bool, int, int]]) -> None:
    labels, scores, weights = (np.array(column, float) for column in zip(*rows, strict=True))
    assert auc(labels, -scores, weights) == pytest.approx(
        1 - auc(labels, scores, weights), nan_ok=True
    )


@given(rows, st.sampled_from(["auc", "log_loss", "brier", "accuracy", "mae", "rmse"]))
def test_swapping_the_models_turns_the_interval_round(
    rows: list[tuple[bool, int, int]], metric: str
) -> None:
    labels, scores, blocks = (np.array(column, float) for column in zip(*rows, strict=True))
    one, other = scores / 6, 1 - np.square(scores / 6)
    there = compare_paired(metric, labels, one, other, blocks, draws=50, seed=3)
    back = compare_paired(metric, labels, other, one, blocks, draws=50, seed=3)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), nan_ok=True)
    assert there.difference == pytest.approx(-back.difference, nan_ok=True)
    if there.conclusive:
        assert there.low <= there.difference <= there.high
    same = compare_paired(metric, labels, one, one, blocks, draws=50, seed=3)
    assert not same.conclusive or same.low == same.difference == same.high == 0
