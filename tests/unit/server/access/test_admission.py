"""Admission: who is let in with what, for how long, from where, and what others are told."""

import base64
import dataclasses
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from unit.server.access.guarded import Guarded, guarded
from upturn.core.access import Audit, Token
from upturn.core.time import utcnow
from upturn.core.tokentext import is_token_text, new_token_text
from upturn.server.access.attempts import BURST
from upturn.stores.tokens import get_token, has_tokens, list_tokens, revoke_token
from upturn.stores.workspace import open_workspace
from waiting import until

TOKENS = "/api/v1/tokens"


@pytest.fixture
def served() -> Iterator[Guarded]:
    with guarded(open_workspace) as served:
        yield served


@pytest.fixture
def local() -> Iterator[Guarded]:
    with guarded(open_workspace, open_to_local=True) as served:
        yield served


def test_who_shows_nothing_is_told_the_way_in(served: Guarded) -> None:
    reply = served.ask("GET", "/api/v1/projects")
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == 'Bearer realm="upturn"'
    assert reply.json()["code"] == "unauthorized"
    assert "upturn tokens create" in reply.json()["hint"]


def test_a_token_lets_in_as_bearer_and_as_the_password_of_anybody(served: Guarded) -> None:
    token = served.token("viewer")
    pair = base64.b64encode(f"anybody:{token}".encode()).decode()
    alone = base64.b64encode(f"{token}:".encode()).decode()
    assert served.ask("GET", "/api/v1/projects", token).status_code == 200
    for basic in (pair, alone):
        headers = {"authorization": f"Basic {basic}"}
        assert served.ask("GET", "/api/v1/projects", headers=headers).status_code == 200
    for other in ("Basic %%%", "Digest x", "Bearer", ""):
        reply = served.ask("GET", "/api/v1/projects", headers={"authorization": other})
        assert reply.status_code == 401, other


def test_a_role_reaches_what_is_below_it(served: Guarded) -> None:
    for role, status in (("viewer", 403), ("editor", 403), ("deployer", 403), ("admin", 200)):
        reply = served.ask("GET", TOKENS, served.token(role))
        assert reply.status_code == status
        if status == 403:
            assert reply.json()["code"] == "forbidden"
            assert "--role admin" in reply.json()["hint"]


def test_a_slip_of_the_hand_is_told_from_a_token_that_ended(served: Guarded) -> None:
    token = served.token("viewer")
    slip = token[:-1] + ("0" if token[-1] != "0" else "1")
    assert "mistyped" in served.ask("GET", "/metrics", slip).json()["detail"]
    assert "knows no such" in served.ask("GET", "/metrics", new_token_text()).json()["detail"]
    over = utcnow() + timedelta(milliseconds=1)
    short = served.token("viewer", expires_at=over)
    until(lambda: utcnow() > over)
    assert "has expired" in served.ask("GET", "/metrics", short).json()["detail"]


@given(st.text(), st.integers(0, 61), st.characters())
def test_every_slip_is_seen(text: str, at: int, other: str) -> None:
    assert not is_token_text(text)
    token = new_token_text()
    changed = token[:at] + other + token[at + 1 :]
    assert is_token_text(changed) == (changed == token)


def test_a_revocation_takes_effect_within_a_second(served: Guarded) -> None:
    token = served.token("viewer")
    assert served.ask("GET", "/api/v1/projects", token).status_code == 200
    meta = served.workspace.meta
    revoke_token(meta, list_tokens(meta)[0], who="test")
    served.clock.now += 0.9
    reply = served.ask("GET", "/api/v1/projects", token)
    assert reply.status_code == 401
    assert "was revoked" in reply.json()["detail"]


def test_the_store_is_not_asked_for_each_request(served: Guarded) -> None:
    token = served.token("viewer")
    assert served.ask("GET", "/api/v1/projects", token).status_code == 200
    served.workspace.meta.add(
        replace(served.workspace.meta.last_each(Token)[0], seq=0, revoked=True)
    )
    assert served.ask("GET", "/api/v1/projects", token).status_code == 200, "believed for 0.5 s"
    served.clock.now += 0.6
    assert served.ask("GET", "/api/v1/projects", token).status_code == 401


