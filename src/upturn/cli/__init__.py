"""The command line: one file a noun."""

import sys
from importlib import import_module
from typing import Any

import click

from upturn.core.errors import Problem, UpturnError, did_you_mean

# name → module that defines its `command`, and one line of help: nothing is imported to list them
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "Run a flow: upturn run FILE:FLOW --param value"),
    "runs": ("runs", "List runs."),
    "show": ("show", "Show a run, or one of its tasks."),
    "why": ("why", "Say why a task ran, or did not."),
    "logs": ("logs", "Print what tasks printed."),
    "resume": ("resume", "Go on with a run that failed, was stopped or was lost."),
    "rerun": ("rerun", "Run one task again, with its inputs, on the current code."),
    "compare": ("compare", "Show runs side by side: what differs, and what came of it."),
    "sync": ("sync", "Bring runs that were tracked offline to the server."),
    "cancel": ("cancel", "End a run that goes on."),
    "models": ("models", "Show models and versions, and say what they are called."),
    "schedule": ("schedule", "Say when a flow, a loop or a monitor is to run."),
    "schedules": ("schedules", "Show what runs when; pause, resume and remove it."),
    "backfill": ("backfill", "Run a flow for each interval of a range."),
    "deploy": ("deploy", "Serve a model: from version to URL."),
    "endpoints": ("endpoints", "Show endpoints: live traffic and latency by arm."),
    "reload": ("reload", "Replace the server's worker processes, one by one."),
    "up": ("up", "Start the server: API, endpoints, schedules and loops."),
    "down": ("down", "End the servers of this store."),
    "rollback": ("rollback", "Go back to the route before."),
    "build": ("build", "Write a folder that serves an endpoint anywhere."),
    "score": ("score", "Score a file: Parquet or CSV in, Parquet out."),
    "feedback": ("feedback", "Bring the truth, when it arrives."),
    "log": ("log", "Show what an endpoint answered, or query it with SQL."),
    "profile": ("profile", "Show how the columns of a table are distributed, and keep it."),
    "drift": ("drift", "Say how far a table is from another, or from a model's data."),
    "monitor": ("monitor", "Show drift, performance and traffic of an endpoint."),
    "experiment": ("experiment", "Say what may be concluded from an experiment now."),
    "alerts": ("alerts", "Show what somebody should look at, and mute it."),
    "loop": ("loop", "Run a loop: retrain, judge, release."),
    "bandit": ("bandit", "Set shares of arms by what they earn."),
    "decisions": ("decisions", "Show what a loop decided, and why."),
    "rehearse": ("rehearse", "Backtest a loop on history."),
    "hooks": ("hooks", "Tell addresses of what happens: webhooks."),
    "lineage": ("lineage", "Trace a thing back to its sources, or forward."),
    "pin": ("pin", "Keep a run, a task or an artifact, whatever its age."),
    "unpin": ("unpin", "Keep it no longer than others."),
    "gc": ("gc", "Remove what nothing that is kept refers to."),
    "tokens": ("tokens", "Let others ask this server: make tokens, and revoke them."),
    "audit": ("audit", "Show who changed what."),
    "status": ("status", "Say where things are kept, and what is there."),
}


class _Commands(click.Group):
    """Imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = COMMANDS[cmd_name][0]
        command: click.Command = import_module(f"upturn.cli.{module}").command
        command.name = cmd_name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            hint = did_you_mean(args[0], COMMANDS)
            raise click.UsageError(f"No command {args[0]!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="upturn", message="upturn %(version)s")
def cli() -> None:
    """Upturn: develop, deploy and improve models, as one loop."""


def main() -> None:
    """Run the command line; every expected failure is one fact and one way out on stderr."""
    sys.exit(_status(sys.argv[1:]))


def _status(args: list[str]) -> int:
    from upturn.core.access import VIA

    asked_by = VIA.set("cli")
    try:
        result: Any = cli.main(args, prog_name="upturn", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except UpturnError as error:
        print_problem(error.problem)
        return error.exit_status
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.secho("Stopped.", err=True, fg="yellow")
        return 130
    except BrokenPipeError:
        sys.stdout = None  # type: ignore[assignment]  # the reader left; nothing more to flush to it
        return 0
    finally:
        VIA.reset(asked_by)


def print_problem(problem: Problem) -> None:
    """Fact, the user's own frames, and the way out."""
    from upturn.cli.tail import harmless

    click.secho(harmless(problem.message), err=True, fg="red")
    for frame in problem.frames:
        click.echo(f"  {frame.file}:{frame.line}, in {frame.function}", err=True)
        if frame.text:
            click.secho(f"    {frame.text}", err=True, bold=True)
    if problem.hint:
        click.echo(problem.hint, err=True)
