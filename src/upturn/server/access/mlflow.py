"""What MLflow's routes need, by their names: what reads, what logs, what releases, what leaves."""

import re

from upturn.core.access import Role

_PREFIX = re.compile(
    r"/(?:api|ajax-api)/\d+\.\d+/(?P<of>mlflow|mlflow-artifacts)/(?P<rest>.*)", re.DOTALL
)
_OUTSIDE = ("/get-artifact", "/model-versions/get-artifact", "/health", "/version")  # of the API
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
