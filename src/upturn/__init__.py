"""Upturn: develop, deploy and improve machine-learning models, as one loop with one lineage."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from upturn.develop.joining import provide

if TYPE_CHECKING:
    from upturn.core.errors import UpturnError as UpturnError
    from upturn.core.records import Endpoint as Endpoint
    from upturn.core.records import Version as Version
    from upturn.develop.checkpoint import checkpoint as checkpoint
    from upturn.develop.env import Env as Env
    from upturn.develop.env import env as env
    from upturn.develop.file import File as File
    from upturn.develop.flow import Flow as Flow
    from upturn.develop.flow import flow as flow
    from upturn.develop.handles import Run as Run
    from upturn.develop.handles import runs as runs
    from upturn.develop.progress import progress as progress
    from upturn.develop.ref import Ref as Ref
    from upturn.develop.register import register as register
    from upturn.develop.schedule.trigger import new_data as new_data
    from upturn.develop.schedule.trigger import new_version as new_version
    from upturn.develop.side_by_side import compare as compare
    from upturn.develop.step import Step as Step
    from upturn.develop.step import step as step
    from upturn.develop.track import log as log
    from upturn.develop.track import save as save
    from upturn.develop.track import show as show
    from upturn.develop.track import tag as tag
    from upturn.develop.track import track as track
    from upturn.develop.tune.loop import tune as tune
    from upturn.develop.tune.result import Tuning as Tuning
    from upturn.develop.tune.space import integers as integers
    from upturn.develop.tune.space import uniform as uniform
    from upturn.improve.alerts.command import Command as Command
    from upturn.improve.alerts.mail import Email as Email
    from upturn.improve.alerts.webhook import Slack as Slack
    from upturn.improve.alerts.webhook import Webhook as Webhook
    from upturn.improve.bandit.bandit import Bandit as Bandit
    from upturn.improve.bandit.linear import LinTS as LinTS
    from upturn.improve.bandit.linear import LinUCB as LinUCB
    from upturn.improve.bandit.thompson import Thompson as Thompson
    from upturn.improve.experiment.experiment import Experiment as Experiment
    from upturn.improve.experiment.metrics import Count as Count
    from upturn.improve.experiment.metrics import Mean as Mean
    from upturn.improve.experiment.metrics import Proportion as Proportion
    from upturn.improve.experiment.metrics import Quantile as Quantile
    from upturn.improve.experiment.metrics import Ratio as Ratio
    from upturn.improve.experiment.metrics import non_inferior as non_inferior
    from upturn.improve.limits import budget as budget
    from upturn.improve.limits import quiet as quiet
    from upturn.improve.log import read_log as read_log
    from upturn.improve.loop import Loop as Loop
    from upturn.improve.monitor.monitor import Monitor as Monitor
    from upturn.improve.monitor.tables import compare_tables as compare_tables
    from upturn.improve.offpolicy.evaluate import evaluate_policy as evaluate_policy
    from upturn.improve.past.history import history as history
    from upturn.improve.rehearse import rehearse as rehearse
    from upturn.improve.rehearsing.vary import vary as vary
    from upturn.improve.rollout import approval as approval
    from upturn.improve.rollout import beats as beats
    from upturn.improve.rollout import canary as canary
    from upturn.improve.rollout import full as full
    from upturn.improve.rollout import no_worse as no_worse
    from upturn.improve.rollout import shadow as shadow
    from upturn.improve.triggers import after as after
    from upturn.improve.triggers import alarm as alarm
    from upturn.improve.triggers import drift as drift
    from upturn.improve.triggers import drop as drop
    from upturn.improve.triggers import rows as rows
    from upturn.improve.triggers import stale as stale
    from upturn.model.profile import profile as profile
    from upturn.model.user_model import Model as Model
    from upturn.scoring import score as score
    from upturn.scoring import version as version
    from upturn.stores.workspace import Workspace as Workspace
    from upturn.stores.workspace import connect as connect
    from upturn.stores.workspace import open_workspace as open_workspace

__version__ = "0.1.0"
provide(lambda: import_module("upturn.wiring").joining)

_HOMES = {
    "UpturnError": "core.errors",
    "Endpoint": "core.records",
    "Version": "core.records",
    "File": "develop.file",
    "Env": "develop.env",
    "env": "develop.env",
    "Flow": "develop.flow",
    "flow": "develop.flow",
    "checkpoint": "develop.checkpoint",
    "Run": "develop.handles",
    "runs": "develop.handles",
    "progress": "develop.progress",
    "Ref": "develop.ref",
    "register": "develop.register",
    "new_data": "develop.schedule.trigger",
    "new_version": "develop.schedule.trigger",
    "Step": "develop.step",
    "step": "develop.step",
    "log": "develop.track",
    "save": "develop.track",
    "show": "develop.track",
    "tag": "develop.track",
    "track": "develop.track",
    "tune": "develop.tune.loop",
    "Tuning": "develop.tune.result",
    "integers": "develop.tune.space",
    "uniform": "develop.tune.space",
    "Command": "improve.alerts.command",
    "Email": "improve.alerts.mail",
    "Slack": "improve.alerts.webhook",
    "Webhook": "improve.alerts.webhook",
    "Bandit": "improve.bandit.bandit",
    "LinTS": "improve.bandit.linear",
    "LinUCB": "improve.bandit.linear",
    "Thompson": "improve.bandit.thompson",
    "Experiment": "improve.experiment.experiment",
    "Count": "improve.experiment.metrics",
    "Mean": "improve.experiment.metrics",
    "Proportion": "improve.experiment.metrics",
    "Quantile": "improve.experiment.metrics",
    "Ratio": "improve.experiment.metrics",
    "non_inferior": "improve.experiment.metrics",
    "read_log": "improve.log",
    "Loop": "improve.loop",
    "Monitor": "improve.monitor.monitor",
    "evaluate_policy": "improve.offpolicy.evaluate",
    "compare": "develop.side_by_side",
    "compare_tables": "improve.monitor.tables",
    "history": "improve.past.history",
    "rehearse": "improve.rehearse",
    "vary": "improve.rehearsing.vary",
    "budget": "improve.limits",
    "quiet": "improve.limits",
    "approval": "improve.rollout",
    "beats": "improve.rollout",
    "canary": "improve.rollout",
    "full": "improve.rollout",
    "no_worse": "improve.rollout",
    "shadow": "improve.rollout",
    "after": "improve.triggers",
    "alarm": "improve.triggers",
    "drift": "improve.triggers",
    "drop": "improve.triggers",
    "rows": "improve.triggers",
    "stale": "improve.triggers",
    "score": "scoring",
    "version": "scoring",
    "profile": "model.profile",
    "Model": "model.user_model",
    "Workspace": "stores.workspace",
    "connect": "stores.workspace",
    "open_workspace": "stores.workspace",
}
# The names are said once, in the table; type checkers see the imports above.
__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for, so that `import upturn` costs little."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'upturn' has no attribute {name!r}")
    found = getattr(import_module(f"upturn.{home}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
