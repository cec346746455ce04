"""`upturn endpoints`: who answers, how much, how fast: live, from the server that runs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from upturn.stores.workspace import Workspace

Page = dict[str, Any]  # of an endpoint, as GET /v1/endpoints/NAME answers it
_EVERY_S = 1.0


@click.command()
@click.argument("name", required=False)
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print what the server says, as JSON.")
def command(name: str | None, watch: bool, as_json: bool) -> None:
    """Show endpoints with their live traffic and latency by arm, or one of them in detail."""
    from upturn.stores.workspace import open_workspace

    if watch and as_json:
        raise click.UsageError("--watch draws, and --json does not: choose one.")
    workspace = open_workspace()
    try:
        if as_json:
            _print_json(workspace, name)
        elif watch:
            _watch(lambda: _now(workspace, name))
        else:
            _print(workspace, name)
    finally:
        workspace.close()


def pages_of(workspace: Workspace, name: str | None) -> tuple[str | None, list[Page]]:
    """The server's address and the pages that it gives; without a server, what the store knows.

    Raises NotFound for an unknown endpoint, Unavailable when the server does not answer.
    """
    from upturn.core.errors import Unavailable
    from upturn.deploy.endpoint import get_endpoint
    from upturn.deploy.running import fetch, running_server

    if name is not None:
        get_endpoint(workspace, name)
    running = running_server(workspace)
    if running is None:
        return None, _stored(workspace, name)
    path = "/v1/endpoints" if name is None else f"/v1/endpoints/{name}"
    status, answer = fetch(running.url, path)
    if status == 404:  # it was made a moment ago
        return running.url, _stored(workspace, name)
    if status != 200:
        raise Unavailable(
            f"The server at {running.url} does not answer.", hint="Is it stopping? Ask again."
        )
    return running.url, [answer] if name is not None else answer["endpoints"]


def _stored(workspace: Workspace, name: str | None) -> list[Page]:
    from upturn.core.records import Endpoint, Route

    routes = {route.endpoint: route for route in workspace.meta.last_each(Route)}
    pages: list[Page] = []
    for endpoint in workspace.meta.last_each(Endpoint):
        if name not in (None, endpoint.name):
            continue
        route = routes.get(endpoint.name)
        pages.append(
            {
                "endpoint": endpoint.name,
                "route": route.revision if route else None,
                "model": endpoint.model_name,
                "unit": endpoint.unit,
                "durable": endpoint.durable,
                "arms": [
                    {
                        "arm": arm.name,
                        "version": f"{endpoint.model_name}:{arm.version}",
                        "share": arm.share,
                        "shadow": arm.shadow,
                    }
                    for arm in (route.arms if route else ())
                ],
            }
        )
    return pages


def _print_json(workspace: Workspace, name: str | None) -> None:
    import msgspec

    url, pages = pages_of(workspace, name)
    said: Any = pages[0] if name is not None else {"endpoints": pages}
    said = {"server": url, **said}
    click.echo(msgspec.json.format(msgspec.json.encode(said), indent=2).decode())


def _print(workspace: Workspace, name: str | None) -> None:
    from upturn.cli.render import console

    url, pages = pages_of(workspace, name)
    console().print(_view(url, pages, detail=name is not None))
    if url is not None and name is not None and "example" in pages[0]:
        click.echo(_curl(url, pages[0]))  # whole, however long: it is to be copied


def _watch(view: Callable[[], RenderableType]) -> None:
    from rich.live import Live

    from upturn.cli.render import console

    screen = console()
    if not screen.is_terminal:
        while True:
            screen.print(view())
            time.sleep(_EVERY_S)
    with Live(view(), console=screen, auto_refresh=False) as live:
        while True:
            time.sleep(_EVERY_S)
            live.update(view(), refresh=True)


def _now(workspace: Workspace, name: str | None) -> RenderableType:
    """What there is to see, even while the server is about to end."""
    from rich.text import Text

    from upturn.core.errors import Unavailable

    try:
        url, pages = pages_of(workspace, name)
    except Unavailable as error:
        return Text(str(error))
    return _view(url, pages, detail=name is not None)


# What is printed


def _view(url: str | None, pages: Sequence[Page], *, detail: bool) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    if not pages:
        return Text("No endpoints yet. Make one with: upturn deploy NAME")
    body = _detail(pages[0]) if detail else [_table(pages)]
    refused = [line for page in pages if (line := _refusal(page))]
    last = "No server runs. Start one with: upturn up" if url is None else f"{url}/v1/endpoints"
    return Group(*body, *refused, Text(last, style="dim"))


def _table(pages: Sequence[Page]) -> Table:
    columns = ("endpoint", "route", "arm", "version", "share", "req/s", "p50", "p99")
    table = _columns(*columns, "errors", "shed", "log")
    for page in pages:
        arms = page.get("arms") or [{}]
        for place, arm in enumerate(arms):
            head = (page["endpoint"], _number(page["route"])) if place == 0 else ("", "")
            tail = _tail(page) if place == 0 else ("", "", "")
            table.add_row(*_texts(*head, *_arm(arm), *_live(arm, ("p50_s", "p99_s")), *tail))
    return table


def _tail(page: Page) -> tuple[str, str, str]:
    counters = page.get("counters")
    if counters is None:
        return "", "", ""
    errors = counters["rejected"] + counters["failed"]
    return _number(errors), _number(sum(page["shed"].values())), _number(page["log_waiting"])


def _arm(arm: Page) -> tuple[str, str, str]:
    if not arm:
        return "", "", ""
    share = "shadow" if arm["shadow"] else f"{arm['share'] * 100:g} %"
    return arm["arm"], arm["version"], share


def _live(arm: Page, quantiles: Sequence[str]) -> list[str]:
    """Requests a second, and latencies: of late, or else since the server started."""
    recent = arm.get("recent")
    if recent is None:
        return [""] * (1 + len(quantiles))
    latencies = recent if recent["requests"] else arm
    return [
        rate_text(recent["requests_per_s"]),
        *(latency_text(latencies[name]) for name in quantiles),
    ]


def _detail(page: Page) -> list[RenderableType]:
    from rich.text import Text

    name = page["endpoint"]
    route = "no route" if page["route"] is None else f"route {page['route']}"
    lines: list[RenderableType] = [Text.assemble((name, "bold"), f"  {route}  {_kind(page)}")]
    if page.get("why"):
        lines.append(Text(f"  {page['why']}"))
    lines += [Text(f"  {line}") for line in _counted(page)]
    lines.append(_arms(page))
    if "fields" in page:
        lines += [Text(""), _fields(page)]
    if len(page.get("workers", ())) > 1:
        lines += [Text(""), _workers(page)]
    return lines


def _kind(page: Page) -> str:
    if "model" not in page:
        return ""
    unit = f", unit {page['unit']}" if page["unit"] else ""
    return f"model {page['model']}{unit}{', durable' if page['durable'] else ''}"


def _counted(page: Page) -> list[str]:
    counters = page.get("counters")
    if counters is None:
        return []
    asked = (
        f"{counters['requests']:,} requests ({rate_text(page['requests_per_s'])}/s), "
        f"{counters['rows']:,} rows; {counters['rejected']:,} rejected, {counters['failed']:,} "
        f"failed; {page['running']:,} running, {page.get('queue_rows', 0):,} rows queued"
    )
    log = f"Log: {page['log_waiting']:,} rows wait, {counters['log_lost']:,} lost"
    shed = ", ".join(f"{kind} {number:,}" for kind, number in sorted(page["shed"].items()))
    return [asked, log, *([f"shed: {shed}"] if shed else [])]


def _arms(page: Page) -> Table:
    table = _columns("arm", "version", "share", "requests", "rows", "req/s", "p50", "p90", "p99")
    for arm in page.get("arms", ()):
        total = (_number(arm.get("requests")), _number(arm.get("rows")))
        table.add_row(*_texts(*_arm(arm), *total, *_live(arm, ("p50_s", "p90_s", "p99_s"))))
    return table


def _fields(page: Page) -> Table:
    table = _columns("field", "type", "example", "categories")
    for field in page["fields"]:
        kind = f"{field['type']} or null" if field["nullable"] else field["type"]
        seen = field["categories"] or ()
        categories = ", ".join(seen[:8]) + (", …" if len(seen) > 8 else "")
        example = "" if field["example"] is None else str(field["example"])
        table.add_row(*_texts(field["name"], kind, example[:40], categories))
    return table


def _workers(page: Page) -> Table:
    from upturn.core.size import bytes_text

    table = _columns("worker", "route", "requests", "memory", "cpu")
    for worker in page["workers"]:
        state = _number(worker["route"]) if worker["ready"] else "loading"
        memory, cpu = bytes_text(worker["memory_bytes"]), f"{worker['cpu_s']:.1f} s"
        requests = _number(worker["requests"])
        table.add_row(*_texts(str(worker["pid"]), state, requests, memory, cpu))
    return table


def _refusal(page: Page) -> RenderableType | None:
    from rich.text import Text

    refused = page.get("refused")
    if refused is None:
        return None
    text = f"{page['endpoint']}: route {refused['route']} was refused: {refused['reason']}"
    return Text(text, style="red")


def _curl(url: str, page: Page) -> str:
    import msgspec

    body = shlex.quote(msgspec.json.encode(page["example"]).decode())
    return f"curl {url}{page['predict']} -H 'Content-Type: application/json' -d {body}"


def _columns(*names: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def _texts(*cells: str) -> list[Any]:
    """Cells in which brackets are brackets."""
    from rich.text import Text

    return [Text(cell) for cell in cells]


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def rate_text(per_s: float) -> str:
    """How often something happens in a second, to as many digits as mean something.

    >>> rate_text(12345.6), rate_text(58.88), rate_text(0.291), rate_text(0)
    ('12,346', '58.9', '0.29', '0')
    """
    if per_s >= 100:
        return f"{per_s:,.0f}"
    return f"{per_s:.1f}" if per_s >= 10 else f"{per_s:.2f}".rstrip("0").rstrip(".")


def latency_text(seconds: float | None) -> str:
    """A latency for people.

    >>> latency_text(0.000123), latency_text(0.00691), latency_text(0.25), latency_text(2.5)
    ('0.12 ms', '6.9 ms', '250 ms', '2.5 s')
    """
    if seconds is None:
        return ""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    ms = seconds * 1000
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms" if ms >= 1 else f"{ms:.2f} ms"
