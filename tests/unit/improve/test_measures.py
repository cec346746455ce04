"""Metrics of several classes and of rankings agree with scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from upturn.improve.measures.classes import (
    class_accuracy,
    macro_f1,
    own_losses,
    own_squares,
)
from upturn.improve.measures.ranking import (
    RANKING,
    average_precision,
    ndcg,
    ranked,
    recall,
    reciprocal_rank,
)


@pytest.mark.parametrize("weighted", [False, True])
def test_classes(weighted: bool) -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 4, 300)
    shares = random.dirichlet(np.ones(5), 300)  # the fifth class never occurs
    said = shares.argmax(axis=1)
    weights = random.integers(1, 5, 300).astype(float) if weighted else None
    found = macro_f1(5).of(labels, said, weights)
    assert found == pytest.approx(
        reference.f1_score(labels, said, average="macro", sample_weight=weights)
    )
    assert class_accuracy(5).of(labels, said, weights) == pytest.approx(
        reference.accuracy_score(labels, said, sample_weight=weights)
    )
    assert np.average(own_losses(labels, shares), weights=weights) == pytest.approx(
        reference.log_loss(labels, shares, labels=range(5), sample_weight=weights)
    )
    squares = np.square(shares - np.eye(5)[labels]).sum(axis=1)
    np.testing.assert_allclose(own_squares(labels, shares), squares)


def test_a_class_that_never_occurs_does_not_count() -> None:
    one, other = macro_f1(2).of([0, 1, 1], [0, 1, 0]), macro_f1(9).of([0, 1, 1], [0, 1, 0])
    assert one == other
    assert math.isnan(macro_f1(3).of([], []))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [None, 1, 3, 10])
def test_ndcg_is_what_scikit_learn_says(ties: bool, k: int | None) -> None:
    random = np.random.default_rng(2)
    relevance = random.integers(0, 4, (20, 8)).astype(float)
    scores = random.random((20, 8))
    scores = np.round(scores, 1) if ties else scores
    queries = np.repeat(np.arange(20), 8)
    shuffled = random.permutation(160)
    found = ndcg(
        ranked(relevance.ravel()[shuffled], scores.ravel()[shuffled], queries[shuffled]), k
    )
    wanted = [
        reference.ndcg_score(y[None], s[None], k=k) for y, s in zip(relevance, scores, strict=True)
    ]
    np.testing.assert_allclose(found, wanted)


def test_mean_average_precision_is_what_scikit_learn_says() -> None:
    random = np.random.default_rng(3)
    relevance, scores = random.integers(0, 2, (30, 12)), random.random((30, 12))
    relevance[:, 0] = 1
    found = average_precision(ranked(relevance.ravel(), scores.ravel(), np.repeat(range(30), 12)))
    wanted = [
        reference.average_precision_score(y, s) for y, s in zip(relevance, scores, strict=True)
    ]
    np.testing.assert_allclose(found, wanted)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 4)), max_size=40),
    st.integers(1, 5),
)
def test_by_hand(rows: list[tuple[int, int, int]], k: int) -> None:
    queries, relevance, scores = ([row[place] for row in rows] for place in range(3))
    found = ranked(relevance, scores, queries)
    for place, query in enumerate(sorted(set(queries))):
        # Of equal scores the least relevant row comes first.
        own = sorted((-s, y) for q, y, s in rows if q == query)
        hits = [y > 0 for _, y in own]
        firsts = [rank for rank, hit in enumerate(hits) if hit]
        if not firsts:
            assert all(math.isnan(function(found, k)[place]) for function in RANKING.values())
            continue
        top = sum(hits[:k])
        assert recall(found, k)[place] == pytest.approx(top / len(firsts))
        first = 1 / (firsts[0] + 1) if firsts[0] < k else 0.0
        assert reciprocal_rank(found, k)[place] == pytest.approx(first)
        precisions = [(n + 1) / (rank + 1) for n, rank in enumerate(firsts) if rank < k]
        wanted = sum(precisions) / min(len(firsts), k)
        assert average_precision(found, k)[place] == pytest.approx(wanted)
        assert 0 <= ndcg(found, k)[place] <= 1 + 1e-12
