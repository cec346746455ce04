"""The protocol's addresses as OpenAPI describes them."""

from collections.abc import Sequence
from typing import Any

from upturn.adapters.oip.infer import DATATYPES, PREDICTION, PREDICTION_ID
from upturn.adapters.oip.tensors import BYTES, TYPES
from upturn.core.schema import Signature
from upturn.deploy.fields import example_value
from upturn.deploy.serve.live import Served

_ERROR = {
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"error": {"type": "string"}}}
        }
    }
}
_MEANINGS = {
    "400": "The request does not fit; `error` says what, and what would.",
    "404": "There is no such model.",
    "413": "The body is too large.",
    "500": "The model failed.",
    "503": "Too much waits, it can't be done in time, or no version is served.",
}
_OPEN = {"type": "object", "additionalProperties": True}


def paths(served: Sequence[Served]) -> dict[str, Any]:
    """The addresses of the endpoints that answer."""
    found: dict[str, Any] = {}
    for one in served:
        if one.live is not None:
            found[f"/v2/models/{one.name}/infer"] = {"post": _infer(one.name, one.live.signature)}
    return found


def example(signature: Signature) -> dict[str, Any]:
    """A request that fits: one tensor each of the inputs, with a value seen in training."""
    inputs: list[dict[str, Any]] = []
    for field in signature.inputs:
        value = example_value(field)
        datatype = DATATYPES.get(field.type, BYTES)
        text = value if value is None or datatype != BYTES else _text(value)
        inputs.append({"name": field.name, "datatype": datatype, "shape": [1], "data": [text]})
    return {"inputs": inputs}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else value.isoformat()


def _infer(name: str, signature: Signature) -> dict[str, Any]:
    tensor = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string", "enum": [*TYPES, BYTES]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "parameters": _OPEN,
            "data": {"type": "array", "items": {}},
        },
        "required": ["name", "datatype", "shape"],
    }
    output = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "enum": [PREDICTION, PREDICTION_ID]},
            "parameters": _OPEN,
        },
        "required": ["name"],
    }
    request = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "parameters": _OPEN,
            "inputs": {"type": "array", "items": tensor},
            "outputs": {"type": "array", "items": output},
        },
        "required": ["inputs"],
    }
    response = {
        "type": "object",
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "parameters": _OPEN,
            "outputs": {"type": "array", "items": tensor},
        },
        "required": ["model_name", "outputs"],
    }
    return {
        "operationId": f"infer_{name}",
        "summary": f"Predict with {name}, by the Open Inference Protocol",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": request, "example": example(signature)}},
        },
        "responses": {
            "200": {
                "description": "Done.",
                "content": {"application/json": {"schema": response}},
            },
            **{status: {"description": text, **_ERROR} for status, text in _MEANINGS.items()},
        },
    }
