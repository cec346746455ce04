"""Signature: what a model takes and answers, learned from the model and its training data."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.schema import Answer, Field, OutputKind, Signature
from upturn.model.answers import Judged, judge
from upturn.model.estimator import Class, Estimator, describe, plain_class
from upturn.model.frames import Frames
from upturn.model.several import outputs_of
from upturn.model.tables import FrameKind, field_type, frame_kind, to_arrow

MAX_CATEGORIES = 100
_TRIED_ROWS = 200  # that a model which does not say what it answers is asked for
_log = logging.getLogger("upturn.model")


def learn_signature(
    data: Any,
    model: Any,
    *,
    target: str | Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    nullable: Sequence[str] = (),
    answer: Answer = "probability",
) -> Signature:
    """What the model takes and answers.

    Its inputs are the columns that it says it was fitted on, else all of the data's but the target
    and those excluded. An input may be null when it is somewhere in the data, or is among
    `nullable`. Raises Invalid when data and model do not fit each other.

    >>> data = {"delay": [5.0, 40.0, None], "carrier": ["AA", "B6", "AA"], "late": [0, 1, 0]}
    >>> found = learn_signature(data, lambda rows: [0.1, 0.9, 0.2], target="late")
    >>> found.names, found.output, found.inputs[0].nullable, found.inputs[1].categories
    (('delay', 'carrier'), 'probability', True, ('AA', 'B6'))
    """
    estimator = describe(model)
    targets = [target] if isinstance(target, str) else list(target or ())
    target = targets[0] if len(targets) == 1 else None
    table = to_arrow(data, index=False, dictionaries=True)
    if not table.num_rows:
        raise Invalid("The data has no rows.", hint="Give the rows that the model was fitted on.")
    for one in targets:
        _check_target(table, estimator, one)
    others = targets if target is None else ()
    names = _inputs(table, estimator, target, [*exclude, *others])
    for name in nullable:
        if name not in names:
            raise Invalid(
                f"{name!r} is no input that could be null.", hint=did_you_mean(name, names)
            )
    fields = tuple(
        learn_field(name, table.column(name), estimator.categories.get(place))
        for place, name in enumerate(names)
    )
    fields = tuple(
        msgspec.structs.replace(field, nullable=field.nullable or field.name in nullable)
        for field in fields
    )
    draft = Signature(inputs=fields, output="json", target=target)
    labels = None if target is None else _labels(table.column(target))
    shape, answered = _try(estimator, draft, table, frame_kind(data))
    outputs = () if answered.error is not None else outputs_of(answered.raw, others)
    if outputs:
        _check_answer(answer, Judged("json"))
        return msgspec.structs.replace(shape, outputs=outputs)
    said = _answer(estimator, answered, labels)
    _check_answer(answer, said)
    return msgspec.structs.replace(
        shape, output=_wanted(answer, said), classes=said.classes, answer=answer
    )


def learn_field(name: str, column: Any, categories: Sequence[Any] | None = None) -> Field:
    """The field that one column of the training data makes; `categories` are the model's own.

    Raises Invalid for a column of lists, structs, bytes or other values that no model takes.
    """
    kind = field_type(column.type)
    if kind is None:
        raise Invalid(
            f"Column {name!r} is {column.type}, which can't be an input.",
            hint="Inputs are booleans, numbers, text, dates and times: leave it out or convert it.",
            column=name,
        )
    if categories is None and pt.is_dictionary(column.type):
        categories = _dictionary(column)
    if pt.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    categorical = categories is not None
    if categories is None and kind == "str":
        distinct = pc.unique(column).drop_null()
        few = len(distinct) <= MAX_CATEGORIES
        categories = sorted(distinct.to_pylist()) if few else None
    return Field(
        name=name,
        type=kind,
        nullable=_has_missing(column),
        categories=None if categories is None else tuple(_spelled(one) for one in categories),
        categorical=categorical,
        example=_example(column),
    )


# Inputs


def _check_target(table: pa.Table, estimator: Estimator, target: str) -> None:
    if target not in table.column_names:
        raise Invalid(
            f"The data has no target column {target!r}.",
            hint=did_you_mean(target, table.column_names),
        )
    if estimator.names and target in estimator.names:
        raise Invalid(
            f"The model was fitted on its own target {target!r}.",
            hint="Leave it out of the columns that fit() is given.",
        )


def _inputs(
    table: pa.Table, estimator: Estimator, target: str | None, exclude: Sequence[str]
) -> list[str]:
    """The columns that the model takes, in its order, by their names in the data."""
    unknown = [name for name in exclude if name not in table.column_names]
    if unknown:
        raise Invalid(
            f"The data has no column {unknown[0]!r} to exclude.",
            hint=did_you_mean(unknown[0], table.column_names),
        )
    if estimator.names is None:
        names = [name for name in table.column_names if name != target and name not in exclude]
        _check_width(names, estimator, target)
        return names
    # LightGBM writes 'dep_hour' for a column 'dep hour'.
    spelled = {name.replace(" ", "_"): name for name in table.column_names}
    spelled |= {name: name for name in table.column_names}
    missing = [name for name in estimator.names if name not in spelled]
    if missing:
        shown = ", ".join(map(repr, missing[:5])) + (", …" if len(missing) > 5 else "")
        raise Invalid(
            f"The model was fitted on {shown}, which the data lacks.",
            hint=did_you_mean(missing[0], table.column_names)
            or "Give the table that the model was fitted on.",
            columns=missing,
        )
    return [spelled[name] for name in estimator.names]


def _check_width(names: list[str], estimator: Estimator, target: str | None) -> None:
    if not names:
        raise Invalid("The data has no columns that could be inputs.")
    if estimator.width is None or estimator.width == len(names):
        return
    but = "" if target is None else f" besides {target!r}"
    raise Invalid(
        f"The model takes {estimator.width} inputs and does not say which, "
        f"but the data has {len(names)} columns{but}.",
        hint="Give the columns it was fitted on and the target, and say target=; "
        "or fit it on a table with named columns.",
    )


# Fields


def _dictionary(column: Any) -> list[Any]:
    """The categories of a dictionary column, in the order of their codes."""
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries()
        if not column.num_chunks:
            return []
        column = column.chunk(0)
    return column.dictionary.to_pylist()


def _has_missing(column: Any) -> bool:
    if column.null_count:
        return True
    return pt.is_floating(column.type) and bool(pc.any(pc.is_nan(column)).as_py())


def _example(column: Any) -> Any:
    if pt.is_floating(column.type):
        column = column.filter(pc.is_finite(column))  # leaves nulls out too
    place = pc.index(pc.is_valid(column), value=True).as_py()
    return None if place < 0 else _jsonable(column[place])


def _jsonable(scalar: Any) -> Any:
    kind = scalar.type
    if pt.is_decimal(kind):
        return float(scalar.as_py())
    if not pt.is_temporal(kind):
        return scalar.as_py()
    if pt.is_timestamp(kind):  # a naive one is taken as UTC
        value: datetime = scalar.cast(pa.timestamp("us", kind.tz), safe=False).as_py()
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return value.isoformat().replace("+00:00", "Z")
    day: date = scalar.cast(pa.date32()).as_py()
    return day.isoformat()


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _labels(column: Any) -> tuple[Class, ...] | None:
    """The target's distinct values, sorted; None if there are too many for classes."""
    if pt.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    distinct = pc.unique(column).drop_null()
    if len(distinct) > MAX_CATEGORIES or field_type(column.type) in ("date", "datetime", None):
        return None
    found = [value for value in distinct.to_pylist() if value == value]
    if not all(isinstance(value, str | int | float) for value in found):
        return None
    if any(isinstance(value, float) and not value.is_integer() for value in found):
        return None
    return tuple(plain_class(value) for value in sorted(found))


