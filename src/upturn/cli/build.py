"""`upturn build NAME`: an endpoint as a folder that serves it anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from upturn.deploy.bundle.build import Built
    from upturn.deploy.bundle.lock import Uv


@click.command()
@click.argument("name", metavar="NAME[:N|@ALIAS]")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The folder to write: build/NAME by default.",
)
@click.option("--force", is_flag=True, help="Replace a folder that no build made, or that changed.")
def command(name: str, output: Path | None, force: bool) -> None:
    """Write a folder that serves endpoint NAME, or one version of a model, with no store at hand.

    It has the models, the modules of the project that they need, locked requirements, a Dockerfile
    and Kubernetes manifests.
    """
    from upturn.deploy.bundle.build import build
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        built = build(workspace, name, output, uv=_uv(), force=force)
    finally:
        workspace.close()
    _say(built)


def _uv() -> Uv | None:
    from upturn.core.errors import Unavailable
    from upturn.develop.uv import Job, find_uv

    try:
        find_uv()
    except Unavailable:
        return None
    return Job(lambda line: click.echo(f"  {line}", err=True)).run


def _say(built: Built) -> None:
    import shlex

    from upturn.core.size import bytes_text
    from upturn.deploy.route import describe_arms

    content, folder = built.content, shlex.quote(str(built.folder))
    for note in built.notes:
        click.secho(note, err=True, fg="yellow")
    where = click.style(str(built.folder), bold=True)
    click.echo(f"{where} serves {content.name}: {describe_arms(content.route.arms)}")
    locked = built.locked
    how = "with hashes" if locked.hashed else "by version"
    click.echo(
        f"  {bytes_text(built.model_bytes)} of models, {len(locked.packages)} packages locked "
        f"{how}, Python {locked.python}"
    )
    if built.code:
        more = f" and {len(built.code) - 5} more" if len(built.code) > 5 else ""
        click.echo(f"  Of your own: {', '.join(built.code[:5])}{more}")
    click.echo(f"  Here:      cd {folder} && pip install -r requirements.txt && upturn up")
    click.echo(f"  Container: docker build -t {built.label}:{content.tag} {folder}")
    click.echo(f"  Cluster:   see {folder}/README.md")
