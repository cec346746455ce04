"""RowDecoder: a request's body as typed rows of a signature, or every reason why it is none.

What fits is decoded straight into typed rows. What does not is looked at again, value by value, so
that the answer can name each row, field and value: only bad requests pay for that.
"""

import re
import struct
from collections.abc import Callable, Sequence
from typing import Annotated, Any, cast

import msgspec
import numpy as np

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.schema import Field, Signature
from upturn.core.time import instant, micros
from upturn.deploy.fields import WIRE, Unit, convert, expected, utc
from upturn.deploy.serve.problems import MAX_ERRORS, BadRequest, FieldError, Misfit, shown
from upturn.deploy.serve.rows import EXACT, Block, Row, Rows, is_numeric

_BODY = {"row", "rows", "at", "id", "ids"}
_UNIT_EXPECTED = "a text, a number, true, false or null"
_AT_EXPECTED = "an instant with its offset as '2013-04-01T06:00:00Z', or a list with one a row"
_ID_EXPECTED = "an id of at most 128 letters, digits and . _ : / @ + = -, and no other row's"
# What a client may call a prediction: nothing that has to be escaped in an address or a shell.
_ID = re.compile(r"[A-Za-z0-9._:/@+=-]{1,128}")
_EXACT_INT = Annotated[int, msgspec.Meta(ge=-EXACT, le=EXACT)]


