"""What the roles kafka and spark share: files that are written once, secrets that are not told, what a host is."""

from __future__ import annotations

import os
import pwd

from tests.roles.modules import load, load_utils

host, unit = load_utils("daemon", "daemon_host", "daemon_unit")
files = load("roles/daemon/library/daemon_files.py")
ME = pwd.getpwuid(os.getuid()).pw_name


def test_files_are_written_once(tmp_path):
    wanted = {"path": str(tmp_path / "a/b.conf"), "content": "x=1", "mode": "0640", "owner": ME}
    assert files.write_file(wanted, "", check_mode=True)["after"] == "x=1\n"
    assert not (tmp_path / "a").exists()
    assert files.write_file(wanted, "", check_mode=False)["before"] == ""
    assert files.write_file(wanted, "", check_mode=False) is None
    assert (tmp_path / "a/b.conf").stat().st_mode & 0o777 == 0o640
    assert files.write_file(wanted | {"mode": "0600"}, "", check_mode=False)["before"] == "x=1\n"
    assert [one.name for one in (tmp_path / "a").iterdir()] == ["b.conf"]


def test_a_file_of_another_owner_is_written_again(tmp_path, monkeypatch):
    wanted = {"path": str(tmp_path / "b.conf"), "content": "x=1", "mode": "0644", "owner": ME}
    files.write_file(wanted, "", check_mode=False)
    other = pwd.getpwnam("nobody")
    monkeypatch.setattr(files.pwd, "getpwnam", lambda _name: other)
    assert files.write_file(wanted, "", check_mode=True) is not None


def test_the_secret_is_in_the_file_and_in_no_difference(tmp_path):
    file = {"path": str(tmp_path / "conf/a.conf"), "content": "key @SECRET@\n", "mode": "0600", "owner": ME}
    shown = files.write_file(file, "s3cret", check_mode=False)
    assert (tmp_path / "conf/a.conf").read_text() == "key s3cret\n"
    assert (tmp_path / "conf/a.conf").stat().st_mode & 0o777 == 0o600
    assert "s3cret" not in str(shown) and shown["after"] == "key @SECRET@\n"
    assert files.write_file(file, "s3cret", check_mode=False) is None
    changed = files.write_file(file, "other", check_mode=True)
    assert changed and "s3cret" not in str(changed) and "other" not in str(changed)
    assert (tmp_path / "conf/a.conf").read_text() == "key s3cret\n", "check mode changes nothing"


def test_folders_are_made_once(tmp_path):
    assert files.make_directory(tmp_path / "a/b", ME, check_mode=True) and not (tmp_path / "a").exists()
    assert files.make_directory(tmp_path / "a/b", ME, check_mode=False)
    assert not files.make_directory(tmp_path / "a/b", ME, check_mode=False)
    (tmp_path / "a/b").chmod(0o700)
    assert files.make_directory(tmp_path / "a/b", ME, check_mode=False)
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o755
    assert files.make_directory(tmp_path / "c", "no-such-user", check_mode=True), "the user is not made yet"


def test_a_hosts_memory_and_processors_are_those_that_it_sees():
    assert host.cores("cpu  1 2\ncpu0 1 2\ncpu1 1 2\nintr 5\n") == 2
    assert host.memory_mb("MemFree: 1 kB\nMemTotal:        2097152 kB\n") == 2048


def test_what_a_host_is_before_anything_is_changed(monkeypatch):
    assert host.home_and_shell("root") == ["/root", pwd.getpwnam("root").pw_shell]
    assert host.home_and_shell("nobody-of-that-name") == []
    asked = []

    class Network(host.socket.socket):
        def connect(self, address):
            asked.append(address)
            if len(asked) > 1:
                raise OSError("Network is unreachable")
            super().connect(("127.0.0.1", 9))

    monkeypatch.setattr(host.socket, "socket", Network)
    assert [host.own_address(), host.own_address()] == ["127.0.0.1", ""]


def test_an_error_ends_with_the_units_journal(monkeypatch):
    said = {"show": "ActiveState=failed\nResult=exit-code\n", "-u": "java.lang.OutOfMemoryError\n"}

    def run(*command):
        return unit.subprocess.CompletedProcess(command, 0, said.get(command[1], ""), "")

    monkeypatch.setattr(unit, "run", run)
    kafka = unit.Unit("kafka.service")
    assert not kafka.active
    told = str(kafka.explain("it stopped"))
    assert "kafka.service: failed, exit-code" in told and told.endswith("java.lang.OutOfMemoryError")
