"""Forms: a model's faster equal form, made and proven at registration, chosen by size later."""

import logging
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from upturn.core.errors import ModelFailed, Unfit
from upturn.core.records import Artifact, Form, Timing, Version
from upturn.core.schema import Signature
from upturn.model.adapters import (
    Predictions,
    Predictor,
    load_predictor,
    matrix_predict,
    predictions,
)
from upturn.model.choice import SIZES, WORTH_LOADING, Use, crossover, uses
from upturn.model.frames import Frames
from upturn.model.matrix import is_matrix
from upturn.model.native import probe_rows
from upturn.model.onnx_form import NotOurs, TooLarge, candidates
from upturn.model.onnx_session import OnnxCall, give_back_memory
from upturn.model.proof import (
    TOLERANCE,
    Compared,
    compare,
    new_text_rows,
    prove,
    raises_beyond,
    raises_on_new_text,
    sample_of,
)
from upturn.model.trees import NoForm
from upturn.stores import values
from upturn.stores.workspace import Workspace

_EXTRA = "the libraries for it are not installed: pip install 'upturn[onnx]'"
_FEW = 200  # rows
_PROOF_S = 2.0  # for the model's own answers
_TIMED_S = 0.004  # for one form and size
_SLOW_S = 0.25  # a batch that takes longer ends the timing: the larger ones would take too long
_Rows = TypeVar("_Rows")
_Said = TypeVar("_Said")
_log = logging.getLogger("upturn.model")


# Made at registration


def make_form(model: Any, plain: Predictor, table: pa.Table) -> tuple[Form, bytes | None]:
    """What came of making the model's form, and its bytes when it is equal and ever faster.

    `table` has the training rows. Never raises: what stands in the way is in the Form.
    """
    try:
        ways = candidates(model, plain.signature)
        import onnx  # noqa: F401  # pyright: ignore[reportUnusedImport]
        import onnxruntime  # noqa: F401  # pyright: ignore[reportUnusedImport, reportMissingTypeStubs]
    except (NoForm, ImportError) as error:
        return _none(_reason(error)), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sample = sample_of(Frames(plain.signature).typed(table))
        return _best(ways, plain, sample_of(sample, _affordable(plain, sample)))


def _best(
    ways: Sequence[Callable[[], bytes]], plain: Predictor, sample: pa.Table
) -> tuple[Form, bytes | None]:
    """The first that is equal; else why the best of those tried is not."""
    refused: Form | None = None
    reasons: list[str] = []
    for make in ways:
        try:
            data = make()
            form = _tried(data, plain, sample)
        except NotOurs:
            continue
        except TooLarge as error:
            return _none(str(error)), None
        except Exception as error:  # noqa: BLE001 (converters raise whatever they like)
            reasons.append(_reason(error))
            continue
        if form.equal:
            never = crossover(form.timings, gain=WORTH_LOADING) == 0
            return form, None if never else data
        if refused is None or form.differ < refused.differ:
            refused = form
    return refused or _none(reasons[0] if reasons else "there is no way to make it"), None


def _affordable(plain: Predictor, sample: pa.Table) -> int:
    """How many rows the model predicts in the time that a proof may take."""
    few = sample.slice(0, _FEW)
    try:
        plain.predict(few)
        began = perf_counter()
        plain.predict(few)
    except ModelFailed:
        return sample.num_rows
    return max(_FEW, int(few.num_rows * _PROOF_S / max(perf_counter() - began, 1e-6)))


def _none(why: str) -> Form:
    return Form(equal=False, why=why)


def _reason(error: Exception) -> str:
    if isinstance(error, ImportError):
        return _EXTRA
    if isinstance(error, NoForm):
        return str(error)
    text = " ".join(str(error).split()).rstrip(".")[:160]
    return f"it can't be converted ({type(error).__name__}: {text})"


def _tried(data: bytes, plain: Predictor, sample: pa.Table) -> Form:
    signature = plain.signature
    call = OnnxCall(data, signature)

    def predict(rows: pa.Table) -> Predictions:
        return predictions(call.table(rows), rows.num_rows, signature)

    found = prove(plain.predict, predict, sample, signature)
    draft = Form(
        equal=found.equal,
        why="",
        rows=found.rows,
        differ=found.differ,
        largest=float(f"{found.largest:.3g}") if np.isfinite(found.largest) else -1.0,
        tolerance=TOLERANCE,
        libraries=_libraries(),
    )
    if not found.equal:
        return msgspec.structs.replace(draft, why=_differs(found))
    draft = msgspec.structs.replace(draft, limit=raises_beyond(plain.predict, sample, signature))
    why_not, known_text = _new_text(plain, predict, sample)
    if why_not:
        return msgspec.structs.replace(draft, equal=False, why=why_not)
    draft = msgspec.structs.replace(draft, known_text=known_text, why=_same(found))
    form = form_predictor(call.guarded(draft), signature)
    return msgspec.structs.replace(draft, timings=timed(form, plain, sample))


def _new_text(
    plain: Predictor, predict: Callable[[pa.Table], Predictions], sample: pa.Table
) -> tuple[str, bool]:
    """Why text not seen in training makes the form another one, if it does; whether the model
    raises on it."""
    signature = plain.signature
    texts = [one for one in signature.inputs if one.type == "str" and not one.categorical]
    if not texts:
        return "", False
    if raises_on_new_text(plain.predict, sample, signature):
        all_known = all(one.categories is not None for one in texts)
        return "" if all_known else "the model raises on text that it has not seen", True
    rows = new_text_rows(sample, signature)
    more = compare(plain.predict(rows), predict(rows), signature)
    return "" if more.equal else "it takes text not seen in training otherwise", False


