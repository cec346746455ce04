"""Infer: the protocol's requests as rows of a signature, and answers as its responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from upturn.adapters.oip.tensors import BYTES, Tensor, check_head, from_bytes, from_json, to_bytes
from upturn.core.errors import did_you_mean
from upturn.core.schema import Field, Signature
from upturn.deploy.fields import expected
from upturn.deploy.serve.checked import check_columns_of, check_matrix
from upturn.deploy.serve.predict import Answered
from upturn.deploy.serve.problems import BadRequest, shown
from upturn.deploy.serve.rows import EXACT, Rows, is_numeric
from upturn.model.adapters import class_name

PREDICTION, PREDICTION_ID = "prediction", "prediction_id"
HEADER_LENGTH = b"inference-header-content-length"
# What a field's tensor is called in a model's metadata; what may be sent for it.
DATATYPES = {"bool": "BOOL", "int": "INT64", "float": "FP64"}
_NUMBERS = ("INT", "UINT", "FP")


class _Input(msgspec.Struct):
    name: Any = None
    datatype: Any = None
    shape: Any = None
    parameters: dict[str, Any] | None = None
    data: Any = None


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str = ""
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


_decoder = msgspec.json.Decoder(_Request)
_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: its tensors, and which outputs are wanted, with whether each is to be binary."""

    id: str
    tensors: list[Tensor]
    outputs: dict[str, bool]


def decode_request(body: bytes, header_length: int | None) -> Asked:
    """The request in a body. Raises BadRequest that says what is wrong with it.

    `header_length` is how many bytes of it are JSON, where tensors follow as bytes.
    """
    length = len(body) if header_length is None else header_length
    if not 0 <= length <= len(body):
        raise BadRequest(
            f"Inference-Header-Content-Length is {length}, and the body has {len(body)} bytes."
        )
    view = memoryview(body)
    try:
        request = _decoder.decode(view[:length])
    except RecursionError:
        raise BadRequest("The request is nested too deeply to be read.") from None
    except (ValueError, msgspec.DecodeError) as error:
        raise BadRequest(f"The request can't be read: {error}.") from None
    rest = view[length:]
    tensors: list[Tensor] = []
    for one in request.inputs:
        shape = check_head(one.name, one.datatype, one.shape)
        size = (one.parameters or {}).get("binary_data_size")
        if size is None:
            tensors.append(from_json(one.name, one.datatype, shape, one.data))
            continue
        if type(size) is not int or not 0 <= size <= len(rest):
            raise BadRequest(
                f"Input {shown(one.name)!r} is to have {shown(size)} bytes; {len(rest)} are left."
            )
        tensors.append(from_bytes(one.name, one.datatype, shape, rest[:size]))
        rest = rest[size:]
    if len(rest):
        raise BadRequest(f"{len(rest)} bytes of the body belong to no input.")
    return Asked(request.id, tensors, _wanted(request))


def _wanted(request: _Request) -> dict[str, bool]:
    default = (request.parameters or {}).get("binary_data_output") is True
    if not request.outputs:
        return {PREDICTION: default, PREDICTION_ID: default}
    known = (PREDICTION, PREDICTION_ID)
    wanted: dict[str, bool] = {}
    for one in request.outputs:
        if one.name not in known:
            raise BadRequest(
                f"There is no output {shown(one.name)!r}.",
                hint=did_you_mean(one.name, known) or f"There is: {', '.join(known)}.",
            )
        wanted[one.name] = (one.parameters or {}).get("binary_data", default) is True
    return wanted


# Rows


