"""FeatureTally: features and predictions counted by window and segment, and what is odd of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upturn.core.records import Version
from upturn.core.schema import ColumnProfile
from upturn.improve.monitor.drift import PREDICTION, prediction_of
from upturn.improve.monitor.quality import QualityTally
from upturn.improve.monitor.tally import OTHERS, segment_codes
from upturn.improve.monitor.windows import Windows
from upturn.model.profile_counts import Counts, Grouped, Groups, count_groups

Ints = NDArray[np.int64]
_DAY = 86_400_000_000  # microseconds


class FeatureTally:
    """Sums over parts of the Log, as Snapshot.parts gives them, in whatever order; one thread.

    `by_window` are the counts of each window and column of the baseline. Predictions count where
    the version made them.
    """

    def __init__(
        self,
        windows: Windows,
        version: Version | None,
        segments: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        names = (*version.signature.names, PREDICTION) if version else ()
        self.columns: tuple[ColumnProfile, ...] = (
            tuple(one for one in version.profile.columns if one.name in names) if version else ()
        )
        self.by_window: dict[tuple[int, int], Counts] = {}
        self._by_segment: dict[tuple[str, int], Grouped] = {}
        self.quality = QualityTally(version.signature, version.profile) if version else None
        self._version = version
        self._windows = windows
        self._segments = dict(segments or {})

    @property
    def names(self) -> list[str]:
        """The features that are counted or told apart."""
        counted = [column.name for column in self.columns if column.name != PREDICTION]
        return list(dict.fromkeys([*counted, *self._segments]))

    def add(self, part: pa.Table) -> None:
        """Count the rows."""
        if self._version is None or self.quality is None:
            return
        at = np.asarray(part["@at"].cast(pa.int64()).to_numpy(), np.int64)
        own = np.asarray(part["@version"].to_numpy() == self._version.number)
        windows, days, times = _times(self._windows.places(at), at // _DAY)
        segments = {name: self._groups(part, name, values) for name, values in self._by(part)}
        groupings = [times, *segments.values()]
        self.quality.add_days(days, times)
        for place, column in enumerate(self.columns):
            if column.name == PREDICTION:
                found = _predictions(column, part, own, groupings)
            elif column.name in part.column_names:
                values = _typed(part[column.name], column)
                found = count_groups(column, values, groupings)
                self.quality.add_counted(column.name, values, found[0], days, times)
            else:
                continue
            for atom, window in enumerate(windows):
                counts, earlier = found[0].counts(atom), self.by_window.get((window, place))
                self.by_window[window, place] = counts if earlier is None else earlier + counts
            for name, counted in zip(segments, found[1:], strict=True):
                before = self._by_segment.get((name, place))
                self._by_segment[name, place] = counted if before is None else before + counted

    def total(self, column: int) -> Counts | None:
        """The counts of a column over all windows; None where no row has it."""
        found: Counts | None = None
        for (_, one), counts in self.by_window.items():
            if one == column:
                found = counts if found is None else found + counts
        return found

    def in_segment(self, name: str, code: int, column: int) -> Counts | None:
        """The counts of a column in one segment of a feature; None where no row has both."""
        found = self._by_segment.get((name, column))
        return None if found is None else found.counts(code if code != OTHERS else -1)

    def _by(self, part: pa.Table) -> list[tuple[str, Sequence[str]]]:
        return [one for one in self._segments.items() if one[0] in part.column_names]

    def _groups(self, part: pa.Table, name: str, values: Sequence[str]) -> Groups:
        codes = segment_codes(part[name], values)
        return Groups.of(np.where(codes == OTHERS, len(values), codes), len(values) + 1)


def _times(windows: Ints, days: Ints) -> tuple[list[int], list[int], Groups]:
    """Rows by window and day: which these are, and which rows are in each."""
    width = int(days.max()) + 1
    keys, codes = np.unique(windows * width + days, return_inverse=True)
    of_window, of_day = np.divmod(keys, width)
    return of_window.tolist(), of_day.tolist(), Groups.of(codes.astype(np.int64), len(keys))


def _predictions(
    column: ColumnProfile, part: pa.Table, own: NDArray[np.bool_], groupings: Sequence[Groups]
) -> list[Grouped]:
    rows = part.select(["@score", "@answer"])
    if not own.all():
        rows = rows.filter(pa.array(own))
        groupings = [Groups.of(groups.codes[own], groups.size) for groups in groupings]
    return count_groups(column, prediction_of(rows["@score"], rows["@answer"]), groupings)


def _typed(values: Any, column: ColumnProfile) -> Any:
    """A column of nulls alone has no type that it could be counted by."""
    if not pa.types.is_null(values.type):
        return values
    return values.cast(pa.float64() if column.kind == "number" else pa.string())
