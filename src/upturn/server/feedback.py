"""POST /v1/endpoints/NAME/feedback: labels by prediction id, into the endpoint's Log."""

import asyncio
from time import perf_counter
from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.ids import is_prediction_id
from upturn.core.time import instant, utcnow
from upturn.deploy.serve.app import ServingApp, json_response
from upturn.deploy.serve.problems import MAX_ERRORS, BadRequest, FieldError, Misfit, shown
from upturn.deploy.serve.request import Limits, check_kind, read_body, read_head

_EXAMPLE = 'Send {"feedback": [{"id": "…", "label": true}, …]}.'
_FIELDS = {"id", "label", "known_at"}
_ID = "a prediction's id, as predict gave it or was given it"
_LABEL = "true, false, a number or a text"
_AT = "an instant with its offset as '2013-04-01T06:00:00Z'"


def feedback_route(serving: ServingApp, limits: Limits) -> Route:
    """The route that takes feedback. What is accepted is on disk before the answer."""

    async def take(request: Request) -> Response:
        from upturn.improve.feedback import check_feedback

        served = serving.find(request.path_params["name"])
        check_kind(read_head(request.scope["headers"], limits, perf_counter()))
        items = decode(await read_body(request.receive, limits.body_bytes), limits.rows)
        ids = [item["id"] for item in items]
        labels = [item["label"] for item in items]
        times = [item.get("known_at") for item in items]
        batch, receipt = check_feedback(ids, labels, times, now=utcnow())
        if receipt.rejected:
            raise Invalid(receipt.rejected[0].message, hint=receipt.rejected[0].hint)
        written = served.writer.write(batch, durable=True)
        if written is not None:
            await asyncio.wrap_future(written)
        return json_response({"accepted": receipt.accepted}, status=202)

    return Route("/v1/endpoints/{name}/feedback", take, methods=["POST"])


def decode(body: bytes, max_rows: int) -> list[dict[str, Any]]:
    """The body's items, each checked. Raises BadRequest, or Invalid with every bad field."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}.", hint=_EXAMPLE) from None
    items = cast("dict[str, Any]", value).get("feedback") if isinstance(value, dict) else None
    if not isinstance(items, list) or not items:
        raise Invalid("There is no feedback in the body.", hint=_EXAMPLE)
    if len(items) > max_rows:
        raise Invalid(
            f"{len(items)} labels are more than one request may have.",
            hint=f"Send at most {max_rows} at a time, or use: upturn feedback.",
        )
    errors: list[FieldError] = []
    for row, item in enumerate(items):
        errors += _errors(row, item)
        if len(errors) >= MAX_ERRORS:
            break
    if errors:
        raise Misfit(errors)
    return items


def _errors(row: int, item: Any) -> list[FieldError]:
    if not isinstance(item, dict):
        return [FieldError(row, "", shown(item), "an object with 'id' and 'label'")]
    given = cast("dict[str, Any]", item)
    errors: list[FieldError] = []
    row_id, label, at = (given.get(name) for name in ("id", "label", "known_at"))
    if not isinstance(row_id, str) or not is_prediction_id(row_id):
        errors.append(FieldError(row, "id", shown(row_id), _ID))
    if not isinstance(label, bool | int | float | str) or _too_large(label):
        errors.append(FieldError(row, "label", shown(label), _LABEL))
    if at is not None and not (isinstance(at, str) and _is_instant(at)):
        errors.append(FieldError(row, "known_at", shown(at), _AT))
    for name in given.keys() - _FIELDS:
        hint = did_you_mean(name, _FIELDS)
        errors.append(FieldError(row, name[:100], shown(given[name]), "no such field", hint))
    return errors


def _too_large(label: bool | int | float | str) -> bool:
    return isinstance(label, int) and abs(label) >= 2**63


def _is_instant(value: str) -> bool:
    try:
        instant(value)
    except (Invalid, OverflowError):
        return False
    return True
