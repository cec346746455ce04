"""Example: a request that fits an endpoint, ready to be sent."""

from typing import Any

from upturn.core.schema import Signature
from upturn.deploy.fields import example_value


def predict_path(name: str) -> str:
    """Where an endpoint takes predictions."""
    return f"/v1/endpoints/{name}/predict"


def example_request(signature: Signature, unit: str | None) -> dict[str, Any]:
    """A request's body that fits, with the values seen in training, as JSON values."""
    row = {field.name: example_value(field) for field in signature.inputs}
    if unit is not None and unit not in row:
        row[unit] = "1"
    return {"rows": [row]}
