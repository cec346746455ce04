"""The language of MLflow's filters: comparisons joined by AND, and its words for what is wrong."""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from upturn.adapters.mlflow.errors import MlflowError

NUMBER_OPS = frozenset({">", ">=", "!=", "=", "<", "<="})
NULL_OPS = frozenset({"IS NULL", "IS NOT NULL"})
TEXT_OPS = frozenset({"!=", "=", "LIKE", "ILIKE"})
LIST_OPS = TEXT_OPS | {"IN", "NOT IN"}
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<text>'(?:''|\\'|[^'])*')
    |(?P<number>-?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?(?![\w.`"]))
    |(?P<name>(?:[^\W\d]\w*|`[^`]*`|"[^"]*")(?:\.(?:\w+|`[^`]*`|"[^"]*"|'[^']*'))*)
    |(?P<op>[<>=!~]+)
    |(?P<list>\((?:'(?:''|[^'])*'|"[^"]*"|[^'"()])*\))
    |(?P<end>;)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_WORDS = {"AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "ILIKE", "RLIKE", "BETWEEN"}
_VALUES = ("text", "number", "list", "name")


@dataclass(frozen=True, slots=True)
class Clause:
    """One comparison: `metric.auc > 0.9`."""

    kind: str  # 'metric', 'parameter', 'tag', 'attribute', 'dataset'
    key: str
    op: str  # in capitals
    value: Any = None  # a number, a text, or a tuple of texts


@dataclass(frozen=True, slots=True)
class Grammar:
    """What can be compared with what, where something is searched for."""

    kinds: Mapping[str, str]  # as they may be written: 'metrics' is a 'metric'
    said: tuple[str, ...]  # the kinds, as messages name them
    attributes: tuple[str, ...]
    numeric: frozenset[str] = frozenset()  # those of the attributes
    listed: frozenset[str] = frozenset()  # those that may be compared with a list
    nullable: tuple[str, ...] = ("tag",)  # kinds that may be absent
    dataset: tuple[str, ...] = ()  # the keys of 'dataset'
    ordered: tuple[str, ...] = ()  # attributes that one may order by
    ops: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by kind
    quoting: bool = True  # whether messages put what is wrong in quotes
    registry: bool = False  # whether messages are those of MLflow's registry


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a filter."""

    kind: str
    text: str

    @property
    def word(self) -> str:
        """The keyword that it is, or nothing."""
        upper = self.text.upper()
        return upper if self.kind == "name" and upper in _WORDS else ""


def parse_filter(text: str, grammar: Grammar) -> tuple[Clause, ...]:
    """The comparisons of a filter, all of which have to hold. Raises MlflowError."""
    tokens = _tokens(text)
    if text and not tokens:
        raise MlflowError(f"Invalid filter {text!r}. Could not be parsed.")
    while tokens and tokens[-1].kind == "end":
        tokens.pop()
    if not tokens:
        return ()
    if any(token.kind == "end" for token in tokens):
        raise MlflowError(
            f"Search filter contained multiple expression {text!r}. Provide AND-ed expression list."
        )
    invalid: list[str] = []
    parsed: list[list[Token]] = []
    for joint, part in _parts(tokens):
        comparison, rest = _comparison(part)
        if comparison:
            parsed.append(comparison)
        invalid += [token.text for token in (*joint, *rest)]
    if invalid:
        said = ", ".join(f"'{token}'" if grammar.quoting else token for token in invalid)
        raise MlflowError(f"Invalid clause(s) in filter string: {said}")
    return tuple([_clause(comparison, grammar) for comparison in parsed])


def parse_order(text: str, grammar: Grammar) -> tuple[str, str, bool]:
    """What an ordering is by, as kind and key, and whether it ascends. Raises MlflowError."""
    tokens = [token for token in _tokens(text) if token.kind != "space"]
    if not tokens or tokens[0].kind != "name" or any(one.kind != "name" for one in tokens):
        raise MlflowError(f"Invalid order_by clause '{text}'. Could not be parsed.")
    if len(tokens) > 2:
        raise MlflowError(f"Invalid order_by clause '{text}'. Could not be parsed.")
    ascending = True
    if len(tokens) == 2:
        direction = tokens[1].text.lower()
        if direction not in ("asc", "desc"):
            raise MlflowError(f"Invalid ordering key in order_by clause '{text}'.")
        ascending = direction == "asc"
    kind, key = _identified(tokens[0].text, grammar, grammar.ordered or grammar.attributes)
    return kind, key, ascending


def like(pattern: str, *, fold: bool = False) -> re.Pattern[str]:
    """The pattern of a LIKE, or of an ILIKE, for fullmatch."""
    expression = "".join(
        ".*" if part == "%" else "." if part == "_" else re.escape(part) for part in pattern
    )
    return re.compile(expression, re.DOTALL | (re.IGNORECASE if fold else 0))


def holds(op: str, left: Any, right: Any) -> bool:
    """Whether a comparison holds between a value that is there and what it is compared with."""
    if op in _LIKES:
        return like(right, fold=op == "ILIKE").fullmatch(left) is not None
    return _COMPARED[op](left, right)


_LIKES = ("LIKE", "ILIKE")
_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "IN": lambda left, right: left in right,
    "NOT IN": lambda left, right: left not in right,
}


def _tokens(text: str) -> list[Token]:
    return [
        Token(found.lastgroup or "other", found[0])
        for found in _TOKEN.finditer(text)
        if found.lastgroup != "space"
    ]


def _parts(tokens: list[Token]) -> list[tuple[list[Token], list[Token]]]:
    """The tokens between ANDs, each with what joins or turns them that MLflow does not know."""
    parts: list[tuple[list[Token], list[Token]]] = [([], [])]
    for token in tokens:
        if token.word == "AND":
            parts.append(([], []))
        elif token.word == "OR" or (token.word == "NOT" and not parts[-1][1]):
            parts.append(([token], []))
        else:
            parts[-1][1].append(token)
    return [part for part in parts if part != ([], [])] if len(parts) > 1 else parts


def _comparison(part: list[Token]) -> tuple[list[Token], list[Token]]:
    """The tokens of a comparison, its operator made one, and what else there is."""
    words = [token.word for token in part]
    if words[1:] == ["IS", "NULL"] and not words[0]:
        return [part[0], Token("op", "IS NULL")], []
    if words[1:] == ["IS", "NOT", "NULL"] and not words[0]:
        return [part[0], Token("op", "IS NOT NULL")], []
    if len(part) == 4 and words[1:3] == ["NOT", "IN"] and part[3].kind == "list":
        return [part[0], Token("op", "NOT IN"), part[3]], []
    if len(part) >= 3 and not words[0]:
        operator = part[1].kind == "op" or words[1] in ("IN", "LIKE", "ILIKE", "RLIKE")
        if operator and part[2].kind in _VALUES and not words[2]:
            return part[:3], part[3:]
    return [], part


def _clause(comparison: list[Token], grammar: Grammar) -> Clause:
    name, op = comparison[0], comparison[1].text.upper()
    if name.kind != "name":
        raise MlflowError(f"Invalid comparison clause. Expected 'Identifier' found '{name.text}'")
    kind, key = _identified(name.text, grammar, grammar.attributes)
    if op in NULL_OPS:
        if kind not in grammar.nullable:
            allowed = "tags and params" if len(grammar.nullable) > 1 else "tags"
            raise MlflowError(
                f"IS NULL / IS NOT NULL is only supported for {allowed}, not for '{kind}' '{key}'"
            )
        return Clause(kind, key, op)
    value = _value(kind, key, comparison[2], grammar)
    numeric = kind == "attribute" and key in grammar.numeric
    if numeric and grammar.registry and isinstance(value, float):
        raise MlflowError(f"Invalid value for numeric attribute '{key}': {value!r}")
    ops = grammar.ops.get("number" if numeric else kind, LIST_OPS)
    if op not in ops or isinstance(value, tuple) != (op in ("IN", "NOT IN")):
        if grammar.registry:
            of = f"attribute {key}" if numeric else kind
            raise MlflowError(f"Invalid comparator for {of}: {op}")
        known = ", ".join(repr(one) for one in sorted(ops))
        raise MlflowError(f"Invalid comparator '{op}' not one of '{{{known}}}'")
    return Clause(kind, key, op, value)


def _identified(text: str, grammar: Grammar, attributes: tuple[str, ...]) -> tuple[str, str]:
    """Kind and key of a name such as `params."learning rate"`."""
    if text[0] in '`"' and not re.match(r"[`\"][^`\"]*[`\"]\.", text):
        kind, key = "attribute", _bare(text)
    elif "." in text:
        written, _, key = text.partition(".")
        kind = grammar.kinds.get(written.strip("`"), "")
        if not kind and grammar.registry:
            raise MlflowError(
                f"Invalid entity type '{written.strip('`')}'. Valid entity types are {grammar.said}"
            )
        if not kind:
            raise MlflowError(
                f"Invalid entity type '{written.strip('`')}'. Valid values are {list(grammar.said)}"
            )
        key = _bare(key)
    else:
        kind, key = "attribute", text
    if kind == "attribute" and key not in attributes:
        known = f"{{{', '.join(map(repr, attributes))}}}" if grammar.registry else list(attributes)
        raise MlflowError(f"Invalid attribute key '{key}' specified. Valid keys are '{known}'")
    if kind == "dataset" and key not in grammar.dataset:
        raise MlflowError(
            f"Invalid dataset key '{key}' specified. Valid keys are '{list(grammar.dataset)}'"
        )
    return kind, key


def _value(kind: str, key: str, token: Token, grammar: Grammar) -> Any:
    if kind == "metric":
        if token.kind != "number":
            raise MlflowError(f"Expected numeric value type for metric. Found {token.text}")
        return float(token.text)
    if kind == "attribute" and key in grammar.numeric:
        if grammar.registry and token.kind == "text" and token.text[1:-1].isdecimal():
            return int(token.text[1:-1])
        if grammar.registry and token.kind == "list":
            raise _no_list(grammar)
        if token.kind != "number":
            raise MlflowError(
                f"Expected numeric value type for numeric attribute: {key}. Found {token.text}"
            )
        return float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
    if token.kind in ("text", "name"):
        return _unquoted(token.text)
    if token.kind == "list" and kind in ("attribute", "dataset"):
        if kind == "attribute" and key not in grammar.listed:
            raise _no_list(grammar)
        return _list(token.text)
    if kind == "attribute" and grammar.registry:
        raise MlflowError(
            "Expected a quoted string value or a list of quoted string values for attributes. Got "
            f"value {token.text}"
        )
    said = {"attribute": "attributes", "dataset": "dataset attributes"}.get(kind)
    if said is not None:
        raise MlflowError(f"Expected a quoted string value for {said}. Got value {token.text}")
    raise MlflowError(
        f"Expected a quoted string value for {kind} (e.g. 'my-value'). Got value {token.text}"
    )


def _no_list(grammar: Grammar) -> MlflowError:
    return MlflowError(
        f"Only {sorted(grammar.listed)} attributes support comparison with a list of quoted string "
        "values."
    )


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    raise MlflowError(
        "Parameter value is either not quoted or unidentified quote types used for string value "
        f"{text}. Use either single or double quotes."
    )


def _bare(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "`\"'":
        return text[1:-1]
    return text


def _list(text: str) -> tuple[str, ...]:
    start = "While parsing a list in the query, expected "
    try:
        parsed = ast.literal_eval(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise MlflowError(
            f"{start}a non-empty list of string values, but got ill-formed list."
        ) from None
    values = parsed if isinstance(parsed, tuple) else (parsed,)
    if not values:
        raise MlflowError(f"{start}a non-empty list of string values, but got empty list")
    if not all(isinstance(value, str) for value in values):
        raise MlflowError(
            f"{start}string value, punctuation, or whitespace, but got different type in list: "
            f"{values}"
        )
    return values
