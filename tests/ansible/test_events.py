import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labtool.ansible.events import (
    HostCounts,
    HostResult,
    HostRetried,
    HostStarted,
    PlaybookFinished,
    PlayStarted,
    Printed,
    TaskStarted,
    from_runner,
    tail,
)

# As ansible-runner 2.4.3 gave them with ansible-core 2.19, for a play that does everything that can happen.
RECORDED = json.loads(Path(__file__).with_name("events-core-2.19.json").read_text())


@pytest.fixture(scope="module")
def events():
    return [from_runner(raw) for raw in RECORDED]


def result(events, host, task) -> HostResult:
    (found,) = [e for e in events if isinstance(e, HostResult) and (e.host, e.task) == (host, task)]
    return found


def test_every_recorded_event_has_its_type(events):
    kinds = {kind: sum(type(e) is kind for e in events) for kind in {type(e) for e in events}}
    assert kinds == {
        Printed: 5,  # the playbook's start and the items of loops
        PlayStarted: 1,
        TaskStarted: 12,
        HostStarted: 15,
        HostRetried: 1,
        HostResult: 15,
        PlaybookFinished: 1,
    }


@pytest.mark.parametrize(
    ("host", "task", "status"),
    [
        ("a-0", "Same", "ok"),
        ("a-0", "Changing", "changed"),
        ("a-0", "Skipped", "skipped"),
        ("a-0", "Failing, ignored", "ignored"),
        ("a-1", "Fail one", "failed"),
        ("a-2", "Same", "unreachable"),
    ],
)
def test_statuses(events, host, task, status):
    assert result(events, host, task).status == status


def test_messages_say_what_happened(events):
    assert result(events, "a-1", "Fail one").message.startswith("exit code 4: sh -c 'for i in")
    assert result(events, "a-1", "Fail one").stdout.endswith("line 4\nline 5")
    assert result(events, "a-1", "Fail one").stderr == "bad"
    assert result(events, "a-0", "Loop fails").message == "item 2: exit code 2: sh -c 'exit 2'"
    unreachable = result(events, "a-2", "Same").message
    assert unreachable.startswith("Failed to connect to the host via ssh: ")
    assert "Connection refused" in unreachable
    assert result(events, "a-0", "Mend").message == "mended"


def test_what_no_log_hides_stays_hidden(events):
    secret = result(events, "a-0", "Secret")
    assert (secret.message, secret.stdout, secret.stderr) == ("hidden by no_log", "", "")


def test_times(events):
    looped = result(events, "a-0", "Looped")
    assert looped.start.tzinfo is UTC
    assert looped.start <= looped.time
    assert looped.duration_s == pytest.approx((looped.time - looped.start).total_seconds(), abs=0.05)


def test_retries_and_the_recap(events):
    (retried,) = [e for e in events if isinstance(e, HostRetried)]
    assert (retried.host, retried.attempt, retried.attempts) == ("a-0", 1, 4)
    (finished,) = [e for e in events if isinstance(e, PlaybookFinished)]
    assert finished.hosts["a-0"] == HostCounts(ok=8, changed=6, skipped=2, failed=1, ignored=1, rescued=1)
    assert finished.hosts["a-2"] == HostCounts(unreachable=1)


def test_roles_are_named_once():
    def title(task, role):
        return from_runner({"event": "playbook_on_task_start", "event_data": {"task": task, "role": role}}).title

    assert title("Start", "kafka") == "kafka : Start"
    assert title("kafka : Start", "kafka") == "kafka : Start"
    assert title("Start", None) == "Start"


def test_what_is_needed_must_be_there():
    with pytest.raises(ValueError, match=r"event runner_on_ok \(number 7\) has no host"):
        from_runner({"event": "runner_on_ok", "counter": 7, "event_data": {"task": "Start"}})


@pytest.mark.parametrize(
    "raw",
    [
        {"uuid": "x", "counter": 3, "stdout": "text"},  # its file of details could not be read
        {"event": "verbose", "stdout": "text"},
        {"event": "something_new", "event_data": None, "stdout": "text"},
    ],
)
def test_anything_else_is_text(raw):
    event = from_runner(raw)
    assert isinstance(event, Printed)
    assert event.text == "text"
    assert (datetime.now(UTC) - event.time).total_seconds() < 5


def test_details_may_be_absent():
    event = from_runner({"event": "runner_on_failed", "event_data": {"host": "a", "task": "t"}})
    assert (event.status, event.message, event.duration_s) == ("failed", "", 0.0)
    stats = from_runner({"event": "playbook_on_stats", "event_data": {"processed": {"a": 1}, "ok": {"a": 2}}})
    assert stats.hosts == {"a": HostCounts(ok=2)}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"msg": ["one", "two"]}, "one\ntwo"),
        ({"msg": "Task failed: Action failed: no such file"}, "no such file"),
        ({"msg": "mvn failed: [\x1b[1;31mERROR\x1b[m] no such version"}, "mvn failed: [ERROR] no such version"),
        ({"msg": "EOF on stream; last 100 lines received:\nssh: no route"}, "ssh: no route"),
        ({"msg": "non-zero return code", "rc": 1, "cmd": "set -e\nfalse"}, "exit code 1: set -e…"),
        ({"msg": "All items failed", "results": [{"failed": True, "item": "x", "msg": "why"}]}, "item x: why"),
        (
            {
                "msg": "Mitogen was disconnected from the remote environment while a call was in-progress. Original "
                "error was: the respondent Context has disconnected"
            },
            "the connection was lost while the task ran (the respondent Context has disconnected)",
        ),
        (
            {
                "msg": "Task failed: Finalization of task args for 'ansible.builtin.set_fact' failed: Error while "
                "resolving value for 'kafka_plan': The filter plugin 'kafka_plan' failed: kafka-1 has no kafka_node_id"
            },
            "kafka-1 has no kafka_node_id",
        ),
        ({}, ""),
    ],
)
def test_messages_of_failures(answer, message):
    event = from_runner({"event": "runner_on_failed", "event_data": {"host": "a", "task": "t", "res": answer}})
    assert event.message == message


def test_a_module_that_crashed_shows_its_traceback():
    answer = {"msg": "MODULE FAILURE", "module_stdout": "", "module_stderr": "Traceback\nNameError: x", "rc": 1}
    event = from_runner({"event": "runner_on_failed", "event_data": {"host": "a", "task": "t", "res": answer}})
    assert event.stderr == "Traceback\nNameError: x"


def test_tails_are_short():
    text = tail([f"line {i}" for i in range(100)] + ["x" * 10_000])
    assert len(text.splitlines()) == 20
    assert len(text) < 1000
