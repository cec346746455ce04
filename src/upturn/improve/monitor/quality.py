"""Quality: whether what a model is given looks like what its signature and profile say."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.core.log import FEATURE_PREFIX
from upturn.core.schema import ColumnProfile, Field, Profile, Signature
from upturn.improve.monitor.performance import days
from upturn.improve.monitor.shares import Growth, grown
from upturn.improve.monitor.symptom import Severity, Symptom
from upturn.improve.statistics.multiplicity import holm
from upturn.model.profile_counts import Grouped, Groups

ALPHA = 0.01  # of one false alarm in all that is looked at
MARGIN, MAJOR = 0.01, 0.1  # a share that grew by less does not matter; by so much it is critical
_FAILED = 0.001  # the share of failed answers that is nothing out of the ordinary
_SURE = 1_000_000_000  # rows of a share that is known
_NUMBERS = ("int", "float", "date", "datetime")
_SAYS = {
    "missing": "of {column} are missing",
    "unseen": "of {column} are values that training did not have",
    "outside": "of {column} are outside of training's {low:g} to {high:g}",
    "type": "of {column} are text that is no number",
}
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class QualityTally:
    """Counts by column and day of what is odd, over rows added piece by piece; one thread."""

    def __init__(self, signature: Signature, profile: Profile) -> None:
        self._fields = [field for field in signature.inputs if profile.column(field.name)]
        self._profile = profile
        self._rows: dict[int, int] = defaultdict(int)
        self._failed: dict[int, int] = defaultdict(int)
        self._odd: dict[tuple[str, str], dict[int, int]] = {}
        self._of: dict[str, dict[int, int]] = {one.name: defaultdict(int) for one in self._fields}
        self._values: dict[str, set[Any]] = {field.name: set() for field in self._fields}
        self._absent: set[str] = {field.name for field in self._fields}
        self._again = 0

    def add(self, rows: pa.Table) -> None:
        """Add rows of the Log with features and, best, those that the model failed.

        Rows of shadows are left out. Ids that are there twice are counted among the rows added at
        once.
        """
        if "shadow" in rows.column_names:
            rows = rows.filter(pc.invert(rows["shadow"]))
        if not rows.num_rows:
            return
        found, places = np.unique(days(rows), return_inverse=True)
        day = _Days(found.tolist(), places, np.bincount(places, minlength=len(found)))
        failed = np.zeros(rows.num_rows, np.bool_)
        if "error" in rows.column_names:
            failed = np.asarray(rows["error"].combine_chunks().is_valid())
        day.add(self._rows, None)
        day.add(self._failed, failed)
        if "id" in rows.column_names:
            self._again += rows.num_rows - len(pc.unique(rows["id"]))
        for field in self._fields:
            self._add(field, rows, day)

    def add_days(self, days: Sequence[int], groups: Groups) -> None:
        """Add rows that were answered, by their day, before the columns of `add_counted`."""
        for day, rows in zip(days, groups.sizes.tolist(), strict=True):
            self._rows[day] += rows

    def add_repeated(self, ids: int) -> None:
        """Add ids that are there twice."""
        self._again += ids

    def add_counted(
        self, name: str, values: Any, counted: Grouped, days: Sequence[int], groups: Groups
    ) -> None:
        """Add a column's rows that are counted by their days on the baseline already."""
        field = next((one for one in self._fields if one.name == name), None)
        before = self._profile.column(name)
        if field is None or before is None:
            return
        day = _Days(days, groups.codes, groups.sizes)
        odd = _odd_of(field, before, values, counted, groups)
        if odd is None:
            self._look(field, before, values, day)
            return
        day.add(self._of[name], None)
        if odd["missing"].sum() < groups.sizes.sum():
            self._absent.discard(name)
            self._see(name, values)
        for kind, counts in odd.items():
            into = self._odd.setdefault((name, kind), defaultdict(int))
            for one, count in zip(days, counts.tolist(), strict=True):
                if count:
                    into[one] += count

    def symptoms(self, *, alpha: float = ALPHA, failed: float = _FAILED) -> list[Symptom]:
        """See `quality`."""
        tests = list(self._tests(failed))
        adjusted = holm([test.growth.p_value for test in tests])
        found = [
            test.symptom(shown=p_value <= alpha)
            for test, p_value in zip(tests, adjusted, strict=True)
        ]
        found += [_gone(name) for name in sorted(self._absent) if self._rows]
        found += self._constant(alpha)
        if self._rows:
            found.append(self._repeated())
        return found

    def _add(self, field: Field, rows: pa.Table, day: _Days) -> None:
        name = FEATURE_PREFIX + field.name
        before = self._profile.column(field.name)
        if name not in rows.column_names or before is None:
            return
        self._look(field, before, rows[name], day)

    def _look(self, field: Field, before: ColumnProfile, values: Any, day: _Days) -> None:
        column = _plain(values)
        missing, odd = _oddities(field, before, column)
        day.add(self._of[field.name], None)
        if not missing.all():
            self._absent.discard(field.name)
            self._see(field.name, column)
        for kind, where in {"missing": missing, **odd}.items():
            counts = self._odd.setdefault((field.name, kind), defaultdict(int))
            if where.any():
                day.add(counts, where)

    def _see(self, name: str, column: Any) -> None:
        """Remember up to two values of the column."""
        seen = self._values[name]
        for some in (column.slice(0, 100), column):
            if len(seen) < 2:
                part = _plain(some)
                present = part.filter(pc.invert(part.is_null(nan_is_null=True)))
                seen.update(pc.unique(present).slice(0, 2).to_pylist())

    def _of_kind(self, name: str, kind: str) -> Mapping[int, int]:
        """The rows of each day that could have been odd in this way: mostly those with a value."""
        rows, missing = self._of[name], self._odd[name, "missing"]
        return rows if kind == "missing" else {day: rows[day] - missing[day] for day in rows}

    def _tests(self, failed: float) -> Iterator[_Test]:
        for (name, kind), odd in sorted(self._odd.items()):
            before = self._profile.column(name)
            if before is None or (kind == "missing" and name in self._absent):
                continue
            present = before.count - before.missing
            known = {
                "missing": (before.missing, before.count),
                "unseen": (before.other, present),
                # The least and the greatest of a sample are outdone by one more row by chance.
                "outside": (2, present + 1),
                "type": (0, present),
            }
            what = _SAYS[kind].format(column=name, low=before.low or 0, high=before.high or 0)
            of = self._of_kind(name, kind)
            yield _Test(f"quality/{name}/{kind}", what, odd, of, *known[kind])
        if self._rows:
            share = max(failed, 1e-9)
            yield _Test(
                "quality/failed",
                "of all answers failed",
                self._failed,
                self._rows,
                share * _SURE,
                _SURE,
            )

    def _constant(self, alpha: float) -> list[Symptom]:
        made: list[Symptom] = []
        for field in self._fields:
            before = self._profile.column(field.name)
            seen = self._values[field.name]
            if before is None or len(seen) != 1 or not before.counts:
                continue
            rows = sum(self._of_kind(field.name, "constant").values())
            most = max(before.counts) / max(1, sum(before.counts) + before.other)
            # Bins hold several values: the chance that all rows share one is smaller still.
            p_value = most ** max(0, rows - 1)
            spread = len(before.counts) > 1 and most < 1
            if spread and p_value < alpha / max(1, len(self._fields)):
                value = next(iter(seen))
                made.append(
                    Symptom(
                        name=f"quality/{field.name}/constant",
                        severity="critical",
                        says=f"{field.name} has been {value!r} in all {rows:,} rows.",
                        value=1.0,
                        limit=most,
                        p_value=p_value,
                        facts={"column": field.name},
                    )
                )
        return made

    def _repeated(self) -> Symptom:
        rows = sum(self._rows.values())
        share = self._again / rows
        severity: Severity = "fine" if share < 0.001 else "warning" if share < MAJOR else "critical"
        return Symptom(
            name="quality/id/repeated",
            severity=severity,
            says=f"{self._again:,} of {rows:,} predictions have the id of another.",
            value=share,
            limit=0.001,
        )


