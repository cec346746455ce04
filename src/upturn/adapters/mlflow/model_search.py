"""Searches of registered models and versions, in MLflow's language."""

import base64
import hashlib
from collections.abc import Sequence

import msgspec

from upturn.adapters.mlflow.call import Call
from upturn.adapters.mlflow.errors import MlflowError
from upturn.adapters.mlflow.grammar import (
    LIST_OPS,
    NUMBER_OPS,
    TEXT_OPS,
    Clause,
    Grammar,
    parse_filter,
    parse_order,
)
from upturn.adapters.mlflow.model_nouns import (
    PROMPT,
    Seen,
    SeenVersion,
    aliases_by_model,
    seen_models,
    seen_versions,
)
from upturn.core.catalog import CatalogSearch, Compare, Key

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
    search = _search(call, clauses, _orders(order, MODELS), most)
    found = call.workspace.tracking.find_models(_from_page(search, page))
    return seen_models(call, found.rows), _token(search, found.after)


def find_versions(
    call: Call, text: str, order: Sequence[str], most: int, page: str
) -> tuple[list[Pair], str]:
    """A page of the versions that fit, with their models' aliases, and the next page's token."""
    clauses = parse_filter(text, VERSIONS)
    orders = _orders(order, VERSIONS) or [("last_updated_timestamp", False)]
    search = _search(call, clauses, orders, most)
    found = call.workspace.tracking.find_versions(_from_page(search, page))
    aliases = aliases_by_model(call, sorted({row.model for row in found.rows}))
    pairs = [(one, aliases[one.version.model]) for one in seen_versions(call, found.rows)]
    return pairs, _token(search, found.after)


_NAMES = {"version_number": "number", "run_id": "run", "source_path": "source"}
_KEYS = {
    "name": "name",
    "version_number": "number",
    "creation_timestamp": "created",
    "last_updated_timestamp": "updated",
}
_IS_PROMPT = (PROMPT, "true")


def _search(
    call: Call, clauses: Sequence[Clause], orders: Sequence[tuple[str, bool]], most: int
) -> CatalogSearch:
    """The search in our words. Prompts are left out unless they are asked for."""
    prompts = next((one for one in clauses if one.kind == "tag" and one.key == PROMPT), None)
    asked = prompts is not None and _asks_for_prompts(prompts)
    where = [
        Compare(
            "tag" if one.kind == "tag" else "attribute",
            one.key if one.kind == "tag" else _NAMES.get(one.key, one.key),
            one.op,
            one.value,
        )
        for one in clauses
        if one.kind != "tag" or one.key != PROMPT
    ]
    projects = call.projects
    if projects is not None and call.workspace.settings.project in projects:
        projects = ("", *projects)  # models from before they were of a project
    return CatalogSearch(
        where=tuple(where),
        with_tag=_IS_PROMPT if asked else None,
        without_tag=None if asked else _IS_PROMPT,
        projects=projects,
        order=tuple(Key(_KEYS[name], not ascending) for name, ascending in orders),
        limit=most,
    )


# Tokens say behind what a page begins: what comes meanwhile moves nothing.


def _token(search: CatalogSearch, after: tuple[str | int, ...]) -> str:
    if not after:
        return ""
    return base64.b64encode(msgspec.json.encode([_digest(search), *after])).decode()


def _from_page(search: CatalogSearch, token: str) -> CatalogSearch:
    if not token:
        return search
    try:
        decoded = base64.b64decode(token, validate=True)
    except ValueError:
        raise MlflowError("Invalid page token, could not base64-decode") from None
    try:
        digest, *after = msgspec.json.decode(decoded, type=list[str | int])
    except (ValueError, msgspec.DecodeError):
        raise MlflowError(f"Invalid page token, decoded value={decoded[:200]!r}") from None
    if digest != _digest(search):
        raise MlflowError("Invalid page token: it is of another search.")
    return msgspec.structs.replace(search, after=tuple(after))


def _digest(search: CatalogSearch) -> str:
    """What tells searches apart, whatever the size of their pages."""
    whole = msgspec.msgpack.encode(msgspec.structs.replace(search, limit=0))
    return hashlib.sha256(whole).hexdigest()[:12]


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
