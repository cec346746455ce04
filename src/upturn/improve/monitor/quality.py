"""Quality: whether what a model is given looks like what its signature and profile say."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
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
_Day = tuple[list[int], NDArray[np.intp]]  # the days, and which one each row is of


class QualityTally:
    """Counts by column and day of what is odd, over rows added piece by piece; one thread."""

    def __init__(self, signature: Signature, profile: Profile) -> None:
        self._fields = [field for field in signature.inputs if profile.column(field.name)]
        self._profile = profile
        self._rows: dict[int, int] = defaultdict(int)
        self._failed: dict[int, int] = defaultdict(int)
        self._odd: dict[tuple[str, str], dict[int, int]] = {}
        self._of: dict[tuple[str, str], dict[int, int]] = {}
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
        found, place = np.unique(days(rows), return_inverse=True)
        day = found.tolist(), place
        failed = np.zeros(rows.num_rows, np.bool_)
        if "error" in rows.column_names:
            failed = np.asarray(rows["error"].combine_chunks().is_valid())
        _sum(self._rows, day, np.ones(len(place), np.bool_))
        _sum(self._failed, day, failed)
        if "id" in rows.column_names:
            self._again += rows.num_rows - len(pc.unique(rows["id"]))
        for field in self._fields:
            self._add(field, rows, day)

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

    def _add(self, field: Field, rows: pa.Table, day: _Day) -> None:
        name = FEATURE_PREFIX + field.name
        before = self._profile.column(field.name)
        if name not in rows.column_names or before is None:
            return
        column = _plain(rows[name])
        missing, odd = _oddities(field, before, column)
        if not missing.all():
            self._absent.discard(field.name)
            seen = self._values[field.name]
            if len(seen) < 2:
                seen.update(pc.unique(column.filter(pa.array(~missing))).slice(0, 2).to_pylist())
        everything = np.ones(len(day[1]), np.bool_)
        for kind, where, of in [("missing", missing, everything)] + [
            (kind, where, ~missing) for kind, where in odd.items()
        ]:
            key = field.name, kind
            _sum(self._odd.setdefault(key, defaultdict(int)), day, where)
            _sum(self._of.setdefault(key, defaultdict(int)), day, of)

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
            yield _Test(f"quality/{name}/{kind}", what, odd, self._of[name, kind], *known[kind])
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
            rows = sum(self._of.get((field.name, "missing"), {}).values())
            rows -= sum(self._odd.get((field.name, "missing"), {}).values())
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
    missing = np.asarray(column.is_null())
    if pa.types.is_floating(column.type):
        missing = missing | np.isnan(np.asarray(column.fill_null(0.0).to_numpy(), np.float64))
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
        values = np.asarray(column.cast(pa.float64(), safe=False).fill_null(np.nan), np.float64)
        high = before.low if before.high is None else before.high
        with np.errstate(invalid="ignore"):
            odd["outside"] = ~missing & ((values < before.low) | (values > high))
    return missing, odd


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


def _sum(into: dict[int, int], day: _Day, where: Bools) -> None:
    found, place = day
    for one, count in zip(
        found, np.bincount(place[where], minlength=len(found)).tolist(), strict=True
    ):
        into[one] += count


def _share(value: float) -> str:
    return f"{value:.1%}" if not 0 < value < 0.001 else f"{value:.3%}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
