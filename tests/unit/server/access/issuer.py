"""A small OpenID provider as a process of its own: it signs real tokens, and may be told to cheat.

`POST /tell` sets what it does next: `claims` over those of its user, `cheat` (see `_id_token`).
"""

import base64
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

CLIENT, SECRET = "upturn-test", "s3cr3t of a client"


class Provider(BaseHTTPRequestHandler):
    """Answers as one provider; what it knows is the class's."""

    keys: list[Any] = []
    issuer = ""
    codes: dict[str, dict[str, str]] = {}
    told: dict[str, Any] = {}

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/.well-known/openid-configuration":
            self._json(
                {
                    "issuer": self.told.get("issuer", self.issuer),
                    "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/token",
                    "jwks_uri": f"{self.issuer}/keys",
                    "token_endpoint_auth_methods_supported": ["client_secret_basic"],
                }
            )
        elif parts.path == "/keys":
            self._json({"keys": [key.as_dict(private=False) for key in self.keys]})
        elif parts.path == "/authorize":
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            code = f"code-{len(self.codes)}"
            self.codes[code] = asked
            answer = {"code": code, "state": asked["state"], "iss": self.issuer}
            if "error" in self.told:
                answer = {"error": self.told["error"], "state": asked["state"]}
            self.send_response(302)
            self.send_header("location", f"{asked['redirect_uri']}?{urlencode(answer)}")
            self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/tell":
            type(self).told = json.loads(body)
            if self.told.get("cheat") == "new keys":
                from joserfc.jwk import RSAKey

                self.keys[:] = [RSAKey.generate_key(2048, {"kid": f"new-{time.time_ns()}"})]
            self._json({})
            return
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        asked = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(
            hashlib.sha256(form["code_verifier"].encode()).digest()
        )
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        fits = (
            asked is not None
            and asked["code_challenge_method"] == "S256"
            and asked["code_challenge"] == challenge.decode().rstrip("=")
            and asked["redirect_uri"] == form["redirect_uri"]
            and self.headers["authorization"] == f"Basic {basic}"
        )
        if not fits:
            self._json({"error": "invalid_grant"}, status=400)
            return
        assert asked is not None
        self._json({"id_token": self._id_token(asked["nonce"]), "access_token": "x"})

    def _id_token(self, nonce: str) -> str:
        from joserfc import jwt
        from joserfc.jwk import OctKey, RSAKey

        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "1",
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            "email": "ada@example.com",
            "email_verified": True,
            "groups": ["ml"],
            **self.told.get("claims", {}),
        }
        key, header = self.keys[0], {"alg": "RS256", "kid": self.keys[0].kid}
        match self.told.get("cheat"):
            case "other key":
                key = RSAKey.generate_key(2048, {"kid": header["kid"]})
            case "no signature":
                parts = [{"alg": "none"}, claims]
                texts = [base64.urlsafe_b64encode(json.dumps(one).encode()) for one in parts]
                return b".".join(text.rstrip(b"=") for text in texts).decode() + "."
            case "shared secret":
                key, header = OctKey.import_key(SECRET * 3), {"alg": "HS256"}
            case _:
                pass
        return jwt.encode(header, claims, key)

    def _json(self, value: Any, *, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def running() -> Iterator[str]:
    """The address of a provider while the body runs."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__))], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def main() -> None:
    from joserfc.jwk import RSAKey

    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    Provider.keys = [RSAKey.generate_key(2048, {"kid": "first"})]
    Provider.issuer = f"http://127.0.0.1:{server.server_port}"
    print(Provider.issuer, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
