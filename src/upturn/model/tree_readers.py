"""Readers: the trees inside models of scikit-learn, LightGBM and XGBoost."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from upturn.model.trees import (
    Link,
    NoForm,
    Tree,
    Trees,
    as_float32_leq,
    as_float32_less,
    from_nodes,
)


def read_trees(model: Any) -> Trees | None:
    """The trees of a fitted model; None for what is not made of trees that are known here.

    Raises NoForm for trees that do more than these can.
    """
    library = type(model).__module__.partition(".")[0]
    if library == "lightgbm":
        return _lightgbm(model)
    if library == "xgboost":
        return _xgboost(model)
    reader = _SKLEARN.get(type(model).__name__) if library == "sklearn" else None
    return None if reader is None else reader(model)


# LightGBM


def _lightgbm(model: Any) -> Trees:
    booster = model if type(model).__name__ == "Booster" else model.booster_
    text: str = booster.model_to_string()
    head, *blocks = text.partition("\nend of trees")[0].split("\n\nTree=")
    said = _lines(head)
    targets = int(said.get("num_tree_per_iteration", "1"))
    objective, _, options = said.get("objective", "").partition(" ")
    link, scale = _lightgbm_link(objective, options)
    if "average_output" in head.splitlines():
        scale /= max(len(blocks) // targets, 1)
    trees = [_lightgbm_tree(_lines(block), at % targets) for at, block in enumerate(blocks)]
    return Trees(trees, np.zeros(targets), int(said["max_feature_idx"]) + 1, link, scale)


def _lightgbm_link(objective: str, options: str) -> tuple[Link, float]:
    given = dict(one.split(":", 1) for one in options.split() if ":" in one)
    if objective in ("regression", "quantile") and "sqrt" in options.split():
        raise NoForm("it predicts the square of its sums")
    match objective:
        case "binary" | "multiclassova":
            return "sigmoid", float(given.get("sigmoid", 1.0))
        case "cross_entropy" | "xentropy":
            return "sigmoid", 1.0
        case "multiclass":
            return "softmax", 1.0
        case "poisson" | "gamma" | "tweedie":
            return "exp", 1.0
        case "cross_entropy_lambda" | "xentlambda":
            raise NoForm(f"its objective {objective} has a link of its own")
        case _:
            return "identity", 1.0


def _lightgbm_tree(said: dict[str, str], target: int) -> Tree:
    if said.get("is_linear", "0") != "0":
        raise NoForm("its leaves are linear models")
    leaves = _floats(said["leaf_value"])
    kinds = _wholes(said.get("decision_type", ""))
    threshold = _floats(said.get("threshold", ""))
    categorical = kinds & 1 == 1
    missing_kind = kinds >> 2 & 3  # 0: none, 1: zero, 2: nan
    if ((missing_kind == 1) & ~categorical).any():
        raise NoForm("it takes zeros as missing values")
    # Where no value was missing in training, one is taken as 0; no category at all goes right.
    missing_left = np.where(missing_kind == 2, kinds & 2 != 0, threshold >= 0) & ~categorical
    sets = None
    if categorical.any():
        bounds, words = _wholes(said["cat_boundaries"]), _wholes(said["cat_threshold"])
        places = {int(node): int(threshold[node]) for node in np.flatnonzero(categorical)}
        sets = {node: _bits(words[bounds[at] : bounds[at + 1]]) for node, at in places.items()}
    return Tree(
        feature=_wholes(said.get("split_feature", "")),
        threshold=threshold,
        missing_left=missing_left.astype(np.int64),
        left=_wholes(said.get("left_child", "")),
        right=_wholes(said.get("right_child", "")),
        leaves=leaves,
        target=target,
        sets=sets,
    )


def _lines(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _floats(text: str) -> np.ndarray:
    return np.array(text.split(), np.float64)


def _wholes(text: str) -> np.ndarray:
    return np.array(text.split(), np.int64)


def _bits(words: np.ndarray) -> list[int]:
    numbered = enumerate(words.tolist())
    return [32 * at + bit for at, word in numbered for bit in range(32) if word >> bit & 1]


# XGBoost


class _XgboostTree(msgspec.Struct):
    left_children: list[int]
    right_children: list[int]
    split_indices: list[int]
    split_conditions: list[float]
    default_left: list[int]
    split_type: list[int] = []
    categories: list[int] = []
    categories_nodes: list[int] = []
    categories_segments: list[int] = []
    categories_sizes: list[int] = []
    tree_param: dict[str, str] = {}


class _XgboostModel(msgspec.Struct):
    trees: list[_XgboostTree] = []
    tree_info: list[int] = []
    iteration_indptr: list[int] = []


class _XgboostBooster(msgspec.Struct):
    name: str
    model: _XgboostModel = msgspec.field(default_factory=_XgboostModel)
    gbtree: "_XgboostBooster | None" = None
    weight_drop: list[float] = []


class _XgboostLearner(msgspec.Struct):
    learner_model_param: dict[str, str]
    objective: dict[str, Any]
    gradient_booster: _XgboostBooster


class _XgboostDump(msgspec.Struct):
    learner: _XgboostLearner


def _xgboost(model: Any) -> Trees:
    wrapped = type(model).__name__ != "Booster"
    booster = model.get_booster() if wrapped else model
    if wrapped and not np.isnan(model.missing):
        raise NoForm(f"it takes {model.missing!r} as a missing value")
    learner = msgspec.json.decode(bytes(booster.save_raw("json")), type=_XgboostDump).learner
    boosted = learner.gradient_booster
    if boosted.name != "gbtree":
        raise NoForm(f"its booster is {boosted.name}")
    link, margin = _xgboost_link(str(learner.objective["name"]))
    targets = max(
        int(learner.learner_model_param.get("num_class", "0")),
        int(learner.learner_model_param.get("num_target", "1")),
    )
    best = booster.attr("best_iteration") if wrapped else None
    count = len(boosted.model.trees)
    if best is not None:
        count = boosted.model.iteration_indptr[int(best) + 1]
    told = zip(boosted.model.trees[:count], boosted.model.tree_info[:count], strict=True)
    score = learner.learner_model_param["base_score"].strip("[]").split(",")
    base = np.broadcast_to(margin(np.array(score, np.float64)), targets)
    width = int(learner.learner_model_param["num_feature"])
    return Trees([_xgboost_tree(tree, target) for tree, target in told], base, width, link)


def _xgboost_link(objective: str) -> tuple[Link, Callable[[np.ndarray], np.ndarray]]:
    match objective:
        case "binary:logistic" | "reg:logistic":
            return "sigmoid", lambda score: np.log(score / (1 - score))
        case "multi:softprob":
            return "softmax", lambda score: score
        case "count:poisson" | "reg:gamma" | "reg:tweedie":
            return "exp", np.log
        case (
            "reg:squarederror"
            | "reg:absoluteerror"
            | "reg:pseudohubererror"
            | "reg:quantileerror"
            | "binary:logitraw"
            | "rank:pairwise"
            | "rank:ndcg"
            | "rank:map"
        ):
            return "identity", lambda score: score
        case _:
            raise NoForm(f"its objective {objective} has an answer of its own")


def _xgboost_tree(tree: _XgboostTree, target: int) -> Tree:
    if tree.tree_param.get("size_leaf_vector", "1") not in ("0", "1"):
        raise NoForm("its leaves are vectors")
    left, right = np.array(tree.left_children), np.array(tree.right_children)
    condition = np.array(tree.split_conditions, np.float32)
    missing_left = np.array(tree.default_left)
    sets: dict[int, Sequence[int]] | None = None
    if tree.categories_nodes:
        sets = {}
        segments = zip(
            tree.categories_nodes, tree.categories_segments, tree.categories_sizes, strict=True
        )
        for node, begin, size in segments:
            sets[node] = tree.categories[begin : begin + size]
            # A category of the set goes right there.
            left[node], right[node] = right[node], left[node]
            missing_left[node] = 1 - missing_left[node]
    return from_nodes(
        feature=np.array(tree.split_indices),
        threshold=as_float32_less(condition),
        missing_left=missing_left,
        left=left,
        right=right,
        is_leaf=left < 0,
        values=condition,
        target=target,
        sets=sets,
    )


# scikit-learn


def _sklearn_tree(tree: Any, values: np.ndarray, target: int = 0) -> Tree:
    """A `tree_` whose nodes have those values; scikit-learn looks at inputs as float32."""
    return from_nodes(
        feature=tree.feature,
        threshold=as_float32_leq(tree.threshold),
        missing_left=tree.missing_go_to_left,
        left=tree.children_left,
        right=tree.children_right,
        is_leaf=tree.children_left < 0,
        values=values,
        target=target,
    )


def _forest(model: Any) -> Trees:
    members: list[Any] = list(model.estimators_) if hasattr(model, "estimators_") else [model]
    if model.n_outputs_ != 1:
        raise NoForm("it has several targets")
    classes: int = getattr(model, "n_classes_", 1)
    trees: list[Tree] = []
    for member in members:
        values = member.tree_.value[:, 0, :]
        if hasattr(model, "classes_"):
            values = values / values.sum(axis=1, keepdims=True)
        trees.append(_sklearn_tree(member.tree_, values[:, -1] if classes <= 2 else values))
    if hasattr(model, "classes_") and classes < 2:
        raise NoForm("it knows one class alone")
    base = np.zeros(1 if classes <= 2 else classes)
    return Trees(trees, base, model.n_features_in_, scale=1 / len(members))


def _gradient_boosting(model: Any) -> Trees:
    if type(model.init_).__name__ not in ("DummyClassifier", "DummyRegressor", "str"):  # 'zero'
        raise NoForm("it begins with an estimator of its own")
    first = model._raw_predict_init(np.zeros((1, model.n_features_in_)))
    trees = [
        _sklearn_tree(member.tree_, member.tree_.value[:, 0, 0] * model.learning_rate, target)
        for stage in model.estimators_
        for target, member in enumerate(stage)
    ]
    link, scale = "identity", 1.0
    if hasattr(model, "classes_"):
        link = "sigmoid" if len(model.classes_) == 2 else "softmax"
        scale = 2.0 if model.loss == "exponential" else 1.0
    return Trees(trees, np.asarray(first[0], np.float64), model.n_features_in_, link, scale)


_LINKS: dict[str, Link] = {
    "IdentityLink": "identity",
    "LogitLink": "sigmoid",
    "MultinomialLogit": "softmax",
    "LogLink": "exp",
}


def _hist_gradient_boosting(model: Any) -> Trees:
    if model.is_categorical_ is not None and np.any(model.is_categorical_):
        raise NoForm("it encodes categories itself")
    link = _LINKS.get(type(model._loss.link).__name__)
    if link is None:
        raise NoForm("its loss has a link of its own")
    trees: list[Tree] = []
    for iteration in model._predictors:
        for target, predictor in enumerate(iteration):
            nodes = predictor.nodes
            tree = from_nodes(
                feature=nodes["feature_idx"],
                threshold=nodes["num_threshold"],
                missing_left=nodes["missing_go_to_left"],
                left=nodes["left"],
                right=nodes["right"],
                is_leaf=nodes["is_leaf"],
                values=nodes["value"],
                target=target,
            )
            trees.append(tree)
    base = np.asarray(model._baseline_prediction, np.float64).reshape(-1)
    return Trees(trees, base, model.n_features_in_, link)


_SKLEARN: dict[str, Callable[[Any], Trees]] = {
    "DecisionTreeClassifier": _forest,
    "DecisionTreeRegressor": _forest,
    "ExtraTreeClassifier": _forest,
    "ExtraTreeRegressor": _forest,
    "RandomForestClassifier": _forest,
    "RandomForestRegressor": _forest,
    "ExtraTreesClassifier": _forest,
    "ExtraTreesRegressor": _forest,
    "GradientBoostingClassifier": _gradient_boosting,
    "GradientBoostingRegressor": _gradient_boosting,
    "HistGradientBoostingClassifier": _hist_gradient_boosting,
    "HistGradientBoostingRegressor": _hist_gradient_boosting,
}
