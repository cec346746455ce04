"""Fields: what one value of a signature's field may be in JSON, and what it becomes."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Annotated, Any

import msgspec

from upturn.core.schema import Field, FieldType

INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Unit = str | int | float | bool | None  # of a unit that is no input of the model

# What the typed decoder takes. `datetime` is left to `convert`, which wants an offset, and an
# integral float in an int field too: both come by way of the thorough check.
WIRE: dict[FieldType, Any] = {
    "bool": bool,
    "int": INT64,
    "float": float,
    "str": str,
    "date": date,
    "datetime": Annotated[datetime, msgspec.Meta(tz=True)],
}
EXPECTED: dict[FieldType, str] = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "date": "a date as '2013-04-01'",
    "datetime": "an instant with its offset as '2013-04-01T06:00:00Z'",
}
_OPENAPI: dict[FieldType, dict[str, Any]] = {
    "bool": {"type": "boolean"},
    "int": {"type": "integer", "format": "int64"},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
}
_PLACEHOLDER: dict[FieldType, Any] = {
    "bool": False,
    "int": 0,
    "float": 0.0,
    "str": "",
    "date": date(2000, 1, 1),
    "datetime": datetime(2000, 1, 1, tzinfo=UTC),
}


def expected(field: Field) -> str:
    """What fits the field, as an error says it."""
    text = EXPECTED[field.type]
    return f"{text}, or null" if field.nullable else text


def convert(value: Any, field: Field) -> Any:
    """A JSON value as the field's Python value. Raises ValueError when it does not fit.

    An integral float is a whole number, a number is never a text, a bool is never a number.
    """
    if value is None:
        if not field.nullable:
            raise ValueError
        return None
    return _CONVERT[field.type](value)


def example_value(field: Field) -> Any:
    """A Python value that fits the field: the one seen in training, if any."""
    if field.example is None:
        return None if field.nullable else _PLACEHOLDER[field.type]
    try:
        return convert(field.example, field)
    except ValueError:
        return _PLACEHOLDER[field.type]


def openapi_schema(field: Field) -> dict[str, Any]:
    """The field as OpenAPI 3.1 (JSON Schema 2020-12) describes it."""
    schema = dict(_OPENAPI[field.type])
    if field.nullable:
        schema["type"] = [schema["type"], "null"]
    if field.categories:
        known = ", ".join(field.categories[:20]) + (", …" if len(field.categories) > 20 else "")
        schema["description"] = f"Seen in training: {known}. Others are taken as unseen values."
    return schema


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError


def _int(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    try:
        return float(value)
    except OverflowError:
        raise ValueError from None


def _str(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError


def _date(value: Any) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    return _typed(value, date)


def _datetime(value: Any) -> datetime:
    if not isinstance(value, datetime):
        value = _typed(value, datetime)
    if value.tzinfo is None:
        raise ValueError
    return utc(value)


def _typed(value: Any, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise ValueError from None


def utc(value: datetime) -> datetime:
    """The same instant in UTC. Raises ValueError when it has no offset or leaves the calendar."""
    if value.tzinfo is None:
        raise ValueError
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError from None


_CONVERT: dict[FieldType, Callable[[Any], Any]] = {
    "bool": _bool,
    "int": _int,
    "float": _float,
    "str": _str,
    "date": _date,
    "datetime": _datetime,
}
