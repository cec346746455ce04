"""`upturn run FILE:FLOW`: the flow's signature is its command line."""

from __future__ import annotations

import contextlib
import signal
import types
import typing
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import click

from upturn.cli.reporter import terminal_reporter
from upturn.cli.target import load_target, target_file
from upturn.core.settings import load_settings
from upturn.develop import handles
from upturn.develop.flow import Flow, FlowParam, type_name
from upturn.develop.run import start_run
from upturn.develop.warm import warm_up
from upturn.stores.workspace import open_workspace

if TYPE_CHECKING:
    from upturn.cli.live import Live
    from upturn.cli.progress import Lines
    from upturn.core.records import Run


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("--fresh", is_flag=True, help="Run every step, whatever is known already.")
@click.option("--start", "started", hidden=True)  # what a schedule says: see develop/schedule
@click.argument("target", metavar="FILE:FLOW")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[--PARAM VALUE]...")
def command(fresh: bool, started: str | None, target: str, arguments: tuple[str, ...]) -> int:
    """Run a flow. Its parameters are options: upturn run flights.py:delays --start 2013-01-01

    `upturn run FILE:FLOW --help` lists them.
    """
    settings = load_settings()
    file, _ = target_file(target)
    warm_up(settings, file)  # workers import what the file imports while it is loaded here
    flow = load_target(target, Flow)
    if started is not None:
        return _started(flow, started)
    return _command_of(flow, target, fresh).main(
        list(arguments), prog_name=f"upturn run {target}", standalone_mode=False
    )


def _started(flow: Flow[..., Any], text: str) -> int:
    """Run the flow as a schedule says."""
    from upturn.develop.overlap import checked
    from upturn.develop.schedule.start import decoded, params_of

    start = decoded(text)
    if start.overlap:
        flow.overlap = checked(start.overlap, flow.name)
    return execute(flow, flow.convert(params_of(flow.params, start)), run_id=start.run)


def _command_of(flow: Flow[..., Any], target: str, fresh: bool) -> click.Command:
    options: list[click.Parameter] = [_option(param) for param in flow.params]
    fresh_option = click.Option(["--fresh"], is_flag=True, expose_value=False, hidden=True)
    taken = {param.name for param in flow.params}

    def run(**given: Any) -> int:
        params = {name: _list_of(value) for name, value in given.items() if value not in (None, ())}
        return execute(flow, flow.convert(params), fresh=fresh)

    if "fresh" not in taken:
        fresh_option = click.Option(["--fresh", "_fresh"], is_flag=True, help="Run every step.")
        options.append(fresh_option)

    def entry(**given: Any) -> int:
        nonlocal fresh
        fresh = given.pop("_fresh", False) or fresh
        return run(**given)

    help_text = flow.function.__doc__ or f"The flow {flow.name}."
    return click.Command(target, params=options, callback=entry, help=help_text)


def _option(param: FlowParam) -> click.Option:
    name = f"--{param.name.replace('_', '-')}"
    many = _is_list(param.type)
    if param.type is bool:
        name = f"{name}/--no-{param.name.replace('_', '-')}"
    shown = "" if param.required else f"  [default: {param.default}]"
    return click.Option(
        [name, param.name],
        type=bool if param.type is bool else str,
        default=None,
        multiple=many,
        help=f"{type_name(param.type)}{shown}",
        metavar=None if param.type is bool else "VALUE",
    )


def _is_list(kind: Any) -> bool:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return any(_is_list(part) for part in typing.get_args(kind))
    return kind is list or typing.get_origin(kind) in (list, tuple, set)


def _list_of(value: Any) -> Any:
    """--depths 3 --depths 6 and --depths 3,6 are the same."""
    if not isinstance(value, tuple):
        return value
    texts = typing.cast("tuple[str, ...]", value)
    return [part.strip() for text in texts for part in text.strip("[]").split(",")]


def execute(
    flow: Flow[..., Any],
    params: dict[str, Any],
    *,
    fresh: bool = False,
    resume: Run | None = None,
    run_id: str | None = None,
) -> int:
    """Run a flow in the terminal; 0, or 1 when it failed. Ctrl-C says how to resume, and passes."""
    workspace = open_workspace()
    try:
        with interruptible("Resume with: upturn resume {run}") as lines:
            handle = start_run(
                flow,
                params,
                workspace=workspace,
                reporter=lines,
                fresh=fresh,
                resume=resume,
                run_id=run_id,
            )
        return _conclude(handle)
    finally:
        workspace.close()


@contextlib.contextmanager
def interruptible(way_on: str) -> Generator[Lines | Live]:
    """What reports a run to the terminal; after Ctrl-C it says how to go on, in which run."""
    lines = terminal_reporter()
    # What a service manager or a closing terminal says is what Ctrl-C says.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(ending, signal.default_int_handler)
    try:
        yield lines
    except KeyboardInterrupt:
        lines.close()
        if lines.run is not None:
            click.echo(way_on.format(run=lines.run.id), err=True)
        raise
    finally:
        lines.close()


def _conclude(handle: handles.Run) -> int:
    from upturn.cli import print_problem

    if handle.status == "done":
        result = handle.result()
        if result is not None and not isinstance(result, list | dict | tuple):
            click.echo(_result_text(result))
        return 0
    problem = handle.problem
    if handle.status == "skipped":
        why = problem.message if problem is not None else ""
        click.echo(f"Run {handle.id} was skipped. {why}", err=True)
        return 0
    if problem is not None:
        task = problem.fields.get("task")
        if task:
            click.secho(f"{task} failed:", err=True, fg="red", bold=True)
        print_problem(problem)
        if task:
            click.echo(f"What it printed: upturn logs {task.removeprefix('run/')}", err=True)
    click.echo(f"Resume with: upturn resume {handle.id}", err=True)
    return 1


def _result_text(result: Any) -> str:
    from upturn.core.records import Version

    if isinstance(result, Version):
        metrics = "".join(f"  {name} {value:.4g}" for name, value in result.metrics.items())
        return f"Registered {result.name}{metrics}\nServe it with: upturn deploy {result.name}"
    text = str(result)
    return text if len(text) < 2000 else text[:2000] + " …"
