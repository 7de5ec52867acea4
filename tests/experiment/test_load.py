"""The load ends with labtool, however that ends. An `ssh` of the tests runs the host's part on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from labtool import stacks
from labtool.ansible.result import PlayResult
from labtool.experiment import load


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What `sudo` was asked on the hosts, line by line."""
    folder = tmp_path / "bin"
    folder.mkdir()
    file = tmp_path / "asked"
    file.touch()
    for name, does in (
        ("ssh", 'for line in "$@"; do :; done\nexec bash -c "$line"'),
        ("sudo", f'echo "$*" >>{file}'),
        ("sleep", "exec /bin/sleep 0.1"),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return file


def ended(asked):
    """Tell whether the load's units were killed and stopped."""
    text = asked.read_text()
    return f"systemctl kill --signal=KILL {load.UNITS}" in text and f"stop --no-block {load.UNITS}" in text


def test_a_load_that_is_over_is_left_alone(access, lab, journal, asked):
    with load.leashed(access, lab.running, journal) as leash:
        leash.over = True
    assert asked.read_text() == ""
    assert journal.record.missing == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, None])
def test_a_load_that_may_go_on_is_ended_on_every_host(access, lab, journal, asked, error):
    def work():
        with load.leashed(access, lab.running, journal):
            if error:
                raise error

    if error:
        with pytest.raises(error):
            work()
    else:
        work()
    assert ended(asked)
    assert asked.read_text().count("--signal=KILL") == 4  # twice on each host
    assert "stopping the load on the hosts" in journal.progress.said


def test_a_load_ends_with_a_labtool_that_is_killed_outright(tmp_path, asked):
    program = (
        "import time\n"
        "from pathlib import Path\n"
        "from tests.experiment.conftest import NOW, Watcher\n"
        "from labtool.experiment import load\n"
        "from labtool.ssh import Access\n"
        "from labtool.topology import Host\n"
        "host = Host('load-0', 'load', 0, 'i', 'running', 't3.small', '198.18.0.5', '', '', '', 'admin', NOW)\n"
        "with load.leashed(Access(Path('k'), Path('h'), Path('c')), [host], None):\n"
        "    print('begun', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
    ) as labtool:
        assert labtool.stdout is not None and labtool.stdout.readline() == "begun\n"
        labtool.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not ended(asked) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ended(asked)


def test_a_host_that_cannot_be_asked_is_named(access, lab, journal, asked):
    (asked.parent / "bin" / "ssh").write_text("#!/bin/sh\necho 'connect to host: No route to host' >&2; exit 255\n")
    with load.leashed(access, lab.running, journal):
        pass
    assert [(each.host, "No route to host" in each.why) for each in journal.record.missing] == [
        ("kafka-0", True),
        ("load-0", True),
    ]


@pytest.mark.parametrize(
    ("cancelled", "statuses", "tags", "killed"),
    [
        (False, ["ok"], [()], False),
        (False, ["failed"], [()], True),
        (True, ["cancelled", "ok"], [(), ("fetch",)], False),
        (True, ["cancelled", "failed"], [(), ("fetch",)], True),
    ],
)
def test_the_playbook_is_followed_by_what_is_needed(
    access, lab, journal, asked, monkeypatch, cancelled, statuses, tags, killed
):
    cancel = threading.Event()
    played = []

    def play(playbook, inventory, **given):
        played.append(given["tags"])
        if cancelled:
            cancel.set()
        status = statuses[len(played) - 1]
        return PlayResult(playbook, status, {}, (), 1, 1.0, Path("log"))

    monkeypatch.setattr(load, "run_playbook", play)
    workload = stacks.workload("kafka-throughput")
    work = load.Load(workload, workload.values({}), 10, 0)
    result = load.drive(work, access, lab, journal, cancel, strategy="linear", observers=[])
    assert (result.status, played) == (statuses[-1], tags)
    assert ended(asked) == killed
    # Only the hosts that drive are asked.
    assert asked.read_text().count("--signal=KILL") == (2 if killed else 0)
