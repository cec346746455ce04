"""Trees: a sum of decision trees as arrays, the same for every library, and as one ONNX node.

Thresholds and leaves are float64, so that a row takes the very path that it takes in the library
itself; libraries that look at float32 values get thresholds that part float64 values as those do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Link = Literal["identity", "sigmoid", "softmax", "exp"]
_LEQ, _MEMBER = 0, 6  # of the operator's modes: x <= threshold, x in a set of categories


class NoForm(Exception):
    """A model that has no other form; the message says why, without a full stop."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree: node `i` sends a row to `left[i]` where its rule holds, else to `right[i]`.

    A child of 0 or more is a node, the first one being the root; ~child is a leaf. A tree without
    nodes is its only leaf. The rule is x <= threshold; in a node of `sets` it is x being one of the
    categories there. A missing value goes left where `missing_left`.
    """

    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    left: np.ndarray
    right: np.ndarray
    leaves: np.ndarray  # of (leaves,), or (leaves, targets) for a tree that adds to all targets
    target: int = 0
    sets: Mapping[int, Sequence[int]] | None = None


@dataclass(frozen=True, slots=True)
class Trees:
    """Trees whose leaves add up by target; then comes the link."""

    trees: Sequence[Tree]
    base: np.ndarray  # of (targets,): what the sums begin with
    width: int  # inputs
    link: Link = "identity"
    scale: float = 1.0  # of the sums, before the link


def as_float32_leq(threshold: np.ndarray) -> np.ndarray:
    """The float64 thresholds m such that x <= m just where float32(x) <= threshold.

    >>> as_float32_leq(np.array([0.1])) < 0.1
    array([ True])
    """
    wide = np.asarray(threshold, np.float64)
    with np.errstate(over="ignore"):
        low = wide.astype(np.float32)
        low = np.where(low > wide, np.nextafter(low, np.float32(-np.inf)), low)
        high = np.nextafter(low, np.float32(np.inf))
    middle = (low.astype(np.float64) + high.astype(np.float64)) / 2
    # In the middle between two, float32 takes the even one.
    even = low.view(np.uint32) % 2 == 0
    return np.where(even, middle, np.nextafter(middle, -np.inf))


def as_float32_less(threshold: np.ndarray) -> np.ndarray:
    """The float64 thresholds m such that x <= m just where float32(x) < threshold, a float32."""
    narrow = np.asarray(threshold, np.float32)
    return as_float32_leq(np.nextafter(narrow, np.float32(-np.inf)))


def from_nodes(
    feature: np.ndarray,
    threshold: np.ndarray,
    missing_left: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    is_leaf: np.ndarray,
    values: np.ndarray,
    target: int = 0,
    sets: Mapping[int, Sequence[int]] | None = None,
) -> Tree:
    """A tree from arrays that number nodes and leaves in one go, the first one being the root."""
    leaf = np.asarray(is_leaf, np.bool_)
    place = np.where(leaf, ~(np.cumsum(leaf) - 1), np.cumsum(~leaf) - 1)
    inner = np.flatnonzero(~leaf)
    return Tree(
        feature=np.asarray(feature, np.int64)[inner],
        threshold=np.asarray(threshold, np.float64)[inner],
        missing_left=np.asarray(missing_left, np.int64)[inner],
        left=place[np.asarray(left, np.int64)[inner]],
        right=place[np.asarray(right, np.int64)[inner]],
        leaves=np.asarray(values, np.float64)[np.flatnonzero(leaf)],
        target=target,
        sets=None if sets is None else {int(place[node]): found for node, found in sets.items()},
    )


def tree_nodes(trees: Trees, source: str, result: str) -> list[Any]:
    """The ONNX nodes from a float64 matrix to the answers: (rows, targets), after the link."""
    several = any(tree.leaves.ndim == 2 for tree in trees.trees)
    make = _regressor_nodes if several else _ensemble_nodes
    if trees.link == "identity":
        return make(trees, source, result)
    return [*make(trees, source, "sums"), link_node(trees.link, "sums", result)]


def link_node(link: Link, source: str, result: str) -> Any:
    """The ONNX node of a link other than the identity."""
    from onnx import helper

    if link == "softmax":
        return helper.make_node("Softmax", [source], [result], axis=1)
    return helper.make_node({"sigmoid": "Sigmoid", "exp": "Exp"}[link], [source], [result])


def _ensemble_nodes(trees: Trees, source: str, result: str) -> list[Any]:
    """One TreeEnsemble, which reckons in float64 from end to end."""
    from onnx import helper, numpy_helper

    kept = _with_base(trees)
    flat = _Flat.of(kept)
    member, values = _members(kept, flat)
    given: dict[str, Any] = {}
    if values:
        given["membership_values"] = numpy_helper.from_array(np.array(values), "categories")
    splits = np.where(member, 0.0, flat.threshold)
    weights = np.concatenate([tree.leaves for tree in kept]) * trees.scale
    targets = np.repeat([tree.target for tree in kept], [len(tree.leaves) for tree in kept])
    node = helper.make_node(
        "TreeEnsemble",
        [source],
        [result],
        domain="ai.onnx.ml",
        n_targets=len(trees.base),
        aggregate_function=1,
        post_transform=0,
        tree_roots=flat.roots.tolist(),
        nodes_featureids=flat.feature.tolist(),
        nodes_splits=numpy_helper.from_array(splits, "splits"),
        nodes_modes=numpy_helper.from_array(
            np.where(member, _MEMBER, _LEQ).astype(np.uint8), "modes"
        ),
        nodes_truenodeids=np.where(flat.left < 0, ~flat.left, flat.left).tolist(),
        nodes_trueleafs=(flat.left < 0).astype(np.int64).tolist(),
        nodes_falsenodeids=np.where(flat.right < 0, ~flat.right, flat.right).tolist(),
        nodes_falseleafs=(flat.right < 0).astype(np.int64).tolist(),
        nodes_missing_value_tracks_true=flat.missing_left.tolist(),
        leaf_targetids=targets.tolist(),
        leaf_weights=numpy_helper.from_array(weights, "weights"),
        **given,
    )
    return [node]


def _regressor_nodes(trees: Trees, source: str, result: str) -> list[Any]:
    """One TreeEnsembleRegressor, whose leaves may add to several targets: it answers float32."""
    from onnx import TensorProto, helper, numpy_helper

    if any(tree.sets for tree in trees.trees):
        raise NoForm("its trees split by category and answer several classes at once")
    tables = [_with_leaves(tree) for tree in map(_never_empty, trees.trees)]
    counts = [len(table["feature"]) for table in tables]
    whole = {name: np.concatenate([one[name] for one in tables]) for name in tables[0]}
    trees_of = np.repeat(np.arange(len(tables)), counts)
    ids = np.concatenate([np.arange(count) for count in counts])
    targets = len(trees.base)
    leaf = np.flatnonzero(whole["is_leaf"])
    weights = np.concatenate([tree.leaves for tree in map(_never_empty, trees.trees)]) * trees.scale
    node = helper.make_node(
        "TreeEnsembleRegressor",
        [source],
        ["narrow"],
        domain="ai.onnx.ml",
        n_targets=targets,
        aggregate_function="SUM",
        post_transform="NONE",
        base_values_as_tensor=numpy_helper.from_array(trees.base * trees.scale, "base"),
        nodes_treeids=trees_of.tolist(),
        nodes_nodeids=ids.tolist(),
        nodes_featureids=whole["feature"].tolist(),
        nodes_modes=["LEAF" if one else "BRANCH_LEQ" for one in whole["is_leaf"].tolist()],
        nodes_values_as_tensor=numpy_helper.from_array(whole["threshold"], "splits"),
        nodes_truenodeids=whole["left"].tolist(),
        nodes_falsenodeids=whole["right"].tolist(),
        nodes_missing_value_tracks_true=whole["missing_left"].tolist(),
        target_treeids=np.repeat(trees_of[leaf], targets).tolist(),
        target_nodeids=np.repeat(ids[leaf], targets).tolist(),
        target_ids=np.tile(np.arange(targets), len(leaf)).tolist(),
        target_weights_as_tensor=numpy_helper.from_array(weights.ravel(), "weights"),
    )
    return [node, helper.make_node("Cast", ["narrow"], [result], to=TensorProto.DOUBLE)]


@dataclass(frozen=True, slots=True)
class _Flat:
    """All trees' nodes in one, their children numbered through."""

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, trees: Sequence[Tree]) -> "_Flat":
        nodes = np.cumsum([0, *(len(tree.feature) for tree in trees)])
        leaves = np.cumsum([0, *(len(tree.leaves) for tree in trees)])

        def numbered(children: Callable[[Tree], np.ndarray]) -> np.ndarray:
            return np.concatenate(
                [
                    np.where(children(tree) < 0, children(tree) - leaf, children(tree) + node)
                    for tree, node, leaf in zip(trees, nodes[:-1], leaves[:-1], strict=True)
                ]
            )

        return cls(
            roots=nodes[:-1],
            feature=np.concatenate([tree.feature for tree in trees]),
            threshold=np.concatenate([tree.threshold for tree in trees]),
            missing_left=np.concatenate([tree.missing_left for tree in trees]),
            left=numbered(lambda tree: tree.left),
            right=numbered(lambda tree: tree.right),
        )