# Answers


@dataclass(frozen=True, slots=True)
class _Answered:
    """What a model answered to some rows, or why it did not."""

    raw: Any
    rows: int
    error: BaseException | None = None


def _try(
    estimator: Estimator, draft: Signature, table: pa.Table, kind: FrameKind
) -> tuple[Signature, _Answered]:
    """The signature with the kind of frame that the model takes, and what it answered.

    That is the kind of the data, unless the model can't be called with it: data may well have been
    converted before fit() saw it.
    """
    tried: list[tuple[Signature, _Answered]] = []
    rows = table.select(list(draft.names)).slice(0, _TRIED_ROWS)
    for frame in _frames(estimator, kind):
        shape = msgspec.structs.replace(draft, frame=frame)
        answered = _call(estimator, shape, rows)
        if answered.error is None:
            return shape, answered
        tried.append((shape, answered))
    shape, answered = tried[0]
    message = _first_line(answered.error)
    if estimator.library is not None or estimator.frame is not None:
        raise Invalid(
            f"The model can't predict the rows that it is registered with: {message}",
            hint="Give data= as the model was fitted on it, encoded in the same way.",
        ) from answered.error
    # A class of the user's own may need what is not here, such as a GPU: serving will tell.
    _log.warning("The model raised on its own training data: %s", message)
    return shape, answered