def _same(found: Compared) -> str:
    notes = "".join(f"; {note}" for note in found.notes)
    return f"the same on {found.rows:,} rows within {TOLERANCE:g}{notes}"


def _differs(found: Compared) -> str:
    return f"{found.differ:,} of {found.rows:,} rows differ by up to {found.largest:.2g}"


def _libraries() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("onnx", "onnxruntime", "skl2onnx"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def store_form(workspace: Workspace, data: bytes) -> Artifact:
    """Store a form's bytes, without pickle."""
    saved = values.save(workspace.blobs, np.frombuffer(data, np.uint8), sync=True)
    return msgspec.structs.replace(saved, type="onnx.ModelProto", summary=f"{len(data):,} bytes")


# Timed


def timed(form: Predictor, plain: Predictor, sample: pa.Table) -> tuple[Timing, ...]:
    """How long both take for batches of the typed rows, repeated where they are too few."""
    found: list[Timing] = []
    for rows in SIZES:
        batch = sample.take(np.arange(rows) % sample.num_rows)
        pair = _best_time(form, batch), _best_time(plain, batch)
        found.append(Timing(rows, *(float(f"{one:.3g}") for one in pair)))
        if max(pair) > _SLOW_S:
            break
    return tuple(found)


def _best_time(predictor: Predictor, batch: pa.Table) -> float:
    rows: Any = batch
    call: Callable[[Any], Predictions] = predictor.predict
    if predictor.predict_matrix is not None:
        rows, call = Frames(predictor.signature).codes(batch), predictor.predict_matrix
    best, ends = np.inf, perf_counter() + _TIMED_S
    call(rows)  # the first call of a size may allocate
    while True:
        began = perf_counter()
        call(rows)
        now = perf_counter()
        best = min(best, now - began)
        if now > ends:
            return best


# Served


def load_forms(workspace: Workspace, version: Version) -> Predictor:
    """The version's model as a Predictor that answers in the form that is faster for the rows.

    `Predictor.forms` says which for how many. The plain model is only loaded, with the library that
    it needs, where the figures of the registration say that it is faster by far; both are timed
    again here then. Raises NotFound or Corrupt when the model can't be had.
    """
    form, digest = version.form, version.form_artifact
    if form is None or not form.equal:
        return _plain(workspace, version, form.why if form is not None else "no form was tried")
    if digest is None:
        return _plain(workspace, version, "", form.timings)
    limit = crossover(form.timings, gain=WORTH_LOADING)
    try:
        data = values.load(workspace.blobs, digest).tobytes()
        call = OnnxCall(data, version.signature).guarded(form)
    except Exception as error:  # noqa: BLE001 (the model itself is there to answer)
        why = f"the ONNX form can't be loaded here: {_reason(error)}"
        _log.warning("%s: %s.", version.name, why)
        return _plain(workspace, version, why)
    del data
    give_back_memory()
    fast = form_predictor(call, version.signature)
    if limit is None:
        fast.forms = uses(None, "plain", form.timings)
        return fast
    return chosen(fast, load_predictor(workspace, version), form.timings)


def _plain(
    workspace: Workspace, version: Version, why: str, timings: tuple[Timing, ...] = ()
) -> Predictor:
    predictor = load_predictor(workspace, version)
    kind = "native" if predictor.native else "plain"
    predictor.forms = (Use(kind, 1, None, why),) if why else uses(0, kind, timings)
    return predictor


def form_predictor(call: OnnxCall, signature: Signature) -> Predictor:
    """A form as a Predictor."""
    predictor = Predictor(signature, Frames(signature), call.table, native=False)
    if call.matrix is not None and is_matrix(signature):
        predictor.predict_matrix = matrix_predict(call.matrix, signature)
    return predictor


def chosen(form: Predictor, plain: Predictor, recorded: Sequence[Timing]) -> Predictor:
    """Both as one that picks by the number of rows, as the two are timed here and now."""
    try:
        timings = timed(form, plain, probe_rows(form.signature))
    except ModelFailed:  # rows made up may be none that it takes
        timings = tuple(recorded)
    limit = crossover(timings)
    kind = "native" if plain.native else "plain"
    if limit is None or limit == 0:
        only = plain if limit == 0 else form
        only.forms = uses(limit, kind, timings)
        return only
    most = limit

    def either(rows: pa.Table) -> Any:
        return form.call(rows) if rows.num_rows <= most else _said(form.call, plain.call, rows)

    picked = Predictor(form.signature, Frames(form.signature), either, native=plain.native)
    small, large = form.predict_matrix, plain.predict_matrix
    if small is not None and large is not None:

        def on_matrix(matrix: np.ndarray) -> Predictions:
            return small(matrix) if len(matrix) <= most else _said(small, large, matrix)

        picked.predict_matrix = on_matrix
    picked.forms = uses(limit, kind, timings)
    return picked


def _said(form: Callable[[_Rows], _Said], plain: Callable[[_Rows], _Said], rows: _Rows) -> _Said:
    """What the plain model says. Raises Unfit where the form knows the rows to be the reason."""
    try:
        return plain(rows)
    except Exception:
        try:
            form(rows)
        except Unfit:
            raise
        except Exception:  # noqa: BLE001 (the plain model's own is told)
            pass
        raise
