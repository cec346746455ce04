"""ONNX forms: a fitted model as ONNX bytes, that take one float64 matrix or one input a column.

Trees and linear models are written here, in float64 throughout; what stands before them in a
pipeline, and other models of scikit-learn, are converted by skl2onnx.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from upturn.core.schema import Signature
from upturn.model.frames import Frames
from upturn.model.linear import linear_nodes
from upturn.model.matrix import is_matrix
from upturn.model.onnx_session import MATRIX, is_text
from upturn.model.tree_readers import read_trees
from upturn.model.trees import NoForm, tree_nodes

MOST_BYTES = 200_000_000
_OPSET, _IR = 18, 9
_FEATURES, _ANSWER = "__features__", "__answer__"
_NODE_BYTES = 50  # of a node or leaf, about


class TooLarge(NoForm):
    """A model whose form no other way would make small enough."""


class NotOurs(NoForm):
    """A model whose nodes are not written here: skl2onnx may know it."""


def candidates(model: Any, signature: Signature) -> list[Callable[[], bytes]]:
    """Ways to make the form, the best one first; each raises NoForm, or what a converter raises.

    Raises NoForm for a model that has none at all.
    """
    library = _library(model)
    if signature.output == "json":
        raise NoForm("it answers other than numbers and labels")
    if library in ("lightgbm", "xgboost"):
        if not Frames(signature).are_codes:
            raise NoForm("it takes inputs that are no numbers")
        if signature.output == "label":
            raise NoForm("it answers labels without probabilities")
        return [partial(_own, model, signature, matrix=True)]
    if library != "sklearn":
        raise NoForm(f"{type(model).__qualname__} is no model of a library that is converted")
    if any(field.type in ("date", "datetime") for field in signature.inputs):
        raise NoForm("it takes dates or times")
    found: list[Callable[[], bytes]] = []
    own = signature.output != "label" and _library(_parts(model)[1]) is not None
    for double in (True, False):
        # Pipelines that name columns take one input each; others are quicker with a matrix.
        for matrix in (True, False) if is_matrix(signature) else (False,):
            if own and double:
                found.append(partial(_own, model, signature, matrix=matrix))
            found.append(partial(_converted, model, signature, double=double, matrix=matrix))
    return found


def _library(model: Any) -> str | None:
    for kind in type(model).__mro__:
        library = kind.__module__.partition(".")[0]
        if library in ("sklearn", "lightgbm", "xgboost"):
            return library
    return None


def _parts(model: Any) -> tuple[Any, Any]:
    """What stands before the last estimator of a pipeline (None: nothing), and that one."""
    if type(model).__name__ != "Pipeline":
        return None, model
    steps = [step for _, step in model.steps if step not in (None, "passthrough")]
    return (model[:-1] if len(steps) > 1 else None), steps[-1]


def _own(model: Any, signature: Signature, *, matrix: bool) -> bytes:
    """Trees or a linear model in nodes of our own, behind what skl2onnx makes of the rest."""
    from onnx import TensorProto, helper

    before, last = _parts(model)
    source = MATRIX if before is None else _FEATURES
    nodes, held = _own_nodes(last, source)
    output = helper.make_tensor_value_info(_ANSWER, TensorProto.DOUBLE, [None, None])
    if before is None:
        shape = [None, len(signature.inputs)]
        given = helper.make_tensor_value_info(MATRIX, TensorProto.DOUBLE, shape)
        return _model(nodes, [given], [output], held)
    graph, inputs, first = _skl2onnx(before, signature, double=True, matrix=matrix)
    cast = helper.make_node("Cast", [graph.output[0].name], [_FEATURES], to=TensorProto.DOUBLE)
    return _model(
        [*first, *graph.node, cast, *nodes], inputs, [output], [*graph.initializer, *held]
    )


def _own_nodes(model: Any, source: str) -> tuple[list[Any], list[Any]]:
    trees = read_trees(model)
    if trees is not None:
        size = _NODE_BYTES * sum(2 * len(tree.feature) + tree.leaves.size for tree in trees.trees)
        if size > MOST_BYTES:
            raise TooLarge(f"its form would have about {size // 10**6:,} MB")
        return tree_nodes(trees, source, _ANSWER), []
    found = linear_nodes(model, source, _ANSWER)
    if found is None:
        raise NotOurs
    return found


def _converted(model: Any, signature: Signature, *, double: bool, matrix: bool) -> bytes:
    """The model by skl2onnx alone."""
    graph, inputs, first = _skl2onnx(model, signature, double=double, matrix=matrix)
    answers = {"label": 0, "number": 0, "probability": 1, "scores": 1}
    output = graph.output[answers[signature.output]]
    return _model([*first, *graph.node], inputs, [output], list(graph.initializer))


def _skl2onnx(
    model: Any, signature: Signature, *, double: bool, matrix: bool
) -> tuple[Any, list[Any], list[Any]]:
    """The graph that skl2onnx makes, its inputs, and nodes that come first.

    It takes one matrix, or a column for each input; columns of numbers are parted from a matrix.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    from upturn.model.imputer import imputer_converters

    number = DoubleTensorType if double else FloatTensorType
    types = [
        (field.name, (StringTensorType if is_text(field) else number)([None, 1]))
        for field in signature.inputs
    ]
    if matrix:
        types = [(MATRIX, number([None, len(signature.inputs)]))]
    scores = hasattr(model, "predict_proba") and signature.output != "label"
    made: Any = convert_sklearn(
        model,
        initial_types=types,
        options={id(model): {"zipmap": False}} if scores else None,
        custom_conversion_functions=imputer_converters(),
        target_opset={"": _OPSET, "ai.onnx.ml": 3},
    )
    if matrix or not is_matrix(signature):
        return made.graph, list(made.graph.input), []
    return made.graph, *_one_matrix(made.graph, signature)


