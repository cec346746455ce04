"""PyTorch modules as models: a float32 matrix in, arrays out."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from upturn.model.classes import of_class


def is_torch(model: Any) -> bool:
    """Whether it is an nn.Module; PyTorch is not imported to find out."""
    return of_class(model, "torch.nn.modules.module", "Module")


def on_cpu(module: Any) -> Any:
    """The module itself, or a copy where some of it lies on another device."""
    tensors = [*module.parameters(), *module.buffers()]
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return module
    return copy.deepcopy(module).cpu()


def torch_call(module: Any) -> Callable[[Any], Any]:
    """A function of a matrix of numbers, with what the module answers as numpy arrays.

    The matrix has the type of the module's own numbers, float32 where it has none.
    """
    import torch  # pyright: ignore[reportMissingImports]

    floating = (one.dtype for one in module.parameters() if one.dtype.is_floating_point)
    dtype: Any = next(floating, torch.float32)

    def call(matrix: Any) -> Any:
        with torch.inference_mode():
            return _arrays(module(torch.as_tensor(np.asarray(matrix, np.float64), dtype=dtype)))

    return call


def torch_width(module: Any) -> int | None:
    """How many inputs its first linear layer takes, where that comes first of all."""
    layers = [one for one in module.modules() if not any(True for _ in one.children())]
    if not layers or not of_class(layers[0], "torch.nn.modules.linear", "Linear"):
        return None
    return int(layers[0].in_features)


def _arrays(found: Any) -> Any:
    if isinstance(found, dict):
        return {str(name): _arrays(one) for name, one in found.items()}
    if isinstance(found, tuple | list):
        return {f"output_{place}": _arrays(one) for place, one in enumerate(found)}
    if not hasattr(found, "detach"):
        return found
    found = found.detach().cpu()
    return (found.float() if found.is_floating_point() else found).numpy()
