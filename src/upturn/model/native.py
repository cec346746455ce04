"""Native calls: a booster on a matrix of numbers, without the tables that its wrapper makes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from upturn.core.schema import Field, Signature
from upturn.model.estimator import Estimator
from upturn.model.frames import Frames, schema_of, typed_categories

_PROBES = 64
_Call = Callable[[pa.Table], Any]
MatrixCall = Callable[[np.ndarray], Any]


def native_call(
    model: Any, estimator: Estimator, signature: Signature, frames: Frames, call: _Call
) -> MatrixCall | None:
    """A faster function of a matrix (`Frames.codes`) with the same answers as `call`, or None.

    That they are the same is tried on rows made up from the signature: a wrapper with a transform,
    a threshold or a format of its own gives other numbers and keeps its own call.
    """
    if estimator.library not in ("lightgbm", "xgboost") or not frames.are_codes:
        return None
    predict = _booster_predict(model, estimator.library)
    if predict is None:
        return None
    try:
        probes = probe_rows(signature)
        same = _same(call(probes), predict(frames.codes(probes)), signature)
    except Exception:  # noqa: BLE001 (any model's code runs here; its own call will report it)
        return None
    return predict if same else None


def probe_rows(signature: Signature) -> pa.Table:
    """Rows that fit the signature, around its examples, with every category and missing values."""
    random = np.random.default_rng(0)
    columns = [_probes(field, random) for field in signature.inputs]
    return pa.Table.from_arrays(columns, schema=schema_of(signature.inputs))


def _probes(field: Field, random: np.random.Generator) -> Any:
    if field.categorical:
        known = typed_categories(field)
        choice: Any = [*range(len(known)), None]
        places = [choice[place] for place in random.integers(0, len(choice), _PROBES)]
        return known.take(pa.array(places, pa.int64()))
    missing = random.random(_PROBES) < (0.1 if field.nullable else 0.0)
    if field.type == "bool":
        return pa.array(random.random(_PROBES) < 0.5, pa.bool_(), mask=missing)
    example = float(field.example) if isinstance(field.example, int | float) else 1.0
    spread = example * random.normal(1, 1, _PROBES) * 10 ** random.uniform(-1, 1, _PROBES)
    spread += random.integers(-2, 3, _PROBES)
    if field.type == "int":
        return pa.array(np.clip(spread, -(2**53), 2**53).astype(np.int64), mask=missing)
    return pa.array(spread, mask=missing)


def _same(slow: Any, fast: Any, signature: Signature) -> bool:
    slow, fast = np.asarray(slow, np.float64), np.asarray(fast, np.float64)
    if signature.output == "probability" and slow.ndim == 2 and fast.ndim == 1:
        slow = slow[:, 1]
    return slow.shape == fast.shape and np.array_equal(slow, fast, equal_nan=True)


def _booster_predict(model: Any, library: str) -> Callable[[np.ndarray], Any] | None:
    if library == "lightgbm":
        booster = model if type(model).__name__ == "Booster" else model.booster_
        # One thread: starting more costs longer than so small a matrix takes.
        return lambda matrix: booster.predict(matrix, num_threads=1 if len(matrix) < 512 else 0)
    booster = model if type(model).__name__ == "Booster" else model.get_booster()
    best = booster.attr("best_iteration")
    missing: float = getattr(model, "missing", np.nan)
    trees = (0, 0) if best is None else (0, int(best) + 1)
    return lambda matrix: booster.inplace_predict(
        matrix, iteration_range=trees, missing=missing, validate_features=False
    )