class RowDecoder:
    """Decodes bodies for one signature. `unit` names the field that holds a row's unit, if any.

    A missing nullable field is null. An unknown category of a text field is a value like any other:
    the model takes it as one that it has not seen, and monitors count it as unseen.
    """

    def __init__(self, signature: Signature, unit: str | None, *, max_rows: int) -> None:
        self._fields = signature.inputs
        self._names = signature.names
        self._max_rows = max_rows
        self._width = len(self._names)
        extra = unit is not None and unit not in self._names
        self._extra = unit if extra else None
        self._unit_at = self._width if extra else self._names.index(unit) if unit else None
        self._instants = [i for i, field in enumerate(self._fields) if field.type == "datetime"]
        self._matrix = _matrix_maker(self._width) if is_numeric(signature) else None
        self._typed = _typed_decoder(self._fields, self._extra, exact=self._matrix is not None)

    def decode(self, body: bytes) -> Rows:
        """The body's rows. Raises BadRequest when it is no JSON, Invalid when it does not fit."""
        if self._typed is not None:
            try:
                return self._from_typed(self._typed.decode(body))
            except (ValueError, msgspec.DecodeError, RecursionError):
                pass  # whatever is wrong, the thorough way says it
        return self._thoroughly(_json(body))

    # What fits

    def _from_typed(self, body: Any) -> Rows:
        if body.row is not msgspec.UNSET:
            if body.rows is not msgspec.UNSET:
                raise ValueError
            rows = [msgspec.structs.astuple(body.row)]
        elif body.rows is msgspec.UNSET:
            raise ValueError
        else:
            rows = list(map(msgspec.structs.astuple, body.rows))
        if self._instants:
            rows = [self._in_utc(row) for row in rows]
        return self._rows(rows, body.at, _ids(body.id, body.ids, len(rows)), self._matrix)

    def _in_utc(self, row: Row) -> Row:
        values = list(row)
        for i in self._instants:
            values[i] = None if values[i] is None else utc(values[i])
        return tuple(values)

    def _rows(
        self,
        rows: list[Row],
        at: Any,
        ids: list[str] | None,
        matrix: Callable[[list[Row]], Block] | None,
    ) -> Rows:
        if not 0 < len(rows) <= self._max_rows:
            raise ValueError
        units: list[str | None] | None = None
        if (unit_at := self._unit_at) is not None:
            units = [None if row[unit_at] is None else str(row[unit_at]) for row in rows]
        if self._extra is not None:
            rows = [row[: self._width] for row in rows]
        times = None if at is None else _instants(at, len(rows))
        return Rows(rows if matrix is None else matrix(rows), units, times, ids)

    # What does not, or only just

    def _thoroughly(self, body: Any) -> Rows:
        objects = self._objects(body)
        errors: list[FieldError] = []
        rows: list[Row] = []
        for number, item in enumerate(objects):
            rows.append(self._row(number, item, errors))
            if len(errors) >= MAX_ERRORS:
                break
        at = body.get("at")
        if at is not None:
            errors += _at_errors(at, len(objects))
        errors += _id_errors(body, len(objects))
        if errors:
            raise Misfit(errors)
        ids = _ids(body.get("id"), body.get("ids"), len(rows))
        return self._rows(rows, at, ids, self._matrix if self._is_exact(rows) else None)

    def _is_exact(self, rows: list[Row]) -> bool:
        """Whether a matrix can hold every whole number, and every float comes as one."""
        places = [i for i, field in enumerate(self._fields) if field.type == "int"]
        return all(abs(row[i] or 0) <= EXACT for row in rows for i in places)

    def _objects(self, body: Any) -> list[Any]:
        example = 'Send {"rows": [{…}, …]}, or {"row": {…}}.'
        if not isinstance(body, dict):
            raise Invalid("The body is not a JSON object.", hint=example)
        for name in body:
            if name not in _BODY:
                hint = did_you_mean(name, _BODY)
                raise Invalid(f"The body has an unknown member {name[:100]!r}.", hint=hint)
        if ("row" in body) == ("rows" in body):
            both = "both 'row' and 'rows'" if "row" in body else "no rows"
            raise Invalid(f"The body has {both}.", hint=example)
        rows = [body["row"]] if "row" in body else body["rows"]
        if not isinstance(rows, list):
            error = FieldError(None, "rows", shown(rows), "a list of objects")
            raise Misfit([error])
        if not rows:
            raise Invalid("There are no rows to predict.", hint=example)
        if len(rows) > self._max_rows:
            raise Invalid(
                f"{len(rows)} rows are more than one request may have.",
                hint=f"Send at most {self._max_rows} at a time, or use: upturn score.",
            )
        return rows

    def _row(self, number: int, item: Any, errors: list[FieldError]) -> Row:
        if not isinstance(item, dict):
            errors.append(FieldError(number, "", shown(item), "an object with the model's inputs"))
            return ()
        row = cast("dict[str, Any]", item)
        values: list[Any] = []
        for field in self._fields:
            try:
                values.append(convert(row.get(field.name), field))
            except ValueError:
                given = row.get(field.name)
                hint = "" if field.name in row else "It is missing."
                errors.append(FieldError(number, field.name, shown(given), expected(field), hint))
        if self._extra is not None:
            unit = row.get(self._extra)
            if unit is not None and not isinstance(unit, str | int | float):
                errors.append(FieldError(number, self._extra, shown(unit), _UNIT_EXPECTED))
            values.append(unit)
        known = {*self._names, self._extra} - {None}
        for name in row.keys() - known:
            hint = did_you_mean(name, [str(one) for one in known])
            error = FieldError(number, name[:100], shown(row[name]), "no such field", hint)
            errors.append(error)
        return tuple(values)


def _typed_decoder(
    fields: Sequence[Field], extra: str | None, *, exact: bool
) -> msgspec.json.Decoder[Any] | None:
    members: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    rename: dict[str, str] = {}
    for i, field in enumerate(fields):
        kind: Any = _EXACT_INT if exact and field.type == "int" else WIRE[field.type]
        members.append((f"f{i}", kind | None, None) if field.nullable else (f"f{i}", kind))
        rename[f"f{i}"] = field.name
    if extra is not None:
        members.append(("unit", Unit, None))
        rename["unit"] = extra
    try:
        row = msgspec.defstruct(
            "Row", members, rename=rename, kw_only=True, forbid_unknown_fields=True, gc=False
        )
    except ValueError:
        return None  # a name with quotes or backslashes: every body goes the thorough way
    unset: Any = msgspec.UNSET
    body = msgspec.defstruct(
        "Body",
        [
            ("rows", list[row] | msgspec.UnsetType, unset),
            ("row", row | msgspec.UnsetType, unset),
            ("at", str | list[str] | None, None),
            ("id", str | None, None),
            ("ids", list[str] | None, None),
        ],
        forbid_unknown_fields=True,
    )
    return msgspec.json.Decoder(body)


