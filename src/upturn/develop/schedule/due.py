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

    Of those that were missed none, the last one unless another is due anyway, or all of them: the
    oldest `at_once` now, the others when these are on their way.
    """
    if catch_up == "all":
        missed = list(islice(table.between(since, now - LATE), at_once))
        if missed:
            return missed
        return list(table.between(max(since, now - LATE), now))
    on_time = list(table.between(max(since, now - LATE), now))
    if on_time or catch_up == "none":
        return on_time
    last = table.last(now - LATE)
    return [last] if last is not None and last > since else []
