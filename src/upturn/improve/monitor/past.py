"""Past: what a report reads of the time before it, as a sample of rows and as counts by hour."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from upturn.core.log import FEATURE_PREFIX
from upturn.core.time import micros
from upturn.improve.log import StoredLog
from upturn.improve.log_query import one_label
from upturn.improve.measures.arrays import Floats
from upturn.improve.monitor.traffic import LEAST, Traffic

MOST = 100_000  # rows of a sample
_HOUR = 3_600_000_000  # microseconds


def sampled(
    log: StoredLog,
    *,
    since: datetime,
    until: datetime,
    known_by: datetime,
    most: int = MOST,
    version: int | None = None,
    features: bool = False,
) -> tuple[pa.Table, int]:
    """The answered rows of [since, until) with the labels known by then, or every k-th by its id.

    Columns are `id`, `at`, `version`, `score`, `rate`, `label` and `known_at`, in the order of
    time, and the features if they are asked for; `version` leaves out all others. Of more than
    `most` rows a share is read that the hash of the id picks, so that memory is bounded and the
    same Log gives the same rows. Returns k too.
    """
    inside = (
        f'NOT shadow AND error IS NULL AND epoch_us("at") >= {micros(since)} '
        f'AND epoch_us("at") < {micros(until)}'
    )
    inside += "" if version is None else f" AND version = {version}"
    kept = f", COLUMNS('^{re.escape(FEATURE_PREFIX)}')" if features else ""
    rows = int(log.sql(f"SELECT count(*) AS n FROM predictions WHERE {inside}")["n"][0].as_py())
    each = max(1, -(-rows // most))
    found = log.sql(
        f"""
        WITH p AS (
            SELECT id, "at", version, score, rate{kept} FROM predictions
            WHERE {inside} AND hash(id) % {each} = 0
        ), f AS (
            SELECT id, max(struct_pack(known_at, received_at, label, label_text)) AS newest
            FROM feedback WHERE epoch_us(known_at) <= {micros(known_by)} AND hash(id) % {each} = 0
            GROUP BY id
        )
        SELECT p.*, f.newest.label AS label, f.newest.label_text AS label_text,
            f.newest.known_at AS known_at
        FROM p LEFT JOIN f ON p.id = f.id ORDER BY p."at", p.id, p.version"""
    )
    return one_label(found), each


def hourly(log: StoredLog, since: datetime, until: datetime) -> Traffic:
    """The traffic of the whole hours of [since, until), counted where the Log lies.

    It begins with the first hour that has a request.
    """
    found = log.sql(
        f"""
        SELECT epoch_us("at") // {_HOUR} AS hour, sum(1 / rate) AS requests,
            sum(CASE WHEN error IS NULL THEN 0 ELSE 1 / rate END) AS failed,
            count(latency_s) AS timed, quantile_disc(latency_s, 0.5) AS p50,
            quantile_disc(latency_s, 0.99) AS p99
        FROM predictions
        WHERE NOT shadow AND rate > 0 AND epoch_us("at") >= {-(-micros(since) // _HOUR) * _HOUR}
            AND epoch_us("at") < {micros(until) // _HOUR * _HOUR}
        GROUP BY hour ORDER BY hour"""
    )
    hours = np.asarray(found["hour"].to_numpy(), np.int64)
    first = int(hours[0]) if len(hours) else micros(until) // _HOUR
    count = max(0, micros(until) // _HOUR - first)
    place = hours - first

    def spread(name: str, empty: float) -> Floats:
        values = np.full(count, empty)
        values[place] = np.asarray(found[name].cast(pa.float64()).to_numpy(), np.float64)
        return values

    timed = spread("timed", 0.0)
    return Traffic(
        starts=(first + np.arange(count)) * _HOUR,
        step=timedelta(hours=1),
        requests=spread("requests", 0.0),
        failed=spread("failed", 0.0),
        latency_s={
            name: np.where(timed >= least, spread(name, np.nan), np.nan)
            for name, least in LEAST.items()
        },
    )


def began(log: StoredLog, version: int) -> datetime | None:
    """When the version gave its first answer that somebody got; None when it never did."""
    found = log.sql(
        f'SELECT min("at") AS first FROM predictions WHERE NOT shadow AND version = {version}'
    )
    return found["first"][0].as_py()