def quality(
    signature: Signature,
    profile: Profile,
    rows: pa.Table,
    *,
    alpha: float = ALPHA,
    failed: float = _FAILED,
) -> list[Symptom]:
    """What is odd about the inputs in rows of the Log (with features, failed ones included).

    'quality/COLUMN/KIND' for the kinds *missing*; *unseen*, a category that training did not have;
    *outside* of the least and the greatest number of training; *type*, text where numbers were;
    *constant*, one value in all rows where training had several. 'quality/failed': the share of
    rows with an `error` is more than `failed`. 'quality/id/repeated': ids that are there twice.

    A share is a symptom when it has grown since training by more than chance explains, by Fisher's
    exact test with what days vary by (`grown`), and by a hundredth of rows at least; by a tenth it
    is critical. Over all shares of one call the chance of any false alarm is `alpha` (Holm 1979).
    """
    tally = QualityTally(signature, profile)
    tally.add(rows)
    return tally.symptoms(alpha=alpha, failed=failed)


class _Days:
    """The days of rows, to count by."""

    def __init__(self, days: Sequence[int], place: Ints, sizes: Ints) -> None:
        self._days, self._place, self._sizes = days, place, sizes

    def add(self, into: dict[int, int], where: Bools | None) -> None:
        """Count the rows of each day, or those among them."""
        counts = self._sizes
        if where is not None:
            counts = np.bincount(self._place[where], minlength=len(self._days))
        for day, count in zip(self._days, counts.tolist(), strict=True):
            into[day] += count


