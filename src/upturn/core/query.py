"""Query: the search language, from text to a Where and to Orders.

    metric.auc > 0.9 AND (param.depth IN (3, 6) OR NOT tag.team = 'b') AND started_at > '7d'

A name with spaces stands in backticks or double quotes, a text in single or double quotes; a quote
within is doubled. Words of the language may be written small. `metric.auc` is its last value,
`metric.auc.min` and `.max` are its least and its greatest. `model:delays`, `model:delays:7` and
`input:DIGEST` find runs by what they registered and what they rest on.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, NoReturn, get_args

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.records import RunStatus
from upturn.core.time import duration, instant, micros
from upturn.core.tracking import Both, Either, Not, Order, Term, Where

_LONGEST = 20_000
_DEEPEST = 40
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<lineage>(?:model|input):[^\s()'"`,]+)
    | (?P<name>(?:(?:metric|param|tag)s?|run)\.(?:`(?:[^`]|``)+`|"(?:[^"]|"")+"|[^\s()=!<>,'"`]+)
        (?:(?<=[`"])\.\w+)?)
    | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    | (?P<word>`[^`]+`|\w+)
    | (?P<sign>!=|<>|<=|>=|==|[=<>(),])
    )""",
    re.VERBOSE,
)
_TIMES = ("started_at", "ended_at", "removed_at")
_FIELDS = (
    *("id", "name", "flow", "group", "project", "who", "source", "status", "parent"),
    *_TIMES,
    "seconds",
    "model",
    "input",
)
_KINDS = ("metric", "param", "tag")
_PARTS = ("last", "min", "max")
_SIGNS = {"==": "=", "<>": "!="}


def parse_where(text: str, *, now: datetime) -> Where | None:
    """The condition that the text means; None when it is empty. `now` is what '7d' is counted from.

    Raises Invalid, with the place and what would fit there, for any other text.

    >>> from upturn.core.time import instant
    >>> parse_where("metric.auc.max >= 0.9", now=instant("2026-11-01"))
    Term(of='metric', name='auc', op='>=', value=0.9, part='max')
    """
    if not text.strip():
        return None
    return _Parser(text, now).whole()


def parse_order(text: str) -> tuple[Order, ...]:
    """What the text sorts by.

    >>> parse_order("metric.auc desc")
    (Order(of='metric', name='auc', part='last', descending=True),)
    """
    return _Parser(text, None).orders() if text.strip() else ()


class _Token(NamedTuple):
    kind: str  # 'end' after the last
    text: str
    at: int


class _Operand(NamedTuple):
    of: str
    name: str
    part: str = "last"


