"""Requests: what a client sent as the typed request of an operation, or each field amiss."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import unquote_to_bytes

import msgspec

from upturn.api.operation import AnyOperation, Request
from upturn.core.errors import did_you_mean
from upturn.deploy.serve.problems import MAX_ERRORS, BadRequest, FieldError, Misfit, shown

FIELDS = "fields"  # in the query: which fields of the answer are wanted
_MAX_QUERY = 1000  # values
_AT = " - at `"
Q = TypeVar("Q", bound=Request)


def read_query(raw: bytes) -> dict[str, list[str]]:
    """The query's values by name, in their order. Raises BadRequest for what is no text."""
    found: dict[str, list[str]] = {}
    if not raw:
        return found
    pairs = raw.split(b"&")
    if len(pairs) > _MAX_QUERY:
        raise BadRequest(f"The query has more than {_MAX_QUERY} values.", hint="Use the body.")
    for pair in pairs:
        if pair:
            name, _, value = pair.partition(b"=")
            found.setdefault(text_of(name.replace(b"+", b" ")), []).append(
                text_of(value.replace(b"+", b" "))
            )
    return found


def text_of(raw: bytes) -> str:
    """What a part of a URL says. Raises BadRequest for what is no text."""
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(
            "The URL is no UTF-8.", hint="Encode each part of it as UTF-8, then with %XX."
        ) from None


def from_query(kind: type[Q], path: Mapping[str, str], query: Mapping[str, list[str]]) -> Q:
    """The request, from the fields of the path and of the query. Raises Misfit."""
    lists, nested = _shapes(kind)
    given: dict[str, Any] = dict(path)
    errors: list[FieldError] = []
    for name, values in query.items():
        if name in path:
            errors.append(
                FieldError(None, name[:100], shown(values[0]), "nothing: the path has it")
            )
        elif name in nested:
            try:
                given[name] = msgspec.json.decode(values[-1])
            except msgspec.DecodeError:
                errors.append(FieldError(None, name, shown(values[-1]), "JSON"))
        elif name in lists:
            given[name] = values
        elif len(values) > 1:
            errors.append(FieldError(None, name[:100], shown(values), "one value"))
        else:
            given[name] = values[0]
    if errors:
        raise Misfit(errors)
    return _converted(kind, given, strict=False)


def from_body(kind: type[Q], path: Mapping[str, str], body: bytes, media: bytes) -> Q:
    """The request, from the fields of the path and of a body of that media type.

    Raises BadRequest for what can't be read, Misfit for fields that do not fit.
    """
    given: Any = {}
    if body:
        try:
            decode = msgspec.msgpack.decode if media == MSGPACK else msgspec.json.decode
            given = decode(body)
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            what = "msgpack" if media == MSGPACK else "JSON"
            raise BadRequest(f"The body is not valid {what}: {error}.") from None
    if not isinstance(given, dict):
        raise BadRequest("The body is to be an object.", hint='As {"name": …}.')
    fields: dict[Any, Any] = given
    twice = [name for name in path if name in fields and str(fields[name]) != path[name]]
    if twice:
        raise Misfit([FieldError(None, twice[0], shown(fields[twice[0]]), "what the path says")])
    # The path's are text, whatever type they have to become; the body's have their types.
    lax = _converted_fields(kind, path)
    return _converted(kind, {**fields, **lax}, strict=True)


MSGPACK = b"application/msgpack"


def _converted_fields(kind: type[Request], path: Mapping[str, str]) -> dict[str, Any]:
    types = _types(kind)
    found: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, text in path.items():
        try:
            found[name] = msgspec.convert(text, types[name], strict=False)
        except msgspec.ValidationError as error:
            errors.append(_field_error(name, text, error))
    if errors:
        raise Misfit(errors)
    return found


def _converted(kind: type[Q], given: dict[Any, Any], *, strict: bool) -> Q:
    try:
        request = msgspec.convert(given, kind, strict=strict)
    except (msgspec.ValidationError, OverflowError) as error:
        raise Misfit(_errors(kind, given, error, strict=strict)) from None
    naive = [
        FieldError(
            None, name, value.isoformat(), "an instant with its offset: 2013-04-01T06:00:00Z"
        )
        for name in kind.__struct_fields__
        if isinstance(value := getattr(request, name), datetime) and value.tzinfo is None
    ]
    if naive:
        raise Misfit(naive)
    return request


def _errors(
    kind: type[Request], given: dict[Any, Any], whole: Exception, *, strict: bool
) -> list[FieldError]:
    """Every field that is wrong, by trying each alone."""
    types = _types(kind)
    errors: list[FieldError] = []
    for name, value in given.items():
        if name not in types:
            hint = did_you_mean(str(name), types)
            errors.append(
                FieldError(None, str(name)[:100], shown(value), "a field that there is", hint)
            )
            continue
        try:
            msgspec.convert(value, types[name], strict=strict)
        except (msgspec.ValidationError, OverflowError) as error:
            errors.append(_field_error(name, value, error))
        if len(errors) >= MAX_ERRORS:
            return errors
    errors += [
        FieldError(None, field.name, None, "a value: it is required")
        for field in msgspec.structs.fields(kind)
        if field.required and field.name not in given
    ]
    if not errors:  # they fit each by itself, and not together
        text = str(whole)
        errors.append(FieldError(None, "", None, text.removeprefix("Expected ").partition(_AT)[0]))
    return errors


def _field_error(name: str, value: Any, error: Exception) -> FieldError:
    said, _, where = str(error).partition(_AT)
    said = said.removeprefix("Expected ").replace("`", "")
    inner = where.rstrip("`").removeprefix("$")
    return FieldError(None, f"{name}{inner}"[:200], shown(value), said[:300])


@cache
def _types(kind: type[Request]) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(kind)}


@cache
def _shapes(kind: type[Request]) -> tuple[frozenset[str], frozenset[str]]:
    """The fields that take several values of a query, and those that take one as JSON."""
    lists: set[str] = set()
    nested: set[str] = set()
    for name, hint in get_type_hints(kind).items():
        for option in _options(hint):
            origin = get_origin(option) or option
            if origin in (list, tuple, set, frozenset):
                (nested if _is_nested(option) else lists).add(name)
            elif _is_object(origin):
                nested.add(name)
    return frozenset(lists), frozenset(nested)


def _options(hint: Any) -> list[Any]:
    if get_origin(hint) is Annotated:
        return _options(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return [inner for each in get_args(hint) for inner in _options(each)]
    return [hint]


def _is_nested(option: Any) -> bool:
    inner = [each for argument in get_args(option) for each in _options(argument)]
    return any(_is_object(get_origin(each) or each) for each in inner)


def _is_object(origin: Any) -> bool:
    return origin is dict or (isinstance(origin, type) and issubclass(origin, msgspec.Struct))


def path_fields(operation: AnyOperation) -> list[str]:
    """The fields that the operation's path has.

    >>> from upturn.api.endpoints import GET_ROUTE
    >>> path_fields(GET_ROUTE)
    ['endpoint', 'revision']
    """
    return [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
