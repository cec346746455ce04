"""Windows: a span of time cut into days, months or lengths, and the Log read piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.core.errors import Invalid
from upturn.core.time import duration, micros

DAY = timedelta(days=1)
_BY_MONTH_FROM = timedelta(days=62)  # longer reports show months, shorter ones days
_MOST = 2000  # windows in one report: more than anybody reads
_PIECE = 300_000  # rows that are read at once, about: 50 MB of them
_FIRST = timedelta(hours=1)


class Windows(msgspec.Struct, frozen=True):
    """Consecutive windows: window i is [starts[i], starts[i + 1]); the last start ends the span."""

    starts: tuple[datetime, ...]
    every: str

    def __len__(self) -> int:
        return len(self.starts) - 1

    def name(self, place: int) -> str:
        """'2013-04' of a month, '2013-04-01' of what begins with a day, else with its time.

        Windows that begin inside of a day or a month bear its name all the same.
        """
        at = self.starts[place]
        if self.every == "month":
            return at.strftime("%Y-%m")
        whole = duration(self.every) % DAY == timedelta(0)
        return at.strftime("%Y-%m-%d" if whole else "%Y-%m-%d %H:%M")

    def places(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """The window of each instant (microseconds since 1970)."""
        edges = np.array([micros(start) for start in self.starts], np.int64)
        return np.searchsorted(edges, at, side="right") - 1


def windows(since: datetime, until: datetime, every: str | None = None) -> Windows:
    """The windows of [since, until): by UTC day or calendar month, or of another length.

    Days and their multiples begin at midnight, the first window with `since`; shorter ones at
    multiples of their length. None is months from 62 days on and days below. Raises Invalid for an
    empty span, a length that is none, or more than 2,000 windows.

    >>> from upturn.core.time import instant
    >>> found = windows(instant("2013-01-20"), instant("2013-03-05"), "month")
    >>> [found.name(place) for place in range(len(found))]
    ['2013-01', '2013-02', '2013-03']
    """
    if not since < until:
        raise Invalid(f"There is no time between {since.isoformat()} and {until.isoformat()}.")
    since, until = since.astimezone(UTC), until.astimezone(UTC)
    every = every or ("month" if until - since >= _BY_MONTH_FROM else "1d")
    every = {"day": "1d", "week": "7d", "hour": "1h"}.get(every, every)
    if every == "month":
        return Windows((since, *_months(since, until), until), every)
    length = duration(every)
    if length <= timedelta(0):
        raise Invalid(f"{every!r}: a window has a length.", hint="Write '1d', '7d' or 'month'.")
    if (until - since) / length > _MOST:
        raise Invalid(
            f"{(until - since) / length:,.0f} windows of {every} are more than {_MOST:,}.",
            hint="Ask for longer windows, as 1d, 7d or month, or for a shorter time.",
        )
    start = since.replace(hour=0, minute=0, second=0, microsecond=0)
    if length % DAY:
        start += (since - start) // length * length
    starts = [since]
    while (start := start + length) < until:
        if start > since:
            starts.append(start)
    return Windows((*starts, until), every)


def _months(since: datetime, until: datetime) -> list[datetime]:
    found: list[datetime] = []
    month = since.year * 12 + since.month
    while (at := datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)) < until:
        found.append(at)
        month += 1
    return found


def pieces(
    read: Callable[[datetime, datetime], pa.Table], since: datetime, until: datetime
) -> Iterator[pa.Table]:
    """What `read` has of [since, until), in order, some 300,000 rows at a time.

    How much time a piece covers follows from how many rows the one before had, so that memory is
    bounded whatever the traffic; the rows are the same however they are cut.
    """
    length = _FIRST
    while since < until:
        end = min(until, since + length)
        rows = read(since, end)
        if rows.num_rows:
            yield rows
        if rows.num_rows <= _PIECE // 2:
            length *= 4 if rows.num_rows <= _PIECE // 4 else 2
        elif rows.num_rows > _PIECE:
            length = max(timedelta(minutes=1), length / 2)
        since = end


def instants(rows: pa.Table) -> NDArray[np.int64]:
    """The rows' `at` in microseconds since 1970."""
    at = rows["at"].combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False)
    return np.asarray(at, np.int64)


def answered(rows: pa.Table) -> pa.Table:
    """The rows that somebody got, without those of shadows."""
    own = pc.invert(rows["shadow"])
    return rows if pc.all(own, skip_nulls=False).as_py() else rows.filter(own)


def runs(places: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Each value of a sorted array with the place where it begins and the one where it ends.

    >>> runs(np.array([3, 3, 5]))
    [(3, 0, 2), (5, 2, 3)]
    """
    found, begins = np.unique(places, return_index=True)
    ends = np.append(begins[1:], len(places))[: len(found)]
    return list(zip(found.tolist(), begins.tolist(), ends.tolist(), strict=True))
