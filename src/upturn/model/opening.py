"""Opening: a model as it is stored, and as it is called."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from upturn.core.records import ModelFile
from upturn.model.model_files import place_files
from upturn.model.onnx_model import OnnxModel, is_onnx, onnx_model
from upturn.model.torch_model import is_torch, on_cpu
from upturn.model.user_model import Model, load_model
from upturn.stores import values
from upturn.stores.workspace import Workspace


def stored_form(model: Any) -> Any:
    """What is stored of a model: mostly itself. Raises Invalid for what is no ONNX model."""
    if is_onnx(model) or isinstance(model, Path):
        return onnx_model(model)
    return on_cpu(model) if is_torch(model) else model


def needs_opening(model: Any) -> bool:
    """Whether it is a copy from the store that must be called, not the object itself."""
    return isinstance(model, Model | OnnxModel) or is_torch(model)


def open_model(workspace: Workspace, digest: str, files: Sequence[ModelFile]) -> Any:
    """A stored model, ready to be called, with its files in their place.

    Raises NotFound, Corrupt, or ModelFailed when its own `load` fails.
    """
    model = values.load(workspace.blobs, digest)
    if isinstance(model, Model):
        load_model(model, place_files(workspace, files))
    elif is_torch(model):
        model.eval()
    return model
