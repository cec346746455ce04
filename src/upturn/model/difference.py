"""Difference: what is not the same in two versions, field by field."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from upturn.core.schema import Field, Signature
from upturn.model.card import Card


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that differs; None where a version does not have it."""

    name: str
    before: Any = None
    after: Any = None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever differs between two versions; what is the same in both is left out."""

    before: str  # 'delays:6'
    after: str
    model: tuple[Change, ...] = ()
    data: tuple[Change, ...] = ()
    code: tuple[str, ...] = ()  # a unified diff of each part that changed, or a line
    params: tuple[Change, ...] = ()
    metrics: tuple[Change, ...] = ()
    signature: tuple[Change, ...] = ()
    environment: tuple[Change, ...] = ()

    def changes(self) -> dict[str, tuple[Change, ...]]:
        """What differs, but for the code, by what it is of."""
        return {
            "Model": self.model,
            "Data": self.data,
            "Parameters": self.params,
            "Metrics": self.metrics,
            "Signature": self.signature,
            "Environment": self.environment,
        }

    @property
    def nothing(self) -> bool:
        """Whether the two are the same in all of this."""
        parts = (self.model, self.data, self.code, self.params, self.metrics, self.signature)
        return not any(parts) and not self.environment


def difference(before: Card, after: Card, code: Sequence[str] = ()) -> Difference:
    """What differs from the one to the other; `code` is what changed in the code, as text."""
    return Difference(
        before=f"{before.model}:{before.number}",
        after=f"{after.model}:{after.number}",
        model=changes(_model(before), _model(after)),
        data=changes(_data(before), _data(after)),
        code=tuple(code),
        params=changes(before.params, after.params),
        metrics=changes(_metrics(before), _metrics(after)),
        signature=changes(_signature(before.signature), _signature(after.signature)),
        environment=changes(_environment(before), _environment(after)),
    )


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """What differs between two mappings, by name.

    >>> changes({"a": 1, "b": 2}, {"b": 3, "a": 1})
    (Change(name='b', before=2, after=3),)
    """
    names = [*before, *(name for name in after if name not in before)]
    return tuple(
        Change(name=name, before=before.get(name), after=after.get(name))
        for name in names
        if not _same(before.get(name), after.get(name))
    )


def _same(one: Any, other: Any) -> bool:
    return one == other or (one != one and other != other)  # NaN is as good as NaN


def _model(card: Card) -> dict[str, Any]:
    facts = {
        "artifact": card.artifact,
        "type": card.artifact_type,
        "format": card.format,
        "source": card.source,
    }
    return {name: value for name, value in facts.items() if value}


def _data(card: Card) -> dict[str, Any]:
    if card.data is None:
        return {}
    facts: dict[str, Any] = {"digest": card.data.digest, "rows": card.data.rows}
    if card.data.summary:
        facts["table"] = card.data.summary
    return facts | {f"file {name}": "read" for name in card.data.files}


def _metrics(card: Card) -> dict[str, float]:
    sliced = {
        f"{metric}/{part}": value
        for part, metrics in card.slices.items()
        for metric, value in metrics.items()
    }
    return card.metrics | sliced


def _signature(signature: Signature) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "output": signature.output,
        "target": signature.target,
        "classes": list(signature.classes) or None,
        "outputs": [one.name for one in signature.outputs] or None,
        "answer": signature.answer,
    }
    return facts | {f"input {field.name}": field_text(field) for field in signature.inputs}


def field_text(field: Field) -> str:
    """An input in a few words.

    >>> field_text(Field(name="carrier", type="str", categories=("AA", "UA")))
    'str, never missing, one of AA, UA'
    """
    text = f"{field.type}, {'may be missing' if field.nullable else 'never missing'}"
    if not field.categories:
        return text
    some = ", ".join(field.categories[:8])
    more = f" and {len(field.categories) - 8} more" if len(field.categories) > 8 else ""
    return f"{text}, one of {some}{more}"


def _environment(card: Card) -> dict[str, str]:
    return {"python": card.environment.python, **card.environment.distributions}
