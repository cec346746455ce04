"""OpenAPI: how the endpoints that answer are asked, as OpenAPI 3.1."""

from collections.abc import Iterable
from typing import Any

from upturn.deploy.example import example_request, predict_path
from upturn.deploy.fields import openapi_schema
from upturn.deploy.serve.live import Live, Served

_PROBLEM = {"$ref": "#/components/schemas/Problem"}


def openapi(endpoints: Iterable[Served]) -> dict[str, Any]:
    """The API of the endpoints that answer, as OpenAPI 3.1."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Problem": _problem_schema(), "Answer": _answer_schema()}
    for served in endpoints:
        if served.live is None:
            continue
        schemas[f"{served.name}.row"] = _row_schema(served.live)
        paths[predict_path(served.name)] = {"post": _operation(served.name, served.live)}
        paths[f"/v1/endpoints/{served.name}/feedback"] = {"post": _feedback(served.name)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Upturn", "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(name: str, live: Live) -> dict[str, Any]:
    row = {"$ref": f"#/components/schemas/{name}.row"}
    instant = {"type": "string", "format": "date-time"}
    body: dict[str, Any] = {
        "type": "object",
        "properties": {
            "rows": {"type": "array", "minItems": 1, "items": row},
            "row": row,
            "at": {
                "description": "When it happened, if not now: for all rows, or one a row.",
                "anyOf": [instant, {"type": "array", "items": instant}],
            },
        },
        "oneOf": [{"required": ["rows"]}, {"required": ["row"]}],
        "additionalProperties": False,
    }
    example = example_request(live.signature, live.endpoint.unit)
    return {
        "operationId": f"predict_{name}",
        "summary": f"Predict with {live.route.model}",
        "parameters": [
            {
                "name": "X-Upturn-Arm",
                "in": "header",
                "description": "Let this arm answer, for debugging.",
                "schema": {"type": "string", "enum": list(live.arms)},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body, "example": example}},
        },
        "responses": {"200": _json({"$ref": "#/components/schemas/Answer"})} | _problems(),
    }


def _feedback(name: str) -> dict[str, Any]:
    item = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "pattern": "^[0-9a-f]{28}$"},
            "label": {"type": ["boolean", "number", "string"]},
            "known_at": {"type": "string", "format": "date-time"},
        },
        "required": ["id", "label"],
    }
    body = {
        "type": "object",
        "properties": {"feedback": {"type": "array", "items": item}},
        "required": ["feedback"],
    }
    return {
        "operationId": f"feedback_{name}",
        "summary": "Say what turned out to be true",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "202": _json({"type": "object", "properties": {"accepted": {"type": "integer"}}})
        }
        | _problems(),
    }


def _row_schema(live: Live) -> dict[str, Any]:
    fields = live.signature.inputs
    properties = {field.name: openapi_schema(field) for field in fields}
    if live.endpoint.unit is not None:
        properties.setdefault(
            live.endpoint.unit,
            {
                "description": "Keeps a caller on one arm; no input of the model.",
                "type": ["string", "number", "boolean", "null"],
            },
        )
    return {
        "type": "object",
        "properties": properties,
        "required": [field.name for field in fields if not field.nullable],
        "additionalProperties": False,
    }


def _answer_schema() -> dict[str, Any]:
    prediction = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "prediction": {},
            "version": {"type": "string"},
            "arm": {"type": "string"},
        },
        "required": ["id", "prediction", "version", "arm"],
    }
    return {
        "type": "object",
        "properties": {
            "endpoint": {"type": "string"},
            "route": {"type": "integer"},
            "predictions": {"type": "array", "items": prediction},
        },
        "required": ["endpoint", "route", "predictions"],
    }


def _problem_schema() -> dict[str, Any]:
    texts = {name: {"type": "string"} for name in ("type", "title", "detail", "code", "hint")}
    error = {
        "type": "object",
        "properties": {
            "row": {"type": ["integer", "null"]},
            "field": {"type": "string"},
            "value": {},
            "expected": {"type": "string"},
            "hint": {"type": "string"},
        },
    }
    return {
        "type": "object",
        "properties": texts
        | {"status": {"type": "integer"}, "errors": {"type": "array", "items": error}},
    }


def _problems() -> dict[str, Any]:
    content = {"application/problem+json": {"schema": _PROBLEM}}
    meanings = {
        "400": "The body can't be read.",
        "413": "The body is too large.",
        "422": "A row does not fit.",
        "503": "Too much to do, or no version is served.",
    }
    return {status: {"description": text, "content": content} for status, text in meanings.items()}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "Done.", "content": {"application/json": {"schema": schema}}}
