"""The protocol's codec: what may be left out, and answers that are not what a signature said."""

from typing import Any

import pytest

from upturn.adapters.oip.infer import Asked, decode_request, encode_response, rows_of
from upturn.core.schema import Field, Signature
from upturn.deploy.serve.predict import Answered
from upturn.deploy.serve.problems import BadRequest

SIGNATURE = Signature(
    inputs=(
        Field(name="n", type="int"),
        Field(name="x", type="float", nullable=True),
        Field(name="t", type="str", nullable=True),
    ),
    output="scores",
    classes=("high", "low"),
)


def asked(*inputs: dict[str, Any]) -> Asked:
    import json

    return decode_request(json.dumps({"inputs": list(inputs)}).encode(), None)


def test_what_may_be_null_may_be_left_out() -> None:
    given = asked({"name": "n", "datatype": "INT8", "shape": [2, 1], "data": [[1], [2]]})
    rows = rows_of(given.tensors, SIGNATURE, None, max_rows=10)
    assert rows.tuples() == [(1, None, None), (2, None, None)]


def test_what_may_not_is_missed() -> None:
    given = asked({"name": "x", "datatype": "FP32", "shape": [1], "data": [1]})
    with pytest.raises(BadRequest, match="'n' is missing"):
        rows_of(given.tensors, SIGNATURE, None, max_rows=10)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    ("output", "classes", "answers"),
    [
        ("scores", ("high", "low"), [{"high": 1.0, "low": 0.0}, 0.5]),
        ("number", (), [0.5, {"high": 1.0}]),
        ("label", (False, True), [True, "late"]),
        ("label", (1, 2), [1, None]),
        ("label", ("a", "b"), ["a", {"b": 1}]),
        ("json", (), [[1, 2], None]),
    ],
)
def test_answers_that_are_not_alike_are_told_as_json(
    output: Any, classes: tuple[Any, ...], answers: list[Any], binary: bool
) -> None:
    """As from the arms of a route whose models answer in different ways."""
    signature = Signature(inputs=SIGNATURE.inputs, output=output, classes=classes)
    answered = Answered(1, ["p", "q"], answers, ["m:1", "m:2"], ["a", "b"])
    response = encode_response("m", Asked("", [], {"prediction": binary}), answered, signature)
    assert b'"BYTES"' in response.body
    assert b'"shape":[2]' in response.body
