"""Commands on hosts: their results, and their end with labtool's, on this machine behind an `ssh` of the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labtool.cli.remote import INTERRUPTED, TIMED_OUT, copy, run_everywhere
from labtool.errors import LabtoolError
from labtool.ssh import Access
from labtool.topology import Host
from tests.test_ssh import lives, until

ACCESS = Access(Path("key"), Path("known"), Path("control"))
pytestmark = pytest.mark.usefixtures("here")


def hosts(count):
    now = datetime.now(UTC)
    return [
        Host(f"web-{n}", "web", n, f"i-{n}", "running", "t3.small", f"198.18.0.{n + 4}", "", "", "", "admin", now)
        for n in range(count)
    ]


def test_results_come_in_the_hosts_order_with_both_outputs():
    results = run_everywhere(ACCESS, hosts(3), "echo out; echo err >&2; exit 4", 10)
    assert [(r.host, r.code, r.output) for r in results] == [(f"web-{n}", 4, "out\nerr\n") for n in range(3)]


@pytest.mark.slow
def test_after_the_deadline_the_command_has_ended_on_the_host(tmp_path):
    began = time.monotonic()
    (result,) = run_everywhere(ACCESS, hosts(1), f"echo begun; echo $$ >{tmp_path}/pid; sleep 60; echo late", 1.0)
    assert (result.code, result.output) == (TIMED_OUT, "begun\n")
    assert time.monotonic() - began < 8
    assert until(lambda: not lives(int((tmp_path / "pid").read_text())))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, INTERRUPTED), (9, -9)])
def test_a_command_ends_on_its_hosts_however_labtool_does(tmp_path, number, code):
    line = f"echo $$ >>{tmp_path}/pids; sleep 60"
    program = (
        "import labtool.cli.app, sys\n"
        "from labtool.__main__ import main\n"
        "from tests.cli.test_remote import ACCESS, hosts\n"
        "from labtool.cli.remote import run_everywhere\n"
        "import labtool.cli.connect as connect\n"
        "from labtool.topology import Lab\n"
        "connect.reach = lambda chosen: (Lab('one', 'us-east-1', tuple(hosts(2))), ACCESS)\n"
        f"sys.argv = ['labtool', 'exec', {line!r}]\n"
        "main()\n"
    )
    root = Path(__file__).parents[2]
    labtool = subprocess.Popen(
        # A test run in the background was started with ^C ignored, and its children would inherit that.
        ["env", "--default-signal=INT", sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    pids = tmp_path / "pids"
    assert until(lambda: pids.exists() and len(pids.read_text().splitlines()) == 2, 20)
    began = time.monotonic()
    labtool.send_signal(number)
    _, err = labtool.communicate(timeout=20)
    assert labtool.returncode == code, err
    assert time.monotonic() - began < 10
    if code == INTERRUPTED:
        assert err.endswith("labtool: interrupted\n")
    assert until(lambda: not any(lives(int(pid)) for pid in pids.read_text().split()))


def test_a_copy_that_fails_names_the_host_and_why(tmp_path, monkeypatch):
    program = tmp_path / "failing"
    program.mkdir()
    (program / "scp").write_text("#!/bin/sh\necho 'no space left' >&2; exit 1\n")
    (program / "scp").chmod(0o755)
    monkeypatch.setenv("PATH", f"{program}:{os.environ['PATH']}")
    with pytest.raises(LabtoolError, match="not copied: web-0: no space left; web-1: no space left"):
        copy(ACCESS, hosts(2), local=str(tmp_path), remote="/tmp", download=True)


def test_a_copy_that_fails_leaves_none_of_its_folders(tmp_path, monkeypatch):
    program = tmp_path / "some"
    program.mkdir()
    (program / "scp").write_text(
        '#!/bin/sh\nfor last; do :; done\ncase "$last" in */web-1) touch "$last/f";; *) exit 1; esac\n'
    )
    (program / "scp").chmod(0o755)
    monkeypatch.setenv("PATH", f"{program}:{os.environ['PATH']}")
    there = tmp_path / "there" / "web-0"
    there.mkdir(parents=True)
    for local in ("new/deep", "there"):
        with pytest.raises(LabtoolError, match="web-0: ; web-2: "):
            copy(ACCESS, hosts(3), local=str(tmp_path / local), remote="/tmp/f", download=True)
    assert [path.name for path in (tmp_path / "new" / "deep").iterdir()] == ["web-1"]
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["web-0", "web-1"]
    (program / "scp").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(LabtoolError, match="not copied"):
        copy(ACCESS, hosts(2), local=str(tmp_path / "none" / "deep"), remote="/tmp/f", download=True)
    assert not (tmp_path / "none").exists()


def test_what_is_to_be_copied_must_be_there(tmp_path):
    with pytest.raises(LabtoolError, match="does not exist"):
        copy(ACCESS, hosts(1), local=str(tmp_path / "nothing"), remote="/tmp", download=False)