def _matrix_maker(width: int) -> Callable[[list[Row]], Block]:
    """A function that makes a float64 matrix of rows of numbers, nan where a value is None."""
    pack = struct.Struct(f"={width}d").pack

    def make(rows: list[Row]) -> Block:
        try:
            # More than twice as fast as numpy on tuples. A bytearray: models may write to it.
            data = bytearray().join([pack(*row) for row in rows])
        except (struct.error, OverflowError):
            return np.array(rows, dtype=np.float64)
        return np.frombuffer(data, np.float64).reshape(len(rows), width)

    return make


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise BadRequest("The body is nested too deeply to be read.") from None
    except (ValueError, msgspec.DecodeError) as error:
        hint = ""
        if any(token in body for token in (b"NaN", b"Infinity")):
            hint = "JSON has no NaN and no Infinity; a missing value is null, where it may be."
        elif not body.strip():
            hint = 'The body is empty: send {"rows": [{…}, …]}.'
        text = str(error).removeprefix("JSON is malformed: ")
        raise BadRequest(f"The body is not valid JSON: {text}.", hint=hint) from None


def _instants(at: str | list[str], count: int) -> int | list[int]:
    """Raises ValueError when it is not one instant, or one a row."""
    try:
        if isinstance(at, str):
            return micros(instant(at))
        times = [micros(instant(text)) for text in at]
    except (Invalid, OverflowError):
        raise ValueError from None
    if len(times) != count:
        raise ValueError
    return times


def _ids(one: str | None, many: list[str] | None, count: int) -> list[str] | None:
    """The client's own ids. Raises ValueError unless there is one a row, all different."""
    ids = many if one is None else [one]
    if ids is None:
        return None
    if one is not None and many is not None:
        raise ValueError
    if len(ids) != count or len(set(ids)) != count or not all(map(_ID.fullmatch, ids)):
        raise ValueError
    return ids


def _id_errors(body: dict[str, Any], count: int) -> list[FieldError]:
    one, many = body.get("id"), body.get("ids")
    if many is None:
        if one is None or (count == 1 and isinstance(one, str) and _ID.fullmatch(one)):
            return []
        expected_here = _ID_EXPECTED if count == 1 else "'ids', a list with one a row"
        return [FieldError(None, "id", shown(one), expected_here)]
    if one is not None:
        return [FieldError(None, "id", shown(one), "no 'id' beside 'ids'")]
    if not isinstance(many, list):
        return [FieldError(None, "ids", shown(many), "a list with one id a row")]
    ids = cast("list[Any]", many)
    if len(ids) != count:
        return [FieldError(None, "ids", f"{len(ids)} ids", f"{count}, one a row")]
    seen: set[str] = set()
    errors: list[FieldError] = []
    for number, value in enumerate(ids):
        if not isinstance(value, str) or not _ID.fullmatch(value) or value in seen:
            errors.append(FieldError(number, "ids", shown(value), _ID_EXPECTED))
        else:
            seen.add(value)
    return errors[:MAX_ERRORS]


def _at_errors(at: Any, count: int) -> list[FieldError]:
    if not isinstance(at, list):
        return [] if _is_instant(at) else [FieldError(None, "at", shown(at), _AT_EXPECTED)]
    times = cast("list[Any]", at)
    if len(times) != count:
        return [FieldError(None, "at", f"{len(times)} instants", f"{count}, one a row")]
    return [
        FieldError(number, "at", shown(value), _AT_EXPECTED)
        for number, value in enumerate(times)
        if not _is_instant(value)
    ][:MAX_ERRORS]


def _is_instant(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        _instants(value, 1)
    except ValueError:
        return False
    return True
