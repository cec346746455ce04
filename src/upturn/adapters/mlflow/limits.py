"""What MLflow allows names and values to be, checked in its order and refused in its words."""

import posixpath
import re
from functools import lru_cache

from upturn.adapters.mlflow.errors import MlflowError, bad_value, missing_value, too_long

MOST_METRICS = 1000
MOST_PARAMS = MOST_TAGS = 100
MOST_TOGETHER = 1000
KEY_MOST = 250
PARAM_MOST = 6000
TAG_MOST = 8000
GROUP_NAME_MOST = 500
GROUP_TAG_MOST = 20_000
RESULTS_MOST = 50_000
_NAME = re.compile(r"[/\w.\- :]*")
_RUN = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_TIME_MOST = (2**63 - 1) // 1000  # milliseconds that microseconds have room for
_CHARACTERS = (
    "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), "
    "colon(:) and slashes (/)."
)


def check_name(name: str, path: str) -> None:
    """Refuse what is no name of a metric, a parameter or a tag."""
    wrong = _complaint(name) if len(name) <= KEY_MOST else _complaint.__wrapped__(name)
    if wrong:
        raise bad_value(path, name, wrong)


@lru_cache(maxsize=8192)  # a run logs the same few names again and again
def _complaint(name: str) -> str:
    if not _NAME.fullmatch(name.rstrip("\n")):
        return _CHARACTERS
    normal = posixpath.normpath(name)
    if normal != name or normal == "." or normal.startswith(("..", "/")):
        return (
            "Names may be treated as files in certain cases, and must not resolve to other names "
            f"when treated as such. This name would resolve to {normal!r}"
        )
    return ""


def check_param(name: str, value: str, path: str = "") -> str:
    """The value of a parameter, as it is kept: what is too long of it is cut, as in MLflow."""
    check_name(name, f"{path}.key" if path else "key")
    if len(name) > KEY_MOST:
        raise too_long("Param key", KEY_MOST)
    return value[:PARAM_MOST]


def check_tag(name: str, value: str, path: str = "") -> str:
    """The value of a run's tag, as it is kept: what is too long of it is cut, as in MLflow."""
    where = f"{path}.key" if path else "key"
    check_name(name, where)
    if len(name) > KEY_MOST:
        raise too_long(where, KEY_MOST)
    return value[:TAG_MOST]


def check_group_tag(name: str, value: str) -> str:
    """The value of an experiment's tag."""
    check_name(name, "key")
    if len(name) > KEY_MOST:
        raise too_long("key", KEY_MOST)
    if len(value) > GROUP_TAG_MOST:
        raise too_long("value", GROUP_TAG_MOST)
    return value


def check_metric(name: str, value: float, timestamp: int, path: str = "") -> None:
    """Refuse what is no point of a metric."""
    prefix = f"{path}." if path else ""
    check_name(name, f"{prefix}name")
    if not 0 <= timestamp <= _TIME_MOST:
        raise bad_value(
            f"{prefix}timestamp",
            timestamp,
            f"metric '{name}' (value={value}). Timestamp must be a nonnegative long "
            "(64-bit integer) ",
        )
    if len(name) > KEY_MOST:
        raise too_long("Metric name", KEY_MOST)


def check_group_name(name: str) -> None:
    """Refuse what is no name of an experiment."""
    if not name:
        raise MlflowError(f"Invalid experiment name: '{name}'")
    if len(name) > GROUP_NAME_MOST:
        raise too_long("name", GROUP_NAME_MOST)


def check_run_id(run: str) -> None:
    """Refuse what can be no run's id."""
    if not _RUN.fullmatch(run):
        raise bad_value("run_id", run)


def check_batch(metrics: int, params: int, tags: int) -> None:
    """Refuse a batch that is too large."""
    for name, most, count in (
        ("metrics", MOST_METRICS, metrics),
        ("params", MOST_PARAMS, params),
        ("tags", MOST_TAGS, tags),
        ("metrics, params, and tags", MOST_TOGETHER, metrics + params + tags),
    ):
        if count > most:
            raise MlflowError(
                f"A batch logging request can contain at most {most} {name}. Got {count} {name}. "
                f"Please split up {name} across multiple requests and try again."
            )


def check_results(most: int) -> None:
    """Refuse a page of no size, or of too large a one."""
    if most < 1:
        raise MlflowError(
            f"Invalid value {most} for parameter 'max_results' supplied. It must be a positive "
            "integer"
        )
    if most > RESULTS_MOST:
        raise MlflowError(
            f"Invalid value {most} for parameter 'max_results' supplied. It must be at most "
            f"{RESULTS_MOST}"
        )


def check_time(milliseconds: int, path: str) -> None:
    """Refuse an instant that no calendar has."""
    if not -62_135_596_800_000 <= milliseconds < 253_402_300_800_000:
        raise bad_value(path, milliseconds)


def required(value: str, path: str) -> None:
    """Refuse that nothing is there."""
    if not value:
        raise missing_value(path)
