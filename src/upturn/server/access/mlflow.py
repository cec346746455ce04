"""What MLflow's routes need, by their names: what reads, what logs, what releases, what leaves."""

import re

from upturn.core.access import Role
from upturn.deploy.serve.asgi import Scope

_PREFIX = re.compile(
    r"/(?:api|ajax-api)/\d+\.\d+/(?P<of>mlflow|mlflow-artifacts)/(?P<rest>.*)", re.DOTALL
)
_REFUSED: dict[str, Role] = {
    "/v1/traces": "editor",
    "/graphql": "viewer",
}  # at once, in MLflow's form
_OUTSIDE = ("/get-artifact", "/model-versions/get-artifact", "/health", "/version", *_REFUSED)
# POST, for the questions are long; nothing is changed.
_QUESTIONS = {
    "search",
    "search-datasets",
    "get-latest-versions",
    "get-history-bulk",
    "batchGetInfos",
    "calculate-filter-correlation",
    "presigned-download-url",
}
# What clients load by an alias or a stage changes at once: that is a release.
_RELEASES = re.compile("registered-models/alias|model-versions/transition-stage")
_LEAVES = re.compile(r"(?:webhooks|gateway|workspaces)(?:/.*)?")  # addresses, secrets, tenants
_NOUNS = {"webhooks": "hook", "logged-models": "logged"}  # of what its path names
# A run that logs into itself is not noted: the run says it all, and there are millions of it.
_LOGS = re.compile(
    r"runs/(?:log-\w+|set-tag|delete-tag|outputs)"
    r"|traces(?:/.*)?"
    r"|logged-models/[^/]+/(?:params|tags)(?:/.*)?"
)

OF_TASK = "/run/"  # how the path begins when a task asks
# run, step and index, as the task's path has them; what follows is the path of the request
_OF_TASK = re.compile(r"/run/(?P<run>[^/]+)/(?P<scope>[^/]+/\d{1,9})(?P<path>/.*)", re.DOTALL)


def without_task(scope: Scope) -> Scope:
    """The request with the task in its path in the scope instead; as it is when it has none."""
    found = _OF_TASK.fullmatch(scope["path"])
    if found is None or not takes(found["path"]):
        return scope
    raw: bytes = scope.get("raw_path") or b""
    return {
        **scope,
        "path": found["path"],
        "raw_path": b"/" + raw.split(b"/", 5)[-1],
        "upturn.task": (found["run"], found["scope"]),
    }


def takes(path: str) -> bool:
    """Whether the path is one of MLflow's."""
    if path in _OUTSIDE:
        return True
    return path.startswith(("/api/", "/ajax-api/")) and _PREFIX.fullmatch(path) is not None


def said_of(method: str, path: str) -> tuple[str, str]:
    """What the audit log calls a request, and the thing that it is about, as the address says it.

    >>> said_of("DELETE", "/api/2.0/mlflow/webhooks/3f9")
    ('DELETE webhooks', 'hook/3f9')
    """
    found = _PREFIX.fullmatch(path)
    rest = found["rest"].rstrip("/") if found else path
    if found and found["of"] == "mlflow-artifacts":
        parts = rest.split("/")  # artifacts/EXPERIMENT/RUN/artifacts/…
        run = parts[2] if len(parts) > 3 and parts[3] == "artifacts" else ""
        return f"{method} artifacts", f"run/{run}" if run else ""
    of, _, below = rest.partition("/")
    if of in _NOUNS:
        id, _, more = below.partition("/")
        action = f"{method} {of}/{more}" if more else f"{method} {of}"
        return action, f"{_NOUNS[of]}/{id}" if id else ""
    return f"{method} {rest}", ""


def role_of(method: str, path: str) -> tuple[Role, bool]:
    """The role that a request needs, and whether it is noted as a change.

    >>> role_of("POST", "/api/2.0/mlflow/runs/search")
    ('viewer', False)
    >>> role_of("POST", "/api/2.0/mlflow/registered-models/alias")
    ('deployer', True)
    """
    if path in _REFUSED:
        return _REFUSED[path], False
    found = _PREFIX.fullmatch(path)
    of, rest = (found["of"], found["rest"].rstrip("/")) if found else ("", "")
    reads = method in ("GET", "HEAD", "OPTIONS")
    if of == "mlflow-artifacts":
        return ("viewer", False) if reads else ("editor", method == "DELETE")
    if _LEAVES.fullmatch(rest):
        return "admin", not reads
    if reads or (method == "POST" and rest.rpartition("/")[2] in _QUESTIONS):
        return "viewer", False
    if rest == "traces/metrics":
        return "viewer", False
    if _RELEASES.fullmatch(rest):
        return "deployer", True
    deletes = rest.endswith("delete-traces")
    return "editor", deletes or _LOGS.fullmatch(rest) is None