class _Parser:
    def __init__(self, text: str, now: datetime | None) -> None:
        if len(text) > _LONGEST:
            raise Invalid(f"A search has at most {_LONGEST} characters, not {len(text)}.")
        self._text = text
        self._now = now
        self._tokens = self._split()
        self._next = 0
        self._depth = 0

    def whole(self) -> Where:
        found = self._either()
        if self._here.kind != "end":
            self._wrong("there is more than a condition", "Join conditions with AND or OR.")
        return found

    def orders(self) -> tuple[Order, ...]:
        found: list[Order] = []
        while True:
            operand = self._operand()
            if operand.of in ("model", "input"):
                self._wrong("runs can't be sorted by that", "")
            falling = self._takes("DESC")
            if not falling:
                self._takes("ASC")
            name = "group_name" if operand == ("run", "group", "last") else operand.name
            found.append(Order(of=operand.of, name=name, part=operand.part, descending=falling))
            if self._here.kind == "end":
                return tuple(found)
            self._expect(",", "Write: metric.auc DESC, started_at")

    # Conditions

    def _either(self) -> Where:
        terms = [self._both()]
        while self._takes("OR"):
            terms.append(self._both())
        return terms[0] if len(terms) == 1 else Either(tuple(terms))

    def _both(self) -> Where:
        terms = [self._one()]
        while self._takes("AND"):
            terms.append(self._one())
        return terms[0] if len(terms) == 1 else Both(tuple(terms))

    def _one(self) -> Where:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._wrong(f"it is nested in more than {_DEEPEST} levels", "")
        try:
            if self._takes("NOT"):
                return Not(self._one())
            if self._takes("("):
                inner = self._either()
                self._expect(")", "Close the parenthesis.")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Where:
        if self._here.kind == "lineage":
            of, _, name = self._take().text.partition(":")
            return Term(of=of, name="", op="=", value=name)
        operand = self._operand()
        if self._takes("IS"):
            op = "IS NOT NULL" if self._takes("NOT") else "IS NULL"
            if not self._takes("NULL"):
                self._wrong("NULL is missing", "Write IS NULL or IS NOT NULL.")
            return Term(of=operand.of, name=operand.name, part=operand.part, op=op)
        sense = "NOT " if self._takes("NOT") else ""
        for word in ("LIKE", "ILIKE"):
            if self._takes(word):
                return self._term(operand, f"{sense}{word}", self._value)
        if self._takes("IN"):
            return self._term(operand, f"{sense}IN", self._list)
        here = self._here
        if sense or here.kind != "sign" or here.text in ("(", ")", ","):
            self._wrong("a comparison is missing", "Write one of = != < <= > >= LIKE ILIKE IN IS.")
        self._next += 1
        return self._term(operand, _SIGNS.get(here.text, here.text), self._value)

    def _term(self, operand: _Operand, op: str, read: Callable[[], Any]) -> Where:
        at = self._next
        value = read()
        try:
            return self._made(operand, op, value)
        except Invalid as error:
            self._next = at
            self._wrong(error.message.rstrip("."), error.hint)

    def _made(self, operand: _Operand, op: str, value: Any) -> Where:
        of, name = operand.of, operand.name
        if of == "metric":
            _each(value, _number, f"A metric is compared with a number: metric.{name} > 0.9.")
            if op.endswith("LIKE"):
                raise Invalid("A metric is a number, and has no pattern.")
        elif of == "run" and name in _TIMES:
            value = _each(value, self._instant, "A time is text: '2026-11-01', or '7d' ago.")
        elif of == "run" and name == "seconds":
            value = _each(value, _seconds, "Write a number of seconds, or '10m'.")
        elif of != "param" and of != "tag":
            _each(value, _text, f"{name or of} is text: put it in quotes.")
        if of == "run" and name == "status" and not op.endswith("LIKE"):
            for one in value if isinstance(value, list) else [value]:
                if one not in get_args(RunStatus):
                    raise Invalid(
                        f"No run is {one!r}.", hint=did_you_mean(one, get_args(RunStatus))
                    )
        if of in ("model", "input") and op not in ("=", "!=", "IN", "NOT IN"):
            raise Invalid(f"{of} is compared with =, != and IN.")
        if of == "run" and name == "group":
            by_name = Term(of=of, name="group_name", op=op, value=value)
            by_id = Term(of=of, name="group", op=op, value=value)
            both = op == "!=" or op.startswith("NOT")
            return Both((by_name, by_id)) if both else Either((by_name, by_id))
        return Term(of=of, name=name, part=operand.part, op=op, value=value)

    def _instant(self, value: Any) -> int:
        text = _text(value)
        now = self._now
        try:
            ago = duration(text)
        except Invalid:
            return micros(instant(text))
        try:
            return 0 if now is None else micros(now - ago)
        except OverflowError:
            raise Invalid(f"{text!r} is longer ago than time goes back.") from None

    # Parts

    def _operand(self) -> _Operand:
        here = self._here
        if here.kind == "name":
            self._next += 1
            kind, _, rest = here.text.partition(".")
            of = kind.removesuffix("s") if kind != "run" else kind
            if of == "run":
                return self._field(_bare(rest))
            name, part = _name_and_part(rest)
            if part not in _PARTS or (part != "last" and of != "metric"):
                self._next -= 1
                self._wrong(f"{part!r} is no part of a {of}", did_you_mean(part, _PARTS))
            return _Operand(of, name, part)
        if here.kind != "word":
            hint = "Write metric.NAME, param.NAME, tag.NAME, or a field of the run: status, flow, …"
            self._wrong("the name of something is missing", hint)
        self._next += 1
        return self._field(_bare(here.text))

    def _field(self, name: str) -> _Operand:
        if name not in _FIELDS:
            self._next -= 1
            hint = did_you_mean(name, (*_FIELDS, *_KINDS))
            self._wrong(f"a run has no {name!r}", f"{hint} Others are param.NAME, tag.NAME.")
        return _Operand(name, "") if name in ("model", "input") else _Operand("run", name)

    def _value(self) -> Any:
        here = self._here
        if here.kind == "text":
            self._next += 1
            return _bare(here.text)
        if here.kind == "word":
            self._wrong("text stands in quotes", f"Write '{here.text.strip('`')}'.")
        if here.kind != "number":
            self._wrong("a value is missing", "Write a number, or text in quotes.")
        self._next += 1
        whole = re.fullmatch(r"[-+]?\d{1,15}", here.text)
        return int(here.text) if whole else float(here.text)

    def _list(self) -> list[Any]:
        self._expect("(", "Write a list: IN ('a', 'b').")
        values = [self._value()]
        while self._takes(","):
            values.append(self._value())
        self._expect(")", "Close the list.")
        return values

    # Tokens

    def _split(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        end = len(self._text.rstrip())
        while at < end:
            found = _TOKEN.match(self._text, at)
            if found is None or found.lastgroup is None:
                at += len(self._text[at:]) - len(self._text[at:].lstrip())
                quote = self._text[at] in "'\"`"
                why = "a quote is not closed" if quote else "this character means nothing"
                _refuse(self._text, at, why, "Text stands in quotes, and a quote in it is doubled.")
            kind = found.lastgroup
            tokens.append(_Token(kind, found[kind], found.start(kind)))
            at = found.end()
        tokens.append(_Token("end", "", end))
        return tokens

    @property
    def _here(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        self._next += 1
        return self._tokens[self._next - 1]

    def _takes(self, word: str) -> bool:
        here = self._here
        if here.kind in ("word", "sign") and here.text.upper() == word:
            self._next += 1
            return True
        return False

    def _expect(self, sign: str, hint: str) -> None:
        if not self._takes(sign):
            self._wrong(f"{sign!r} is missing", hint)

    def _wrong(self, why: str, hint: str) -> NoReturn:
        _refuse(self._text, self._here.at, why, hint)


def _refuse(text: str, at: int, why: str, hint: str) -> NoReturn:
    there = text[at : at + 20]
    place = f"at {there!r}" if there else "at its end"
    raise Invalid(f"The search isn't understood {place}: {why}.", hint=hint.strip(), at=at)


def _name_and_part(rest: str) -> tuple[str, str]:
    if rest[0] in '`"':
        end = rest.rindex(rest[0])
        return _bare(rest[: end + 1]), rest[end + 2 :] or "last"
    name, dot, part = rest.rpartition(".")
    return (name, part) if dot and name and part in _PARTS else (rest, "last")


def _bare(text: str) -> str:
    """The text in quotes, or the word as it is."""
    quote = text[0]
    return text[1:-1].replace(quote * 2, quote) if quote in "`'\"" else text


def _each(value: Any, read: Callable[[Any], Any], hint: str) -> Any:
    try:
        return [read(one) for one in value] if isinstance(value, list) else read(value)  # pyright: ignore[reportUnknownVariableType]
    except Invalid as error:
        raise Invalid(error.message, hint=error.hint or hint) from None


def _number(value: Any) -> Any:
    if isinstance(value, str):
        raise Invalid(f"{value!r} is text")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{value!r} is a number")
    return value


def _seconds(value: Any) -> float:
    try:
        return duration(value).total_seconds()
    except OverflowError:
        raise Invalid(f"{value!r} is longer than any time") from None