def rows_of(
    tensors: Sequence[Tensor], signature: Signature, unit: str | None, *, max_rows: int
) -> Rows:
    """The tensors as rows: one for each input, or one matrix of them all, if all are numbers.

    Raises BadRequest for tensors that do not fit, Misfit for values that don't.
    """
    by_name = {tensor.name: tensor for tensor in tensors}
    if len(by_name) != len(tensors):
        raise BadRequest("Two inputs have the same name.")
    extra = unit is not None and unit not in signature.names
    units = by_name.pop(unit, None) if extra and unit is not None else None
    if len(by_name) == 1:
        (only,) = by_name.values()
        if is_numeric(signature) and len(only.shape) == 2 and _is_matrix(only, signature):
            count = _count(only, max_rows)
            matrix = check_matrix(np.ascontiguousarray(only.matrix()), signature)
            return Rows(matrix, _units(units, count, signature, unit, matrix))
    columns = _columns(by_name, signature)
    count = _count(columns[0], max_rows)
    for tensor in (*columns, *([units] if units else [])):
        if not _is_column(tensor) or tensor.shape[0] != count:
            raise BadRequest(
                f"Input {tensor.name!r} has the shape {list(tensor.shape)}.",
                hint=f"Each has one element a row: [{count}] or [{count}, 1].",
            )
    if is_numeric(signature) and all(map(_is_exact, columns)):
        block = np.column_stack([tensor.matrix().reshape(-1) for tensor in columns])
        found = check_matrix(block, signature)
    else:
        found = check_columns_of([tensor.column() for tensor in columns], signature)
    return Rows(found, _units(units, count, signature, unit, found))


def _columns(by_name: dict[str, Tensor], signature: Signature) -> list[Tensor]:
    columns: list[Tensor] = []
    rows = next((tensor.shape[0] for tensor in by_name.values() if tensor.shape), 0)
    for field in signature.inputs:
        tensor = by_name.pop(field.name, None)
        if tensor is None and field.nullable:  # as everywhere; bytes have no null of their own
            datatype = DATATYPES.get(field.type, BYTES)
            tensor = Tensor(field.name, datatype, (rows,), [None] * rows)
        if tensor is None:
            one = (
                f", or one of shape [rows, {len(signature.names)}]" if is_numeric(signature) else ""
            )
            raise BadRequest(
                f"Input {field.name!r} is missing: expected {expected(field)}.",
                hint=did_you_mean(field.name, by_name) if by_name else f"Send one each{one}.",
            )
        columns.append(tensor)
    if by_name:
        name = next(iter(by_name))
        raise BadRequest(
            f"There is no input {shown(name)!r}.", hint=did_you_mean(name, signature.names)
        )
    for tensor, field in zip(columns, signature.inputs, strict=True):
        _check_type(tensor, field)
    return columns


def _check_type(tensor: Tensor, field: Field) -> None:
    number = tensor.datatype.startswith(_NUMBERS)
    fits = {
        "bool": tensor.datatype == "BOOL",
        "int": number,
        "float": number,
        "str": tensor.datatype == BYTES,
        "date": tensor.datatype == BYTES,
        "datetime": tensor.datatype == BYTES,
    }[field.type]
    if not fits:
        raise BadRequest(
            f"Input {field.name!r} is {tensor.datatype}: expected {expected(field)}.",
            hint=f"Its datatype is {DATATYPES.get(field.type, BYTES)}.",
        )


def _is_matrix(tensor: Tensor, signature: Signature) -> bool:
    width = len(signature.names)
    if tensor.shape[1] == width and (width > 1 or tensor.name not in signature.names):
        if tensor.datatype == BYTES:
            raise BadRequest(
                f"Input {tensor.name!r} is BYTES: expected numbers.", hint="FP64, say."
            )
        return True
    if tensor.name in signature.names:
        return False
    raise BadRequest(
        f"Input {shown(tensor.name)!r} has the shape {list(tensor.shape)}.",
        hint=f"One tensor of all inputs has the shape [rows, {width}].",
    )


def _is_column(tensor: Tensor) -> bool:
    return len(tensor.shape) == 1 or (len(tensor.shape) == 2 and tensor.shape[1] == 1)


def _is_exact(tensor: Tensor) -> bool:
    values = tensor.values
    if not isinstance(values, np.ndarray):
        return all(abs(value) <= EXACT for value in values if isinstance(value, int))
    if values.dtype.itemsize < 8 or values.dtype.kind not in "iu" or not len(values):
        return True
    return bool(values.max() <= EXACT and (values.dtype.kind == "u" or values.min() >= -EXACT))


def _count(tensor: Tensor, max_rows: int) -> int:
    count = tensor.shape[0] if tensor.shape else 0
    if not count:
        raise BadRequest("There are no rows to predict.")
    if count > max_rows:
        raise BadRequest(
            f"{count} rows are more than one request may have.",
            hint=f"Send at most {max_rows} at a time, or use: upturn score.",
        )
    return count


