"""OpenAPI: how the server's endpoints are asked, and what they answer, as OpenAPI 3.1.

Fields, categories and examples are those that each model was registered with.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from msgspec import to_builtins

from upturn.core.schema import Signature
from upturn.deploy.example import example_request, predict_path
from upturn.deploy.fields import example_value, openapi_schema
from upturn.deploy.serve.live import Live, Served
from upturn.deploy.serve.request import ARROW_FILE, ARROW_STREAM, CSV
from upturn.model.adapters import class_name

Paths = Callable[[Sequence[Served]], Mapping[str, Any]]
Described = Callable[[], tuple[Mapping[str, Any], Mapping[str, Any]]]  # paths and schemas
_TEXT = {"type": "string"}
_CODING = {"type": "string", "enum": ["gzip", "deflate"]}
_WHOLE = {"type": "integer"}
_NUMBER = {"type": "number"}
_INSTANT = {"type": "string", "format": "date-time"}
_ID: dict[str, Any] = {"type": "string", "pattern": "^[A-Za-z0-9._:/@+=-]{1,128}$"}
_UNIT = {
    "description": "Keeps a caller on one arm; no input of the model.",
    "type": ["string", "number", "boolean", "null"],
}
_MEANINGS = {
    "400": "The body or a header can't be read.",
    "403": "It was asked for under a name that is not this machine's own.",
    "404": "There is no such endpoint.",
    "413": "The body is too large.",
    "422": "Something does not fit; `errors` says what, where, and what would.",
    "500": "The model failed.",
    "503": "Too much waits, it can't be done in time, or no version is served.",
}


def openapi(
    endpoints: Sequence[Served],
    more: Sequence[Paths] = (),
    described: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]] = (),
) -> dict[str, Any]:
    """The API of the endpoints that answer.

    `more` are the paths of other protocols, `described` the paths and schemas of what else there
    is.
    """
    paths: dict[str, Any] = dict(_reading())
    schemas: dict[str, Any] = {"Problem": _problem_schema(), "Endpoint": _endpoint_schema()}
    answering = [served for served in endpoints if served.live is not None]
    for served in answering:
        name, live = served.name, served.live
        assert live is not None
        schemas[f"{name}.row"] = row_schema(live.signature, live.endpoint.unit)
        schemas[f"{name}.answer"] = _answer_schema(live.signature)
        paths[predict_path(name)] = {"post": _predict(name, live)}
        paths[f"/v1/endpoints/{name}/feedback"] = {"post": _feedback(name, live.signature)}
    for each in more:
        paths |= each(answering)
    for other_paths, other_schemas in described:
        paths |= other_paths
        schemas = {**other_schemas, **schemas}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Upturn", "version": version("upturn")},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def prediction_schema(signature: Signature) -> dict[str, Any]:
    """One prediction, as the model makes it. A number that is none (NaN) comes as null."""
    match signature.output:
        case "probability":
            what = f" of {signature.classes[-1]!r}" if signature.classes else ""
            return {
                "description": f"The probability{what}.",
                "type": ["number", "null"],
                "minimum": 0,
                "maximum": 1,
            }
        case "number":
            return {"type": ["number", "null"]}
        case "label":
            return {"description": "A class.", "examples": list(signature.classes)}
        case "scores":
            names = [class_name(value) for value in signature.classes]
            return {
                "description": "The probability of each class.",
                "type": "object",
                "properties": {name: {"type": ["number", "null"]} for name in names},
                "required": names,
            }
        case _ if signature.outputs:
            return _object(**{output.name: _OUTPUTS[output.type] for output in signature.outputs})
        case _:
            return {"description": "What the model returned."}


_OUTPUTS: dict[str, dict[str, Any]] = {
    "bool": {"type": ["boolean", "null"]},
    "int": {"type": ["integer", "null"]},
    "float": {"type": ["number", "null"]},
    "str": {"type": ["string", "null"]},
    "json": {},
}


def row_schema(signature: Signature, unit: str | None) -> dict[str, Any]:
    """One row, as clients send it. `unit` names the field that keeps a caller on one arm."""
    properties: dict[str, Any] = {}
    for field in signature.inputs:
        seen = list(field.categories[:20]) if field.categories else [example_value(field)]
        properties[field.name] = openapi_schema(field) | {"examples": seen}
    if unit is not None:
        properties.setdefault(unit, _UNIT)
    return {
        "type": "object",
        "properties": properties,
        "required": [field.name for field in signature.inputs if not field.nullable],
        "additionalProperties": False,
    }


# Predictions and feedback


def _predict(name: str, live: Live) -> dict[str, Any]:
    row = {"$ref": f"#/components/schemas/{name}.row"}
    body: dict[str, Any] = {
        "type": "object",
        "properties": {
            "rows": {"type": "array", "minItems": 1, "items": row},
            "row": row,
            "at": {
                "description": "When it happened, if not now: for all rows, or one a row.",
                "anyOf": [_INSTANT, {"type": "array", "items": _INSTANT}, {"type": "null"}],
            },
            "id": _ID | {"description": "Your own id of the one row's prediction."},
            "ids": {"description": "Your own ids, one a row.", "type": "array", "items": _ID},
        },
        "oneOf": [{"required": ["rows"]}, {"required": ["row"]}],
        "additionalProperties": False,
    }
    example = example_request(live.signature, live.endpoint.unit)
    answer = _json({"$ref": f"#/components/schemas/{name}.answer"})
    answer["content"][ARROW_STREAM.decode()] = {"schema": {"type": "string", "format": "binary"}}
    versions = ", ".join(f"{arm.arm.name} {arm.version.name}" for arm in live.arms.values())
    return {
        "operationId": f"predict_{name}",
        "summary": f"Predict with {live.route.model}",
        "description": f"Route {live.route.revision}: {versions}.",
        "parameters": _headers(live),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body, "example": example}}
            | _tables(example["rows"]),
        },
        "responses": {"200": answer} | _problems(),
    }


def _tables(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows as tables; the columns are the fields."""
    text = {"type": "string", "description": "The columns are the fields of a row."}
    lines = [",".join(map(_cell, rows[0])), *(",".join(map(_cell, row.values())) for row in rows)]
    csv = {"schema": text, "example": "\n".join(lines)}
    arrow = {"schema": text | {"format": "binary"}}
    return {CSV.decode(): csv, ARROW_STREAM.decode(): arrow, ARROW_FILE.decode(): arrow}


