"""Searches of registered models and versions, in MLflow's language."""

from collections.abc import Callable, Sequence
from typing import Any

from upturn.adapters.mlflow.call import Call
from upturn.adapters.mlflow.errors import MlflowError
from upturn.adapters.mlflow.grammar import (
    LIST_OPS,
    NUMBER_OPS,
    TEXT_OPS,
    Clause,
    Grammar,
    holds,
    parse_filter,
    parse_order,
)
from upturn.adapters.mlflow.model_nouns import PROMPT, Seen, SeenVersion, seen_models
from upturn.adapters.mlflow.pages import offset_of, token_of
from upturn.model.catalog import find_model
from upturn.model.finding import list_models

_KINDS = {"attribute": "attribute", "tag": "tag", "tags": "tag"}
_SAID = ("attribute", "tag", "tags")
MODELS = Grammar(
    kinds=_KINDS,
    said=_SAID,
    attributes=("name",),
    listed=frozenset({"name"}),
    nullable=(),
    ordered=("name", "timestamp", "last_updated_timestamp"),
    quoting=False,
    registry=True,
    ops={"attribute": LIST_OPS, "tag": TEXT_OPS},
)
VERSIONS = Grammar(
    kinds=_KINDS,
    said=_SAID,
    attributes=("name", "version_number", "run_id", "source_path"),
    numeric=frozenset({"version_number"}),
    listed=frozenset({"name", "run_id"}),
    nullable=(),
    ordered=("name", "version_number", "creation_timestamp", "last_updated_timestamp"),
    quoting=False,
    registry=True,
    ops={"number": NUMBER_OPS, "attribute": LIST_OPS, "tag": TEXT_OPS},
)
Pair = tuple[SeenVersion, dict[str, int]]


def find_models(
    call: Call, text: str, order: Sequence[str], most: int, page: str
) -> tuple[list[Seen], str]:
    """A page of the registered models that fit, and the token of the next one."""
    clauses = parse_filter(text, MODELS)
    orders = _orders(order, MODELS)
    start = offset_of(page)
    names = list_models(call.workspace)
    models = [find_model(call.workspace, name) for name in _named(names, clauses)]
    shown = [model for model in models if model is not None and call.sees(model.project)]
    fitting = [
        seen
        for seen in seen_models(call, shown)
        if _fits(clauses, {"name": seen.model.name}, seen.tags)
    ]
    for key, ascending in reversed([*orders, ("name", True)]):
        fitting.sort(key=_MODEL_KEYS[key], reverse=not ascending)
    return _page(fitting, start, most)


def find_versions(
    call: Call, text: str, order: Sequence[str], most: int, page: str
) -> tuple[list[Pair], str]:
    """A page of the versions that fit, with their models' aliases, and the next page's token."""
    clauses = parse_filter(text, VERSIONS)
    orders = _orders(order, VERSIONS) or [
        ("last_updated_timestamp", False),
        ("name", True),
        ("version_number", False),
    ]
    start = offset_of(page)
    names = list_models(call.workspace)
    models = [find_model(call.workspace, name) for name in _named(names, clauses)]
    shown = [model for model in models if model is not None and call.sees(model.project)]
    fitting: list[Pair] = []
    for seen in seen_models(call, shown):
        prompt = {key: value for key, value in seen.tags.items() if key == PROMPT}
        for one in seen.versions:
            facts = {
                "name": one.version.model,
                "version_number": one.version.number,
                "run_id": one.version.run or "",
                "source_path": one.version.source,
            }
            if _fits(clauses, facts, prompt | one.tags):
                fitting.append((one, seen.aliases))
    for key, ascending in reversed([*orders, ("name", True), ("version_number", False)]):
        fitting.sort(key=_VERSION_KEYS[key], reverse=not ascending)
    return _page(fitting, start, most)


_MODEL_KEYS: dict[str, Callable[[Seen], Any]] = {
    "name": lambda seen: seen.model.name,
    "timestamp": lambda seen: seen.updated_at,
    "last_updated_timestamp": lambda seen: seen.updated_at,
}
_VERSION_KEYS: dict[str, Callable[[Pair], Any]] = {
    "name": lambda pair: pair[0].version.model,
    "version_number": lambda pair: pair[0].version.number,
    "creation_timestamp": lambda pair: pair[0].version.at,
    "last_updated_timestamp": lambda pair: pair[0].updated_at,
}


def _named(names: list[str], clauses: Sequence[Clause]) -> list[str]:
    """Those that the filter's own words on names leave: others need not be read."""
    about = [one for one in clauses if one.kind == "attribute" and one.key == "name"]
    return [name for name in names if all(holds(one.op, name, one.value) for one in about)]


def _fits(clauses: Sequence[Clause], facts: dict[str, Any], tags: dict[str, str]) -> bool:
    asked = any(one.key == PROMPT and _asks_for_prompts(one) for one in clauses)
    if not asked and tags.get(PROMPT, "").lower() == "true":
        return False
    for one in clauses:
        if one.kind == "tag":
            if one.key == PROMPT and not asked:
                continue
            if one.key not in tags or not holds(one.op, tags[one.key], one.value):
                return False
        elif not holds(one.op, facts[one.key], one.value):
            return False
    return True


def _asks_for_prompts(clause: Clause) -> bool:
    value = str(clause.value).lower()
    return (clause.op == "=" and value == "true") or (clause.op == "!=" and value == "false")


def _orders(order: Sequence[str], grammar: Grammar) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    for text in order:
        words = text.split()
        if grammar is MODELS and words and words[0].rstrip(",") not in grammar.ordered:
            raise MlflowError(
                f"Invalid order by key '{words[0]}' specified. Valid keys are "
                "'{'name', 'timestamp'}'"
            )
        kind, key, ascending = parse_order(text, grammar)
        if kind != "attribute":
            known = ", ".join(map(repr, grammar.ordered))
            raise MlflowError(f"Invalid order by key '{key}' specified. Valid keys are {{{known}}}")
        same = "last_updated_timestamp" if key == "timestamp" else key
        if any(same == known for known, _ in found):
            raise MlflowError(f"`order_by` contains duplicate fields: {list(order)}")
        found.append((same, ascending))
    return found


def _page(found: list[Any], start: int, most: int) -> tuple[list[Any], str]:
    end = start + most
    return found[start:end], token_of(end) if len(found) > end else ""
