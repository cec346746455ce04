"""Measured: what tasks logged, read from the tracking store, where a task is a scope of its run."""

from upturn.core.tracking import NO_STEP, Point, TrackingStore


def last_of(tracking: TrackingStore, run: str, scope: str) -> dict[str, float]:
    """The last value of each metric that a task logged, in the order in which they were logged."""
    own = [one for one in tracking.series([run])[run] if one.scope == scope]
    return {one.name: one.last for one in sorted(own, key=lambda one: one.at)}


def points_of(tracking: TrackingStore, run: str, scope: str) -> list[Point]:
    """All that a task logged, in the order in which it did."""
    names = [one.name for one in tracking.series([run])[run] if one.scope == scope]
    points = [point for name in names for point in tracking.history(run, name, scope=scope)]
    return sorted(points, key=lambda point: point.at)


def step_of(point: Point) -> int | None:
    """The step that a task's value was logged with, if it was with one."""
    return None if point.step == NO_STEP else point.step