def _frames(estimator: Estimator, kind: FrameKind) -> list[FrameKind]:
    if estimator.frame is not None:
        return [estimator.frame]
    if estimator.width is not None and estimator.names is None:
        return ["numpy"]  # fitted on a matrix: names would only make it warn
    named: list[FrameKind] = [kind, "pandas", "polars", "pyarrow", "numpy"]
    if estimator.names is not None and kind == "numpy":
        named = ["pandas", "polars", "pyarrow", "numpy"]
    return list(dict.fromkeys(named))


def _call(estimator: Estimator, shape: Signature, rows: pa.Table) -> _Answered:
    frames = Frames(shape)
    typed = frames.typed(rows)
    try:
        with warnings.catch_warnings():
            # A model that warns of the kind of frame gets another kind, if it is happier with that.
            warnings.filterwarnings("error", message=".*feature names.*", category=UserWarning)
            raw = estimator.call(frames.frame(typed))
    except (Exception, SystemExit) as error:  # noqa: BLE001 (a model may raise anything)
        return _Answered(None, typed.num_rows, error)
    return _Answered(raw, typed.num_rows)


def _answer(estimator: Estimator, answered: _Answered, labels: tuple[Class, ...] | None) -> Judged:
    if answered.error is not None:
        return Judged("json", ())
    shape: tuple[int, ...] = getattr(answered.raw, "shape", ())
    several = estimator.output == "number" and len(shape) == 2 and shape[1] > 1
    if several:  # a regressor of several targets
        return Judged("json")
    if estimator.output is None:
        return judge(answered.raw, estimator.classes, labels)
    classes = estimator.classes or ()
    output: OutputKind = estimator.output
    if output == "probability" and len(classes) != 2:
        classes = labels if labels is not None and len(labels) == 2 else (0, 1)
    if output == "scores" and _are_codes(classes) and labels and len(labels) == len(classes):
        classes = labels
    return Judged(output, classes)


def _check_answer(answer: Answer, said: Judged) -> None:
    if answer not in ("probability", "label", "probabilities"):
        raise Invalid(
            f"{answer!r} is no answer of a model.",
            hint="There is: 'probability', 'label', 'probabilities'.",
        )
    if answer == "probability" or (answer == "label" and said.output == "label"):
        return
    if said.output not in ("probability", "scores") or not said.classes:
        raise Invalid(
            f"The model can't answer with a {answer.replace('ies', 'y')}: "
            f"it answers {_WHAT[said.output]}.",
            hint="answer= is for models that give probabilities of classes.",
        )


_WHAT: dict[OutputKind, str] = {
    "probability": "a probability without classes",
    "number": "numbers",
    "label": "labels",
    "scores": "probabilities without classes",
    "json": "values of its own",
}


def _wanted(answer: Answer, said: Judged) -> OutputKind:
    if said.output not in ("probability", "scores") or answer == "probability":
        return said.output
    return "label" if answer == "label" else "scores"


def _are_codes(classes: Sequence[Class]) -> bool:
    return list(classes) == list(range(len(classes)))


def _first_line(error: BaseException | None) -> str:
    text = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."
