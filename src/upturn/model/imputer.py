"""Imputer: scikit-learn's SimpleImputer of numbers in ONNX nodes that know float64 too."""

from typing import Any


def imputer_converters() -> dict[type, Any]:
    """What skl2onnx takes as `custom_conversion_functions`.

    Its own makes a node that onnxruntime has for float32 alone.
    """
    from sklearn.impute import SimpleImputer

    return {SimpleImputer: convert_imputer}


def convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """Add nodes that fill in what is missing. Other imputers than of nan are left to skl2onnx."""
    import numpy as np
    from skl2onnx.common.data_types import FloatTensorType, guess_proto_type
    from skl2onnx.operator_converters.common import concatenate_variables
    from skl2onnx.operator_converters.imputer_op import convert_sklearn_imputer

    model = operator.raw_operator
    kind = operator.inputs[0].type
    numbers = "Tensor" in type(kind).__name__ and guess_proto_type(kind) in (1, 11)
    filled = model.statistics_
    if not numbers or filled.dtype.kind != "f" or not _is_nan(model.missing_values):
        convert_sklearn_imputer(scope, operator, container)
        return
    if model.indicator_ is not None or np.isnan(filled).any():  # a column that was all missing
        raise ValueError("this SimpleImputer adds or drops columns")
    found = concatenate_variables(scope, operator.inputs, container)
    source = found if isinstance(found, str) else found[0]
    missing = scope.get_unique_variable_name("missing")
    fill = scope.get_unique_variable_name("fill")
    proto = guess_proto_type(FloatTensorType() if guess_proto_type(kind) == 1 else kind)
    container.add_initializer(fill, proto, [1, len(filled)], filled.tolist())
    container.add_node("IsNaN", [source], [missing], op_version=13)
    container.add_node(
        "Where", [missing, fill, source], [operator.outputs[0].full_name], op_version=16
    )


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value
