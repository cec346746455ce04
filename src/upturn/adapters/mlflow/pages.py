"""Page tokens: where a list goes on, opaque to who asks."""

import base64
import binascii
import json

from upturn.adapters.mlflow.errors import MlflowError


def token_of(offset: int) -> str:
    """The token of the page that begins there."""
    return base64.b64encode(json.dumps({"offset": offset}).encode()).decode()


def offset_of(token: str) -> int:
    """Where the token's page begins. Raises MlflowError for what is no token."""
    if not token:
        return 0
    try:
        decoded = base64.b64decode(token)
    except (binascii.Error, ValueError):
        raise MlflowError("Invalid page token, could not base64-decode") from None
    try:
        parsed = json.loads(decoded)
    except (ValueError, RecursionError):
        raise MlflowError(f"Invalid page token, decoded value={decoded!r}") from None
    offset = parsed.get("offset") if isinstance(parsed, dict) else None
    if not isinstance(offset, int) or not 0 < offset < 2**53:
        raise MlflowError(f"Invalid page token, parsed value={parsed}")
    return offset
