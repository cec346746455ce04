"""Condition: a Where as SQL over run_now, in which every comparison is either true or false."""

import math
from dataclasses import dataclass
from typing import Any

import msgspec

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.tracking import Both, Either, Not, Order, Term, Where

COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
_PATTERNS = ("LIKE", "ILIKE", "NOT LIKE", "NOT ILIKE")
_LISTS = ("IN", "NOT IN")
_NULLS = ("IS NULL", "IS NOT NULL")
_OPERATORS = (*COMPARISONS, *_PATTERNS, *_LISTS, *_NULLS)
_MOST_TERMS = 200  # SQLite's own limits are some thousands
_DEEPEST = 50
_LONGEST_PATTERN = 5_000
COLUMNS_OF_PARTS = {"last": "last", "min": "low", "max": "high"}

FIELDS = {
    "id": "run_now.run",
    "name": "run_now.name",
    "flow": "run_now.flow",
    "group": 'run_now."group"',
    "group_name": '(SELECT name FROM group_now WHERE group_now.id = run_now."group")',
    "project": "run_now.project",
    "who": "run_now.who",
    "source": "run_now.source",
    "status": "run_now.status",
    "parent": "run_now.parent",
    "started_at": "run_now.started_at",
    "ended_at": "run_now.ended_at",
    "removed_at": "run_now.removed_at",
    "seconds": "((run_now.ended_at - run_now.started_at) / 1000000.0)",
}
MISSING = ("parent", "ended_at", "removed_at", "seconds", "group_name")  # in some runs
_NUMBERS = ("started_at", "ended_at", "removed_at", "seconds")


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of SQL with its parameters, in the order of their marks."""

    text: str
    parameters: tuple[Any, ...] = ()


def condition_of(where: Where) -> Sql:
    """The SQL of a condition. Raises Invalid for what no condition can be."""
    if _size(where, 0) > _MOST_TERMS:
        raise Invalid(
            f"A search has at most {_MOST_TERMS} comparisons.",
            hint="Write one with IN (…) for many values.",
        )
    return _condition(where)


def order_of(order: Order) -> Sql:
    """What runs are sorted by, NULL for those that lack it."""
    if order.of == "run":
        return Sql(_field(order.name))
    if order.of == "metric":
        best = "max" if order.descending else "min"
        column = _part(order.part)
        return Sql(
            f"(SELECT {best}({column}) FROM series INDEXED BY series_key "
            "WHERE series.run = run_now.run AND series.name = ?)",
            (_text(order.name),),
        )
    if order.of == "param":
        sql = "SELECT {} FROM param WHERE param.run = run_now.run AND param.name = ?"
    elif order.of == "tag":
        sql = "SELECT {} FROM tag WHERE tag.path = 'run/' || run_now.run AND tag.name = ?"
    else:
        raise Invalid(
            f"Runs can't be sorted by {order.of!r}.",
            hint="Sort by a field of the run, a param, a tag or a metric.",
        )
    return Sql(f"({sql.format('value')})", (_text(order.name),))


def _size(where: Where, depth: int) -> int:
    if depth > _DEEPEST:
        raise Invalid(f"A search is nested in at most {_DEEPEST} levels.")
    if isinstance(where, Both | Either):
        return sum(_size(term, depth + 1) for term in where.terms) + 1
    return _size(where.term, depth + 1) if isinstance(where, Not) else 1


def _condition(where: Where) -> Sql:
    if isinstance(where, Both | Either):
        parts = [_condition(term) for term in where.terms]
        if not parts:
            return Sql("1" if isinstance(where, Both) else "0")
        word = " AND " if isinstance(where, Both) else " OR "
        text = f"({word.join(part.text for part in parts)})"
        return Sql(text, tuple(value for part in parts for value in part.parameters))
    if isinstance(where, Not):
        inner = _condition(where.term)
        return Sql(f"(NOT {inner.text})", inner.parameters)
    return _term(where)


def _term(term: Term) -> Sql:
    if term.op not in _OPERATORS:
        raise Invalid(f"{term.op!r} compares nothing.", hint=did_you_mean(term.op, _OPERATORS))
    if term.of == "run":
        column = _field(term.name)
        if term.op in _NULLS:
            return Sql(f"({column} {term.op})")
        compared = _compared(column, column, term, number=term.name in _NUMBERS)
        # What is never NULL is left as it is: SQLite's planner sees its indexes then.
        text = f"coalesce({compared.text}, 0)" if term.name in MISSING else compared.text
        return Sql(text, compared.parameters)
    inner = runs_with(msgspec.structs.replace(term, op="IS NOT NULL"), here=True)
    if term.op in _NULLS:
        return Sql(
            f"({'NOT ' if term.op == 'IS NULL' else ''}EXISTS ({inner.text}))", inner.parameters
        )
    inner = runs_with(term, here=True)
    negative = term.of in ("model", "input") and term.op in ("!=", "NOT IN")
    return Sql(f"({'NOT ' if negative else ''}EXISTS ({inner.text}))", inner.parameters)


def runs_with(term: Term, *, here: bool = False) -> Sql:
    """The runs that a term fits; `here`: of the row of run_now that is looked at.

    There the unary plus keeps SQLite from going through the index of values, run by run.
    """
    plus = "+" if here else ""
    if term.of == "param":
        compared = _value(term, f"{plus}param.value", f"{plus}param.number")
        own = "param.run = run_now.run AND " if here else ""
        text = f"SELECT param.run AS run FROM param WHERE {own}param.name = ? AND {compared.text}"
        return Sql(text, (_text(term.name), *compared.parameters))
    if term.of == "tag":
        compared = _value(term, f"{plus}tag.value", f"{plus}tag.number")
        own = "tag.path = 'run/' || run_now.run AND " if here else "tag.path LIKE 'run/%' AND "
        text = "SELECT substr(tag.path, 5) AS run FROM tag "
        text += f"WHERE {own}tag.name = ? AND {compared.text}"
        return Sql(text, (_text(term.name), *compared.parameters))
    if term.of == "metric":
        column = f"series.{_part(term.part)}"
        compared = Sql("1") if term.op in _NULLS else _compared(column, column, term, number=True)
        own = "INDEXED BY series_key WHERE series.run = run_now.run AND" if here else "WHERE"
        text = f"SELECT series.run AS run FROM series {own} series.name = ? AND {compared.text}"
        return Sql(text, (_text(term.name), *compared.parameters))
    if term.of in ("model", "input"):
        found = _by_model(term) if term.of == "model" else _by_input(term)
        if not here:
            return found
        return Sql(f"SELECT 1 WHERE run_now.run IN ({found.text})", found.parameters)
    raise Invalid(
        f"Runs aren't searched by {term.of!r}.",
        hint=did_you_mean(term.of, ("run", "param", "tag", "metric", "model", "input")),
    )


def _value(term: Term, text: str, number: str) -> Sql:
    if term.op in _NULLS:
        return Sql("1")
    return _compared(text, number, term, number=False)


def _compared(text: str, number_column: str, term: Term, *, number: bool) -> Sql:
    """A comparison of a column; `number`: it holds numbers, and text fits none of it."""
    op, value = term.op, term.value
    if op in _PATTERNS:
        if number or not isinstance(value, str):
            raise Invalid(f"{term.name!r} can't be compared with {op} {value!r}: it takes text.")
        return like(text, op, value)
    if op in _LISTS:
        if not isinstance(value, list | tuple) or not value:
            raise Invalid(f"{op} takes a list of values, not {value!r}.")
        numbers = [_number(one) for one in value if not isinstance(one, str)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        texts = [_text(one) for one in value if isinstance(one, str)]  # pyright: ignore[reportUnknownVariableType]
        if any(math.isinf(one) for one in numbers):
            raise Invalid(f"{op} takes no infinite numbers.")
        if number and texts:
            raise Invalid(f"{term.name!r} is a number, and {texts[0]!r} is text.")
        word = "NOT IN" if op == "NOT IN" else "IN"
        parts = [
            (
                f"{column} {word} (SELECT value FROM json_each(?))",
                msgspec.json.encode(some).decode(),
            )
            for column, some in ((text, texts), (number_column, numbers))
            if some
        ]
        glue = " AND " if op == "NOT IN" else " OR "
        return Sql(f"({glue.join(part for part, _ in parts)})", tuple(some for _, some in parts))
    if isinstance(value, str):
        if number:
            raise Invalid(f"{term.name!r} is a number, and {value!r} is text.")
        return Sql(f"{text} {op} ?", (_text(value),))
    return Sql(f"{number_column} {op} ?", (_number(value),))


def like(column: str, op: str, pattern: str) -> Sql:
    """A comparison with a pattern: LIKE tells the case of letters, ILIKE does not (of ASCII)."""
    if len(pattern) > _LONGEST_PATTERN or "\0" in pattern:
        raise Invalid(f"A pattern has at most {_LONGEST_PATTERN} characters, and no NUL.")
    sense = "NOT " if op.startswith("NOT ") else ""
    if op.endswith("ILIKE"):
        return Sql(f"{column} {sense}LIKE ?", (_text(pattern),))  # ASCII's case is ignored
    globbed = "".join(_GLOB.get(letter, letter) for letter in pattern)
    return Sql(f"{column} {sense}GLOB ?", (_text(globbed),))


_GLOB = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}


def _by_model(term: Term) -> Sql:
    """Runs that registered a version of a model: 'delays', or 'delays:7'."""
    if term.op in _NULLS:
        return Sql("SELECT run FROM version WHERE run IS NOT NULL")
    parts: list[str] = []
    parameters: list[Any] = []
    for value in _values_of(term):
        model, colon, number = value.rpartition(":")
        if colon and number.isascii() and number.isdecimal() and len(number) < 16:
            parts.append(
                "SELECT run FROM version WHERE model = ? AND number = ? AND run IS NOT NULL"
            )
            parameters += [model, int(number)]
        else:
            parts.append("SELECT run FROM version WHERE model = ? AND run IS NOT NULL")
            parameters.append(value)
    return Sql(" UNION ".join(parts), tuple(parameters))


def _by_input(term: Term) -> Sql:
    """Runs that rest on bytes: what read them, what read what was made of them, and so on."""
    if term.op in _NULLS:
        return Sql(
            "SELECT task.run AS run FROM task JOIN edge "
            "ON edge.target = 'run/' || task.run || '/' || task.step || '/' || task.\"index\" "
            "WHERE edge.role LIKE 'input%' OR edge.role LIKE 'read%'"
        )
    digests = msgspec.json.encode(_values_of(term)).decode()
    return Sql(
        "WITH RECURSIVE rests(path) AS ("
        "SELECT 'file/' || value FROM json_each(?1) UNION SELECT 'artifact/' || value "
        "FROM json_each(?1) UNION SELECT edge.target FROM edge JOIN rests "
        "ON edge.source = rests.path WHERE edge.target LIKE 'run/%' "
        "OR edge.target LIKE 'artifact/%') "
        "SELECT substr(path, 5, instr(substr(path, 5) || '/', '/') - 1) AS run FROM rests "
        "WHERE path LIKE 'run/%'".replace("?1", "?"),
        (digests, digests),
    )


def _values_of(term: Term) -> list[str]:
    values: list[Any] = list(term.value) if isinstance(term.value, list | tuple) else [term.value]
    if term.op not in ("=", "!=", "IN", "NOT IN") or not all(
        isinstance(one, str) for one in values
    ):
        raise Invalid(
            f"{term.of} is compared with = or IN to text, not with {term.op} {term.value!r}."
        )
    if not values:
        raise Invalid(f"{term.op} takes a list of values.")
    return [_text(one) for one in values]


def _field(name: str) -> str:
    column = FIELDS.get(name)
    if column is None:
        raise Invalid(f"A run has no {name!r} to be searched by.", hint=did_you_mean(name, FIELDS))
    return column


def _part(part: str) -> str:
    column = COLUMNS_OF_PARTS.get(part)
    if column is None:
        raise Invalid(f"A metric has no {part!r}.", hint=did_you_mean(part, COLUMNS_OF_PARTS))
    return column


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{value!r} is not text.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{value!r} is no text: it has half a character.") from None
    return value


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid(f"{value!r} is neither a number nor text.")
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            return math.inf if value > 0 else -math.inf
        return value
    if math.isnan(value):
        raise Invalid("NaN equals nothing, so nothing can be compared with it.")
    return value
