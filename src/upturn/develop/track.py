"""What code says of itself while it runs: metrics, tags, files, and what is to be looked at."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from upturn.develop import context
from upturn.develop.tracking.journal import number_of

if TYPE_CHECKING:
    from upturn.core.tracking import StoredFile
    from upturn.develop.tracking.tracked import TrackedRun

_innermost = context.tracked.get


def log(*, step: int | None = None, **metrics: float) -> None:
    """Record metrics of the running task or tracked run; `step=i` for a curve.

    It takes some microseconds: the values are in a file that outlives the process, and are in the
    store within a fifth of a second. NaN and infinities are recorded as they are. Elsewhere than in
    a task or a tracked run it does nothing.

    >>> import upturn as up
    >>> up.log(auc=0.71)
    """
    sink = _innermost()
    if sink is None or sink.over:
        sink = context.sink()
    if sink is not None:
        sink.take(metrics, step)
    listener = context.listener.get()
    if sink is None or listener is not None:
        numbers = {name: number_of(name, value) for name, value in metrics.items()}
        if listener is not None and numbers:
            listener(numbers, step)


def show(thing: Any, title: str = "") -> None:
    """Put a figure, a table, HTML or text on the run's page. Outside a run it does nothing.

    Figures are what has `savefig` (matplotlib) or `_repr_html_`, `_repr_png_` or `_repr_svg_` as
    notebooks show it (plotly, pandas, polars, PIL); everything else is shown as its `str`.
    """
    sink = context.sink()
    if sink is not None:
        from upturn.develop.tracking.saving import show

        show(sink, thing, title)


def tag(**tags: Any) -> None:
    """Set tags of the run; None removes one. Outside a run it does nothing.

    >>> import upturn as up
    >>> up.tag(team="pricing", reviewed=None)
    """
    sink = context.sink()
    if sink is not None:
        from upturn.develop.tracking.tracked import tag_texts

        sink.note({"tags": tag_texts(tags)})


def save(thing: Any, name: str = "") -> "list[StoredFile]":
    """Keep a thing among the run's files; what was stored. Outside a run it does nothing.

    A path is the file there, or all files of the folder, under its own name unless one is given.
    Bytes and text are kept as they are, figures and images in the format that the name ends with,
    tables of pandas, polars and Arrow as Parquet (with their first rows on the run's page), arrays
    as .npy, dicts and lists as JSON, pages as HTML, and everything else as outputs of steps are.
    Where the name has no ending, it gets one.
    """
    sink = context.sink()
    if sink is None:
        return []
    from upturn.develop.tracking.saving import save

    return save(sink, thing, name)


def track(
    group: str,
    *,
    name: str = "",
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    note: str = "",
    project: str | None = None,
    system_metrics: bool | None = None,
    offline: bool = False,
) -> "TrackedRun":
    """A run of any code: in `with`, or from its `start()` to its `finish()`.

    Within, `up.log`, `up.show`, `up.tag` and `up.save` are of this run, in every thread. A run
    within a run is its child. It ends as done, as failed with the problem when it is left by an
    error, or as cancelled by Ctrl-C; one whose process was killed is seen as lost. With
    `system_metrics` it records each 10 s what its processes and the machine use.

    When the server that UPTURN_SERVER names is away, or with `offline`, everything is kept in the
    home, and `upturn sync` brings it to the server later.
    """
    from upturn.develop.tracking.tracked import TrackedRun

    return TrackedRun(
        group,
        name=name,
        params=params,
        tags=tags,
        note=note,
        project=project,
        system_metrics=system_metrics,
        offline=offline,
    )
