from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtool.cloud import keys
from labtool.topology import Host

BLOCK = "-----BEGIN SSH HOST KEY KEYS-----\r\n{}\r\n-----END SSH HOST KEY KEYS-----\r\n"


def test_the_last_block_wins():
    console = (
        "[    1.2] booting\r\n"
        + BLOCK.format("ssh-ed25519 AAAAold root@a\r\necdsa-sha2-nistp256 AAAAec root@a")
        + "[  900.0] booting\r\n"
        + BLOCK.format("ssh-ed25519 AAAAnew root@a")
    )
    assert keys.host_keys(console) == [("ssh-ed25519", "AAAAnew")]


@pytest.mark.slow
@given(st.text())
def test_no_console_text_is_mistaken_for_a_key_or_fails(text):
    assert keys.host_keys(text) == []


def test_learning_keeps_the_lines_of_others(monkeypatch):
    from labtool.cloud.session import Session, Target

    session = Session(Target("aws", "us-east-1"))
    monkeypatch.setattr(keys, "console_output", lambda s, i: BLOCK.format(f"ssh-ed25519 AAAA{i[2:]} root@x"))
    assert keys.learn(session, "one", [host("web-0", "i-a", "198.18.0.10")]) == []
    assert keys.learn(session, "one", [host("web-1", "i-b", "198.18.0.11")]) == []
    lines = keys.access(session, "one").known_hosts.read_text().splitlines()
    assert lines == ["198.18.0.10 ssh-ed25519 AAAAa", "198.18.0.11 ssh-ed25519 AAAAb"]


def test_what_was_learned_is_not_asked_for_again(monkeypatch):
    from labtool.cloud.session import Session, Target

    session = Session(Target("aws", "us-east-1"))
    assert keys.learned(session, "three") == {} and not keys.known(session, "three"), "to look leaves no trace"
    monkeypatch.setattr(keys, "console_output", lambda s, i: BLOCK.format(f"ssh-ed25519 AAAA{i[2:]} root@x"))
    keys.learn(session, "three", [host("web-0", "i-a", "198.18.0.10")])
    folder = keys.lab_folder(session, "three") / "host-keys"
    (folder / ".i-b.17").write_text("what another labtool is writing\n")
    known = keys.learned(session, "three")
    assert known == {"i-a": "ssh-ed25519 AAAAa\n"}
    monkeypatch.setattr(keys, "console_output", lambda s, i: BLOCK.format("ssh-ed25519 AAAAnew root@x"))
    both = [host("web-0", "i-a", "198.18.0.10"), host("web-1", "i-b", "198.18.0.11")]
    assert keys.learn(session, "three", both, known) == []
    lines = keys.access(session, "three").known_hosts.read_text().splitlines()
    assert lines == ["198.18.0.10 ssh-ed25519 AAAAa", "198.18.0.11 ssh-ed25519 AAAAnew"]


def test_a_host_that_shows_no_key_yet_is_waited_for(monkeypatch):
    from labtool.cloud.session import Session, Target

    monkeypatch.setattr(keys, "console_output", lambda s, i: "[ 1.0] booting")
    waiting = keys.learn(Session(Target("aws", "us-east-1")), "two", [host("web-0", "i-a", "198.18.0.10")])
    assert [h.name for h in waiting] == ["web-0"]


def host(name, identity, address):
    from datetime import UTC, datetime

    group, _, index = name.partition("-")
    return Host(
        name, group, int(index), identity, "running", "t3.small", address, address, "us-east-1a", "ami-1", "admin",
        datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
