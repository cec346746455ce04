"""Signing of what hooks are sent, as Standard Webhooks 1.0 has it: HMAC-SHA256 with a timestamp."""

import base64
import binascii
import hashlib
import hmac
import secrets

from upturn.core.errors import Invalid
from upturn.core.notices import Hook

PREFIX = "whsec_"
_BYTES = 32  # of a secret that is made here
_FEWEST, _MOST = 24, 64  # that the standard has


def new_secret() -> str:
    """A secret for a hook: 'whsec_' and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The bytes of a secret. Raises Invalid for what is none."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not _FEWEST <= len(key) <= _MOST:
        raise Invalid(
            "This is no secret of a hook.",
            hint="It is whsec_ and 24 to 64 bytes in base64. Without one, a new one is made.",
        )
    return key


def headers_for(hook: Hook, id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The headers of a message to a hook, in its form."""
    if hook.form == "mlflow":
        return mlflow_headers_of(hook.secret, id, at_s, body)
    return headers_of(hook.secret, id, at_s, body)


def mlflow_headers_of(secret: str, id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The headers as MLflow has them: the key is the secret's text, and there need be none.

    >>> headers = mlflow_headers_of("geheim", "3f9", 1614265330, b"{}")
    >>> headers["X-MLflow-Signature"]
    'v1,bCsmx1aKETTpag5BY7csQAcvYXFwu205mJCgaRTikGU='
    """
    said = {"X-MLflow-Delivery-Id": id, "X-MLflow-Timestamp": str(at_s)}
    if secret:
        signed = b".".join((id.encode(), str(at_s).encode(), body))
        digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
        said["X-MLflow-Signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return said


def headers_of(secret: str, id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The headers by which a receiver sees who sent it, and when.

    >>> secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    >>> body = b'{"test": 2432232314}'
    >>> headers_of(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)["webhook-signature"]
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    signed = b".".join((id.encode(), str(at_s).encode(), body))
    digest = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
    return {
        "webhook-id": id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
