"""Starting, awaiting and restarting a node, with a made-up unit in place of systemd's."""

from __future__ import annotations

import pytest

from tests.roles.modules import load, load_kafka_utils

load_kafka_utils()
service = load("roles/kafka/library/kafka_service.py")

from ansible.module_utils.daemon_unit import UnitError  # noqa: E402
from ansible.module_utils.kafka_cluster import Report  # noqa: E402

ARGUMENTS = {
    "node_id": 1,
    "address": "127.0.0.1",
    "broker_port": 9092,
    "controller_port": 0,
    "bootstrap": ["127.0.0.1:9092"],
    "brokers": [1, 2],
    "max_lag": 100,
    "timeout": 0.2,
}


class Unit:
    """Remembers what it was told."""

    name = "kafka.service"

    def __init__(self, state="active", enabled="enabled", started="a", now="a"):
        self.state = {"ActiveState": state, "UnitFileState": enabled, "NeedDaemonReload": "no"}
        self.fingerprints = (started, now)
        self.done: list[str] = []

    def show(self):
        return self.state

    @property
    def active(self):
        return self.state["ActiveState"] == "active"

    def started_with(self, _key):
        return self.fingerprints[0]

    def would_start_with(self, _key):
        return self.fingerprints[1]

    def explain(self, what):
        return UnitError(f"{what}. Its last lines:\nOutOfMemoryError")

    def do(self, verb):
        self.done.append(verb)
        self.state["ActiveState"] = "active"

    def must_run(self):
        if not self.active:
            raise self.explain("it stopped")


@pytest.fixture(autouse=True)
def _no_systemctl(monkeypatch):
    monkeypatch.setattr(service, "run", lambda *_words: None)
    monkeypatch.setattr(service, "POLL_S", 0.01)


@pytest.mark.parametrize(
    ("unit", "result", "done"),
    [
        (Unit(), {"changed": False, "stale": False}, []),
        (Unit(started="a", now="b"), {"changed": False, "stale": True}, []),
        (Unit("inactive"), {"changed": True, "stale": False}, ["start"]),
        (Unit("failed"), {"changed": True, "stale": False}, ["start"]),
        (Unit(enabled="disabled"), {"changed": True, "stale": False}, []),
    ],
)
def test_start(unit, result, done):
    assert service.start(unit, check_mode=False) == result
    assert unit.done == done


def test_check_mode_starts_nothing():
    unit = Unit("inactive")
    assert service.start(unit, check_mode=True)["changed"]
    assert unit.done == []


@pytest.mark.parametrize(
    ("unit", "answer", "told"),
    [
        (Unit(), ("", 2), {"changed": False, "stale": False, "leader": 2}),
        (Unit(), ("", -1), {"changed": False, "stale": False, "leader": -1}),
        (Unit(), ("broker 1 is not registered yet", 2), {"changed": False, "stale": False}),
        (Unit(started="a", now="b"), ("", 2), {"changed": False, "stale": True, "leader": 2}),
    ],
)
def test_a_node_that_ran_already_says_whether_it_is_ready(monkeypatch, unit, answer, told):
    monkeypatch.setattr(service, "node_problem", lambda *_: answer)
    assert service.started(unit, ARGUMENTS, check_mode=False) == told


def test_a_node_that_starts_is_not_asked(monkeypatch):
    monkeypatch.setattr(service, "node_problem", lambda *_: pytest.fail("asked a node that has just been started"))
    assert "leader" not in service.started(Unit("inactive"), ARGUMENTS, check_mode=False)


def test_a_dead_unit_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(service, "node_problem", lambda *_: pytest.fail("asked a node that cannot answer"))
    with pytest.raises(UnitError, match=r"it stopped.*\nOutOfMemoryError"):
        service.wait_ready(Unit("failed"), ARGUMENTS | {"timeout": 60})


def test_the_deadline_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(service, "node_problem", lambda *_: ("broker 1 is not registered yet", -1))
    with pytest.raises(UnitError, match="broker 1 is not registered yet"):
        service.wait_ready(Unit(), ARGUMENTS)


def whole(*problems):
    """Return a stand-in for until_healthy that reports these problems, one a call."""
    left = list(problems)

    def until_healthy(*_args, **_options):
        report = Report()
        problem = left.pop(0) if left else ""
        report.problems = [problem] if problem else []
        return report

    return until_healthy


def test_a_node_that_the_cluster_cannot_spare_is_left_running(monkeypatch):
    monkeypatch.setattr(service, "until_healthy", whole("2 partitions under-replicated"))
    unit = Unit()
    with pytest.raises(UnitError, match="before the restart of node 1: 2 partitions under-replicated"):
        service.restart(unit, ARGUMENTS)
    assert unit.done == []


def test_a_cluster_that_does_not_recover_ends_the_roll(monkeypatch):
    monkeypatch.setattr(service, "until_healthy", whole("", "brokers not registered: 1"))
    monkeypatch.setattr(service, "node_problem", lambda *_: ("", 1))
    unit = Unit()
    with pytest.raises(UnitError, match="after the restart of node 1"):
        service.restart(unit, ARGUMENTS)
    assert unit.done == ["restart"]


def test_a_node_that_is_down_is_started_without_asking_first(monkeypatch):
    monkeypatch.setattr(service, "until_healthy", whole(""))
    monkeypatch.setattr(service, "node_problem", lambda *_: ("", 2))
    unit = Unit("failed")
    assert service.restart(unit, ARGUMENTS) == 2
