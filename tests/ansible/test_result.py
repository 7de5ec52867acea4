from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labtool.ansible.events import HostCounts, HostResult, HostStarted, PlaybookFinished, Printed
from labtool.ansible.result import Failure, PlayResult, Tally
from labtool.errors import AnsibleError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def ended(host: str, task: str, status: str, message: str = "", stdout: str = "") -> HostResult:
    return HostResult(
        time=NOW,
        host=host,
        task=task,
        role="kafka",
        status=status,
        message=message,
        stdout=stdout,
        start=NOW,
        duration_s=1,
    )


def told(*events) -> Tally:
    tally = Tally()
    for event in events:
        tally.notice(event)
    return tally


def result(**changes) -> PlayResult:
    base = PlayResult(
        playbook=Path("/x/kafka-cluster.yml"),
        status="failed",
        hosts={f"kafka-{i}": HostCounts(ok=1) for i in range(3)},
        failures=(Failure("kafka-1", "kafka : Start", "no heap", "last line"),),
        host_tasks=9,
        elapsed_s=1.0,
        log=Path("/logs/deploy.log"),
    )
    return replace(base, **changes)


def test_the_cause_is_what_the_program_said_last():
    assert result().cause == "kafka-cluster failed on kafka-1; nothing failed on the other 2: no heap"
    said = Failure("a", "Drive", "exit code 1: /usr/bin/python3 drive.py", "a note\nclass X is not in app.jar")
    assert result(failures=(said,)).cause.endswith(": class X is not in app.jar")
    assert result(status="ok").cause == ""


def test_a_rescued_failure_is_none():
    tally = told(
        ended("a", "Break", "failed", "oh"),
        ended("a", "Mend", "ok"),
        PlaybookFinished(time=NOW, hosts={"a": HostCounts(ok=1, rescued=1)}),
    )
    assert tally.failures == ()
    assert tally.host_tasks == 2


def test_the_journal_that_a_rescue_prints_is_in_the_failures_output():
    tally = told(
        ended("a", "Wait until ready", "failed", "timeout"),
        ended("a", "Read the journal", "ok", stdout="ignored"),
        ended("a", "Fail", "failed", "kafka did not start. Its journal:\nOutOfMemoryError\nexit 1"),
        PlaybookFinished(time=NOW, hosts={"a": HostCounts(failed=1, rescued=1)}),
    )
    (failure,) = tally.failures
    assert failure.message == "kafka did not start. Its journal:"
    assert failure.output == "it was mending [kafka : Wait until ready]: timeout\nOutOfMemoryError\nexit 1"


def test_without_a_recap_everything_counts():
    tally = told(
        ended("a", "One", "changed"),
        ended("a", "Two", "failed", "oh"),
        ended("b", "One", "ignored"),
        HostStarted(time=NOW, host="b", task="Two"),
    )
    assert tally.hosts == {"a": HostCounts(ok=1, changed=1, failed=1), "b": HostCounts(ok=1, ignored=1)}
    assert [f.host for f in tally.failures] == ["a"]
    assert tally.running == {"b": "Two"}


def test_the_error_names_host_task_message_output_and_log():
    error = result().error()
    assert error.message.splitlines() == [
        "kafka-cluster failed on kafka-1; nothing failed on the other 2",
        "kafka-1 failed in [kafka : Start]: no heap",
        "    last line",
    ]
    assert error.hint == "the whole output: /logs/deploy.log"
    assert error.exit_code == 1


def test_many_failures_are_cut():
    failures = tuple(Failure(f"kafka-{i}", "t", f"m {i}") for i in range(20))
    lines = result(failures=failures, hosts={}).error().message.splitlines()
    assert len(lines) == 7
    assert lines[-1] == "and 15 more"


def test_failures_that_are_alike_are_told_once():
    failures = (*(Failure(f"kafka-{i}", "t", "m", "out") for i in range(3)), Failure("kafka-3", "t", "other"))
    lines = result(failures=failures, hosts={}).error().message.splitlines()
    assert lines[1:] == ["kafka-0, kafka-1, kafka-2 failed in [t]: m", "    out", "kafka-3 failed in [t]: other"]


def test_a_failure_outside_any_task_shows_ansibles_last_words():
    error = result(failures=(), host_tasks=0, hosts={}, last_words="ERROR! no role").error()
    assert error.message == "kafka-cluster failed before any host did anything\n    ERROR! no role"
    assert "before any host" not in result(failures=(), last_words="x").error().message


def test_what_was_running_when_it_was_cancelled():
    error = result(status="cancelled", failures=(), unfinished={"b": "Two", "a": "One"}).error()
    assert error.message.splitlines() == ["kafka-cluster was interrupted", "a was in: One", "b was in: Two"]


def test_check():
    fine = result(status="ok", failures=())
    assert fine.check() is fine
    assert fine.error() is None
    with pytest.raises(AnsibleError):
        result().check()


def test_last_words_are_the_last_lines_outside_tasks():
    tally = told(*(Printed(time=NOW, text=f"line {i}\n\n") for i in range(300)))
    assert tally.last_words.splitlines()[-1] == "line 299"
    assert len(tally.last_words.splitlines()) == 12
