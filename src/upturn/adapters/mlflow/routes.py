"""The table of what MLflow's clients can ask for, by method and path."""

from collections.abc import Iterator
from importlib import import_module

from upturn.adapters.mlflow.call import Route

# Each has ROUTES.
_MODULES = (
    "experiments",
    "runs",
    "values",
    "inputs",
    "history",
    "files",
    "registry",
    "versions",
    "logged_models",
    "traces",
    "spans",
    "assessments",
    "webhooks",
)


def routes() -> Iterator[Route]:
    """All of them."""
    for name in _MODULES:
        yield from import_module(f"upturn.adapters.mlflow.{name}").ROUTES
