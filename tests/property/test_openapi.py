"""What the description allows is taken, and what models answer is what it says."""

import json
from datetime import UTC
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.schema import Field, Signature
from upturn.deploy.fields import WIRE
from upturn.deploy.serve.decoding import RowDecoder
from upturn.deploy.serve.openapi import prediction_schema, row_schema
from upturn.deploy.serve.problems import Misfit
from upturn.model.adapters import predictions

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
fields = st.lists(
    st.builds(
        Field,
        name=names,
        type=st.sampled_from(sorted(WIRE)),
        nullable=st.booleans(),
        categories=st.none(),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda field: field.name,
)
instants = st.datetimes(timezones=st.just(UTC))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    "null": st.none(),
}
FORMATS = {
    "date": st.dates().map(str),
    "date-time": instants.map(lambda at: at.isoformat()),
}


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema of one field allows."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    text = FORMATS.get(schema.get("format", ""), st.text(st.characters(codec="utf-8")))
    return st.one_of([text if kind == "string" else VALUES[kind] for kind in kinds])


@given(fields, st.none() | names, st.data())
def test_every_row_that_the_description_allows_is_taken(
    inputs: list[Field], unit: str | None, data: st.DataObject
) -> None:
    signature = Signature(inputs=tuple(inputs), output="number")
    schema = row_schema(signature, unit)
    row = {
        name: data.draw(values(each), label=name)
        for name, each in schema["properties"].items()
        if name in schema["required"] or data.draw(st.booleans())
    }
    decoder = RowDecoder(signature, unit, max_rows=10)
    assert len(decoder.decode(json.dumps({"rows": [row, row]}).encode())) == 2
    for name in schema["required"]:
        lacking = {other: value for other, value in row.items() if other != name}
        with pytest.raises(Misfit, match="expected"):
            decoder.decode(json.dumps({"row": lacking}).encode())


@pytest.mark.parametrize(
    ("output", "classes", "raw"),
    [
        ("probability", (False, True), np.array([0.25, np.nan])),
        ("number", (), np.array([1e9, np.nan])),
        ("label", ("low", "high"), np.array(["low", "high"])),
        ("scores", ("a", "b", "c"), np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])),
        ("scores", (0, 1, 2), np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])),
        ("json", (), [{"any": ["thing"]}, None]),
    ],
)
def test_what_models_answer_is_what_the_description_says(
    output: Any, classes: tuple[Any, ...], raw: Any
) -> None:
    signature = Signature(inputs=(Field(name="x", type="float"),), output=output, classes=classes)
    schema = prediction_schema(signature)
    for answer in predictions(raw, 2, signature).answers:
        if output in ("probability", "number"):
            assert schema["type"] == ["number", "null"]
            assert isinstance(answer, float)
        elif output == "scores":
            assert list(answer) == list(schema["properties"]) == schema["required"]
        elif output == "label":
            assert answer in schema["examples"]
        else:
            assert "type" not in schema