class _Test:
    """Whether one share has grown, and what to say of it."""

    def __init__(
        self,
        name: str,
        what: str,
        odd: Mapping[int, int],
        rows: Mapping[int, int],
        count_before: float,
        rows_before: float,
    ) -> None:
        self.name, self._what = name, what
        self._days = sorted(rows)
        self._counts = np.array([odd.get(day, 0) for day in self._days], np.float64)
        self._rows = np.array([rows[day] for day in self._days], np.float64)
        self.growth: Growth = grown(self._counts, self._rows, count_before, rows_before)

    def symptom(self, *, shown: bool) -> Symptom:
        found = self.growth
        more = found.now - found.before
        severity: Severity = "fine"
        margin = MARGIN if self.name != "quality/failed" else 0.0
        if shown and more >= margin:
            severity = "critical" if more >= MAJOR else "warning"
        return Symptom(
            name=self.name,
            severity=severity,
            says=f"{_share(found.now)} {self._what}, {_share(found.before)} were.",
            began_at=self._began(found.before + margin) if severity != "fine" else None,
            value=_finite(found.now),
            limit=_finite(found.before),
            p_value=_finite(found.p_value),
            facts={"rows": found.rows, "dispersion": found.dispersion},
        )

    def _began(self, limit: float) -> datetime | None:
        """The first of the last days in a row whose share is beyond the limit."""
        began = None
        for place in range(len(self._days) - 1, -1, -1):
            if self._rows[place] and self._counts[place] / self._rows[place] <= limit:
                break
            began = self._days[place]
        return None if began is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=began)


def _oddities(field: Field, before: ColumnProfile, column: Any) -> tuple[Bools, dict[str, Bools]]:
    """Which rows are missing, and which are odd in what way."""
    missing = np.zeros(len(column), np.bool_)
    if column.null_count:
        missing = np.asarray(column.is_null())
    if pa.types.is_floating(column.type):
        values = column.fill_null(0.0) if column.null_count else column
        missing = missing | np.isnan(values.to_numpy(zero_copy_only=False))
    if before.kind == "category":
        texts = column.cast(pa.string())
        known = np.asarray(pc.is_in(texts, value_set=pa.array(before.values, pa.string())))
        return missing, {"unseen": ~known & ~missing}
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    odd: dict[str, Bools] = {}
    if field.type in _NUMBERS:
        wrong = np.zeros(len(column), np.bool_)
        if text:
            numeric = pc.match_substring_regex(column, r"^-?\d+(\.\d+)?([eE][-+]?\d+)?$")
            wrong = ~np.asarray(numeric.fill_null(True))
        odd["type"] = wrong
    if not text and field.type in ("int", "float") and before.low is not None:
        values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        high = before.low if before.high is None else before.high
        with np.errstate(invalid="ignore"):
            odd["outside"] = ~missing & ((values < before.low) | (values > high))
    return missing, odd


def _odd_of(
    field: Field, before: ColumnProfile, values: Any, counted: Grouped, groups: Groups
) -> dict[str, Ints] | None:
    """The same as counts by group, from those on the baseline; None if they don't say it."""
    missing, unseen = counted.table[:, -2], counted.table[:, -1]
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    text = pa.types.is_string(kind) or pa.types.is_boolean(kind)
    if before.kind == "category":
        return {"missing": missing, "unseen": unseen} if text else None
    if pa.types.is_dictionary(values.type) or not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind)
    ):
        return None
    odd = {"missing": missing}
    if field.type in _NUMBERS:
        odd["type"] = np.zeros_like(missing)
    if field.type in ("int", "float") and before.low is not None:
        high = before.low if before.high is None else before.high
        odd["outside"] = np.zeros_like(missing)
        if bool((counted.low < before.low).any() or (counted.high > high).any()):
            held = values.cast(pa.float64(), safe=False).to_numpy()
            outside = (held < before.low) | (held > high)  # of nan neither holds
            odd["outside"] += np.bincount(groups.codes[outside], minlength=groups.size)
    return odd


def _gone(name: str) -> Symptom:
    return Symptom(
        name=f"quality/{name}/missing",
        severity="critical",
        says=f"{name} is missing in all rows.",
        value=1.0,
        facts={"column": name},
    )


def _plain(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _share(value: float) -> str:
    return f"{value:.1%}" if not 0 < value < 0.001 else f"{value:.3%}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
