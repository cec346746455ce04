"""MLflow's webhooks: our hooks, in its form of messages and headers."""

import re
import uuid
from typing import Any
from urllib.parse import urlsplit

import msgspec

from upturn.adapters.mlflow.call import Call, Route
from upturn.adapters.mlflow.errors import MISSING, MlflowError, missing_value
from upturn.adapters.mlflow.model_nouns import millis
from upturn.adapters.mlflow.pages import offset_of, token_of
from upturn.adapters.mlflow.reading import Ask, Int64
from upturn.adapters.webhooks.duty import send_example
from upturn.adapters.webhooks.mlflow_events import TYPES
from upturn.adapters.webhooks.shelf import list_hooks, remove_hook
from upturn.core.errors import Invalid
from upturn.core.notices import Hook
from upturn.core.posting import Unreached, check_url

_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?")
_STATUSES = {"ACTIVE": False, "DISABLED": True}
_USUAL, _MOST = 100, 1000
_SCHEMES = ("http", "https")
_BUDGETS = ("BUDGET_POLICY", "EXCEEDED")  # of MLflow's gateway, which is not here


class WebhookEvent(msgspec.Struct, frozen=True):
    """What happens to what, in capitals."""

    entity: str = ""
    action: str = ""


class CreateWebhook(Ask, frozen=True, kw_only=True):
    """A new webhook."""

    needs = ("name", "url", "events")

    name: str = ""
    url: str = ""
    events: list[WebhookEvent] = []
    description: str = ""
    secret: str = ""
    status: str = ""


class ListWebhooks(Ask, frozen=True, kw_only=True):
    """A page of webhooks."""

    max_results: Int64 | None = None
    page_token: str = ""


class OneWebhook(Ask, frozen=True, kw_only=True):
    """A webhook."""

    webhook_id: str = ""


class UpdateWebhook(OneWebhook, frozen=True, kw_only=True):
    """What of a webhook is otherwise from now on."""

    name: str = ""
    url: str = ""
    events: list[WebhookEvent] = []
    description: str | None = None
    secret: str | None = None
    status: str = ""


class TestWebhook(OneWebhook, frozen=True, kw_only=True):
    """An event that a webhook is sent as a test."""

    event: WebhookEvent | None = None


def create(call: Call, asked: CreateWebhook) -> Any:
    """Tell an address of what happens from now on."""
    _check_name(asked.name)
    _check_url(asked.url)
    hook = Hook(
        name=str(uuid.uuid4()),
        title=asked.name,
        url=asked.url,
        events=_types(asked.events),
        secret=asked.secret,
        description=asked.description,
        project=call.project,
        paused=_paused(asked.status) if asked.status else False,
        who=call.asker.name,
        at=call.now,
        since=call.now,
        form="mlflow",
    )
    return {"webhook": _json(call, [call.workspace.meta.add(hook)])[0]}


def list_all(call: Call, asked: ListWebhooks) -> Any:
    """A page of the webhooks, the newest first."""
    most = asked.max_results or _USUAL
    if not 1 <= most <= _MOST:
        raise MlflowError(f"max_results must be between 1 and {_MOST}.")
    start = offset_of(asked.page_token)
    hooks = [
        one for one in list_hooks(call.workspace) if one.form == "mlflow" and call.sees(one.project)
    ]
    found = sorted(_json(call, hooks), key=_newest_first)
    answer: dict[str, Any] = {"webhooks": found[start : start + most]}
    more = len(found) > start + most
    return {**answer, "next_page_token": token_of(start + most)} if more else answer


def get(call: Call, asked: OneWebhook) -> Any:
    """A webhook; its secret is not shown."""
    return {"webhook": _json(call, [_found(call, asked.webhook_id)])[0]}


def update(call: Call, asked: UpdateWebhook) -> Any:
    """Change what is given."""
    hook = _found(call, asked.webhook_id)
    changed: dict[str, Any] = {}
    if asked.name:
        _check_name(asked.name)
        changed["title"] = asked.name
    if asked.url:
        _check_url(asked.url)
        changed["url"] = asked.url
    if asked.events:
        changed["events"] = _types(asked.events)
    if asked.description is not None:
        changed["description"] = asked.description
    if asked.secret is not None:
        changed["secret"] = asked.secret
    if asked.status:
        changed["paused"] = paused = _paused(asked.status)
        if hook.paused and not paused:
            changed["since"] = call.now
    said = msgspec.structs.replace(hook, seq=0, who=call.asker.name, at=call.now, **changed)
    return {"webhook": _json(call, [call.workspace.meta.add(said)])[0]}