def test_an_address_that_guesses_is_held_up_and_who_is_known_is_not(served: Guarded) -> None:
    token = served.token("viewer")
    assert served.ask("GET", "/api/v1/projects", token, address="10.9.9.9").status_code == 200
    statuses = [
        served.ask("GET", "/api/v1/projects", new_token_text(), address="10.9.9.9").status_code
        for _ in range(BURST + 5)
    ]
    assert statuses[:BURST] == [401] * BURST
    assert statuses[-1] == 429
    held = served.ask("GET", "/api/v1/projects", served.token("viewer"), address="10.9.9.9")
    assert held.status_code == 429
    assert int(held.headers["retry-after"]) >= 1
    assert served.ask("GET", "/api/v1/projects", token, address="10.9.9.9").status_code == 200
    assert served.ask("GET", "/api/v1/projects", token, address="10.9.9.8").status_code == 200
    served.clock.now += 60
    assert served.ask("GET", "/api/v1/projects", token, address="10.9.9.9").status_code == 200


def test_a_network_of_ipv6_counts_as_one(served: Guarded) -> None:
    for number in range(BURST + 5):
        address = f"2001:db8:1:2::{number:x}"
        reply = served.ask("GET", "/metrics", new_token_text(), address=address)
    assert reply.status_code == 429
    assert (
        served.ask("GET", "/metrics", new_token_text(), address="2001:db8:1:3::1").status_code
        == 401
    )


def test_health_is_open_and_tells_nothing(served: Guarded) -> None:
    for path in ("/health/live", "/healthz", "/v2/health/live"):
        assert served.ask("GET", path).status_code == 200
    assert served.ask("GET", "/metrics").status_code == 401
    assert served.ask("GET", "/metrics", served.token("viewer")).status_code == 200


def test_on_loopback_nobody_needs_a_token_by_the_machines_own_name(local: Guarded) -> None:
    for host in ("127.0.0.1:8600", "localhost", "[::1]:8600"):
        assert local.ask("GET", TOKENS, host=host).status_code == 200
    reply = local.ask("GET", TOKENS, host="evil.example")
    assert reply.status_code == 401
    assert "own names" in reply.json()["detail"]
    assert local.ask("GET", TOKENS, "upt_wrong", host="localhost").status_code == 401
    assert local.ask("GET", TOKENS, local.token("viewer"), host="localhost").status_code == 403


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded", "via", "x-real-ip"])
def test_what_a_proxy_passes_on_is_not_local(local: Guarded, name: str) -> None:
    reply = local.ask("GET", TOKENS, host="localhost", headers={name: "203.0.113.7"})
    assert reply.status_code == 401


def test_another_sites_page_changes_nothing_here(local: Guarded) -> None:
    body = {"name": "x", "role": "admin"}
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "http://localhost:9999"},
    ):
        reply = local.ask("POST", TOKENS, host="localhost:8600", headers=headers, json=body)
        assert reply.status_code == 403, headers
    assert list_tokens(local.workspace.meta) == []
    own = {"origin": "http://localhost:8600", "sec-fetch-site": "same-origin"}
    reply = local.ask("POST", TOKENS, host="localhost:8600", headers=own, json=body)
    assert reply.status_code == 201


def test_a_setting_demands_tokens_on_loopback_too() -> None:
    from upturn.core.settings import load_settings

    settings = dataclasses.replace(load_settings(), demand_tokens=True)
    with guarded(lambda: open_workspace(settings), open_to_local=True) as served:
        assert served.ask("GET", TOKENS, host="localhost").status_code == 401
        assert served.ask("GET", TOKENS, served.token("admin"), host="localhost").status_code == 200


def test_where_anyone_may_ask_they_have_a_role_and_no_more() -> None:
    with guarded(open_workspace, anyone="editor") as served:
        assert served.ask("GET", "/api/v1/projects").status_code == 200
        assert served.ask("GET", TOKENS).status_code == 403
        assert served.ask("GET", TOKENS, served.token("admin")).status_code == 200


def test_each_protocol_is_refused_in_its_own_form(served: Guarded) -> None:
    mlflow = served.ask("POST", "/api/2.0/mlflow/runs/create", json={})
    assert mlflow.status_code == 401
    assert mlflow.json()["error_code"] == "UNAUTHENTICATED"
    denied = served.ask("POST", "/api/2.0/mlflow/runs/create", served.token("viewer"), json={})
    assert (denied.status_code, denied.json()["error_code"]) == (403, "PERMISSION_DENIED")
    oip = served.ask("GET", "/v2")
    assert oip.status_code == 401
    assert set(oip.json()) == {"error"}


