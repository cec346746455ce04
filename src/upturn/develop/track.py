"""What a task says of itself while it runs: metrics and exhibits."""

import math
from typing import Any

from upturn.core.errors import Invalid
from upturn.core.executor import Logged
from upturn.develop import context
from upturn.stores import values


def log(*, step: int | None = None, **metrics: float) -> None:
    """Record metrics of the running task; `step=i` for a curve. Outside a task it does nothing.

    >>> import upturn as up
    >>> up.log(auc=0.71)
    """
    numbers = {name: _number(name, value) for name, value in metrics.items()}
    task = context.task.get()
    if task is not None and numbers:
        task.send(Logged(task.call.id, numbers, step))
    listener = context.listener.get()
    if listener is not None and numbers:
        listener(numbers, step)


def show(thing: Any, title: str = "") -> None:
    """Put a figure, a table, HTML or text on the run's page. Outside a task it does nothing.

    Figures are what has `savefig` (matplotlib) or `_repr_html_`, `_repr_png_` or `_repr_svg_` as
    notebooks show it (plotly, pandas, polars, PIL); everything else is shown as its `str`.
    """
    task = context.task.get()
    if task is None:
        return
    media, data = _rendered(thing)
    artifact = values.save(task.workspace.blobs, data)
    task.send(Logged(task.call.id, {}, None, title or type(thing).__name__, media, artifact))


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise Invalid(
            f"The metric {name!r} is {value!r}, not a number.",
            hint="up.show() takes text, tables and figures.",
        ) from None
    return number if math.isfinite(number) else math.nan


def _rendered(thing: Any) -> tuple[str, bytes]:
    if isinstance(thing, str):
        return "text/plain", thing.encode()
    if hasattr(thing, "savefig"):
        import io

        buffer = io.BytesIO()
        thing.savefig(buffer, format="svg")
        return "image/svg+xml", buffer.getvalue()
    for method, media in (
        ("_repr_html_", "text/html"),
        ("_repr_svg_", "image/svg+xml"),
        ("_repr_png_", "image/png"),
    ):
        render = getattr(thing, method, None)
        data = render() if callable(render) else None
        if isinstance(data, str):
            return media, data.encode()
        if isinstance(data, bytes):
            return media, data
    return "text/plain", str(thing).encode()
