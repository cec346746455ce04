"""Login: a browser's session, what it may change, and what ends it."""

from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.server.access.guarded import Guarded, guarded
from upturn.core.access import Audit, Session
from upturn.core.time import utcnow
from upturn.server.access.login import local_path
from upturn.stores.tokens import list_tokens, revoke_token
from upturn.stores.workspace import open_workspace

TOKENS = "/api/v1/tokens"
OWN = {"origin": "http://upturn.example"}


@pytest.fixture
def served() -> Iterator[Guarded]:
    with guarded(open_workspace) as served:
        yield served


def log_in(served: Guarded, token: str, **headers: str) -> httpx.Response:
    form = {"token": token, "next": "/runs?x=1"}
    return served.ask("POST", "/login", data=form, headers=OWN | headers)


def cookie(reply: httpx.Response) -> dict[str, str]:
    """The browser's header from now on."""
    return {"cookie": reply.headers["set-cookie"].split(";")[0]}


def test_the_page_is_whole_in_itself(served: Guarded) -> None:
    page = served.ask("GET", "/login?next=%2Fruns%3Fx%3D%22%3E%3Cb%3E")
    assert page.status_code == 200
    assert "<script" not in page.text
    assert "://" not in page.text
    assert '"><b>' not in page.text
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["cache-control"] == "no-store"


def test_a_browser_without_a_session_is_led_to_the_page(served: Guarded) -> None:
    reply = served.ask("GET", "/metrics?a=b", headers={"accept": "text/html,*/*"})
    assert reply.status_code == 303
    assert reply.headers["location"] == "/login?next=%2Fmetrics%3Fa%3Db"
    assert served.ask("GET", "/metrics", headers={"accept": "*/*"}).status_code == 401


def test_a_token_makes_a_session_that_reads(served: Guarded) -> None:
    reply = log_in(served, served.token("admin"))
    assert (reply.status_code, reply.headers["location"]) == (303, "/runs?x=1")
    given = reply.headers["set-cookie"]
    assert "HttpOnly" in given
    assert "SameSite=Lax" in given
    assert "Secure" not in given
    assert served.ask("GET", TOKENS, headers=cookie(reply)).status_code == 200
    secure = log_in(served, served.token("admin"), **{"x-forwarded-proto": "https"})
    assert "Secure" in secure.headers["set-cookie"]


def test_a_wrong_token_is_told_on_the_page(served: Guarded) -> None:
    reply = log_in(served, "upt_wrong")
    assert reply.status_code == 401
    assert "mistyped" in reply.text
    assert "set-cookie" not in reply.headers


def test_a_change_needs_the_sessions_own_token_and_origin(served: Guarded) -> None:
    session = cookie(log_in(served, served.token("admin")))
    other = cookie(log_in(served, served.token("admin")))
    csrf = served.ask("GET", "/session", headers=session).json()["csrf"]
    foreign = served.ask("GET", "/session", headers=other).json()["csrf"]
    body = {"name": "x"}
    for headers in (
        {},
        {"x-csrf-token": ""},
        {"x-csrf-token": foreign},
        {"x-csrf-token": csrf, "origin": "https://evil.example"},
        {"x-csrf-token": csrf, "origin": "null"},
        {"x-csrf-token": csrf, "sec-fetch-site": "cross-site"},
    ):
        reply = served.ask("POST", TOKENS, headers={**OWN, **session, **headers}, json=body)
        assert reply.status_code == 403, headers
    good = {**OWN, **session, "x-csrf-token": csrf}
    assert served.ask("POST", TOKENS, headers=good, json=body).status_code == 201


def test_logging_in_again_is_another_session(served: Guarded) -> None:
    first = cookie(log_in(served, served.token("viewer")))
    second = cookie(log_in(served, served.token("viewer"), **first))
    assert first != second
    assert served.ask("GET", "/session", headers=first).status_code == 401
    assert served.ask("GET", "/session", headers=second).status_code == 200


