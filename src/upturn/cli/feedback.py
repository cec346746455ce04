"""`upturn feedback NAME FILE`: the truth, when it arrives, from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from upturn.cli.changed import changed

if TYPE_CHECKING:
    from upturn.core.settings import Settings
    from upturn.improve.feedback import FeedbackReceipt
    from upturn.stores.workspace import Workspace


_AT_ONCE = 5000  # labels in one request
_REFUSED = 400


@click.command("feedback")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON.")
def command(name: str, file: Path, as_json: bool) -> None:
    """Join the labels in FILE to the predictions of endpoint NAME.

    FILE is Parquet, CSV or JSON lines with the columns prediction_id (or id), label and, where the
    truth was known before now, known_at.
    """
    import msgspec

    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        receipt = _join(workspace, name, file)
        changed(workspace, "feedback", f"endpoint/{name}", f"{receipt.accepted} labels")
    finally:
        workspace.close()
    if as_json:
        click.echo(msgspec.json.encode(receipt).decode())
        return
    for line in describe(receipt):
        click.echo(line)


def describe(receipt: FeedbackReceipt) -> Iterator[str]:
    """What became of the labels, in a line or a few."""
    line = f"{receipt.accepted:,} {_labels(receipt.accepted)} joined"
    if receipt.unknown:
        named = ", ".join(receipt.unknown_ids)
        line += f", {receipt.unknown:,} of predictions that are not in the Log (first: {named})"
    if receipt.empty:
        line += f", {receipt.empty:,} rows without a label left out"
    yield line + "."
    if receipt.rejected_rows:
        yield f"{receipt.rejected_rows:,} {_labels(receipt.rejected_rows)} could not be read:"
        for problem in receipt.rejected[:3]:
            yield f"  {problem.message} {problem.hint}".rstrip()


def _labels(count: int) -> str:
    return "label" if count == 1 else "labels"


def _join(workspace: Workspace, name: str, file: Path) -> FeedbackReceipt:
    """Read the file with a progress bar on a terminal's standard error."""
    from rich.console import Console
    from rich.progress import Progress

    from upturn.core.time import utcnow
    from upturn.improve.feedback import file_feedback

    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task(f"Joining {file.name}", total=None)

        def progress(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        if workspace.is_remote:
            return _send(workspace.settings, name, file, progress)
        return file_feedback(workspace, name, file, now=utcnow(), progress=progress)


def _send(
    settings: Settings, name: str, file: Path, progress: Callable[[int, int | None], None]
) -> FeedbackReceipt:
    """Send the file's labels to the server, whose Log they belong to."""
    from urllib.parse import quote

    import msgspec

    from upturn.api.client import HttpClient, error_of
    from upturn.improve.feedback import FeedbackReceipt, read_chunks

    receipt, row = FeedbackReceipt(accepted=0), 0
    path = f"/v1/endpoints/{quote(name, safe='')}/feedback"
    headers = {"content-type": "application/json"}
    if settings.token:
        headers["authorization"] = f"Bearer {settings.token}"
    client = HttpClient(settings.server)
    try:
        for ids, labels, times, total in read_chunks(file):
            items = [
                {"id": one, "label": label} | ({} if at is None else {"known_at": at})
                for one, label, at in zip(ids, labels, times or [None] * len(ids), strict=True)
                if label is not None
            ]
            receipt += FeedbackReceipt(accepted=0, empty=len(ids) - len(items))
            for begin in range(0, len(items), _AT_ONCE):
                body = msgspec.json.encode({"feedback": items[begin : begin + _AT_ONCE]})
                status, _, data = client.ask("POST", path, body, headers)
                if status >= _REFUSED:
                    raise error_of(status, data)
                receipt += FeedbackReceipt(accepted=msgspec.json.decode(data)["accepted"])
            row += len(ids)
            progress(row, total)
    finally:
        client.close()
    return receipt
