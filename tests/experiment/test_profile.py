"""What ^C and AWS's taking a host back do to a run, at every stage: what is kept, and what is told."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from labtool import stacks
from labtool.ansible.result import PlayResult
from labtool.cloud.session import Session, Target
from labtool.dataset.run import RunDirectory, RunRecord
from labtool.errors import CloudError, LabtoolError, StoppedError
from labtool.experiment import profile
from labtool.experiment.journal import Journal
from labtool.experiment.profile import Early
from labtool.progress import Silent


def interrupt(*_, **__):
    raise KeyboardInterrupt


def hit_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def run(monkeypatch, tmp_path, lab, watcher, access):
    """Return a function that profiles with every outside part replaced; keywords replace parts by the test's own."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals come to the main thread")

    def nothing(*_, **__):
        return []

    def gather(session, access, lab, journal, progress):
        for name in ("collect", "CloudWatch", "tables"):
            with journal.stage(name):
                pass

    def start(seconds=0.1, past=False, workload=None, **parts):
        doing = {"running_everywhere": nothing, "clocks": nothing, "observe": nothing, "gather": gather} | parts
        monkeypatch.setattr(profile.keys, "access", lambda session, lab: access)
        monkeypatch.setattr(profile.keys, "learn", nothing)
        monkeypatch.setattr(profile.find, "find_lab", lambda session, name: doing.get("after", lab))
        monkeypatch.setattr(profile, "running_everywhere", doing["running_everywhere"])
        monkeypatch.setattr(profile.gathering, "measure_clocks", doing["clocks"])
        monkeypatch.setattr(profile.observer, "observe", doing["observe"])
        monkeypatch.setattr(profile.gathering, "gather", doing["gather"])
        monkeypatch.setattr(profile.live, "LiveSampler", Quiet)
        monkeypatch.setattr(profile, "run_playbook", doing.get("run_playbook", interrupt))
        monkeypatch.setattr(profile.load, "drive", doing.get("drive", interrupt))
        asked = profile.Asked("t", seconds, past=past, workload=workload)
        session = Session(Target("local-t", "us-east-1", kind="local"))
        return profile.profile(
            session,
            doing.get("of", lab),
            asked,
            runs=tmp_path / "runs",
            strategy="linear",
            observers=[],
            watcher=watcher,
        )

    return start


