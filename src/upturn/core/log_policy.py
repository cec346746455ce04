"""LogPolicy: what of an endpoint's rows the Log may hold: redaction and sampling, both pure."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Self

import msgspec

from upturn.core.log import Layout, Matrix, PredictionBatch
from upturn.core.records import Endpoint
from upturn.core.routing import SPACE, position

ANY_ARM = "*"
_SALT = "upturn log"  # the choice has nothing to do with the one of an arm
_WITHHELD = "The reason is not logged, since it may quote a field that is not to be."
_CELL = 8  # bytes of a number in a matrix


class LogPolicy:
    """What is written of the rows of an endpoint. Immutable; safe to share between threads.

    Fields in `redact` are in no row: not as a feature, and not as a unit if the endpoint's unit is
    one of them; the model's own words about a failure are left out too. `rates` says by arm which
    share of the rows is logged ('*' for all other arms, 1 where nothing is said). Whether a row is
    logged follows from its id and its arm's rate alone. So of two arms with the same id, the one
    with the lower rate is logged only where the other is, and a shadow's row has its pair.
    """

    def __init__(
        self,
        *,
        redact: Sequence[str] = (),
        rates: Mapping[str, float] | None = None,
        unit: str | None = None,
    ) -> None:
        self._redact = frozenset(redact)
        self._rates = dict(rates or {})
        self._other_rate = self._rates.get(ANY_ARM, 1.0)
        self._hides_unit = unit in self._redact
        self._trivial = not self._redact and all(rate >= 1.0 for rate in self._rates.values())
        self._narrowed = lru_cache(maxsize=64)(self._narrow)

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        """What the endpoint's record asks for."""
        return cls(redact=endpoint.redact, rates=endpoint.log_rates, unit=endpoint.unit)

    @property
    def trivial(self) -> bool:
        """Whether every row is logged whole."""
        return self._trivial

    def rate(self, arm: str) -> float:
        """The share of the arm's rows that is logged."""
        return self._rates.get(arm, self._other_rate)

    def apply(self, batch: PredictionBatch) -> PredictionBatch | None:
        """What is to be written of the batch; None for nothing."""
        if self._trivial:
            return batch
        rate = self.rate(batch.arm)
        if rate < 1.0:
            kept = [place for place, name in enumerate(batch.ids) if is_sampled(name, rate)]
            if not kept:
                return None
            changed: dict[str, Any] = {"rate": rate}
            if len(kept) < len(batch.ids):
                changed |= _rows(batch, kept)
            batch = msgspec.structs.replace(batch, **changed)
        return self._redacted(batch) if self._redact else batch

    def _redacted(self, batch: PredictionBatch) -> PredictionBatch:
        features = batch.features
        if isinstance(features, Matrix):
            features = self._without(features)
        elif features is not None:
            features = {n: values for n, values in features.items() if n not in self._redact}
        return msgspec.structs.replace(
            batch,
            features=features,
            units=None if self._hides_unit else batch.units,
            error=_WITHHELD if batch.error else "",
        )

    def _without(self, matrix: Matrix) -> Matrix:
        layout, places = self._narrowed(matrix.layout)
        if layout is matrix.layout:
            return matrix
        width, kept = len(matrix.layout.names), len(places)
        rows = len(matrix.data) // (_CELL * width)
        found = memoryview(bytearray(_CELL * rows * kept)).cast("d")
        cells = memoryview(matrix.data).cast("d")
        for column, place in enumerate(places):
            found[column::kept] = cells[place::width]
        return Matrix(layout, bytes(found))

    def _narrow(self, layout: Layout) -> tuple[Layout, tuple[int, ...]]:
        """The layout without what is redacted, and the places of what is left in the other one."""
        places = tuple(p for p, name in enumerate(layout.names) if name not in self._redact)
        if len(places) == len(layout.names):
            return layout, places
        names = [layout.names[place] for place in places]
        return Layout(names, "".join(layout.kinds[place] for place in places)), places


def is_sampled(prediction: str, rate: float) -> bool:
    """Whether the prediction of that id is among the share `rate` of all that is logged.

    >>> (
    ...     is_sampled("a", 1.0),
    ...     [is_sampled(str(i), 0.5) for i in range(1000)].count(True) in range(450, 550),
    ... )
    (True, True)
    """
    return position(prediction, _SALT) < rate * SPACE


def _rows(batch: PredictionBatch, places: Sequence[int]) -> dict[str, Any]:
    """The fields that have one entry a row, for those rows alone."""

    def pick(values: Any) -> Any:
        return [values[place] for place in places] if isinstance(values, list) else values

    features: Any = batch.features
    if isinstance(features, Matrix):
        width = _CELL * len(features.layout.names)
        rows = [features.data[place * width : place * width + width] for place in places]
        features = Matrix(features.layout, b"".join(rows))
    elif features is not None:
        features = {name: pick(values) for name, values in features.items()}
    names = ("ids", "at", "units", "propensity", "scores", "answers")
    return {name: pick(getattr(batch, name)) for name in names} | {"features": features}
