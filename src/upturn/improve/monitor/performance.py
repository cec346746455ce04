"""Performance: how good the answers were as far as the truth is known, and how far that is."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.schema import Signature
from upturn.improve.metrics import Floats, base_rate, default_metrics, get_metric


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics over the labelled rows of some predictions; nan where one is not defined.

    `completeness` is labelled / rows, nan without rows. `values` holds the base rate of the labels
    (their mean) beside the metrics.
    """

    rows: int
    labelled: int
    completeness: float
    values: dict[str, float]


def outcomes(joined: pa.Table, signature: Signature | None = None) -> Floats:
    """The labels as numbers, one a row: nan where not known.

    With a signature that names two classes, a label is 1 if it is the second class, 0 if it is the
    first, and nan if it is neither; without, text that is no number is nan.

    >>> table = pa.table({"label": ["late", "in time", None]})
    >>> from upturn.core.schema import Signature
    >>> outcomes(table, Signature(inputs=(), output="probability", classes=("in time", "late")))
    array([ 1.,  0., nan])
    """
    labels = joined["label"].combine_chunks()
    classes = signature.classes if signature and len(signature.classes) == 2 else ()
    keys = [_key(value) for value in classes]
    if pa.types.is_string(labels.type) or pa.types.is_large_string(labels.type):
        places = {key: float(place) for place, key in enumerate(keys)}
        return np.array([_outcome(label, places) for label in labels.to_pylist()], np.float64)
    numbers = np.asarray(labels.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    if not keys or any(isinstance(key, str) for key in keys):
        return numbers  # false and true, or 0 and 1, whatever the classes are called
    return np.where(numbers == keys[1], 1.0, np.where(numbers == keys[0], 0.0, np.nan))


def scores(joined: pa.Table) -> Floats:
    """The scores, one a row; nan where a prediction has none."""
    found = joined["score"].combine_chunks().cast(pa.float64())
    return np.asarray(found.to_numpy(zero_copy_only=False), np.float64)


def days(joined: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The UTC day of each row's `at`, as days since 1970: the blocks of a comparison."""
    at = joined["at"].combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False)
    return np.floor_divide(np.asarray(at, np.int64), 86_400_000_000)


def performance(
    joined: pa.Table,
    metrics: Sequence[str] | None = None,
    *,
    signature: Signature | None = None,
) -> Performance:
    """The metrics of a table as LogView.joined returns it, over rows with a label and a score.

    The metrics are those that fit the signature's output, probabilities if there is none. For a
    model that answers labels, `accuracy` is the share of answers equal to the label. Raises
    NotFound for a metric that does not exist.
    """
    output = signature.output if signature else "probability"
    metrics = default_metrics(output) if metrics is None else metrics
    labelled = joined.num_rows - joined["label"].null_count
    if output in ("label", "scores"):
        values = {"accuracy": _right_answers(joined)} if "accuracy" in metrics else {}
    else:
        labels, predicted = outcomes(joined, signature), scores(joined)
        usable = ~(np.isnan(labels) | np.isnan(predicted))
        labels, predicted = labels[usable], predicted[usable]
        values = {"base_rate": base_rate(labels)}
        values |= {name: get_metric(name).function(labels, predicted) for name in metrics}
    return Performance(
        rows=joined.num_rows,
        labelled=labelled,
        completeness=labelled / joined.num_rows if joined.num_rows else float("nan"),
        values=values,
    )


def performance_by(
    joined: pa.Table,
    period: Literal["day", "month"],
    metrics: Sequence[str] | None = None,
    *,
    signature: Signature | None = None,
) -> dict[str, Performance]:
    """The performance of each UTC day ('2013-04-01') or month ('2013-04') of `at`, in order."""
    shape = "%Y-%m-%d" if period == "day" else "%Y-%m"
    names = pc.strftime(joined["at"], format=shape)
    found = sorted(filter(None, pc.unique(names).to_pylist()))
    return {
        name: performance(joined.filter(_equal(names, name)), metrics, signature=signature)
        for name in found
    }


def _equal(names: Any, name: str) -> Any:
    return pc.equal(names, pa.scalar(name, pa.string()))


def _outcome(label: str | None, places: dict[float | str, float]) -> float:
    if label is None:
        return float("nan")
    key = _key(label)
    if places:
        return places.get(key, float("nan"))
    return key if isinstance(key, float) else float("nan")


def _key(value: str | int | bool) -> float | str:
    """A class or a label as what it is compared by: '1', 1, 1.0 and true are the same."""
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return float(value.lower() == "true")
    try:
        return float(value)
    except ValueError:
        return str(value)


def _right_answers(joined: pa.Table) -> float:
    labels = joined["label"].to_pylist()
    answers = joined["answer"].to_pylist()
    pairs = [
        (a, b) for a, b in zip(labels, answers, strict=True) if a is not None and b is not None
    ]
    if not pairs:
        return float("nan")
    return sum(_same(label, msgspec.json.decode(answer)) for label, answer in pairs) / len(pairs)


def _same(label: float | str, answer: object) -> bool:
    if isinstance(answer, bool | int | float) and isinstance(label, float):
        return label == float(answer)
    return str(label) == str(answer)
