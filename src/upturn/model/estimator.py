"""Estimator: what a model says of itself (inputs, classes, answer), and how it is called."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from upturn.core.errors import Invalid
from upturn.core.schema import OutputKind
from upturn.model.onnx_model import OnnxModel, is_onnx
from upturn.model.torch_model import is_torch, torch_call, torch_width
from upturn.model.user_model import Model

Library = Literal["sklearn", "lightgbm", "xgboost"]
Class = str | int | bool
FrameKind = Literal["pandas", "polars", "pyarrow", "numpy"]


@dataclass(frozen=True, slots=True)
class Estimator:
    """A model as something to call; what it does not say is None: its answers will tell."""

    call: Callable[[Any], Any]  # a frame to whatever the model answers
    library: Library | None = None  # None: the user's own class or function
    names: tuple[str, ...] | None = None  # of the columns that it was fitted on
    width: int | None = None  # how many they are
    classes: tuple[Class, ...] | None = None
    output: OutputKind | None = None
    categories: Mapping[int, tuple[Any, ...]] = field(default_factory=dict[int, tuple[Any, ...]])
    """Of its categorical columns, by their place, in the order of codes."""
    labels: Callable[[Any], Any] | None = None  # a frame to classes, beside probabilities
    frame: FrameKind | None = None  # the only kind that it takes
    matrix: Callable[[Any], Any] | None = None
    """What it answers to a matrix of numbers, where that is quicker than by way of a frame."""


def describe(model: Any) -> Estimator:
    """What the model says of itself. No library is imported that the model does not come from.

    Raises Invalid when it neither has a `predict` method nor can be called.
    """
    library = _library(model)
    kind = type(model).__name__
    if library == "lightgbm" and kind == "Booster":
        return _lightgbm_booster(model)
    if library == "xgboost" and kind == "Booster":
        return _xgboost_booster(model)
    if isinstance(model, Model):
        return Estimator(call=model.answer, classes=_classes(model.classes))
    if isinstance(model, OnnxModel):
        return _onnx(model)
    if is_torch(model):
        call = torch_call(model)
        return Estimator(call=call, width=torch_width(model), frame="numpy", matrix=call)
    if is_onnx(model):
        raise Invalid("An ONNX model is called by what onnx_model() makes of it.")
    if isinstance(model, type):
        raise Invalid(
            f"{model.__name__} is a class, not a model.", hint="Register a fitted instance of it."
        )
    if callable(getattr(model, "predict", None)) or hasattr(model, "predict_proba"):
        return _with_predict(model, library)
    if callable(model):
        return Estimator(call=model, names=_names(_get(model, "feature_names")))
    raise Invalid(
        f"A {type(model).__qualname__} is not a model.",
        hint="A model has a predict method, or is a function of a table of rows.",
    )


def _library(model: Any) -> Library | None:
    """The library that the model's class comes from, itself or by inheritance."""
    for kind in type(model).__mro__:
        match kind.__module__.partition(".")[0]:
            case "lightgbm":
                return "lightgbm"
            case "xgboost":
                return "xgboost"
            case "sklearn":
                return "sklearn"
            case _:
                pass
    return None


def _with_predict(model: Any, library: Library | None) -> Estimator:
    _check_fitted(model, library)
    classes = _classes(_get(model, "classes_"))
    proba = getattr(model, "predict_proba", None)
    output: OutputKind | None = None
    if _are_of_several(_get(model, "classes_")):
        proba, output = None, "number"  # its probabilities would be a table for each target
    elif callable(proba):
        if classes is not None:
            output = "probability" if len(classes) == 2 else "scores"
    elif classes is not None:
        output = "label"
    elif _get(model, "_estimator_type") == "regressor" or _sklearn_regressor(model, library):
        output = "number"
    return Estimator(
        call=proba if callable(proba) else model.predict,
        library=library,
        names=_fitted_names(model),
        width=_width(model),
        classes=classes,
        output=output,
        categories=_categories(model, library),
        labels=_get(model, "predict") if callable(proba) and classes is not None else None,
    )


def _onnx(model: OnnxModel) -> Estimator:
    return Estimator(
        call=model.table_call(),
        names=model.names,
        width=model.width,
        frame="numpy" if model.takes_matrix else "pyarrow",
        matrix=model.matrix_call(),
    )


def _categories(model: Any, library: Library | None) -> dict[int, tuple[Any, ...]]:
    if library == "lightgbm":
        return _lightgbm_categories(_get(model, "_Booster"))
    if library == "xgboost":
        return _xgboost_categories(model.get_booster())
    return {}


def _sklearn_regressor(model: Any, library: Library | None) -> bool:
    if library is None:
        return False
    from sklearn.base import is_regressor

    return is_regressor(model)


def _check_fitted(model: Any, library: Library | None) -> None:
    if library is None or type(model).__module__.partition(".")[0] != library:
        return  # a user's own estimator may keep what it learned wherever it likes
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except NotFittedError:
        raise Invalid(
            f"The {type(model).__name__} is not fitted.", hint="Call its fit() before registering."
        ) from None
    except TypeError:
        return  # has no fit() of its own, so scikit-learn can't tell


