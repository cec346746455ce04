"""Refusals: an error as the answer to a request, in the form that its client understands."""

import msgspec

from upturn.core.errors import Unauthorized, UpturnError
from upturn.deploy.serve.asgi import Send
from upturn.deploy.serve.problems import problem_body, problem_headers
from upturn.server.access import mlflow

# No "Basic": a browser would ask its user for a password for every page that fetches something.
CHALLENGE = 'Bearer realm="upturn"'
_MLFLOW_CODES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
}


async def refuse(send: Send, path: str, error: UpturnError) -> None:
    """Answer a request for the path with the error."""
    headers = problem_headers(error)
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = CHALLENGE
    if mlflow.takes(path):
        code = _MLFLOW_CODES.get(error.http_status, "INTERNAL_ERROR")
        body = msgspec.json.encode({"error_code": code, "message": str(error)})
        headers["content-type"] = "application/json"
    elif path == "/v2" or path.startswith("/v2/"):
        body = msgspec.json.encode({"error": str(error)})
        headers["content-type"] = "application/json"
    else:
        body = problem_body(error)
    await reply(send, error.http_status, headers, body)


async def redirect(send: Send, location: str, *cookies: str) -> None:
    """Send the browser there, with GET, and with cookies to set."""
    await reply(send, 303, {"location": location, "cache-control": "no-store"}, b"", *cookies)


async def reply(
    send: Send, status: int, headers: dict[str, str], body: bytes, *cookies: str
) -> None:
    """Send a whole answer."""
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    pairs += [(b"set-cookie", cookie.encode("latin-1")) for cookie in cookies]
    pairs.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