def _units(
    tensor: Tensor | None, count: int, signature: Signature, unit: str | None, found: Any
) -> list[str | None] | None:
    if unit is None:
        return None
    if unit in signature.names:
        place = signature.names.index(unit)
        kind = signature.inputs[place].type
        values = [
            row[place] for row in (found.tolist() if isinstance(found, np.ndarray) else found)
        ]
        if isinstance(found, np.ndarray) and kind != "float":
            values = [_whole(value, kind) for value in values]
    elif tensor is None:
        return None
    else:
        values = tensor.column()
        if len(values) != count:
            raise BadRequest(f"Input {unit!r} has {len(values)} elements for {count} rows.")
    return [None if value is None or value != value else str(value) for value in values]


def _whole(value: float, kind: str) -> Any:
    if value != value:
        return None
    return bool(value) if kind == "bool" else int(value)


# Responses


@dataclass(frozen=True, slots=True)
class Response:
    """A response's body, and how much of it is JSON where tensors follow as bytes."""

    body: bytes
    header_length: int | None


def encode_response(
    endpoint: str, asked: Asked, answered: Answered, signature: Signature
) -> Response:
    """The answer as the protocol has it."""
    outputs: list[dict[str, Any]] = []
    tails: list[bytes] = []
    for name, binary in asked.outputs.items():
        datatype, shape, values = _output(name, answered, signature)
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
        if binary:
            tails.append(to_bytes(values))
            output["parameters"] = {"binary_data_size": len(tails[-1])}
        else:
            output["data"] = (
                values.reshape(-1).tolist() if isinstance(values, np.ndarray) else values
            )
        outputs.append(output)
    versions = dict.fromkeys(name.rpartition(":")[2] for name in answered.versions)
    arms = dict.fromkeys(answered.arms)
    head: dict[str, Any] = {
        "model_name": endpoint,
        "model_version": ",".join(versions),
        "id": asked.id or answered.ids[0],
        "parameters": {"arm": ",".join(arms), "route": answered.route},
        "outputs": outputs,
    }
    encoded = _encode(head)
    if not tails:
        return Response(encoded, None)
    return Response(b"".join((encoded, *tails)), len(encoded))


def output_type(signature: Signature) -> tuple[str, list[int]]:
    """The datatype of a prediction, and the sizes of one."""
    if signature.output in ("probability", "number"):
        return "FP64", []
    if signature.output == "scores":
        return "FP64", [len(signature.classes)]
    if signature.output == "label":
        kinds = {type(value) for value in signature.classes}
        if kinds == {bool}:
            return "BOOL", []
        return ("INT64", []) if kinds == {int} else (BYTES, [])
    return BYTES, []


def _output(
    name: str, answered: Answered, signature: Signature
) -> tuple[str, list[int], np.ndarray | list[str]]:
    count, answers = len(answered.ids), answered.answers
    if name == PREDICTION_ID:
        return BYTES, [count], answered.ids
    datatype, sizes = output_type(signature)
    try:
        return datatype, [count, *sizes], _values(answers, datatype, signature)
    except (KeyError, TypeError, ValueError, OverflowError):
        # Arms that answer in other ways than the first, or a model in other ways than it said.
        return BYTES, [count], _as_json(answers)


def _values(answers: Sequence[Any], datatype: str, signature: Signature) -> np.ndarray | list[str]:
    if signature.output == "scores":
        names = [class_name(value) for value in signature.classes]
        table = [[answer[name] for name in names] for answer in answers]
        return np.array(table, dtype=np.float64)
    if datatype == "FP64":
        return np.array(answers, dtype=np.float64)
    if datatype in ("BOOL", "INT64"):
        kind: type = bool if datatype == "BOOL" else int
        if not all(type(answer) is kind for answer in answers):
            raise TypeError
        return np.array(answers, dtype=bool if datatype == "BOOL" else np.int64)
    if signature.output == "label" and not any(isinstance(answer, dict) for answer in answers):
        return [class_name(answer) for answer in answers]
    return _as_json(answers)


def _as_json(answers: Sequence[Any]) -> list[str]:
    return [_encode(answer, enc_hook=str).decode() for answer in answers]
