"""How values of PyTorch are pickled: tensors as arrays, so that equal ones are equal bytes."""

import io
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

Reducers = dict[type, Callable[[Any], Any]]


def torch_reducers() -> Reducers:
    """Reducers by type; none while PyTorch is not imported, as then there is nothing to reduce."""
    torch = sys.modules.get("torch")
    found: Reducers = {}
    if torch is None:
        return found
    found[torch.Tensor] = _reduced_tensor
    script = getattr(getattr(torch, "jit", None), "RecursiveScriptModule", None)
    if isinstance(script, type):
        found[script] = _reduced_script
    export = sys.modules.get("torch.export")
    if export is not None:
        found[export.ExportedProgram] = _reduced_program
    return found


def _reduced_tensor(tensor: Any) -> Any:
    torch = _torch()
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.is_quantized or tensor.is_complex() or tensor.grad_fn is not None:
        return tensor.__reduce_ex__(5)
    raw = tensor.detach().contiguous()
    # numpy has no bfloat16: the bytes are kept, with what they are.
    array = raw.reshape(-1).view(torch.uint8).numpy() if raw.numel() else None
    kind = str(tensor.dtype).removeprefix("torch.")
    return _tensor, (array, kind, tuple(tensor.shape), tensor.requires_grad)


def _tensor(array: Any, kind: str, shape: tuple[int, ...], requires_grad: bool) -> Any:
    torch = _torch()
    dtype = getattr(torch, kind)
    if array is None:
        found = torch.empty(shape, dtype=dtype)
    else:  # a copy: what is mapped can't be written to
        found = torch.from_numpy(array.copy()).view(dtype).reshape(shape)
    return found.requires_grad_(requires_grad)


def _reduced_script(module: Any) -> Any:
    torch = _torch()
    stream = io.BytesIO()
    torch.jit.save(module, stream)
    return _script, (stream.getvalue(),)


def _script(data: bytes) -> Any:
    torch = _torch()
    return torch.jit.load(io.BytesIO(data))


def _reduced_program(program: Any) -> Any:
    torch = _torch()
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return _program, (stream.getvalue(),)


def _program(data: bytes) -> Any:
    torch = _torch()
    return torch.export.load(io.BytesIO(data))


def _torch() -> Any:
    return import_module("torch")  # of which a type checker without it would say too much
