"""Model: what users write whose model needs more than a predict method: files, and work around."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upturn.core.errors import ModelFailed


class Model:
    """A model of your own: loaded once a worker, with the files that it was registered with.

    `predict` is asked for one answer a row; `rows` are a table of the kind that the training data
    was. `pre` comes before it and `post` after it, for whoever likes them apart. What `load` sets
    is never stored: it is called on a fresh copy of the object, at registration too. `classes`
    names those whose probabilities `predict` answers, a column each.

    >>> class Doubled(Model):
    ...     def predict(self, rows):
    ...         return rows * self.factor
    ...
    ...     def load(self, files):
    ...         self.factor = 2
    >>> doubled = Doubled()
    >>> doubled.load({})
    >>> doubled.answer(21)
    42
    """

    classes: tuple[str | int | bool, ...] | None = None

    def load(self, files: Mapping[str, Path]) -> None:
        """Read what takes time to read. `files` are read-only copies, by their names."""

    def pre(self, rows: Any) -> Any:
        """What `predict` takes of the rows."""
        return rows

    def predict(self, rows: Any) -> Any:
        """One answer a row."""
        raise NotImplementedError(f"{type(self).__name__} has no predict method.")

    def post(self, answers: Any) -> Any:
        """What clients are told of the answers."""
        return answers

    def answer(self, rows: Any) -> Any:
        """The answers to rows: all three in turn."""
        return self.post(self.predict(self.pre(rows)))


def load_model(model: Model, files: Mapping[str, Path]) -> None:
    """Call its `load`. Raises ModelFailed when that does not end well."""
    try:
        model.load(files)
    except (Exception, SystemExit) as error:
        text = (str(error).strip().splitlines() or [""])[0]
        raise ModelFailed(
            f"{type(model).__name__}.load raised {type(error).__name__}: {text}",
            hint=f"Its files are: {', '.join(files) or 'none'}.",
        ) from error
