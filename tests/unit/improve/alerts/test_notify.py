"""People are told once of what begins, gets worse and ends; of nothing that is muted."""

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upturn.core.errors import NotFound
from upturn.core.findings import Alert
from upturn.core.settings import load_settings
from upturn.core.time import instant
from upturn.improve.alerts.channel import Message, Undelivered
from upturn.improve.alerts.mutes import mute, mutes, unmute
from upturn.improve.alerts.notify import notify, open_alerts
from upturn.improve.monitor.symptom import Severity, Symptom
from upturn.stores.workspace import Workspace, open_workspace

START = instant("2025-05-01")
DAY = timedelta(days=1)


class Heard(msgspec.Struct):
    """A channel that remembers what it was told; while it is deaf it takes nothing."""

    name: str = "ear"
    deaf: bool = False
    said: list[tuple[str, str]] = []

    def send(self, message: Message) -> None:
        if self.deaf:
            raise Undelivered("it is deaf.")
        self.said += [(alert.name, alert.status) for alert in message.alerts]


@pytest.fixture
def workspace(tmp_path: Path):
    made = open_workspace(load_settings(tmp_path, {"UPTURN_HOME": str(tmp_path / "home")}))
    yield made
    made.close()


def symptom(severity: Severity, name: str = "drift/plan") -> Symptom:
    return Symptom(name=name, severity=severity, says=f"{name} is {severity}")


def look(workspace: Workspace, day: int, *symptoms: Symptom, to: Heard) -> list[Alert]:
    return notify(
        workspace,
        endpoint="churn",
        symptoms=symptoms,
        channels=[to],
        owner="ann",
        version="churn:1",
        check=day + 1,
        now=START + day * DAY,
    )


def test_each_change_is_told_once(workspace: Workspace) -> None:
    ear = Heard()
    for day, severity in enumerate(
        ["fine", "warning", "warning", "critical", "warning", "critical", "fine", "fine", "warning"]
    ):
        look(workspace, day, symptom(severity), to=ear)
    assert [status for _, status in ear.said] == ["raised", "worse", "over", "raised"]
    last = open_alerts(workspace, "churn")[0]
    assert (last.check, last.owner, last.version) == (9, "ann", "churn:1")
    assert last.began_at == START + 8 * DAY
    assert last.told == ("ear",)


def test_many_alerts_of_one_look_are_one_message(workspace: Workspace) -> None:
    sent: list[Message] = []

    class Once(Heard):
        def send(self, message: Message) -> None:
            sent.append(message)

    look(
        workspace,
        0,
        symptom("warning", "drift/a"),
        symptom("critical", "traffic"),
        symptom("fine", "drift/b"),
        to=Once(),
    )
    assert [alert.name for alert in sent[0].alerts] == ["traffic", "drift/a"]  # the worst first
    assert sent[0].title == "churn: 2 alerts, 1 of them critical"
    assert len(sent) == 1


def test_what_was_not_looked_at_goes_on(workspace: Workspace) -> None:
    ear = Heard()
    look(workspace, 0, symptom("warning"), to=ear)
    look(workspace, 1, to=ear)
    assert [one.name for one in open_alerts(workspace)] == ["drift/plan"]
    assert ear.said == [("drift/plan", "raised")]


def test_a_channel_that_was_down_is_told_later(workspace: Workspace) -> None:
    ear = Heard(deaf=True)
    look(workspace, 0, symptom("critical"), to=ear)
    assert open_alerts(workspace)[0].failed == {"ear": "it is deaf."}
    ear.deaf = False
    look(workspace, 1, symptom("critical"), to=ear)
    look(workspace, 2, symptom("critical"), to=ear)
    assert ear.said == [("drift/plan", "raised")]
    ear.deaf = True
    look(workspace, 3, symptom("fine"), to=ear)
    ear.deaf = False
    look(workspace, 4, symptom("fine"), to=ear)
    assert ear.said == [("drift/plan", "raised"), ("drift/plan", "over")]


def test_one_channel_that_is_down_does_not_stop_another(workspace: Workspace) -> None:
    deaf, ear = Heard(name="deaf", deaf=True), Heard()
    for day in range(3):
        notify(
            workspace,
            endpoint="churn",
            symptoms=[symptom("warning")],
            channels=[deaf, ear],
            now=START + day * DAY,
        )
    assert ear.said == [("drift/plan", "raised")]
    alert = open_alerts(workspace)[0]
    assert (alert.told, list(alert.failed)) == (("ear",), ["deaf"])


def test_a_muted_alert_is_kept_and_told_when_the_mute_ends(workspace: Workspace) -> None:
    ear = Heard()
    mute(workspace, "churn", "drift/*", until=START + 2 * DAY, why="known", now=START)
    look(workspace, 0, symptom("critical"), symptom("critical", "traffic"), to=ear)
    look(workspace, 1, symptom("critical"), to=ear)
    assert ear.said == [("traffic", "raised")]
    assert {one.name: one.muted for one in open_alerts(workspace)} == {
        "drift/plan": True,
        "traffic": False,
    }
    look(workspace, 2, symptom("critical"), to=ear)
    look(workspace, 3, symptom("critical"), to=ear)
    assert ear.said == [("traffic", "raised"), ("drift/plan", "raised")]


def test_the_end_of_what_nobody_was_told_of_is_not_told(workspace: Workspace) -> None:
    ear = Heard()
    mute(workspace, "churn", "drift/plan", until=START + 2 * DAY, why="", now=START)
    look(workspace, 0, symptom("critical"), to=ear)
    look(workspace, 1, symptom("fine"), to=ear)
    look(workspace, 3, symptom("fine"), to=ear)
    assert ear.said == []


def test_a_mute_can_be_ended(workspace: Workspace) -> None:
    mute(workspace, "churn", "drift/x[0]", until=START + DAY, why="", now=START)
    ear = Heard()
    look(workspace, 0, symptom("warning", "drift/x[0]"), to=ear)
    assert ear.said == []  # a name is itself, whatever it means as a pattern
    unmute(workspace, "churn", "drift/x[0]", now=START)
    assert mutes(workspace, "churn", START) == []
    with pytest.raises(NotFound, match="is not muted"):
        unmute(workspace, "churn", "drift/x[0]", now=START)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["fine", "warning", "critical", None]), st.booleans(), st.booleans()
        ),
        max_size=12,
    )
)
def test_whatever_happens_each_event_reaches_a_channel_that_listens_in_the_end(
    days: list[tuple[Severity | None, bool, bool]],
) -> None:
    """A deaf channel, or a process that is killed before it could tell: told at least once."""

    class Killed(Heard):
        def send(self, message: Message) -> None:
            raise KeyboardInterrupt

    with TemporaryDirectory() as folder:
        workspace = open_workspace(load_settings(Path(folder), {"UPTURN_HOME": folder}))
        ear = Heard(said=[])
        for day, (severity, deaf, killed) in enumerate(days):
            symptoms = [] if severity is None else [symptom(severity)]
            ear.deaf = deaf
            if killed:
                try:
                    look(workspace, day, *symptoms, to=Killed())
                except KeyboardInterrupt:
                    continue
            look(workspace, day, *symptoms, to=ear)
        ear.deaf = False
        look(workspace, len(days), to=ear)
        stored = workspace.meta.select(Alert, endpoint="churn")
        workspace.close()
    told = [status for _, status in ear.said]
    if not any(killed for _, _, killed in days):
        assert all(one != other for one, other in pairwise(told))
    assert not stored or not stored[-1].failed
    if stored:
        assert told[-1:] == [stored[-1].status] or stored[-1].status == "over"