def _cell(value: Any) -> str:
    """A value in a CSV file; null is nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(to_builtins(value))
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def _headers(live: Live) -> list[dict[str, Any]]:
    arms = {"type": "string", "enum": list(live.arms)}
    deadline = {"type": "number", "exclusiveMinimum": 0}
    return [
        _header("X-Upturn-Arm", "Let this arm answer, for debugging.", arms),
        _header("X-Deadline-Ms", "How long an answer is of use: else it is refused.", deadline),
        _header("Content-Encoding", "How the body is packed.", _CODING),
        _header("X-Request-Id", "Your own name for the request; the Log keeps it.", _TEXT),
    ]


def _header(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": text, "schema": schema}


def _feedback(name: str, signature: Signature) -> dict[str, Any]:
    label: dict[str, Any] = {"type": ["boolean", "number", "string"]}
    if signature.classes:
        label["examples"] = list(signature.classes)
    item = {
        "type": "object",
        "properties": {
            "id": _ID | {"description": "The prediction's id."},
            "label": label,
            "known_at": {"type": ["string", "null"], "format": "date-time"},
        },
        "required": ["id", "label"],
        "additionalProperties": False,
    }
    body = {
        "type": "object",
        "properties": {"feedback": {"type": "array", "minItems": 1, "items": item}},
        "required": ["feedback"],
    }
    taken = {"type": "object", "properties": {"accepted": _WHOLE}, "required": ["accepted"]}
    return {
        "operationId": f"feedback_{name}",
        "summary": "Say what turned out to be true",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"202": _json(taken, "It is on disk.")} | _problems(),
    }


def _answer_schema(signature: Signature) -> dict[str, Any]:
    prediction = _object(
        id=_TEXT, prediction=prediction_schema(signature), version=_TEXT, arm=_TEXT
    )
    return _object(endpoint=_TEXT, route=_WHOLE, predictions={"type": "array", "items": prediction})


# What there is to read


def _reading() -> dict[str, Any]:
    endpoint = {"$ref": "#/components/schemas/Endpoint"}
    several = {"type": "object", "properties": {"endpoints": {"type": "array", "items": endpoint}}}
    name = {"name": "name", "in": "path", "required": True, "schema": _TEXT}
    status = {"type": "object", "properties": {"status": _TEXT}, "required": ["status"]}
    live = {"get": {"summary": "Whether the process runs", "responses": {"200": _json(status)}}}
    loading = _json(status, "It loads its first versions, or is about to end.")
    ready = {
        "get": {
            "summary": "Whether every route has been looked at",
            "responses": {"200": _json(status), "503": loading},
        }
    }
    text = {"description": "Counters.", "content": {"text/plain": {"schema": _TEXT}}}
    return {
        "/v1/endpoints": {
            "get": {"summary": "All endpoints", "responses": {"200": _json(several)}}
        },
        "/v1/endpoints/{name}": {
            "get": {
                "summary": "Who answers, what it takes, and how it goes",
                "parameters": [name],
                "responses": {"200": _json(endpoint)} | _problems("403", "404"),
            }
        },
        "/metrics": {"get": {"summary": "For Prometheus", "responses": {"200": text}}},
        "/healthz": live,
        "/health/live": live,
        "/readyz": ready,
        "/health/ready": ready,
    }


def _endpoint_schema() -> dict[str, Any]:
    arm = _object(arm=_TEXT, version=_TEXT, share=_NUMBER, shadow={"type": "boolean"})
    refused = _object(route=_WHOLE, reason=_TEXT, at=_INSTANT)
    return {
        "type": "object",
        "properties": {
            "endpoint": _TEXT,
            "route": {"type": ["integer", "null"]},
            "refused": {"anyOf": [refused, {"type": "null"}]},
            "counters": {"type": "object", "additionalProperties": _WHOLE},
            "requests_per_s": _NUMBER,
            "arms": {"type": "array", "items": arm},
            "fields": {"type": "array", "items": {"type": "object"}},
            "example": {"type": "object"},
        },
        "required": ["endpoint", "route", "refused", "counters"],
    }


def _problem_schema() -> dict[str, Any]:
    error = {
        "type": "object",
        "properties": {
            "row": {"type": ["integer", "null"]},
            "field": _TEXT,
            "value": {},
            "expected": _TEXT,
            "hint": _TEXT,
        },
        "required": ["row", "field", "value", "expected"],
    }
    texts = dict.fromkeys(("type", "title", "detail", "code", "hint"), _TEXT)
    return _object(**texts, status=_WHOLE, errors={"type": "array", "items": error})


def _problems(*statuses: str) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    found: dict[str, Any] = {
        status: {"description": _MEANINGS[status], "content": content}
        for status in statuses or _MEANINGS
    }
    if "503" in found:
        wait = {"description": "Seconds until it is worth another try.", "schema": _WHOLE}
        found["503"] = found["503"] | {"headers": {"Retry-After": wait}}
    return found


def _object(**properties: Any) -> dict[str, Any]:
    """An object that has all of these members."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _json(schema: dict[str, Any], text: str = "Done.") -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}
