"""OpenAPI of the operations: paths and schemas, made from their typed requests and answers."""

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec

from upturn.api.operation import AnyOperation
from upturn.api.resources import first_segment

_REF = "#/components/schemas/{name}"
_PROBLEM = {
    "content": {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}}
}
_MEANINGS = {
    "400": "The request can't be read.",
    "401": "It takes a token, or another one.",
    "403": "The token is not for this.",
    "404": "There is no such thing.",
    "409": "There is one already, or somebody changed it first.",
    "413": "The body is too large.",
    "422": "A field does not fit; `errors` says which, and what would.",
    "503": "It can't be had at the moment.",
}
_FIELDS = {
    "name": "fields",
    "in": "query",
    "description": "Which fields of the answer, or of its items, are wanted: `a,b`.",
    "schema": {"type": "string"},
}


def describe(operations: Sequence[AnyOperation]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The paths and the schemas of the operations, for OpenAPI 3.1."""
    kinds = list(dict.fromkeys(kind for each in operations for kind in (each.asks, each.answers)))
    found, components = msgspec.json.schema_components(
        kinds, schema_hook=_unknown, ref_template=_REF
    )
    schemas = dict(zip(kinds, found, strict=True))
    paths: dict[str, Any] = {}
    for operation in operations:
        described = _operation(operation, schemas[operation.asks], schemas, components)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return paths, components


def _operation(
    operation: AnyOperation,
    asks: dict[str, Any],
    schemas: dict[Any, Any],
    components: dict[str, Any],
) -> dict[str, Any]:
    whole = components[asks["$ref"].rpartition("/")[2]] if "$ref" in asks else asks
    properties: dict[str, Any] = whole.get("properties", {})
    required: list[str] = whole.get("required", [])
    in_path = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": properties[name]}
        for name in in_path
    ]
    rest = {name: each for name, each in properties.items() if name not in in_path}
    summary, _, more = inspect.cleandoc(operation.do.__doc__ or "").partition("\n\n")
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": " ".join(summary.split()),
        "tags": [*operation.tags] or [first_segment(operation.path)],
        "x-role": operation.role,
    }
    if more:
        described["description"] = more
    if operation.method in ("GET", "DELETE"):
        parameters += [_query(name, each, name in required) for name, each in rest.items()]
    else:
        described["requestBody"] = _body(rest, [name for name in required if name in rest])
    described["parameters"] = [*parameters, *([_FIELDS] if "fields" not in properties else [])]
    answer = {"description": "The answer."}
    if operation.status != 204:
        answer["content"] = {"application/json": {"schema": schemas[operation.answers]}}  # pyright: ignore[reportArgumentType]
    problems = {code: {"description": says, **_PROBLEM} for code, says in _MEANINGS.items()}
    described["responses"] = {str(operation.status): answer, **problems}
    return described


def _query(name: str, schema: dict[str, Any], required: bool) -> dict[str, Any]:
    said: dict[str, Any] = {"name": name, "in": "query", "required": required, "schema": schema}
    if _is_list(schema):
        return {**said, "style": "form", "explode": True}
    if _is_nested(schema):
        del said["schema"]
        return {**said, "content": {"application/json": {"schema": schema}}}
    return said


def _is_list(schema: dict[str, Any]) -> bool:
    each = [schema, *schema.get("anyOf", ())]
    return any(one.get("type") == "array" and "$ref" not in one.get("items", {}) for one in each)


def _is_nested(schema: dict[str, Any]) -> bool:
    each = [schema, *schema.get("anyOf", ())]
    return any(one.get("type") in ("object", "array") or "$ref" in one for one in each)


def _body(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    return {"required": bool(required), "content": {"application/json": {"schema": schema}}}


def _unknown(kind: Any) -> dict[str, Any]:
    return {"description": getattr(kind, "__name__", "")}
