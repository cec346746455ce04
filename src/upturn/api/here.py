"""Here: operations on this process's own store, with a note of what they change."""

from typing import TypeVar

from upturn.api.operation import Operation, Request, ask_here
from upturn.core.access import VIA
from upturn.core.errors import UpturnError
from upturn.stores.audit import note
from upturn.stores.workspace import Workspace

Q = TypeVar("Q", bound=Request)
A = TypeVar("A")
_SAID_ALREADY = ("runs.log",)  # a run that logs into itself says it all


def do_here(workspace: Workspace, operation: Operation[Q, A], request: Q) -> A:
    """Do it and return the answer; what changes something is in the audit log, done or refused."""
    ask = ask_here(workspace)
    if operation.method == "GET" or operation.name in _SAID_ALREADY:
        return operation.do(ask, request)
    status, detail = operation.status, ""
    try:
        return operation.do(ask, request)
    except UpturnError as error:
        status, detail = error.http_status, error.code
        raise
    finally:
        note(
            workspace.meta,
            who=ask.asker.name,
            via=VIA.get(),
            action=operation.name,
            path=thing_of(operation, request),
            status=status,
            detail=detail,
        )


def thing_of(operation: Operation[Q, A], request: Q) -> str:
    """The thing that a request is about: what its path names, or else the request itself."""
    named = path_named(
        {
            name: str(getattr(request, name))
            for name in request.__struct_fields__
            if f"{{{name}}}" in operation.path or f"{{{name}:path}}" in operation.path
        },
        operation.path,
    )
    if named:
        return named
    noun = _noun(operation.path)
    for name in (noun, f"{noun}s", "name"):
        said: object = getattr(request, name, None)
        if isinstance(said, str) and said:
            return f"{noun}/{said}"
        if isinstance(said, tuple | list) and said:
            return f"{noun}/{','.join(map(str, said))}"  # pyright: ignore[reportUnknownArgumentType]
    return ""


def path_named(fields: dict[str, str], template: str) -> str:
    """The path of the thing that fields of an operation's path name.

    >>> path_named({"model": "delays", "version": "7"}, "/api/v1/models/{model}/versions/{version}")
    'version/delays:7'
    >>> path_named({"name": "ci"}, "/api/v1/hooks/{name}")
    'hook/ci'
    """
    model = fields.get("model")
    number = fields.get("version") or fields.get("number")
    if model is not None and number is not None:
        return f"version/{model}:{number}"
    for kind, name in fields.items():
        return f"{_noun(template) if kind == 'name' else kind}/{name}"
    return ""


def _noun(template: str) -> str:
    """What a path's first segment has several of: 'hook' of '/api/v1/hooks/{name}'."""
    return template.removeprefix("/api/v1/").partition("/")[0].removesuffix("s")
