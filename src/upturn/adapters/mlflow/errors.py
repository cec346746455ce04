"""What MLflow's clients are told when something is wrong: a code, a message, an HTTP status."""

import json
from typing import Any

from upturn.core.errors import Conflict, Invalid, NotFound, Unapproved, Unavailable, UpturnError

INVALID = "INVALID_PARAMETER_VALUE"
MISSING = "RESOURCE_DOES_NOT_EXIST"
EXISTS = "RESOURCE_ALREADY_EXISTS"
NO_ENDPOINT = "ENDPOINT_NOT_FOUND"
FORBIDDEN = "PERMISSION_DENIED"
UNAUTHENTICATED = "UNAUTHENTICATED"
BUSY = "TEMPORARILY_UNAVAILABLE"
INTERNAL = "INTERNAL_ERROR"
NOT_IMPLEMENTED = "NOT_IMPLEMENTED"

# A client tries again after 408, 429 and most of 500 to 504, for minutes and in silence. A mistake
# of its user is none of these.
STATUS = {
    INVALID: 400,
    "BAD_REQUEST": 400,
    "INVALID_STATE": 400,
    EXISTS: 400,
    UNAUTHENTICATED: 401,
    FORBIDDEN: 403,
    MISSING: 404,
    NO_ENDPOINT: 404,
    "RESOURCE_CONFLICT": 409,
    "REQUEST_LIMIT_EXCEEDED": 429,
    INTERNAL: 500,
    NOT_IMPLEMENTED: 501,
    BUSY: 503,
}
SEE = " See the API docs for more information about request parameters."
_CODES: tuple[tuple[type[UpturnError], str], ...] = (
    (NotFound, MISSING),
    (Invalid, INVALID),
    (Unapproved, FORBIDDEN),
    (Conflict, EXISTS),
    (Unavailable, BUSY),
)
_BY_STATUS = {
    400: INVALID,
    401: UNAUTHENTICATED,
    403: FORBIDDEN,
    404: MISSING,
    413: INVALID,
    422: INVALID,
    429: "REQUEST_LIMIT_EXCEEDED",
    503: BUSY,
}


class MlflowError(Exception):
    """A refusal in MLflow's own words."""

    def __init__(self, message: str, code: str = INVALID) -> None:
        super().__init__(message)
        self.message = message
        self.code = code

    @property
    def status(self) -> int:
        """The HTTP status that goes with the code."""
        return STATUS.get(self.code, 500)

    @property
    def body(self) -> bytes:
        """The answer's body."""
        return json.dumps({"error_code": self.code, "message": self.message}).encode()


def missing_value(path: str, *, see: bool = True) -> MlflowError:
    """That a parameter is not there, or is empty."""
    return MlflowError(f"Missing value for required parameter '{path}'.{SEE if see else ''}")


def wrong_type(path: str, value: Any) -> MlflowError:
    """That a parameter has a value of another type."""
    hint = f"  Hint: Value was of type '{type(value).__name__}'."
    return MlflowError(
        f"Invalid value {as_json(value)} for parameter '{path}' supplied:{hint}{SEE}"
    )


def bad_value(path: str, value: Any, why: str = "") -> MlflowError:
    """That a parameter's value will not do."""
    end = f": {why}" if why else "."
    return MlflowError(f"Invalid value {as_json(value)} for parameter '{path}' supplied{end}")


def too_long(name: str, limit: int) -> MlflowError:
    """That a text is longer than its limit."""
    return MlflowError(f"'{name}' exceeds the maximum length of {limit} characters")


def as_json(value: Any) -> str:
    """A value as messages quote it; a long one is cut."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return text if len(text) <= 1000 else f"{text[:1000]}…"


def translated(error: UpturnError) -> MlflowError:
    """One of our own errors in MLflow's words."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return MlflowError(str(error), code)
    return MlflowError(str(error), _BY_STATUS.get(error.http_status, INTERNAL))
