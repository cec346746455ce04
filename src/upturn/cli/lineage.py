"""`upturn lineage PATH`: from a prediction, a version or a run back to its sources, or forward."""

from collections.abc import Iterator

import click

from upturn.cli.tail import harmless
from upturn.core.errors import Invalid, NotFound
from upturn.core.ids import is_own_prediction_id, is_prediction_id
from upturn.core.lineage import Node, downstream, upstream
from upturn.core.records import Artifact, Edge, Endpoint, Run, Task
from upturn.stores.workspace import Workspace, open_workspace


@click.command()
@click.argument("path")
@click.option("--forward", is_flag=True, help="Everything that it touched, instead.")
def command(path: str, forward: bool) -> None:
    """Trace PATH back to everything that it rests on.

    PATH is the id of a prediction, NAME:VERSION, or what Upturn prints as a path: run/…, artifact/…
    """
    workspace = open_workspace()
    try:
        start, depth = _begin(workspace, path)
        meta = workspace.meta
        nodes = (
            downstream(start, lambda at: meta.select(Edge, source=at))
            if forward
            else upstream(start, lambda at: meta.select(Edge, target=at))
        )
        if len(nodes) == 1 and not depth:
            raise NotFound(
                f"Nothing is linked to {start}.", hint="Is it spelled as it was printed?"
            )
        for node, level in _as_tree(nodes, forward):
            click.echo(_line(workspace, node, level + depth))
    finally:
        workspace.close()


def _begin(workspace: Workspace, path: str) -> tuple[str, int]:
    """Where the walk over stored edges begins; a prediction's own steps are printed on the way."""
    if path.startswith("prediction/") or is_own_prediction_id(path):
        return _through_log(workspace, path.removeprefix("prediction/")), 2
    if ":" in path and "/" not in path:
        return f"version/{path}", 0
    if "/" in path:
        return path, 0
    try:  # perhaps a client's own id
        return _through_log(workspace, path), 2
    except NotFound:
        raise Invalid(
            f"{path!r} is no path.", hint="Write a prediction's id, NAME:VERSION, or run/ID/STEP/0."
        ) from None


def _through_log(workspace: Workspace, prediction: str) -> str:
    from upturn.improve.log import StoredLog

    named = workspace.meta.last_each(Endpoint) if is_prediction_id(prediction) else ()
    for endpoint in named:
        rows = StoredLog(workspace, endpoint.name).find(prediction)
        for row in rows:
            if row["shadow"]:
                continue
            said = (
                f"failed: {harmless(row['error'])}" if row["error"] else f"answered {row['answer']}"
            )
            click.echo(f"prediction/{prediction}  {row['at']:%Y-%m-%d %H:%M}Z  {said}")
            click.echo(
                f"  route/{endpoint.name}/{row['route']}  arm {row['arm']}, "
                f"propensity {row['propensity']:g}, {row['latency_s'] * 1000:.1f} ms"
            )
            return f"version/{endpoint.model_name}:{row['version']}"
    raise NotFound(
        f"No endpoint's Log holds the prediction {prediction}.",
        hint="What is not durable may take some milliseconds to arrive.",
    )


def _as_tree(nodes: list[Node], forward: bool) -> Iterator[tuple[Node, int]]:
    """The nodes in the order of a tree, each below the one that led to it, with its level."""
    below: dict[str, list[Node]] = {}
    for node in nodes[1:]:
        assert node.edge is not None
        below.setdefault(node.edge.source if forward else node.edge.target, []).append(node)
    stack = [(nodes[0], 0)]
    while stack:
        node, level = stack.pop()
        yield node, level
        stack.extend((child, level + 1) for child in reversed(below.get(node.path, [])))


def _line(workspace: Workspace, node: Node, level: int) -> str:
    role = f"{node.edge.role}: " if node.edge is not None else ""
    return f"{'  ' * level}{role}{_short(node.path)}{_about(workspace, node)}"


def _short(path: str) -> str:
    kind, _, rest = path.partition("/")
    return f"{kind}/{rest[:12]}" if kind in ("artifact", "code", "file") else path


def _about(workspace: Workspace, node: Node) -> str:
    kind, _, rest = node.path.partition("/")
    if kind == "artifact":
        known = workspace.meta.find(Artifact, rest)
        return f"  {known.type} {known.summary}".rstrip() if known is not None else ""
    if kind == "file":
        return _file_name(workspace, node)
    if kind == "run":
        return _task_text(workspace, rest)
    return ""


def _file_name(workspace: Workspace, node: Node) -> str:
    """The path by which a task was given the file."""
    if node.edge is None:
        return ""
    for end in (node.edge.target, node.edge.source):
        parts = end.split("/")
        if parts[0] == "run" and len(parts) == 4:
            task = workspace.meta.find(Task, parts[1], parts[2], int(parts[3]))
            names = {f"file/{item.digest}": item.path for item in task.inputs} if task else {}
            return f"  {names.get(node.path) or ''}".rstrip()
    return ""


def _task_text(workspace: Workspace, rest: str) -> str:
    parts = rest.split("/")
    run = workspace.meta.find(Run, parts[0])
    if run is None or len(parts) < 3:
        return ""
    params = " ".join(f"{name}={value}" for name, value in run.params.items())
    return f"  {run.entry} {params}".rstrip()
