"""Each channel delivers to a real receiver, says why when it can't, and keeps its secrets."""

import hashlib
import hmac
import json
import sys
from pathlib import Path

import pytest

from unit.improve.alerts.receivers import hook, post_office
from upturn.core.errors import Invalid
from upturn.core.time import instant
from upturn.improve.alerts.channel import Message, Undelivered
from upturn.improve.alerts.command import Command
from upturn.improve.alerts.mail import Email
from upturn.improve.alerts.notify import test_message as message_of_a_test
from upturn.improve.alerts.webhook import Slack, Webhook


def message() -> Message:
    return message_of_a_test("churn", "ann", instant("2025-05-01T06:00:00Z"))


def test_a_webhook_gets_the_alerts_as_records_and_as_text() -> None:
    with hook() as got:
        Webhook(got.url).send(message())
    (headers, body) = got.got[0]
    told = json.loads(body)
    assert headers["Content-Type"] == "application/json"
    assert told["endpoint"] == "churn"
    assert told["alerts"][0]["began_at"] == "2025-05-01T06:00:00Z"
    assert "Owner: ann" in told["text"]
    assert "upturn monitor churn --until 2025-05-01T06:00:00Z" in told["look"]
    assert "X-Upturn-Signature" not in headers


def test_a_webhook_with_a_secret_signs_the_body() -> None:
    with hook() as got:
        Webhook(got.url, secret="s3cret").send(message())
    (headers, body) = got.got[0]
    expected = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert headers["X-Upturn-Signature"] == f"sha256={expected}"


def test_slack_gets_text_in_which_nothing_is_markup() -> None:
    from upturn.core.findings import Alert
    from upturn.improve.alerts.notify import message_of

    at = instant("2025-05-01")
    alert = Alert(
        endpoint="churn", name="drift/<b>&", status="raised", says="<!channel>", began_at=at, at=at
    )
    with hook() as got:
        Slack(got.url).send(message_of("churn", [alert]))
    told = json.loads(got.got[0][1])
    assert set(told) == {"text"}
    assert "&lt;!channel&gt;" in told["text"]
    assert "drift/&lt;b&gt;&amp;" in told["text"]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_any_answer_but_a_2xx_is_not_delivered(status: int) -> None:
    with hook() as got:
        got.status = status
        with pytest.raises(Undelivered, match=str(status)):
            Webhook(got.url).send(message())


def test_an_address_at_which_nobody_listens_is_not_delivered() -> None:
    with hook() as got:
        url = got.url
    with pytest.raises(Undelivered, match="can't be reached"):
        Slack(url).send(message())


def test_a_command_gets_the_json_on_its_input(tmp_path: Path) -> None:
    out = tmp_path / "got.json"
    code = f"import sys; open({str(out)!r}, 'w').write(sys.stdin.read())"
    Command((sys.executable, "-c", code)).send(message())
    assert json.loads(out.read_text())["title"] == "churn: a test"


def test_a_command_that_fails_says_what_it_complained() -> None:
    with pytest.raises(Undelivered, match=r"ended with 3: no pager here"):
        Command(
            (sys.executable, "-c", "import sys; sys.stderr.write('no pager here'); sys.exit(3)")
        ).send(message())
    with pytest.raises(Undelivered, match="can't be run"):
        Command(("./there-is-no-such-program",)).send(message())
    with pytest.raises(Undelivered, match=r"had not ended after 0\.2 s"):
        Command((sys.executable, "-c", "import time; time.sleep(60)"), timeout_s=0.2).send(
            message()
        )


def test_a_mail_arrives() -> None:
    with post_office() as post:
        Email(
            to=("ann@example.org", "bob@example.org"),
            sender="upturn@example.org",
            server=post.server,
            security="none",
        ).send(message())
    sender, to, text = post.mails[0]
    assert sender == "upturn@example.org"
    assert to == ["ann@example.org", "bob@example.org"]
    assert "Subject: churn: a test" in text
    assert "somebody tries out whether this arrives" in text


def test_a_mail_that_is_refused_is_not_delivered() -> None:
    with post_office() as post:
        post.refuses = True
        mail = Email(
            to=("nobody@example.org",), sender="u@example.org", server=post.server, security="none"
        )
        with pytest.raises(Undelivered, match="no such user"):
            mail.send(message())
        # The server knows no encryption: rather not delivered than in the clear.
        with pytest.raises(Undelivered, match="STARTTLS"):
            Email(to=mail.to, sender=mail.sender, server=mail.server).send(message())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Webhook("hooks.example.org/x"),
        lambda: Webhook("ftp://hooks.example.org/x"),
        lambda: Slack("https://"),
        lambda: Slack("http://host:99999999/"),
        lambda: Command(()),
        lambda: Command("./page.sh"),  # type: ignore[arg-type]
        lambda: Email(to=(), sender="a@b", server="h"),
        lambda: Email(to=("a@b\nBcc: x@y",), sender="a@b", server="h"),
        lambda: Email(to=("a@b",), sender="a@b", server="h:smtp"),
        lambda: Email(to=("a@b",), sender="a@b", server="h", security="ssl"),
    ],
    ids=map(str, range(10)),
)
def test_what_can_be_no_receiver_is_refused_when_it_is_written_down(make: object) -> None:
    with pytest.raises(Invalid):
        make()  # type: ignore[operator]


def test_names_tell_no_secret() -> None:
    for channel in (
        Webhook("https://user:pw@hooks.example.org/T0/B0?token=geheim", secret="s3cret"),
        Slack("https://hooks.example.org/services/T0/B0/geheim"),
        Email(to=("a@b",), sender="a@b", server="h", user="u", password="geheim"),
    ):
        assert not any(secret in channel.name for secret in ("geheim", "s3cret", "pw"))