def _fitted_names(model: Any) -> tuple[str, ...] | None:
    for attribute in ("feature_names_in_", "feature_name_", "feature_names"):
        names = _names(_get(model, attribute))
        if names is not None:
            return names
    return None


def _names(found: Any) -> tuple[str, ...] | None:
    """Names that a model gives; None where it has none, or only made some up."""
    if found is None or isinstance(found, str) or callable(found):
        return None
    names = tuple(str(name) for name in found)
    # LightGBM calls the columns of a matrix so.
    made_up = names == tuple(f"Column_{i}" for i in range(len(names)))
    return None if made_up or not names else names


def _width(model: Any) -> int | None:
    found = _get(model, "n_features_in_")
    return None if found is None else int(found)


def _classes(found: Any) -> tuple[Class, ...] | None:
    """Classes as Python values; None where there are none, or lists for several targets."""
    if found is None or _are_of_several(found):
        return None
    values = [value.item() if hasattr(value, "item") else value for value in found]
    if not all(isinstance(value, str | int | float) for value in values):
        return None
    return tuple(plain_class(value) for value in values)


def _are_of_several(classes: Any) -> bool:
    """Whether they are lists of classes, one for each target."""
    return isinstance(classes, list) and any(getattr(one, "ndim", 0) for one in classes)


def plain_class(value: Any) -> Class:
    """A class as text, whole number or boolean: 1.0 is 1.

    >>> plain_class(1.0), plain_class("late"), plain_class(True)
    (1, 'late', True)
    """
    if isinstance(value, float):
        return int(value) if value.is_integer() else str(value)
    return value if isinstance(value, str | int) else str(value)


def _get(model: Any, attribute: str) -> Any:
    """The attribute, or None; libraries raise errors of their own where a model has none."""
    try:
        return getattr(model, attribute, None)
    except Exception:  # noqa: BLE001 (properties of any class run here)
        return None


# LightGBM


def _lightgbm_booster(booster: Any) -> Estimator:
    head: str = booster.model_to_string(num_iteration=1).partition("feature_infos=")[0]
    said = dict(line.split("=", 1) for line in head.splitlines() if "=" in line)
    objective = said.get("objective", "").partition(" ")[0]
    classes = int(said.get("num_class", "1"))
    output: OutputKind = "number"
    if objective in ("binary", "cross_entropy", "xentropy"):
        output = "probability"
    elif objective.startswith("multiclass"):
        output = "scores"
    return Estimator(
        call=booster.predict,
        library="lightgbm",
        names=_names(booster.feature_name()),
        width=booster.num_feature(),
        classes=tuple(range(classes)) if output == "scores" else None,
        output=output,
        categories=_lightgbm_categories(booster),
    )


def _lightgbm_categories(booster: Any) -> dict[int, tuple[Any, ...]]:
    found: Sequence[Sequence[Any]] = _get(booster, "pandas_categorical") or ()
    if not found:
        return {}
    head: str = booster.model_to_string(num_iteration=1).partition("feature_infos=")[2]
    infos = head.partition("\n")[0].split()
    # '[low:high]' is a number, 'none' a constant, '-1:0:1:2' lists codes.
    places = [place for place, info in enumerate(infos) if info[0] != "[" and info != "none"]
    if len(places) != len(found):
        return {}
    return {place: tuple(values) for place, values in zip(places, found, strict=True)}


# XGBoost


def _xgboost_booster(booster: Any) -> Estimator:
    from xgboost import DMatrix

    config = json.loads(booster.save_config())["learner"]
    objective: str = config["objective"]["name"]
    classes = int(config["learner_model_param"]["num_class"])
    outputs: dict[str, OutputKind] = {
        "binary:logistic": "probability",
        "binary:hinge": "label",
        "multi:softprob": "scores",
        "multi:softmax": "label",
    }
    output = outputs.get(objective, "number")
    names = _names(booster.feature_names)

    def call(frame: Any) -> Any:
        return booster.predict(DMatrix(frame, feature_names=names, enable_categorical=True))

    return Estimator(
        call=call,
        library="xgboost",
        names=names,
        width=booster.num_features(),
        classes=tuple(range(max(classes, 2))) if output in ("scores", "label") else None,
        output=output,
        categories=_xgboost_categories(booster),
    )


def _xgboost_categories(booster: Any) -> dict[int, tuple[Any, ...]]:
    export: Callable[..., Any] | None = _get(booster, "get_categories")  # from version 3.1 on
    if export is None or "c" not in (booster.feature_types or ()):
        return {}
    columns: Sequence[tuple[str, Any]] = export(export_to_arrow=True).to_arrow() or ()
    return {
        place: tuple(values.to_pylist())
        for place, (_, values) in enumerate(columns)
        if values is not None
    }
