"""Linear models as two ONNX nodes that reckon in float64."""

from typing import Any

import numpy as np

from upturn.model.trees import Link, link_node

_REGRESSORS = {
    "ARDRegression",
    "BayesianRidge",
    "ElasticNet",
    "ElasticNetCV",
    "HuberRegressor",
    "Lasso",
    "LassoCV",
    "LinearRegression",
    "LinearSVR",
    "Ridge",
    "RidgeCV",
    "SGDRegressor",
}
_CLASSIFIERS = {"LogisticRegression", "LogisticRegressionCV"}


def linear_nodes(model: Any, source: str, result: str) -> tuple[list[Any], list[Any]] | None:
    """Nodes from a float64 matrix to the answers, and their weights; None for other models."""
    from onnx import helper, numpy_helper

    kind = type(model)
    if kind.__module__.partition(".")[0] != "sklearn":
        return None
    if kind.__name__ not in _REGRESSORS | _CLASSIFIERS:
        return None
    weights = np.atleast_2d(np.asarray(model.coef_, np.float64)).T
    bias = np.broadcast_to(np.asarray(model.intercept_, np.float64), weights.shape[1])
    link: Link = "identity"
    if kind.__name__ in _CLASSIFIERS:
        link = "sigmoid" if weights.shape[1] == 1 else "softmax"
    sums = result if link == "identity" else "sums"
    nodes = [helper.make_node("Gemm", [source, "weights", "bias"], [sums])]
    if link != "identity":
        nodes.append(link_node(link, sums, result))
    held = [
        numpy_helper.from_array(np.ascontiguousarray(weights), "weights"),
        numpy_helper.from_array(np.ascontiguousarray(bias), "bias"),
    ]
    return nodes, held
