"""Whether a host's SSH greets: straight, through a jump host, through Session Manager."""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labtool.cloud import find, keys, wait
from labtool.cloud.session import Session, Target
from labtool.errors import CloudError
from labtool.progress import Silent
from labtool.ssh import Access
from labtool.topology import Host, Lab

HOST = Host("web-0", "web", 0, "i-1", "running", "t3.small", "127.0.0.1", "", "", "", "admin", datetime.now(UTC))
STRAIGHT = Access(Path("key"), Path("known"), Path("control"))
BY_BASTION = replace(STRAIGHT, proxy_jump="bastion")
MANAGED = replace(HOST, address="i-1", zone="us-east-1a", reach="ssm")


@pytest.fixture
def jump(tmp_path, monkeypatch):
    """Return a function that makes an `ssh` of the given shell lines; its words go to the file it returns."""
    words = tmp_path / "words"

    def make(lines, name="ssh"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{words}\n{lines}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return words

    return make


def test_a_greeting_comes_through_the_jump_host(jump):
    words = jump("printf 'SSH-2.0-OpenSSH_9.2\\r\\n'")
    assert wait.greets(HOST, replace(STRAIGHT, proxy_jump="me@bastion:2222"))
    assert words.read_text().splitlines()[-4:] == ["-W", "127.0.0.1:22", "--", "ssh://me@bastion:2222"]


def test_a_host_that_is_not_up_yet_does_not_greet(jump):
    jump("echo 'channel 0: open failed: connect failed: Connection refused' >&2; exit 255")
    assert not wait.greets(HOST, BY_BASTION)


def test_a_host_that_hangs_does_not_greet(jump):
    jump("sleep 5 & wait")  # a child that holds the connection's end open, too
    began = time.monotonic()
    assert not wait.greets(HOST, BY_BASTION, timeout_s=0.2)
    assert time.monotonic() - began < 3


def test_a_jump_host_that_does_not_let_us_in_is_told_at_once(jump):
    jump("echo 'Host key verification failed.' >&2; exit 255")
    with pytest.raises(
        CloudError, match=r"jump host bastion does not let us in: Host key verification failed\.\n.*ssh"
    ):
        wait.greets(HOST, BY_BASTION)


def test_waiting_goes_through_the_jump_host_where_there_is_one(monkeypatch, jump):
    words = jump("printf 'SSH-2.0-OpenSSH_9.2\\r\\n'")
    lab = Lab("one", "us-east-1", (HOST,))
    monkeypatch.setattr(find, "find_lab", lambda *_: lab)
    monkeypatch.setattr(keys, "learn", lambda *_: [])
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("it must not go straight"))
    through = Session(Target("aws", "us-east-1", proxy_jump="bastion"))
    assert wait.until_ready(through, "one", {"web-0"}, Silent(), deadline_s=5) == lab
    assert "ssh://bastion" in words.read_text()


@pytest.mark.parametrize("access", [STRAIGHT, BY_BASTION])
def test_session_manager_needs_no_jump_host_and_an_agent_that_is_not_up_yet_is_waited_for(jump, access):
    words = jump("printf 'SSH-2.0-OpenSSH_9.2\\r\\n'; exec cat >/dev/null", "aws")
    assert wait.greets(MANAGED, access)
    assert words.read_text().splitlines()[:4] == ["ssm", "start-session", "--target", "i-1"]
    jump("echo 'TargetNotConnected: i-1 is not connected.' >&2; exit 254", "aws")
    assert not wait.greets(MANAGED, access)


def test_a_way_whose_program_is_missing_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CloudError, match="`aws`, which is not on this machine"):
        wait.greets(MANAGED, STRAIGHT)


@pytest.mark.parametrize(("banner", "greets"), [(b"SSH-2.0-x\r\n", True), (b"HTTP/1.1", False), (b"", False)])
def test_a_greeting_is_ssh_own(monkeypatch, banner, greets):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.sendall(banner)

        threading.Thread(target=answer, daemon=True).start()
        straight = socket.create_connection
        monkeypatch.setattr(socket, "create_connection", lambda _, timeout: straight(server.getsockname(), timeout))
        assert wait.greets(HOST, STRAIGHT) is greets
