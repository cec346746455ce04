"""MLflow's webhooks: told by our duty, signed and worded as MLflow's receivers expect."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from e2e.test_hooks import Receiver, look_until, receiver
from unit.adapters.mlflow_api import PREFIX, Api
from unit.adapters.test_mlflow_rest import api_of
from upturn.adapters.webhooks.duty import HookDuty
from upturn.adapters.webhooks.mlflow_events import EXAMPLES
from upturn.adapters.webhooks.shelf import put_hook
from upturn.core.errors import Conflict
from upturn.core.notices import Hook
from upturn.core.settings import load_settings
from upturn.core.time import utcnow
from upturn.model.aliases import set_alias
from upturn.stores.workspace import Workspace, open_workspace

NEW_VERSION = {"entity": "MODEL_VERSION", "action": "CREATED"}
IS_PROMPT = {"key": "mlflow.prompt.is_prompt", "value": "true"}
SECRET = "geheim"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    home = tmp_path_factory.mktemp("webhooks")
    workspace = open_workspace(load_settings(home, environ={"UPTURN_HOME": str(home)}))
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def api(workspace: Workspace) -> Api:
    return Api(workspace)


def event_of(type: str) -> dict[str, str]:
    entity, _, action = type.upper().partition(".")
    return {"entity": entity, "action": action}


def webhook(api: Api, url: str = "https://example.com/h", **more: Any) -> dict[str, Any]:
    said = {"name": "ci", "url": url, "events": [NEW_VERSION], **more}
    return api.post("webhooks", **said)["webhook"]


def change(api: Api, method: str, path: str, **body: Any) -> Any:
    return api.http.request(method, PREFIX + path, json=body)


def told(got: Receiver) -> list[dict[str, Any]]:
    """What a receiver got, each checked as MLflow's documentation says."""
    found: list[dict[str, Any]] = []
    for headers, body in got.got:
        id, at = headers["x-mlflow-delivery-id"], headers["x-mlflow-timestamp"]
        assert UUID(id)
        assert abs(time.time() - int(at)) < 300
        key = hmac.new(SECRET.encode(), f"{id}.{at}.{body.decode()}".encode(), hashlib.sha256)
        signed = f"v1,{base64.b64encode(key.digest()).decode()}"
        assert hmac.compare_digest(headers["x-mlflow-signature"], signed)
        found.append(json.loads(body))
    return found


def test_what_happens_in_the_registry_is_told_in_mlflows_words(
    workspace: Workspace, api: Api
) -> None:
    duty = HookDuty()
    with receiver() as got:
        events = [event_of(type) for type in EXAMPLES]
        made = webhook(api, got.url, events=events, secret=SECRET)
        duty.look(workspace, utcnow())
        tags = [{"key": "a", "value": "b"}]
        api.post("registered-models/create", name="m", tags=tags, description="words")
        api.post("model-versions/create", name="m", source="s3://b/p", tags=tags, run_id="r")
        tag = {"name": "m", "version": "1", "key": "k"}
        api.post("model-versions/set-tag", **tag, value="v")
        change(api, "DELETE", "model-versions/delete-tag", **tag)
        api.post("registered-models/set-tag", name="m", key="k", value="v")  # of no interest
        set_alias(workspace, "m", "best", 1, why="by hand", now=utcnow())
        change(api, "DELETE", "registered-models/alias", name="m", alias="best")
        api.post("registered-models/alias", name="m", alias="gone", version="1")
        change(api, "DELETE", "model-versions/delete", name="m", version="1")
        api.post("registered-models/create", name="p", tags=[IS_PROMPT])
        text = [IS_PROMPT, {"key": "mlflow.prompt.text", "value": "Hi"}, *tags]
        api.post("model-versions/create", name="p", source="dummy-source", tags=text)
        api.post("registered-models/set-tag", name="p", key="k", value="v")
        api.post("registered-models/rename", name="m", new_name="n")
        look_until(duty, workspace, lambda: len(got.got) >= 10)
        messages = {f"{one['entity']}.{one['action']}": one for one in told(got)}
        for _ in range(3):
            duty.look(workspace, utcnow())
        assert len(got.got) == 10
    data = {type: one["data"] for type, one in messages.items()}
    assert data["model_version.created"] == {
        "name": "m",
        "version": "1",
        "source": "s3://b/p",
        "run_id": "r",
        "tags": {"a": "b"},
        "description": None,
    }
    assert data["registered_model.created"]["description"] == "words"
    assert data["model_version_tag.set"] == {"name": "m", "version": "1", "key": "k", "value": "v"}
    assert data["model_version_tag.deleted"] == {"name": "m", "version": "1", "key": "k"}
    assert data["model_version_alias.deleted"] == {"name": "m", "alias": "best"}
    assert data["prompt.created"] == {"name": "p", "tags": {}, "description": ""}
    assert data["prompt_version.created"]["template"] == "Hi"
    assert data["prompt_version.created"]["tags"] == {"a": "b"}
    assert data["prompt_tag.set"] == {"name": "p", "key": "k", "value": "v"}
    change(api, "DELETE", f"webhooks/{made['webhook_id']}")