def _members(trees: Sequence[Tree], flat: _Flat) -> tuple[np.ndarray, list[float]]:
    """Which nodes test for membership, and their sets, each ended by nan, in the nodes' order."""
    member = np.zeros(len(flat.feature), np.bool_)
    values: list[float] = []
    for root, tree in zip(flat.roots.tolist(), trees, strict=True):
        for node, categories in sorted((tree.sets or {}).items()):
            member[root + node] = True
            values += [*map(float, categories), np.nan]
    return member, values


def _with_base(trees: Trees) -> list[Tree]:
    """The trees with the base in the leaves of one of each target: one addition less."""
    kept = list(trees.trees)
    first = {tree.target: place for place, tree in reversed(list(enumerate(kept)))}
    for target, base in enumerate(trees.base.tolist()):
        if target not in first:
            kept.append(_constant(base, target))
        elif base:
            tree = kept[first[target]]
            kept[first[target]] = _replaced(tree, tree.leaves + base)
    return [_never_empty(tree) for tree in kept]


def _replaced(tree: Tree, leaves: np.ndarray) -> Tree:
    return Tree(
        tree.feature,
        tree.threshold,
        tree.missing_left,
        tree.left,
        tree.right,
        leaves,
        tree.target,
        tree.sets,
    )


def _constant(value: float, target: int) -> Tree:
    none = np.empty(0, np.int64)
    return Tree(none, np.empty(0), none, none, none, np.array([value]), target)


def _never_empty(tree: Tree) -> Tree:
    """The tree; one that is a leaf alone gets a node with that leaf on both sides."""
    if len(tree.feature):
        return tree
    zero = np.zeros(1, np.int64)
    leaves = np.concatenate([tree.leaves, tree.leaves])
    return Tree(zero, np.zeros(1), zero, zero - 1, zero - 2, leaves, tree.target)


def _with_leaves(tree: Tree) -> dict[str, np.ndarray]:
    """The tree's nodes and then its leaves as rows of one table."""
    nodes, leaves = len(tree.feature), len(tree.leaves)

    def padded(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, np.zeros(leaves, values.dtype)])

    return {
        "feature": padded(tree.feature),
        "threshold": padded(tree.threshold),
        "missing_left": padded(tree.missing_left),
        "left": padded(np.where(tree.left < 0, ~tree.left + nodes, tree.left)),
        "right": padded(np.where(tree.right < 0, ~tree.right + nodes, tree.right)),
        "is_leaf": np.arange(nodes + leaves) >= nodes,
    }
