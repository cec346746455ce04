"""Assessments of traces: what people, judges and code think of an answer, or expected of it."""

from typing import Any
from uuid import uuid4

import msgspec

from upturn.adapters.mlflow.call import Call, Route
from upturn.adapters.mlflow.errors import MISSING, MlflowError, bad_value, missing_value, wrong_type
from upturn.adapters.mlflow.kept_traces import Said, change_trace, get_trace, known
from upturn.adapters.mlflow.reading import Ask, snake
from upturn.core.time import micros

_SOURCES = ("SOURCE_TYPE_UNSPECIFIED", "HUMAN", "LLM_JUDGE", "AI_JUDGE", "CODE")
_CHANGED = ("assessment_name", "feedback", "expectation", "rationale", "metadata", "valid")
_GIVEN = (*_CHANGED, "source", "span_id", "overrides", "create_time", "last_update_time")
_TEXTS = ("assessment_name", "rationale", "span_id", "overrides")


class Create(Ask, frozen=True, kw_only=True):
    """What somebody thinks of a trace."""

    needs = ("assessment",)

    trace_id: str = ""
    assessment: dict[str, Any] = {}


class One(Ask, frozen=True, kw_only=True):
    """An assessment."""

    trace_id: str = ""
    assessment_id: str = ""


class Update(One, frozen=True, kw_only=True):
    """What is thought now; the mask names what of it is given."""

    needs = ("assessment", "update_mask")

    assessment: dict[str, Any] = {}
    update_mask: str = ""


def create(call: Call, asked: Create) -> Any:
    """Keep what somebody thinks of a trace; what it overrides no longer counts."""
    made = assessed(call, asked.trace_id, asked.assessment)

    def add(said: Said) -> Said:
        held = _held(said)
        overridden = made.get("overrides")
        if overridden:
            _one(held, asked.trace_id, overridden)
        others = [one | {"valid": False} if _is(one, overridden) else one for one in held]
        return said | {"assessments": [*others, made]}

    change_trace(call, asked.trace_id, add)
    return {"assessment": made}


def get(call: Call, asked: One) -> Any:
    """An assessment."""
    held = _held(known(get_trace(call, asked.trace_id)))
    return {"assessment": _one(held, asked.trace_id, asked.assessment_id)}


def update(call: Call, asked: Update) -> Any:
    """Change what is thought; its source and its span stay."""
    given = _fields(asked.assessment)
    mask = [snake(name.strip()) for name in asked.update_mask.split(",")]
    named = {name: given.get(name) for name in mask if name in _CHANGED}

    def change(said: Said) -> Said:
        held = _held(said)
        before = _one(held, asked.trace_id, asked.assessment_id)
        for kind, other in (("expectation", "feedback"), ("feedback", "expectation")):
            if kind in named and kind not in before:
                raise MlflowError(
                    f"Cannot update {kind} value on {'an' if other[0] == 'e' else 'a'} "
                    f"{other.capitalize()} assessment."
                )
        after = before | {name: value for name, value in named.items() if value is not None}
        if "metadata" in named:
            after["metadata"] = before.get("metadata", {}) | (named["metadata"] or {})
        after["last_update_time"] = _now(call)
        return said | {"assessments": [after if one is before else one for one in held]}

    changed = known(change_trace(call, asked.trace_id, change))
    return {"assessment": _one(_held(changed), asked.trace_id, asked.assessment_id)}


def delete(call: Call, asked: One) -> None:
    """Take an assessment away, if it is there; what it overrode counts again."""

    def remove(said: Said) -> Said:
        held = _held(said)
        gone = next((one for one in held if _is(one, asked.assessment_id)), None)
        if gone is None:
            return said
        left = [one for one in held if one is not gone]
        overridden = gone.get("overrides")
        left = [one | {"valid": True} if _is(one, overridden) else one for one in left]
        return said | {"assessments": left}

    change_trace(call, asked.trace_id, remove)


def assessed(call: Call, trace: str, given: Said) -> Said:
    """A new assessment, checked. Raises MlflowError."""
    made = _fields(given)
    if not made.get("assessment_name"):
        raise missing_value("assessment.assessment_name")
    if ("feedback" in made) == ("expectation" in made):
        raise MlflowError("Exactly one of `expectation` or `feedback` should be specified.")
    made.setdefault("source", {"source_type": "CODE", "source_id": "default"})
    made.setdefault("create_time", _now(call))
    made.setdefault("last_update_time", made["create_time"])
    made.setdefault("valid", True)
    return {"assessment_id": f"a-{uuid4().hex}", "trace_id": trace, **made}


def _fields(given: Said) -> Said:
    """The fields that an assessment may have, with values of their types."""
    made = {snake(name): value for name, value in given.items() if value is not None}
    made = {name: value for name, value in made.items() if name in _GIVEN}
    for name, value in made.items():
        path = f"assessment.{name}"
        if name in _TEXTS and not isinstance(value, str):
            raise wrong_type(path, value)
        if name in ("feedback", "expectation", "source", "metadata"):
            if not isinstance(value, dict):
                raise wrong_type(path, value)
    if "source" in made:
        source = {snake(name): value for name, value in made["source"].items()}
        if source.setdefault("source_type", "CODE") not in _SOURCES:
            raise bad_value("assessment.source.source_type", source["source_type"])
        made["source"] = source
    if "metadata" in made:
        made["metadata"] = {name: str(value) for name, value in made["metadata"].items()}
    if "expectation" in made:
        made["expectation"] = _serialized(made["expectation"])
    return made


def _serialized(expectation: Said) -> Said:
    """What was expected; what is no plain value becomes text, as clients read it."""
    value = expectation.get("value")
    if not isinstance(value, dict | list):
        return {snake(name): part for name, part in expectation.items()}
    text = msgspec.json.encode(value).decode()
    return {"serialized_value": {"serialization_format": "JSON_FORMAT", "value": text}}


def _held(said: Said) -> list[Said]:
    return said.get("assessments") or []


def _is(one: Said, assessment: str | None) -> bool:
    return bool(assessment) and one.get("assessment_id") == assessment


def _one(held: list[Said], trace: str, assessment: str) -> Said:
    for one in held:
        if _is(one, assessment):
            return one
    raise MlflowError(f"Assessment with ID '{assessment}' not found for trace '{trace}'", MISSING)


def _now(call: Call) -> str:
    return f"{call.now:%Y-%m-%dT%H:%M:%S}.{micros(call.now) // 1000 % 1000:03}Z"


_ONE = "traces/{trace_id}/assessments/{assessment_id}"
ROUTES = (
    Route("POST", "traces/{trace_id}/assessments", Create, create, version=3),
    Route("GET", _ONE, One, get, "viewer", version=3),
    Route("PATCH", _ONE, Update, update, version=3),
    Route("DELETE", _ONE, One, delete, version=3),
)
