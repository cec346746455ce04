"""`upturn compare`: runs side by side."""

import click

from upturn.cli.render import plain, print_table


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(runs: tuple[str, ...], as_json: bool) -> None:
    """Show the parameters that differ between runs, and their metrics."""
    from upturn.api.client import open_client
    from upturn.api.runs import COMPARE, CompareRuns

    with open_client() as client:
        found = client.call(COMPARE, CompareRuns(runs=runs))
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(found).decode())
        return
    rows = [
        (f"param.{plain(name)}", *(plain(value or "")[:40] for value in values))
        for name, values in found.params.items()
    ]
    rows += [
        (f"metric.{plain(name)}", *("" if one is None else f"{one:.6g}" for one in values))
        for name, values in found.metrics.items()
    ]
    if rows:
        print_table(("", *found.runs), rows)
    if found.same:
        same = " ".join(f"{name}={value}" for name, value in found.same.items())
        click.echo(f"The same in all: {same[:200]}")
    if not rows and not found.same:
        click.echo("These runs said nothing that could be compared.")