def test_logging_out_ends_the_session_on_the_server(served: Guarded) -> None:
    session = cookie(log_in(served, served.token("viewer")))
    csrf = served.ask("GET", "/session", headers=session).json()["csrf"]
    page = served.ask("GET", "/login", headers=session)
    assert csrf in page.text
    assert served.ask("POST", "/logout", headers=session).status_code == 403
    assert served.ask("GET", "/logout", headers=session).status_code == 405
    headers = {**session, **OWN}
    reply = served.ask("POST", "/logout", headers=headers, data={"csrf": csrf})
    assert reply.status_code == 303
    assert "Max-Age=0" in reply.headers["set-cookie"]
    assert served.ask("GET", "/session", headers=session).status_code == 401
    noted = [one.action for one in served.workspace.meta.select(Audit)]
    assert noted == ["session.begin", "session.end"]


def test_a_session_ends_with_its_token(served: Guarded) -> None:
    session = cookie(log_in(served, served.token("viewer")))
    meta = served.workspace.meta
    assert served.ask("GET", "/session", headers=session).status_code == 200
    revoke_token(meta, list_tokens(meta)[0], who="test")
    served.clock.now += 0.9
    assert served.ask("GET", "/session", headers=session).status_code == 401


def test_a_session_is_no_longer_than_its_token(served: Guarded) -> None:
    soon = utcnow() + timedelta(minutes=5)
    log_in(served, served.token("viewer", expires_at=soon))
    session = served.workspace.meta.select(Session)[0]
    assert session.expires_at == soon


def test_the_cookie_is_not_in_the_store(served: Guarded) -> None:
    secret = cookie(log_in(served, served.token("viewer")))["cookie"].partition("=")[2]
    for file in served.workspace.settings.home.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes()


def test_a_made_up_session_is_none(served: Guarded) -> None:
    for value in ("x", "", "a" * 5000, "é", "../../etc"):
        headers = {"cookie": f"upturn_session={value}".encode()}
        reply = served.ask("GET", "/session", headers=headers)  # pyright: ignore[reportArgumentType]
        assert reply.status_code == 401


def test_an_old_cookie_on_loopback_locks_nobody_out() -> None:
    with guarded(open_workspace, open_to_local=True) as local:
        headers = {"cookie": "upturn_session=old"}
        assert local.ask("GET", TOKENS, host="localhost", headers=headers).status_code == 200


def test_another_site_can_log_nobody_in(served: Guarded) -> None:
    form = {"token": served.token("viewer")}
    headers = {"origin": "https://evil.example"}
    assert served.ask("POST", "/login", data=form, headers=headers).status_code == 403


def test_a_large_form_is_refused(served: Guarded) -> None:
    assert served.ask("POST", "/login", content=b"token=" + b"x" * 100_000).status_code == 413
    fields = "&".join(f"a{number}=1" for number in range(100))
    reply = served.ask("POST", "/login", content=fields.encode())
    assert reply.status_code == 401


@given(st.text())
def test_one_comes_back_to_this_server_alone(text: str) -> None:
    for asked in (text, f"/{text}", f"//{text}", f"/\\{text}", f"https://{text}"):
        path = local_path(asked)
        assert path.startswith("/")
        assert not path.startswith(("//", "/\\"))
        assert path.isprintable()
        assert not urlsplit(path).netloc


def test_what_was_uploaded_is_shown_in_a_sandbox(served: Guarded) -> None:
    from upturn.server.access.access import Access
    from upturn.server.access.guard import Guard

    async def uploaded(scope: object, receive: object, send: object) -> None:
        headers = [(b"content-type", b"text/html; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"<script>1</script>"})  # type: ignore[operator]

    served.app = Guard(uploaded, Access(served.workspace, False))  # pyright: ignore[reportArgumentType]
    reply = served.ask("GET", "/any", served.token("viewer"))
    assert reply.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
