"""What MLflow's routes need, by their names: what reads, what logs, what releases, what leaves."""

import re

from upturn.core.access import Role

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
