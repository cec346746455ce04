"""Due: which ticks of a timetable are to be started now, as a pure function of time."""

from datetime import datetime, timedelta
from itertools import islice

from upturn.core.schedules import CatchUp
from upturn.develop.schedule.timetable import Timetable

LATE = timedelta(seconds=60)  # a tick that old was missed: nobody was there when it was due


def due(
    table: Timetable,
    *,
    since: datetime,
    now: datetime,
    catch_up: CatchUp,
    at_once: int,
) -> list[datetime]:
    """The ticks in (since, now] that are to be started, oldest first.

    A tick was missed when it is over a minute old, or when another has come since. Of those that
    were, none is started, or the last one, unless another is due anyway, or all of them: the oldest
    `at_once` now, the others when these are on their way.
    """
    if catch_up == "all":
        first = list(islice(table.between(since, now), max(at_once, 0) + 1))
        if len(first) == 1 and first[0] > now - LATE:
            return first
        return first[: max(at_once, 0)]
    last = table.last(now)
    if last is None or last <= since or (catch_up == "none" and last <= now - LATE):
        return []
    return [last]