def test_a_webhook_is_tried_again_and_tested(workspace: Workspace, api: Api) -> None:
    duty = HookDuty(delays_s=(0.0, 0.0))
    with receiver() as got:
        got.answers = lambda count: 500 if count == 1 else 200
        made = webhook(api, got.url, secret=SECRET)
        duty.look(workspace, utcnow())
        api.post("registered-models/create", name="tried")
        api.post("model-versions/create", name="tried", source="s3://b/p")
        look_until(duty, workspace, lambda: len(got.got) >= 2)
        first, second = (headers["x-mlflow-delivery-id"] for headers, _ in got.got)
        assert first == second
        event = event_of("prompt_alias.deleted")
        path = f"webhooks/{made['webhook_id']}/test"
        assert api.post(path)["result"]["success"] is True
        assert api.post(path, event=event)["result"]["response_status"] == 200
        assert told(got)[-1]["data"] == EXAMPLES["prompt_alias.deleted"]
    failed = api.post(path)["result"]
    change(api, "DELETE", f"webhooks/{made['webhook_id']}")
    assert failed["success"] is False
    assert "Failed to test webhook" in failed["error_message"]


def test_webhooks_are_listed_changed_and_deleted(workspace: Workspace, api: Api) -> None:
    made = [webhook(api, name=f"w{number}", secret="s") for number in range(3)]
    page = api.get("webhooks", max_results=2)
    rest = api.get("webhooks", max_results=2, page_token=page["next_page_token"])
    assert "next_page_token" not in rest
    assert {one["webhook_id"] for one in page["webhooks"] + rest["webhooks"]} == {
        one["webhook_id"] for one in made
    }
    one = f"webhooks/{made[0]['webhook_id']}"
    changed = change(api, "PATCH", one, status="DISABLED", description="d").json()["webhook"]
    assert (changed["status"], changed["name"], changed["description"]) == ("DISABLED", "w0", "d")
    assert "secret" not in json.dumps(changed)
    assert change(api, "DELETE", one).status_code == 200
    for method in ("GET", "PATCH", "DELETE"):
        assert api.said(change(api, method, one))[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    theirs = api_of(workspace, "admin", "elsewhere")
    assert theirs.get("webhooks") == {"webhooks": []}
    assert api_of(workspace, "deployer").refused_get("webhooks")[0] == 403
    with pytest.raises(Conflict, match="is one of MLflow's"):
        put_hook(
            workspace,
            made[1]["webhook_id"],
            url="https://example.com",
            events=["run"],
            project="elsewhere",
            by="t",
            now=utcnow(),
        )
    kept = workspace.meta.get(Hook, made[1]["webhook_id"])
    assert (kept.form, kept.title) == ("mlflow", "w1")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"name": "a b"}, "Webhook name 'a b' is invalid."),
        ({"url": "  "}, "Webhook URL cannot be empty or just whitespace"),
        ({"url": "ftp://example.com"}, "Invalid webhook URL scheme: 'ftp'."),
        ({"url": "http://[invalid"}, "Invalid webhook URL"),
        ({"url": "https:///x"}, "Invalid webhook URL"),
        ({"events": []}, "Missing value for required parameter 'events'."),
        ({"events": [event_of("prompt.deleted")]}, "Invalid action 'deleted' for entity 'prompt'."),
        ({"events": [event_of("budget_policy.exceeded")]}, "There are no budgets here"),
        ({"status": "x"}, "Unknown webhook status: x"),
    ],
)
def test_what_can_be_no_webhook(api: Api, wrong: dict[str, Any], says: str) -> None:
    said = {"name": "ci", "url": "https://example.com", "events": [NEW_VERSION], **wrong}
    status, code, message = api.refused("webhooks", **said)
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert says in message
