"""Need: what a request has to bring, by its method and path, and what the audit log calls it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from urllib.parse import unquote

from upturn.api.here import path_named
from upturn.api.operation import AnyOperation
from upturn.api.resources import PREFIX as API
from upturn.api.resources import first_segment, operations_of, segments
from upturn.core.access import Role, Via
from upturn.server.access import mlflow

_READS = {"GET", "HEAD", "OPTIONS"}
_STORE = "/api/v1/store"
_PREDICT, _V2 = "/v1/endpoints", "/v2"
_OPEN = {  # they tell no more than how the server is, or are how one says who one is
    "/healthz",
    "/readyz",
    "/health/live",
    "/health/ready",
    "/v2/health/live",
    "/v2/health/ready",
    "/login",
    "/login/oidc",
    "/login/oidc/callback",
    "/logout",
    "/favicon.ico",
}
_WHOLE = {"/v1/endpoints", "/openapi.json", "/metrics", "/v2/repository/index"}
Operations = Callable[[str], Sequence[AnyOperation]]  # of the first segment of the path


@dataclass(frozen=True, slots=True)
class Need:
    """What a request has to bring."""

    role: Role | None  # None: whoever asks may
    action: str = ""  # what the audit log calls it; '' where it is not noted
    path: str = ""  # of the thing that it is about, as far as the address says
    endpoint: str | None = None  # the endpoint that it is about
    whole: bool = False  # the answer tells of all projects
    via: Via = "http"  # by which protocol


def known_operations(segment: str) -> Sequence[AnyOperation]:
    """The operations below `/api/v1/SEGMENT`; nothing is kept of what there is not."""
    return operations_of(segment) if segment in segments() else ()


@lru_cache(maxsize=4096)
def needs(method: str, path: str, operations: Operations) -> Need:
    """What a request for the path has to bring. What is not known is for an admin to change."""
    if path in _OPEN:
        return Need(role=None)
    if path == _STORE or path.startswith(f"{_STORE}/"):
        return Need(role="viewer")  # who may do what depends on the records: api/store.py
    if path.startswith(API):
        return _of_operation(method, path, operations)
    if mlflow.takes(path):
        role, noted = mlflow.role_of(method, path)
        action, thing = mlflow.said_of(method, path) if noted else ("", "")
        return Need(role=role, action=action, path=thing, via="mlflow")
    if path in (_PREDICT, _V2) or path.startswith((f"{_PREDICT}/", f"{_V2}/")):
        return _of_serving(method, path)
    if method in _READS:
        return Need(role="viewer", whole=path in _WHOLE)
    return Need(role="admin", action=f"{method} {path}")


def _of_serving(method: str, path: str) -> Need:
    if path in _WHOLE or path == _V2:
        return Need(role="viewer", whole=path in _WHOLE)
    prefix = f"{_PREDICT}/" if path.startswith(f"{_PREDICT}/") else "/v2/models/"
    name = unquote(path.removeprefix(prefix)).partition("/")[0]
    if method in _READS or path.endswith(("/predict", "/infer")):
        return Need(role="viewer", endpoint=name)
    action = f"{method} {path}"
    if path.endswith("/feedback"):
        action = "endpoints.feedback"
    return Need(role="editor", action=action, path=f"endpoint/{name}", endpoint=name)


def _of_operation(method: str, path: str, operations: Operations) -> Need:
    """By the path as it was written: a name may have a slash in it, as %2F."""
    segment = first_segment(path)
    if segment == "store":  # its calls are all POST, look themselves, and note what they change
        return Need(role="viewer")
    asked = "GET" if method == "HEAD" else method
    for operation in operations(segment):
        if operation.method != asked:
            continue
        found = _pattern(operation.path).fullmatch(path)
        if found is not None:
            return Need(
                role=operation.role,
                action="" if asked in _READS else operation.name,
                path=path_named(
                    {name: unquote(text) for name, text in found.groupdict().items()},
                    operation.path,
                ),
            )
    if method in _READS:
        return Need(role="viewer")
    return Need(role="admin", action=f"{method} {path}")


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """What matches the paths of a template: a field is a segment; `{name:path}` several."""
    parts: list[str] = []
    at = 0
    for field in re.finditer(r"\{(\w+)(:path)?\}", template):
        parts.append(re.escape(template[at : field.start()]))
        parts.append(f"(?P<{field[1]}>{'.+' if field[2] else '[^/]+'})")
        at = field.end()
    parts.append(re.escape(template[at:]))
    return re.compile("".join(parts))