class Quiet:
    """Hosts that say nothing."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def poll(self, seconds):
        threading.Event().wait(min(seconds, 0.02))
        return []


def record(tmp_path):
    return RunDirectory(tmp_path / "runs" / "one" / "latest").read()


def test_a_whole_window_misses_nothing(run, tmp_path):
    measured = run()
    assert measured.failure is None
    kept = record(tmp_path)
    assert kept.missing == [] and kept.cloud == "local"
    assert 0.05 < (kept.window_end - kept.window_start).total_seconds() < 2


def test_a_run_costs_its_hosts_from_its_start_to_its_end_and_what_was_asked_of_cloudwatch(run, tmp_path):
    def gather(session, access, lab, journal, progress):
        journal.record.started -= timedelta(hours=10)
        journal.record.cost["usd_metrics"] = 0.25

    run(gather=gather)
    # Of two t3.small in us-east-1: instance, 20 GiB of gp3, address, seven metrics of detailed monitoring.
    hourly = 2 * (0.0208 + 20 * 0.08 / 730 + 0.005 + 7 * 0.30 / 730)
    cost = record(tmp_path).cost
    assert cost["usd_per_hour"] == pytest.approx(hourly, abs=0.00005)
    assert cost["usd"] == pytest.approx(10 * hourly + 0.25, abs=0.0006)
    assert cost["without"] == "" and cost["prices"] == "us-east-1, 2025-06"


def test_a_host_that_joined_in_the_window_is_named(run, tmp_path, lab):
    joined = replace(lab.hosts[0], name="kafka-1", index=1)
    run(after=replace(lab, hosts=(*lab.hosts, joined)))
    assert [(each.host, each.why) for each in record(tmp_path).missing] == [
        ("kafka-1", "it joined the lab in the window")
    ]


@pytest.mark.parametrize(
    ("past", "why"), [(True, "the host is stopped"), (False, "the host was stopped before the window began")]
)
def test_a_host_that_does_not_run_is_named_and_asked_for_nothing(run, tmp_path, lab, past, why):
    asked = []

    def ask(access, hosts, *_):
        asked.extend(host.name for host in hosts)
        return []

    stopped = replace(lab.hosts[0], state="stopped")
    run(of=replace(lab, hosts=(stopped, lab.hosts[1])), past=past, clocks=ask, observe=ask)
    kept = record(tmp_path)
    assert [(each.host, each.what, each.why) for each in kept.missing] == [
        ("kafka-0", "counters, logs and metrics", why)
    ]
    assert [host.name for host in kept.hosts] == ["load-0"] and kept.not_running == {"kafka-0": "stopped"}
    assert set(asked) == {"load-0"}
    one = 0.0208 + 20 * 0.08 / 730 + 0.005 + 7 * 0.30 / 730
    assert kept.cost["usd_per_hour"] == pytest.approx(one, abs=0.00005)


def test_ctrl_c_in_the_window_ends_it_and_gathers(run, tmp_path, watcher):
    threading.Timer(0.3, hit_ctrl_c).start()
    run(seconds=30)
    kept = record(tmp_path)
    assert [stage.outcome for stage in kept.stages] == ["interrupted", "ok", "ok", "ok"]
    assert [each.why for each in kept.missing] == ["it was ended early by ^C"]
    assert any("ending early" in said for said in watcher.said)


def test_a_second_ctrl_c_keeps_the_window_and_says_how_to_have_its_report(run, tmp_path):
    def drive(load, access, lab, journal, cancel, **_):
        hit_ctrl_c()
        assert cancel.wait(5)
        hit_ctrl_c()
        threading.Event().wait(5)

    def gather(*_):
        raise AssertionError("nothing is gathered after a second ^C")

    with pytest.raises(StoppedError) as told:
        run(seconds=30, workload=stacks.workload("kafka-throughput"), drive=drive, gather=gather)
    assert told.value.exit_code == 130
    kept = record(tmp_path)
    assert kept.window_start and kept.window_end and kept.ended
    assert [(stage.name, stage.outcome) for stage in kept.stages] == [("workload", "interrupted")]
    assert "labtool report" in str(told.value) and "--last 1" in str(told.value)


@pytest.mark.parametrize("stage", ["collect", "CloudWatch"])
def test_ctrl_c_while_gathering_says_what_is_kept_where(run, tmp_path, stage):
    def gather(session, access, lab, journal, progress):
        with journal.stage(stage):
            raise KeyboardInterrupt

    with pytest.raises(StoppedError) as told:
        run(gather=gather)
    (path,) = (p for p in (tmp_path / "runs" / "one").iterdir() if not p.is_symlink())
    assert f"interrupted in stage `{stage}`; what was measured is kept in {path}" in told.value.message
    assert f"`labtool report {path}`" in told.value.hint
    kept = record(tmp_path)
    assert kept.stages[-1].outcome == "interrupted" and kept.window_end and kept.ended
    assert [each.what for each in kept.missing] == ["what was not gathered yet"]


def test_tables_that_were_interrupted_are_made_again_and_nothing_is_missing(run, tmp_path):
    def gather(session, access, lab, journal, progress):
        with journal.stage("tables"):
            raise KeyboardInterrupt

    with pytest.raises(StoppedError, match="makes its tables and its report"):
        run(gather=gather)
    kept = record(tmp_path)
    assert kept.missing == [] and "tables" not in [stage.name for stage in kept.stages]


def test_ctrl_c_reaches_the_collectors_playbook_and_nothing_is_measured(run, tmp_path):
    given = {}

    def play(playbook, inventory, *, cancel, **more):
        given.update(more)
        hit_ctrl_c()
        assert cancel.wait(5)
        return PlayResult(playbook, "cancelled", {}, (), 0, 1.0, Path("log"))

    with pytest.raises(StoppedError, match="before anything was measured") as told:
        run(running_everywhere=lambda *_: ["kafka-0"], run_playbook=play, clocks=interrupt)
    assert given["limit"] == "kafka-0"
    assert told.value.exit_code == 130
    kept = record(tmp_path)
    assert [(stage.name, stage.outcome) for stage in kept.stages] == [("collectors", "interrupted")]
    assert kept.window_start is None and kept.missing


@pytest.mark.parametrize("past", [True, False])
def test_ctrl_c_before_the_window_measures_nothing(run, tmp_path, past):
    with pytest.raises(StoppedError, match="before anything was measured"):
        run(past=past, clocks=lambda *_: hit_ctrl_c())
    assert record(tmp_path).window_start is None


def test_the_handler_of_ctrl_c_is_put_back(run):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(StoppedError):
        run(clocks=interrupt)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def taken_back(monkeypatch):
    """Return a function that lets AWS take web-1 back after some seconds of the run."""

    def after(seconds):
        @contextmanager
        def watched(session, hosts, notice):
            timer = threading.Timer(seconds, notice, ("web-1", "marked-for-termination"))
            timer.start()
            yield
            timer.join()

        monkeypatch.setattr(profile.interruption, "watched", watched)

    return after


def test_a_spot_interruption_in_the_window_ends_it_and_gathers(run, tmp_path, watcher, taken_back):
    taken_back(0.3)
    assert run(seconds=30).failure is None
    kept = record(tmp_path)
    assert [stage.outcome for stage in kept.stages] == ["interrupted", "ok", "ok", "ok"]
    assert kept.stages[0].detail == "a spot interruption of web-1"
    assert [each.why for each in kept.missing][-1] == "it was ended early by a spot interruption of web-1"
    assert any("AWS takes web-1 back" in said for said in watcher.said)


def test_a_spot_interruption_before_the_window_measures_nothing_and_is_no_interrupt_of_the_user(
    run, tmp_path, taken_back
):
    taken_back(0.0)
    with pytest.raises(CloudError, match="a spot interruption of web-1 before anything was measured") as told:
        run(clocks=lambda *_: threading.Event().wait(0.5))
    assert told.value.exit_code == 1 and "labtool up" in told.value.hint
    assert record(tmp_path).window_start is None


def test_a_spot_interruption_ends_the_window_and_stands_in_the_run(tmp_path):
    now = datetime.now(UTC)
    directory = RunDirectory.create(tmp_path, "lab", "profile", now)
    record = RunRecord(name="profile", lab="lab", cloud="aws", region="us-east-1", started=now)
    early, cancel = Early(Journal(directory, record, Silent()), Silent()), threading.Event()
    assert early.why == "^C"
    early.taken_back(cancel)("web-1", "marked-for-termination")
    assert cancel.is_set()
    assert early.why == "a spot interruption of web-1"
    (row,) = map(json.loads, directory.timeline.read_text().splitlines())
    assert (row["host"], row["kind"], row["name"]) == ("web-1", "fault", "spot interruption")
    (missing,) = directory.read().missing
    assert missing.host == "web-1" and "marked-for-termination" in missing.why


def test_runs_that_have_no_folder_are_told_how_to_have_one():
    with pytest.raises(LabtoolError, match=r"the folder /proc/none/lab/.*cannot be made") as told:
        RunDirectory.create(Path("/proc/none"), "lab", "profile", datetime.now(UTC))
    assert told.value.hint == "LABTOOL_RUNS names another"
