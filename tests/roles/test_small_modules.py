"""The modules that write files and names, without a host."""

from __future__ import annotations

import os
import pwd
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.modules import load, load_kafka_utils

load_kafka_utils()
names = load("roles/hostnames/library/lab_names.py")
formatting = load("roles/kafka/library/kafka_format.py")
state = load("roles/kafka/library/kafka_state.py")
java = load("roles/java/library/java_info.py")
collector = load("roles/collector/library/collector_files.py")
ME = pwd.getpwuid(os.getuid()).pw_name


@given(st.lists(st.sampled_from(["127.0.0.1 localhost", "", "# note", "10.0.0.1 db"])), st.lists(st.just("1.2.3.4 a")))
def test_other_lines_of_the_hosts_file_stay(before, block):
    text = "\n".join(before) + "\n" if before else ""
    once = names.with_block(text, block)
    assert names.with_block(once, block) == once
    assert once.startswith(text)
    assert names.with_block(names.with_block(text, ["9.9.9.9 old"]), block) == once


def test_a_mount_is_written_into(tmp_path, monkeypatch):
    path = tmp_path / "hosts"
    path.write_text("old\n")
    inode = path.stat().st_ino

    def busy(*_):
        raise OSError(names.errno.EBUSY, "busy")

    monkeypatch.setattr(names.Path, "replace", busy)
    names.write(path, "new\n")
    assert path.read_text() == "new\n" and path.stat().st_ino == inode
    assert [one.name for one in tmp_path.iterdir()] == ["hosts"]


def test_hostname_that_is_not_the_containers_to_set(tmp_path, monkeypatch):
    monkeypatch.setattr(names, "HOSTNAME", tmp_path / "hostname")

    def denied(_name):
        raise PermissionError

    monkeypatch.setattr(names.socket, "sethostname", denied)
    assert names.set_hostname("kafka-0", check_mode=False) == (False, False)
    assert not (tmp_path / "hostname").exists()


META = "#\n#Sat Nov 21 07:37:00 UTC 2026\nnode.id=1\ndirectory.id=7dTnzGkMTXGsjBOHJaRcLg\nversion=1\ncluster.id=abc\n"


def test_formatted_data_is_compared(tmp_path):
    (tmp_path / "meta.properties").write_text(META)
    directories = [str(tmp_path), str(tmp_path / "new")]
    assert formatting.of_another(directories, "abc", 1) == ""
    told = formatting.of_another(directories, "xyz", 2)
    assert "cluster.id is abc, not xyz" in told and "node.id is 1, not 2" in told


@pytest.mark.parametrize("partly", [False, True])
def test_format_command(partly):
    arguments = {"java": "j", "libs": "/l", "properties": "p", "cluster_id": "abc", "initial_controllers": ""}
    command = formatting.command(arguments, partly)
    assert "--no-initial-controllers" in command
    assert ("--ignore-formatted" in command) is partly, "only beside directories that were found to be right"
    assert "--initial-controllers" in formatting.command(arguments | {"initial_controllers": "1@a:1:x"}, partly)


def test_what_a_configuration_remembers():
    text = "# quorum.controllers=1,2,3\nadvertised.listeners=PLAINTEXT://10.0.0.1:9092,CONTROLLER://10.0.0.1:9093\n"
    assert state.recorded_quorum(text) == [1, 2, 3]
    assert state.advertised_broker(text) == "10.0.0.1:9092"
    assert state.recorded(f"{text}# cluster.release=4.3.0\n", state.RELEASE_COMMENT) == "4.3.0"
    assert state.recorded_quorum("") == [] and state.advertised_broker("") == ""


@pytest.mark.skipif(os.getuid() != 0, reason="the collector's files are root's")
def test_the_collectors_files_are_written_once(tmp_path):
    path = tmp_path / "bin/tool"
    assert collector.write(path, "x\n", 0o755, check_mode=True)["after"] == "x\n"
    assert not path.parent.exists()
    assert collector.write(path, "x\n", 0o755, check_mode=False)["before"] == ""
    assert collector.write(path, "x\n", 0o755, check_mode=False) is None
    path.chmod(0o644)
    assert collector.write(path, "x\n", 0o755, check_mode=False) is not None
    os.chown(path, 1, 1)
    assert collector.write(path, "x\n", 0o755, check_mode=False) is not None
    assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o755, 0)
    assert [one.name for one in path.parent.iterdir()] == ["tool"]


@pytest.mark.parametrize(
    ("told", "runs"),
    [
        ("ActiveState=active\nUnitFileState=enabled\n", True),
        ("ActiveState=active\nUnitFileState=disabled\n", False),
        ("ActiveState=failed\nUnitFileState=enabled\n", False),
        ("ActiveState=inactive\nUnitFileState=\n", False),
    ],
)
def test_the_collector_runs_only_if_it_will_after_a_boot(monkeypatch, told, runs):
    monkeypatch.setattr(collector.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=told))
    assert collector.running("labtool-collector.service") is runs


@pytest.mark.parametrize(("release", "number"), [("17.0.15", 17), ("1.8.0_402", 8), ("21", 21)])
def test_java_is_recognised_without_starting_it(tmp_path, release, number):
    (tmp_path / "bin").mkdir()
    assert java.feature(tmp_path) == 0
    program = tmp_path / "bin/java"
    program.write_text("")
    program.chmod(0o755)
    assert java.feature(tmp_path) == 0
    (tmp_path / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{release}"\n')
    assert java.feature(tmp_path) == number
