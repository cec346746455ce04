"""About: the path of the thing that a request of an MLflow client is about, for the audit log."""

from typing import Any

from upturn.core.ids import version_path

_FIELDS = {  # which field names it, and what it is called here
    "experiments": ("experiment_id", "group"),
    "runs": ("run_id", "run"),
    "traces": ("experiment_id", "group"),
    "logged-models": ("model_id", "logged"),
    "webhooks": ("webhook_id", "hook"),
    "registered-models": ("name", "model"),
}


def about(route: str, asked: Any) -> str:
    """What a request names; '' for what it is about to make.

    >>> from upturn.adapters.mlflow.registry import OneModel
    >>> about("registered-models/delete", OneModel(name="delays"))
    'model/delays'
    """
    of = route.partition("/")[0]
    if of == "model-versions":
        number = getattr(asked, "version", "")
        name: str = asked.name
        return version_path(name, int(number)) if number.isdecimal() else f"model/{name}"
    if of == "artifacts":
        return f"run/{asked.run_id}" if asked.run_id else f"logged/{asked.model_id}"
    if of not in _FIELDS:
        return ""
    field, noun = _FIELDS[of]
    name = getattr(asked, field, "") or getattr(asked, "run_uuid", "")
    return f"{noun}/{name}" if name and (of, route) != ("runs", "runs/create") else ""


def about_new(route: str, answer: dict[str, Any]) -> str:
    """What an answer says was made; '' when nothing was."""
    match route:
        case "experiments/create":
            return f"group/{answer['experiment_id']}"
        case "runs/create":
            return f"run/{answer['run']['info']['run_id']}"
        case "model-versions/create":
            made = answer["model_version"]
            return version_path(made["name"], int(made["version"]))
        case "logged-models":
            return f"logged/{answer['model']['info']['model_id']}"
        case "webhooks":
            return f"hook/{answer['webhook']['webhook_id']}"
        case _:
            return ""