def _one_matrix(graph: Any, signature: Signature) -> tuple[list[Any], list[Any]]:
    """One matrix as the graph's input, with the node that parts it into the columns it takes."""
    from onnx import helper

    if {given.name for given in graph.input} != set(signature.names):
        raise NoForm("its converter renamed the inputs")
    kind = graph.input[0].type.tensor_type.elem_type
    count = len(signature.inputs)
    matrix = helper.make_tensor_value_info(MATRIX, kind, [None, count])
    if count == 1:
        return [matrix], [helper.make_node("Identity", [MATRIX], list(signature.names))]
    split = helper.make_node("Split", [MATRIX], list(signature.names), axis=1, num_outputs=count)
    return [matrix], [split]


def _needed(nodes: Sequence[Any], answer: str) -> list[Any]:
    """The nodes that lead to the answer; those of the label beside probabilities do not."""
    wanted, found = {answer}, list[Any]()
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            found.append(node)
    return found[::-1]


def _model(nodes: Sequence[Any], inputs: list[Any], outputs: list[Any], held: list[Any]) -> bytes:
    from onnx import helper

    nodes = _needed(nodes, outputs[0].name)
    read = {name for node in nodes for name in node.input}
    held = [one for one in held if one.name in read]
    # From version 5 on the operator set has TreeEnsemble, and no more the ones before it.
    trees = 5 if any(node.op_type == "TreeEnsemble" for node in nodes) else 3
    domains = {node.domain for node in nodes} - {"", "ai.onnx.ml"}
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", trees)]
    opsets += [helper.make_opsetid(domain, 1) for domain in sorted(domains)]
    graph = helper.make_graph(nodes, "form", inputs, outputs, held)
    made = helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="upturn")
    data: bytes = made.SerializeToString()
    if len(data) > MOST_BYTES:
        raise TooLarge(f"its form has {len(data) // 10**6:,} MB")
    return data
