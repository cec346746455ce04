"""MLflow's search for runs, put as a search of our store."""

from collections.abc import Callable, Iterable
from typing import Any

from upturn.adapters.mlflow.errors import MlflowError
from upturn.adapters.mlflow.grammar import (
    LIST_OPS,
    NULL_OPS,
    NUMBER_OPS,
    TEXT_OPS,
    Clause,
    Grammar,
    holds,
    parse_filter,
    parse_order,
)
from upturn.core.tracking import Both, Order, RunRow, Term, Where

_ATTRIBUTES = ("artifact_uri", "end_time", "run_id", "run_name", "start_time", "status", "user_id")
_ALIASES = {
    "created": "start_time",
    "Created": "start_time",
    "run name": "run_name",
    "Run name": "run_name",
    "Run Name": "run_name",
}
RUNS = Grammar(
    kinds={
        "metric": "metric",
        "metrics": "metric",
        "parameter": "parameter",
        "parameters": "parameter",
        "param": "parameter",
        "params": "parameter",
        "tag": "tag",
        "tags": "tag",
        "attribute": "attribute",
        "attributes": "attribute",
        "attr": "attribute",
        "run": "attribute",
        "dataset": "dataset",
        "datasets": "dataset",
    },
    said=("metric", "parameter", "tag", "attribute", "dataset"),
    attributes=(*_ATTRIBUTES, *_ALIASES),
    ordered=(*_ATTRIBUTES, "created", "Created"),
    numeric=frozenset({"start_time", "end_time", "created", "Created"}),
    listed=frozenset({"run_id"}),
    nullable=("tag", "parameter"),
    dataset=("name", "digest", "context"),
    ops={
        "metric": NUMBER_OPS,
        "number": NUMBER_OPS,
        "parameter": TEXT_OPS | NULL_OPS,
        "tag": TEXT_OPS | NULL_OPS,
        "attribute": LIST_OPS,
        "dataset": LIST_OPS,
    },
)
STATUSES = {
    "queued": "SCHEDULED",
    "running": "RUNNING",
    "done": "FINISHED",
    "failed": "FAILED",
    "cancelled": "KILLED",
    "skipped": "KILLED",
}
_FIELDS = {
    "run_id": "id",
    "run_name": "name",
    "user_id": "who",
    "status": "status",
    "start_time": "started_at",
    "end_time": "ended_at",
    "artifact_uri": "id",
}
_KINDS = {"metric": "metric", "parameter": "param", "tag": "tag"}

_NOTHING = Term(of="run", name="id", op="=", value="")  # no run fits it
RunsOfDatasets = Callable[[tuple[Clause, ...]], Iterable[str]]
Uri = Callable[[RunRow], str]


def searched(
    text: str, *, runs_of: RunsOfDatasets, uri: Uri
) -> tuple[Where | None, Callable[[RunRow], bool] | None]:
    """What the store is to look for, and what else a row has to fit, if anything.

    `runs_of` finds the runs whose datasets fit the clauses about those, and `uri` says where a
    run's artifacts are. Raises MlflowError for what is no filter.
    """
    clauses = parse_filter(text, RUNS)
    terms: list[Where] = [_term(one) for one in clauses if not _is_ours(one)]
    datasets = tuple(one for one in clauses if one.kind == "dataset")
    if datasets:
        terms.append(_one_of("id", runs_of(datasets)))
    uris = [one for one in clauses if one.kind == "attribute" and one.key == "artifact_uri"]
    where = None if not terms else terms[0] if len(terms) == 1 else Both(tuple(terms))
    if not uris:
        return where, None
    return where, lambda row: all(holds(one.op, uri(row), one.value) for one in uris)


def ordered(order_by: Iterable[str]) -> list[Order]:
    """How the store is to sort; the newest come first among equals."""
    orders: list[Order] = []
    for text in order_by:
        kind, key, ascending = parse_order(text, RUNS)
        if kind == "dataset":
            raise MlflowError(f"Invalid identifier type '{kind}'")
        key = _ALIASES.get(key, key)
        of, name = ("run", _FIELDS[key]) if kind == "attribute" else (_KINDS[kind], key)
        orders.append(Order(of=of, name=name, descending=not ascending))
    if orders and not any(one.of == "run" and one.name == "started_at" for one in orders):
        orders.append(Order(of="run", name="started_at", descending=True))
    return orders


def _is_ours(clause: Clause) -> bool:
    """Whether the store's own search does not know what it is about."""
    return clause.kind == "dataset" or (clause.kind == "attribute" and clause.key == "artifact_uri")


def _term(clause: Clause) -> Where:
    if clause.kind != "attribute":
        return Term(of=_KINDS[clause.kind], name=clause.key, op=clause.op, value=clause.value)
    key = _ALIASES.get(clause.key, clause.key)
    value: Any = clause.value
    if key == "status":
        fitting = [ours for ours, theirs in STATUSES.items() if holds(clause.op, theirs, value)]
        return _one_of("status", fitting)
    if key in ("start_time", "end_time"):
        return Term(of="run", name=_FIELDS[key], op=clause.op, value=_micros(value))
    return Term(of="run", name=_FIELDS[key], op=clause.op, value=value)


def _one_of(field: str, values: Iterable[str]) -> Term:
    listed = tuple(values)
    return Term(of="run", name=field, op="IN", value=listed) if listed else _NOTHING


def _micros(milliseconds: float) -> int:
    most = 2**63 - 1
    return max(-most, min(most, int(milliseconds * 1000)))
