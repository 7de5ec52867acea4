"""The command line as its users meet it: exit codes, errors of one line, nothing on stdout but results."""

from __future__ import annotations

from pathlib import Path

import pytest

from labtool.cli.app import run
from labtool.errors import LabtoolError


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("labtool.localcloud.start", lambda *given: pytest.fail("the local cloud was started"))


def told(capfd, *words):
    code = run(list(words))
    out, err = capfd.readouterr()
    return code, out, err


def test_help_lists_the_commands(capfd):
    code, out, _ = told(capfd, "--help")
    assert code == 0
    for command in ("deploy", "profile", "up", "down", "status", "ssh", "exec", "cp", "inventory", "run", "report"):
        assert command in out


def test_version(capfd):
    from labtool import __version__

    assert told(capfd, "--version")[1] == f"labtool {__version__}\n"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["deploi"], "deploy"),
        (["deploy", "kafka-clutser"], "kafka-cluster"),
        (["deploy", "kafka-cluster", "--broker", "3"], "--brokers"),
        (["deploy", "kafka-cluster", "--brokers", "many"], "many"),
        (["deploy", "kafka-cluster", "--controllers", "2"], "0, 1, 3"),
        (["run", "kafka-thruput"], "kafka-throughput"),
        (["profile", "--workload", "kafka-thruput"], "kafka-throughput"),
        (["profile", "--workload", "kafka-throughput", "--rat", "3"], "--rate"),
        (["profile", "--last", "5", "--minutes", "5"], "--last"),
        *(
            ([*command, value], f"'{command[-1]}'")
            for command in (
                ["profile", "--minutes"],
                ["profile", "--last"],
                ["profile", "--warmup"],
                ["run", "countdown", "--dry-run", "--minutes"],
                ["run", "countdown", "--dry-run", "--warmup"],
                ["run", "kafka-throughput", "--minutes"],
            )
            for value in ("inf", "nan", "1e300", "-1")
        ),
        *((["exec", "--timeout", value, "true"], "'--timeout'") for value in ("0", "-1", "nan")),
        (["up", "web"], "web=3"),
        (["up", "web=1", "load=1", "web=2"], "group web stands 2 times"),
        (["up", "web=1", "load=1", "--at-least", "3"], "more than the 2 hosts asked for"),
        *(
            ([*command, "--ssh-from", network], "198.51.100.7/32")
            for command in (["up", "web=1"], ["up", "web=1", "--dry-run"], ["deploy", "kafka-cluster", "--dry-run"])
            for network in ("nonsense", "198.51.100.7/24", "::1/128")
        ),
        (["up", "all=1"], "cannot be called all"),
        (["up", "web=1", "localhost=1"], "cannot be called localhost"),
        (["up", "web=3", "--ttl", "soon"], "90m, 4h, 2d"),
        (["up", "web=3", "--ttl", "90d"], "30d"),
        (["cp", "a", "b"], "exactly one"),
        (["inventory", "--graph", "--list"], "--list and --graph are answers of their own"),
        (["inventory", "--json", "--host", "web-0"], "--list and --host"),
        (["status", "--cloud", "azure"], "cloud"),
    ],
)
def test_wrong_words_are_usage_errors_with_a_way_out(capfd, words, names):
    code, out, err = told(capfd, *words)
    assert code == 2, err
    assert out == ""
    assert names in err
    assert "Traceback" not in err and len(err.splitlines()) <= 4


def test_help_of_a_stack_shows_its_options(capfd):
    code, out, _ = told(capfd, "deploy", "kafka-cluster", "--help")
    assert code == 0
    assert "--brokers" in out and "--controllers" in out and "--type" in out


def test_a_run_that_is_none_is_named(capfd, tmp_path):
    code, _, err = told(capfd, "report", str(tmp_path / "nothing"))
    assert code == 1
    assert "nothing" in err


def test_expected_errors_exit_1_interrupts_130_bugs_3(capfd, monkeypatch, tmp_path):
    monkeypatch.setenv("LABTOOL_HOME", str(tmp_path / "state"))

    def fail_with(error):
        def fail(*args, **kwargs):
            raise error

        monkeypatch.setattr("labtool.cli.connect.settings", fail)
        return told(capfd, "status")

    code, _, err = fail_with(LabtoolError("the thing is broken", "mend it"))
    assert (code, err) == (1, "labtool: the thing is broken\n  mend it\n")
    assert fail_with(KeyboardInterrupt())[0] == 130
    code, _, err = fail_with(RuntimeError("oh"))
    assert code == 3
    assert "RuntimeError: oh" in Path(err.rsplit(": ", 1)[1].strip()).read_text()


def test_a_folder_that_cannot_be_made_is_named_with_the_way_out(capfd, monkeypatch):
    for name, why in (("/proc/none", "No such file or directory"), ("/etc/passwd/none", "Not a directory")):
        monkeypatch.setenv("LABTOOL_HOME", name)
        code, out, err = told(capfd, "up", "web=1", "--cloud", "aws")
        assert (code, out) == (1, "")
        assert err == f"labtool: the folder {name} cannot be made: {why}\n  LABTOOL_HOME names another\n"


def test_a_bug_is_told_even_where_its_file_cannot_be_written(capfd, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("oh")

    monkeypatch.setenv("LABTOOL_HOME", "/proc/none")
    monkeypatch.setattr("labtool.cli.connect.settings", fail)
    code, _, err = told(capfd, "status")
    assert code == 3 and "a bug of ours: RuntimeError: oh" in err and "the folder /proc/none cannot be made" in err


def test_a_working_folder_that_is_gone_is_said_to_be(capfd, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for words in (["status"], ["profile", "--last", "1"], ["up", "web=1"]):
        code, out, err = told(capfd, *words)
        assert (code, out) == (1, "")
        assert err == "labtool: the folder that this command was started in is gone\n  `cd` to one that is there\n"
