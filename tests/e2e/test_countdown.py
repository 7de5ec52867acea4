"""The smallest demo: one command from nothing to a report and nothing; and one that is ended in its middle."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest

from labtool.dataset import compressed, query
from labtool.dataset.run import RunDirectory

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(240)]


def test_one_command_from_nothing_to_nothing(labtool):
    before = hosts_of(labtool)
    done = labtool.run("run", "countdown", "--from", "12")
    assert "report: " in done.stdout
    assert "lab countdown would have cost on AWS $0.00" in done.stdout and "nothing is left of it" in done.stdout
    run = labtool.folder / "runs/countdown/latest"
    ((rate, numbers, offered),) = rows(run, "select rate, operations, offered_rate from workload_summary")
    assert (numbers, offered) == (12, 1.0) and abs(rate - 1) < 0.01
    record = json.loads((run / "run.json").read_text())
    assert {each["what"] for each in record["missing"]} <= {"CloudWatch metrics"}  # it has a point a minute
    summary = json.loads((run / "summary.json").read_text())
    assert summary["verdict"]["severity"] == "ok", summary["verdict"]
    assert "kept up with 1 numbers/s" in summary["verdict"]["sentence"]
    # Its window is the count's, and the host's own counters cover it.
    ((seconds,),) = rows(run, "select count(distinct time) from host_metrics where host = 'countdown-0'")
    assert 11 <= seconds <= 13
    (log,) = (run / "logs/countdown-0").rglob("labtool-countdown-load.service.log*")
    assert "lift-off" in compressed.read(log).decode()
    assert (run / "report.html").stat().st_size > 50_000
    assert hosts_of(labtool) == before


def test_interrupted_in_its_middle_it_reports_and_leaves_nothing(labtool):
    before = hosts_of(labtool)
    working = labtool.start("run", "countdown", "--from", "120")
    until = time.monotonic() + 150
    lines = 0
    while lines < 4:
        assert working.poll() is None and time.monotonic() < until, working.communicate()
        said = labtool.run(
            "exec", "--lab", "countdown", "sudo journalctl -o cat -u labtool-countdown-load", code=None
        ).stdout
        lines = said.count(" ms late")
    working.send_signal(signal.SIGINT)
    out, err = working.communicate(timeout=120)
    assert working.returncode == 0, err
    assert "report: " in out
    run = labtool.folder / "runs/countdown/latest"
    ((numbers,),) = rows(run, "select operations from workload_summary")
    assert 4 <= numbers < 120
    assert any("ended early" in each["why"] for each in json.loads((run / "run.json").read_text())["missing"])
    assert hosts_of(labtool) == before


def hosts_of(labtool):
    """Return the names of the local cloud's containers, and its labs with what they have."""
    listed = subprocess.run(
        ["podman", "ps", "-a", "--format", "{{.Names}}"], capture_output=True, text=True, check=True
    )
    ours = labtool.env["LABTOOL_LOCAL_NAME"] + "-"
    labs = labtool.json("status", "--all")
    return sorted(name for name in listed.stdout.split() if name.startswith(ours)), [lab["lab"] for lab in labs]


def rows(run, asked):
    return query.connect(RunDirectory(run)).execute(asked).fetchall()
