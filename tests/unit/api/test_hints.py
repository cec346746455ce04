"""Hints: who may see one project mistypes names of another, and no answer tells of them."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest

from upturn.adapters.webhooks.shelf import put_hook
from upturn.api.models import GET_MODEL, OneModel
from upturn.api.operation import AnyOperation, Ask, Asker
from upturn.api.resources import all_operations
from upturn.core.errors import NotFound, UpturnError
from upturn.core.findings import Decision
from upturn.core.naming import Group, Model
from upturn.core.records import Alias, Arm, Endpoint, Route, Run, RunState, TaskState
from upturn.core.schedules import Schedule
from upturn.core.settings import load_settings
from upturn.core.time import utcnow
from upturn.core.tracking import Point
from upturn.stores.tokens import make_token
from upturn.stores.workspace import open_workspace

NOW = datetime(2013, 4, 1, tzinfo=UTC)
THEIRS = "zebracorn"  # in each name of the other project, and in nothing else
MISTYPED = ("zebracorm", "zebracorn", "zebraco", "zebracorm:9", "zebracorm@champion")


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Return the circumstances of an admin of 'ours' in a store that holds a thing of each kind."""
    folder: Path = tmp_path_factory.mktemp("store")
    workspace = open_workspace(load_settings(folder, {"UPTURN_HOME": str(folder / "home")}))
    said: dict[str, Any] = {"who": "bo", "at": NOW}
    run = Run(id=THEIRS, flow=THEIRS, entry="f", params={}, project="theirs", started_at=NOW)
    state = RunState(run=THEIRS, status="done", at=NOW)
    task = TaskState(run=THEIRS, step=THEIRS, index=0, status="done", attempt=1, at=NOW)
    workspace.meta.put(
        run,
        state,
        task,
        Model(name=THEIRS, project="theirs", created_at=NOW, **said),
        Model(name="ours", project="ours", created_at=NOW, **said),
        Alias(model=THEIRS, name=THEIRS, number=1, why="", at=NOW),
        Endpoint(THEIRS, at=NOW),
        Endpoint("ours", at=NOW),
        Route(
            endpoint=THEIRS,
            model=THEIRS,
            arms=(Arm(name=THEIRS, version=1, share=1.0),),
            salt="",
            why="",
            at=NOW,
        ),
        Group(id="1", name=THEIRS, project="theirs", created_at=NOW, **said),
        Schedule(name=THEIRS, entry="f.py:f", cron="@daily", project="theirs", root="/", **said),
        Decision(
            loop=THEIRS,
            action="wait",
            why="",
            state={},
            evidence={},
            at=NOW,
            recorded_at=NOW,
        ),
    )
    workspace.tracking.log(THEIRS, points=[Point(THEIRS, 1.0)])
    for project in ("theirs", "ours"):
        name = THEIRS if project == "theirs" else "ours"
        make_token(workspace.meta, name, role="viewer", who="ana", projects=(project,))
    put_hook(
        workspace,
        THEIRS,
        url="https://ci.example.org",
        events=["run"],
        project="theirs",
        by="ana",
        now=utcnow(),
    )
    return Ask(workspace, Asker("bo", projects=frozenset({"ours"})), utcnow())


def requests_of(operation: AnyOperation, name: str) -> list[Any]:
    """Return requests that name it wherever text is asked for."""
    hints = get_type_hints(operation.asks)
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(operation.asks):
        if field.name in ("cursor", "order", "expires", "role"):
            continue
        if hints[field.name] is str or (field.required and field.name in hints):
            given[field.name] = name
    made: list[Any] = []
    for least in ({field.encode_name for field in _required(operation)}, set(given)):
        for filling in (name, [name], 1, 9):
            values = {
                field: name if hints.get(field) is str else filling
                for field in given
                if field in least
            }
            try:
                made.append(msgspec.convert(values, operation.asks))
            except msgspec.ValidationError:
                continue
    return made


def _required(operation: AnyOperation) -> list[Any]:
    return [field for field in msgspec.structs.fields(operation.asks) if field.required]


@pytest.mark.parametrize("operation", all_operations(), ids=lambda each: each.name)
def test_no_answer_names_what_is_anothers(ask: Ask, operation: AnyOperation) -> None:
    for name in MISTYPED:
        for request in requests_of(operation, name):
            try:
                answer = operation(ask, request)
            except UpturnError as error:
                told = f"{error.message} {error.hint}"
            else:
                told = msgspec.json.encode(answer, enc_hook=str).decode()
                if operation.method != "GET":
                    continue  # it made something of that name, which is theirs
            # What they typed themselves is no news.
            assert THEIRS not in re.sub(rf"\b{re.escape(name)}\b", "", told), told


def test_what_is_not_theirs_looks_like_what_is_not_there(ask: Ask) -> None:
    said: list[str] = []
    for name in (THEIRS, "zebracorx"):
        with pytest.raises(NotFound) as caught:
            GET_MODEL(ask, OneModel(model=name))
        said.append(f"{caught.value.message} {caught.value.hint}".replace(name, "NAME"))
    assert said[0] == said[1]
    # What is theirs is still found by a name that is nearly right.
    with pytest.raises(NotFound) as caught:
        GET_MODEL(ask, OneModel(model="ourss"))
    assert "ours" in caught.value.hint
    with pytest.raises(NotFound) as caught:
        GET_MODEL(replace(ask, asker=Asker("ana")), OneModel(model="zebracorx"))
    assert THEIRS in caught.value.hint
