"""Requests as typed structs, read as tolerantly as protobuf reads JSON, refused as MLflow does.

Numbers may come as text (and have to, where they are NaN or infinite), unknown fields are left out,
null is as good as nothing, and names may be in camelCase.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec

from upturn.adapters.mlflow.errors import MlflowError, missing_value, wrong_type

_JSON_TYPES = ("application/json",)
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked. `needs` names the fields that have to be there and not be empty."""

    needs: ClassVar[tuple[str, ...]] = ()


class KeyValue(msgspec.Struct, frozen=True):
    """A tag or a parameter."""

    key: str = ""
    value: str = ""


A = TypeVar("A", bound=Ask)


def from_body(kind: type[A], body: bytes, path: Mapping[str, str]) -> A:
    """The request from a JSON body, with what the path says."""
    if not path:
        try:
            asked = _decoder(kind).decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        else:
            if _complete(asked):
                return asked
    given = _object(body)
    return from_values(kind, {**given, **path})


def from_query(kind: type[A], query: bytes, path: Mapping[str, str]) -> A:
    """The request from a query string, whose repeated fields become lists."""
    lists = _lists(kind)
    given: dict[str, Any] = {}
    for name, value in query_items(query):
        if name in lists:
            given.setdefault(name, []).append(value)
        else:
            given.setdefault(name, value)
    for name in _booleans(kind):
        value = given.get(name)
        if isinstance(value, str) and value.lower() not in ("true", "false"):
            raise MlflowError(f"Invalid boolean value: {value}, must be 'true' or 'false'.")
        if value is not None:
            given[name] = str(value).lower() == "true"
    return from_values(kind, {**given, **path})


def query_items(query: bytes) -> list[tuple[str, str]]:
    """The fields of a query string."""
    try:
        return parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=10_000)
    except ValueError as error:
        raise MlflowError(f"Invalid query string: {error}.") from None


def from_values(kind: type[A], given: Mapping[str, Any]) -> A:
    """The request from JSON values. Raises MlflowError for the first field that does not fit."""
    values = {snake(name): _plain(value) for name, value in given.items() if value is not None}
    if "run_uuid" in values:  # what older clients call it
        values.setdefault("run_id", values["run_uuid"])
    for field in msgspec.structs.fields(kind):
        value = values.get(field.name)
        if field.name in kind.needs and value in (None, "", []):
            raise missing_value(field.name)
        if value is None:
            continue
        try:
            msgspec.convert(value, field.type, strict=False)
        except (msgspec.ValidationError, RecursionError):
            raise wrong_type(field.name, given.get(field.name, value)) from None
    return msgspec.convert(values, kind, strict=False)


def check_content_type(headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse what isn't said to be JSON: a page elsewhere could send it without being asked."""
    for name, value in headers:
        if name == b"content-type":
            if value.decode("latin-1").split(";")[0].strip().lower() in _JSON_TYPES:
                return
            raise MlflowError(f"Bad Request. Content-Type must be one of {list(_JSON_TYPES)}.")
    raise MlflowError("Bad Request. Content-Type header is missing.")


def _object(body: bytes) -> dict[str, Any]:
    """The body as an object. What is no JSON is as good as empty, as in MLflow."""
    try:
        given = json.loads(body) if body.strip() else {}
        if isinstance(given, str):  # old clients encode twice
            given = json.loads(given)
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise MlflowError("Invalid request: its body has text that is no Unicode.") from None
    except (ValueError, RecursionError):
        return {}
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise MlflowError("Invalid request: its body is not a JSON object.")
    return given  # pyright: ignore[reportUnknownVariableType]


def _complete(asked: Ask) -> bool:
    return all(getattr(asked, name) not in (None, "", []) for name in asked.needs)


def _plain(value: Any) -> Any:
    """A value without nulls."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value


def snake(name: str) -> str:
    """A field's name in snake_case, in which it may as well have come."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "_" + found[1].lower(), name)


@cache
def _decoder(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, strict=False)


@cache
def _lists(kind: type[Ask]) -> frozenset[str]:
    return _of_type(kind, list)


@cache
def _booleans(kind: type[Ask]) -> frozenset[str]:
    return _of_type(kind, bool)


def _of_type(kind: type[Ask], wanted: type) -> frozenset[str]:
    names: set[str] = set()
    for field in msgspec.structs.fields(kind):
        types = (field.type, *get_args(field.type))
        if any(part is wanted or get_origin(part) is wanted for part in types):
            names.add(field.name)
    return frozenset(names)