def delete(call: Call, asked: OneWebhook) -> None:
    """Tell it nothing any more."""
    hook = _found(call, asked.webhook_id)
    remove_hook(call.workspace, hook.name, by=call.asker.name, now=call.now)


def test(call: Call, asked: TestWebhook) -> Any:
    """Send it an example now, once; what its receiver answered."""
    hook = _found(call, asked.webhook_id)
    type = hook.events[0] if asked.event is None else _types([asked.event])[0]
    public_only = call.workspace.settings.public_hooks
    try:
        answer = send_example(hook, type, call.now, public_only=public_only)
    except Unreached as error:
        said = f"Failed to test webhook: {error.message}"
        return {"result": {"success": False, "error_message": said}}
    return {
        "result": {
            "success": answer.status < 400,
            "response_status": answer.status,
            "response_body": answer.said,
        }
    }


def _found(call: Call, id: str) -> Hook:
    found = call.workspace.meta.find(Hook, id)
    if found is None or found.removed or found.form != "mlflow" or not call.sees(found.project):
        raise MlflowError(f"Webhook with ID {id} not found.", MISSING)
    return found


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise MlflowError(
            f"Webhook name {name!r} is invalid. It must start and end with a letter or digit, be "
            "less than 63 characters long, and contain only letters, digits, dots (.), "
            "underscores (_), and hyphens (-)."
        )


def _check_url(url: str) -> None:
    if not url.strip():
        raise MlflowError(f"Webhook URL cannot be empty or just whitespace: {url!r}")
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise MlflowError(f"Invalid webhook URL {url!r}: {error!r}") from None
    if scheme not in _SCHEMES:
        raise MlflowError(
            f"Invalid webhook URL scheme: {scheme!r}. Allowed schemes are: {', '.join(_SCHEMES)}."
        )
    try:
        check_url(url, what="events", example="https://ci.example.org/mlflow")
    except Invalid as error:
        raise MlflowError(f"Invalid webhook URL {url!r}: {error.message}") from None


def _types(events: list[WebhookEvent]) -> tuple[str, ...]:
    found: list[str] = []
    for event in events:
        if not event.entity or not event.action:
            raise missing_value("events")
        entity, action = event.entity.lower(), event.action.lower()
        type = f"{entity}.{action}"
        if type not in TYPES:
            if (event.entity, event.action) == _BUDGETS:
                raise MlflowError("There are no budgets here, which a webhook could be told of.")
            known = sorted(one.partition(".")[2] for one in TYPES if one.startswith(f"{entity}."))
            raise MlflowError(
                f"Invalid action '{action}' for entity '{entity}'. Valid actions are: {known}"
            )
        found.append(type)
    return tuple(dict.fromkeys(found))


def _paused(status: str) -> bool:
    if status not in _STATUSES:
        raise MlflowError(f"Unknown webhook status: {status}")
    return _STATUSES[status]


def _json(call: Call, hooks: list[Hook]) -> list[dict[str, Any]]:
    made: dict[str, Hook] = {}
    for one in call.workspace.meta.select(Hook, name=[hook.name for hook in hooks]):
        made.setdefault(one.name, one)
    return [
        {
            "webhook_id": hook.name,
            "name": hook.title,
            "url": hook.url,
            "events": [
                {"entity": entity.upper(), "action": action.upper()}
                for entity, _, action in (type.partition(".") for type in hook.events)
            ],
            "description": hook.description,
            "status": "DISABLED" if hook.paused else "ACTIVE",
            "creation_timestamp": millis(made[hook.name].at),
            "last_updated_timestamp": millis(hook.at),
        }
        for hook in hooks
    ]


def _newest_first(said: dict[str, Any]) -> tuple[int, str]:
    return -said["creation_timestamp"], said["webhook_id"]


_ONE = "webhooks/{webhook_id}"
ROUTES = (
    Route("POST", "webhooks", CreateWebhook, create, "admin"),
    Route("GET", "webhooks", ListWebhooks, list_all, "admin"),
    Route("GET", _ONE, OneWebhook, get, "admin"),
    Route("PATCH", _ONE, UpdateWebhook, update, "admin"),
    Route("DELETE", _ONE, OneWebhook, delete, "admin"),
    Route("POST", f"{_ONE}/test", TestWebhook, test, "admin"),
)
