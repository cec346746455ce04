"""OpenID Connect: logging in by a provider that signs, and not by one that cheats."""

import dataclasses
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from unit.server.access import issuer
from unit.server.access.guarded import Guarded, guarded
from upturn.core.access import Audit, Session
from upturn.core.errors import Invalid
from upturn.core.oidc import Oidc, oidc_settings
from upturn.core.settings import load_settings
from upturn.stores.workspace import open_workspace


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with issuer.running() as url:
        yield url


def served_by(url: str, **options: Any) -> Any:
    oidc = Oidc(
        issuer=url,
        client_id=issuer.CLIENT,
        name="Example",
        roles={"ml": "editor", "ops": "admin"},
        **options,
    )
    settings = dataclasses.replace(load_settings(), oidc=oidc, oidc_secret=issuer.SECRET)
    return guarded(lambda: open_workspace(settings))


@pytest.fixture
def served(provider: str) -> Iterator[Guarded]:
    tell(provider)
    with served_by(provider) as served:
        yield served


def tell(provider: str, **told: Any) -> None:
    httpx.post(f"{provider}/tell", json=told).raise_for_status()


def to_provider(served: Guarded, back: str = "/runs") -> tuple[str, dict[str, str]]:
    """Where the browser is sent, and the cookie that it has then."""
    reply = served.ask("GET", f"/login/oidc?next={back}")
    assert reply.status_code == 303, reply.text
    given = reply.headers["set-cookie"]
    assert "HttpOnly" in given
    assert "Path=/login/oidc" in given
    return reply.headers["location"], {"cookie": given.split(";")[0]}


def log_in(served: Guarded, back: str = "/runs") -> httpx.Response:
    """The whole way of a browser: here, to the provider, and back."""
    target, cookie = to_provider(served, back)
    sent = httpx.get(target)
    assert sent.status_code == 302
    found = urlsplit(sent.headers["location"])
    assert found.netloc == "upturn.example"
    return served.ask("GET", f"{found.path}?{found.query}", headers=cookie)


def session_of(reply: httpx.Response) -> dict[str, str]:
    cookies = reply.headers.get_list("set-cookie")
    return {
        "cookie": next(one for one in cookies if one.startswith("upturn_session")).split(";")[0]
    }


def test_somebody_logs_in_and_may_do_what_the_mapping_says(served: Guarded) -> None:
    assert "Log in with Example" in served.ask("GET", "/login").text
    reply = log_in(served, "/runs%3Fx=1")
    assert (reply.status_code, reply.headers["location"]) == (303, "/runs?x=1")
    told = served.ask("GET", "/session", headers=session_of(reply)).json()
    assert (told["name"], told["role"], told["projects"]) == ("ada@example.com", "editor", None)
    assert served.ask("GET", "/api/v1/tokens", headers=session_of(reply)).status_code == 403
    noted = served.workspace.meta.select(Audit)
    assert [(one.who, one.action) for one in noted] == [("ada@example.com", "session.begin")]


def test_the_highest_role_of_the_groups_holds(provider: str, served: Guarded) -> None:
    tell(provider, claims={"groups": ["ops", "ml", 7, "tea"]})
    told = served.ask("GET", "/session", headers=session_of(log_in(served))).json()
    assert told["role"] == "admin"


def test_projects_come_of_the_groups(provider: str) -> None:
    with served_by(provider, projects={"ml": ("delays",), "all": ("*",)}) as served:
        for groups, projects in ((["ml"], ["delays"]), (["ml", "all"], None)):
            tell(provider, claims={"groups": groups})
            told = served.ask("GET", "/session", headers=session_of(log_in(served))).json()
            assert told["projects"] == projects
        tell(provider, claims={"groups": ["ops"]})
        assert log_in(served).status_code == 403


@pytest.mark.parametrize(
    "claims",
    [
        {"groups": ["tea"]},
        {"groups": None},
        {"groups": {"ml": 1}},
        {"email": None},
        {"email": ["a"]},
        {"email_verified": False},
    ],
    ids=str,
)
def test_people_whom_the_mapping_does_not_know_are_refused(
    provider: str, served: Guarded, claims: dict[str, Any]
) -> None:
    tell(provider, claims=claims)
    reply = log_in(served)
    assert reply.status_code == 403
    assert served.workspace.meta.select(Session) == []


@pytest.mark.parametrize(
    "told",
    [
        {"cheat": "other key"},
        {"cheat": "no signature"},
        {"cheat": "shared secret"},
        {"claims": {"nonce": "another"}},
        {"claims": {"aud": "somebody else"}},
        {"claims": {"aud": ["somebody else"]}},
        {"claims": {"azp": "somebody else"}},
        {"claims": {"iss": "https://evil.example"}},
        {"claims": {"exp": 1_000}},
        {"claims": {"exp": None}},
        {"claims": {"iat": 9_999_999_999}},
        {"error": "access_denied"},
    ],
    ids=str,
)
def test_a_word_that_does_not_hold_lets_nobody_in(
    provider: str, served: Guarded, told: dict[str, Any]
) -> None:
    tell(provider, **told)
    reply = log_in(served)
    assert reply.status_code == 401, reply.text
    assert served.workspace.meta.select(Session) == []


def test_new_keys_of_the_provider_are_found(provider: str, served: Guarded) -> None:
    assert log_in(served).status_code == 303
    tell(provider, cheat="new keys")
    assert log_in(served).status_code == 303
    tell(provider, cheat="new keys")
    assert log_in(served).status_code == 401, "a stranger does not have us look each time"


def test_a_login_belongs_to_the_browser_that_began_it(served: Guarded) -> None:
    target, cookie = to_provider(served)
    _, other = to_provider(served)
    asked = parse_qs(urlsplit(target).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["response_type"] == ["code"]
    back = urlsplit(httpx.get(target).headers["location"])
    path = f"{back.path}?{back.query}"
    for headers in ({}, other, {"cookie": "upturn_oidc=e30"}, {"cookie": "upturn_oidc=%%%"}):
        assert served.ask("GET", path, headers=headers).status_code == 401
    elsewhere = path.replace("iss=", "iss=https%3A%2F%2Fevil.example&was=")
    assert served.ask("GET", elsewhere, headers=cookie).status_code == 401
    assert served.ask("GET", path, headers=cookie).status_code == 303
    assert served.ask("GET", path, headers=cookie).status_code == 401, "a code is used once"


def test_a_provider_that_is_away_or_another_is_said_on_the_page(provider: str) -> None:
    with served_by("http://127.0.0.1:9") as served:
        reply = served.ask("GET", "/login/oidc")
        assert reply.status_code == 503
        assert "Log in with a token" in reply.text
    tell(provider, issuer="https://evil.example")
    with served_by(provider) as served:
        assert served.ask("GET", "/login/oidc").status_code == 503
    tell(provider)


def test_without_settings_there_is_no_such_page() -> None:
    with guarded(open_workspace) as served:
        assert "login/oidc" not in served.ask("GET", "/login").text
        assert served.ask("GET", "/login/oidc").status_code == 404


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"issuer": "http://provider.example", "client_id": "x"},
        {"issuer": "https://provider.example", "client_id": "x", "roles": {"a": "king"}},
        {"issuer": "https://provider.example", "client_id": "x", "client_secret": "in a file"},
        {"issuer": "https://provider.example", "client_id": "x", "url": "ftp://x"},
        "text",
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(table: object) -> None:
    with pytest.raises(Invalid, match="oidc"):
        oidc_settings(table)