def test_changes_are_noted_with_who_made_them_and_so_is_who_was_refused(served: Guarded) -> None:
    admin, viewer = served.token("admin"), served.token("viewer")
    assert served.ask("POST", TOKENS, admin, json={"name": "ci"}).status_code == 201
    assert served.ask("POST", TOKENS, admin, json={"name": "ci"}).status_code == 409
    assert served.ask("POST", TOKENS, viewer, json={"name": "mine"}).status_code == 403
    assert served.ask("DELETE", f"{TOKENS}/ci", admin).status_code == 200
    assert served.ask("GET", TOKENS, admin).status_code == 200
    assert served.ask("POST", TOKENS, json={"name": "nobody"}).status_code == 401
    noted = served.workspace.meta.select(Audit)
    assert [(one.who[:5], one.action, one.status, one.path) for one in noted] == [
        ("admin", "tokens.create", 201, "token/ci"),
        ("admin", "tokens.create", 409, "token/ci"),
        ("viewe", "tokens.create", 403, ""),
        ("admin", "tokens.revoke", 200, "token/ci"),
    ]
    assert {one.via for one in noted} == {"http"}
    shown = served.ask("GET", "/api/v1/audit?who=" + noted[2].who, admin).json()["items"]
    assert [row["status"] for row in shown] == [403]
    assert served.ask("GET", "/api/v1/audit", viewer).status_code == 403


def test_the_audit_log_is_read_in_parts(served: Guarded) -> None:
    admin = served.token("admin")
    for number in range(7):
        served.ask("DELETE", f"{TOKENS}/none-{number}", admin)
    paths, cursor = [], ""
    while True:
        page = served.ask("GET", f"/api/v1/audit?limit=3&cursor={cursor}", admin).json()
        paths += [row["path"] for row in page["items"]]
        if not (cursor := page["cursor"]):
            break
    assert paths == [f"token/none-{number}" for number in reversed(range(7))]
    one = served.ask("GET", "/api/v1/audit?path=token/none-3", admin).json()["items"]
    assert [row["path"] for row in one] == ["token/none-3"]
    assert len(served.ask("GET", "/api/v1/audit?path=token", admin).json()["items"]) == 7
    assert (
        served.ask("GET", "/api/v1/audit?since=2999-01-01T00:00:00Z", admin).json()["items"] == []
    )
    assert served.ask("GET", "/api/v1/audit?cursor=x", admin).status_code == 422


def test_the_secret_is_in_one_answer_and_nowhere_in_the_store(served: Guarded) -> None:
    admin = served.token("admin")
    made = served.ask("POST", TOKENS, admin, json={"name": "ci", "role": "editor"}).json()
    secret = made["secret"]
    assert served.ask("GET", "/api/v1/projects", secret).status_code == 200
    assert secret not in served.ask("GET", f"{TOKENS}?every=true", admin).text
    home = served.workspace.settings.home
    for file in home.rglob("*"):
        if file.is_file():
            assert secret[4:56].encode() not in file.read_bytes(), file


def test_an_admin_of_a_project_makes_no_token_beyond_it(served: Guarded) -> None:
    narrow = served.token("admin", "ours")
    for projects in ([], ["theirs"], ["ours", "theirs"]):
        body = {"name": "x", "role": "admin", "projects": projects}
        assert served.ask("POST", TOKENS, narrow, json=body).status_code == 403
    body = {"name": "x", "role": "admin", "projects": ["ours"]}
    assert served.ask("POST", TOKENS, narrow, json=body).status_code == 201
    other = served.token("viewer")
    assert served.ask("GET", "/api/v1/projects", other).status_code == 200
    name = next(one.name for one in list_tokens(served.workspace.meta) if not one.projects)
    assert served.ask("DELETE", f"{TOKENS}/{name}", narrow).status_code == 404
    listed = served.ask("GET", TOKENS, narrow).json()["items"]
    assert {tuple(row["projects"]) for row in listed} == {("ours",)}
    assert served.ask("GET", "/api/v1/audit", narrow).status_code == 403


def test_a_store_has_tokens_while_one_holds(served: Guarded) -> None:
    meta = served.workspace.meta
    assert not has_tokens(meta)
    served.token("viewer")
    assert has_tokens(meta)
    revoke_token(meta, get_token(meta, list_tokens(meta)[0].name), who="test")
    assert not has_tokens(meta)
