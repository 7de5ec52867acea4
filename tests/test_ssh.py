"""SSH's command lines, and the shell line that ends with its connection."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labtool import ssh
from labtool.topology import Host

ACCESS = ssh.Access(Path("key"), Path("known"), Path("control"))
HOST = Host("web-0", "web", 0, "i-1", "running", "t3.small", "198.18.0.4", "", "", "", "admin", datetime.now(UTC))


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition, patience_s: float = 5.0) -> bool:
    deadline = time.monotonic() + patience_s
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(found)


class Remote:
    """A line as sshd runs it: by a shell, its input the connection."""

    def __init__(self, line: str, shell: str, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [shell, "-c", ssh.ending_with_connection(line)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SHELL": shell, "HERE": str(folder)},
            text=True,
        )

    def pids(self, count: int) -> list[int]:
        """Return the ids that the line wrote into files, once there are `count`."""
        assert until(lambda: len([p for p in self.folder.glob("pid*") if p.read_text().strip()]) == count)
        return [int(path.read_text()) for path in sorted(self.folder.glob("pid*"))]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture(params=["bash", "dash"])
def remote(request, tmp_path):
    shell = shutil.which(request.param)
    if shell is None:
        pytest.skip(f"no {request.param} here")
    made: list[Remote] = []

    def run(line: str) -> Remote:
        made.append(Remote(line, shell, tmp_path))
        return made[-1]

    yield run
    for each in made:
        each.close()
        each.process.wait(10)
        assert each.process.stdout is not None
        each.process.stdout.close()
        for path in tmp_path.glob("pid*"):
            with suppress(ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGKILL)


def test_a_line_says_and_returns_what_it_does(remote):
    ran = remote('echo "it\'s $((1 + 1))"; echo told >&2; exit 3')
    assert ran.process.stdout.read() == "it's 2\ntold\n"
    assert ran.process.wait(5) == 3


def test_a_line_has_no_input_and_an_open_connection_does_not_end_it(remote):
    ran = remote("cat; sleep 0.3; echo whole")
    assert ran.process.stdout.read() == "whole\n"
    assert ran.process.wait(5) == 0


def test_a_closed_connection_ends_all_that_the_line_started(remote):
    ran = remote("sleep 60 & echo $! >$HERE/pid1; sh -c 'echo $$ >$HERE/pid2; sleep 60; true' & wait")
    pids = ran.pids(2)
    assert all(map(lives, pids))
    ran.close()
    assert until(lambda: not any(map(lives, pids)))
    assert ran.process.wait(5) != 0
    assert ran.process.stdout.read() == ""


@pytest.fixture
def fast(tmp_path, monkeypatch):
    """Seconds of shell lines that are over sooner."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sleep").write_text("#!/bin/sh\nexec /bin/sleep 0.3\n")
    (tmp_path / "bin" / "sleep").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


@pytest.mark.slow
@pytest.mark.usefixtures("fast")
def test_what_does_not_listen_to_sigterm_is_killed(remote):
    ran = remote("trap '' TERM; echo $$ >$HERE/pid1; while :; do sleep 1; done")
    (pid,) = ran.pids(1)
    ran.close()
    assert not until(lambda: not lives(pid), 1.0)
    assert until(lambda: not lives(pid), 8)


def test_a_line_that_ended_leaves_nothing_that_waits(remote):
    ran = remote("echo $PPID >$HERE/pid1")
    (wrapper,) = ran.pids(1)
    assert ran.process.wait(5) == 0
    ran.close()
    assert until(lambda: not lives(wrapper))
    group = subprocess.run(["ps", "-o", "pid=", "--ppid", str(wrapper)], capture_output=True, text=True, check=False)
    assert group.stdout.strip() == ""


def test_a_jump_host_is_an_option_of_every_connection_and_host_keys_are_checked():
    words = ssh.command(ssh.Access(Path("k"), Path("h"), Path("c"), "me@bastion:2222"), HOST, ["uname", "-a b"])
    assert "ProxyJump=me@bastion:2222" in words and "StrictHostKeyChecking=yes" in words
    assert words[-1] == "uname '-a b'"
    assert not [word for word in ssh.options(ACCESS) if "ProxyJump" in word]


@pytest.mark.parametrize(
    ("jump", "tail"),
    [
        ("bastion", ["-W", "198.18.0.4:22", "--", "ssh://bastion"]),
        ("me@bastion:2222", ["-W", "198.18.0.4:22", "--", "ssh://me@bastion:2222"]),
        ("ssh://me@bastion:2222", ["-W", "198.18.0.4:22", "--", "ssh://me@bastion:2222"]),
        ("a,b@c", ["-J", "a", "-W", "198.18.0.4:22", "--", "ssh://b@c"]),
    ],
)
def test_a_hosts_port_is_seen_from_the_last_jump_host(jump, tail):
    words = ssh.forward(jump, HOST)
    assert words[-len(tail) :] == tail and "BatchMode=yes" in words
