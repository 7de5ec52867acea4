"""Commands on labs: those that there are, and those that there are not."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from labtool import config
from labtool.cloud import launch
from labtool.progress import Silent
from labtool.topology import GroupSpec

MISSPELT = [
    ("status",),
    ("down",),
    ("exec", "true"),
    ("ssh", "kafka-0", "true"),
    ("cp", "note", "kafka-0:"),
    ("extend",),
    ("inventory",),
    ("profile", "--minutes", "1"),
    ("run", "kafka-throughput", "--minutes", "1"),
]


@pytest.mark.usefixtures("kafka")
@pytest.mark.parametrize("words", MISSPELT, ids=lambda words: words[0])
def test_a_misspelt_lab_is_told_with_the_nearest_and_nothing_is_kept_of_it(told, words, monkeypatch):
    monkeypatch.setenv("LABTOOL_LAB", "kafak")
    code, out, err = told(*words)
    assert (code, out) == (2, "")
    assert "unknown lab: kafak\n  did you mean kafka?" in err
    assert not list(config.home().glob("labs/*/kafak"))


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("words", MISSPELT, ids=lambda words: words[0])
def test_where_there_is_no_lab_at_all_the_error_says_so(told, words, monkeypatch):
    monkeypatch.setenv("LABTOOL_LAB", "nope")
    code, out, err = told(*words)
    assert code in (1, 2) and out == ""
    assert "nope" in err and ("there is no other lab" in err or "there is none yet" in err)


@pytest.mark.usefixtures("kafka")
def test_a_program_that_asks_for_a_lab_that_is_not_gets_none(told):
    assert told("status", "--lab", "nope", "--json")[:2] == (0, "[]\n")
    (lab,) = json.loads(told("status", "--lab", "kafka", "--json")[1])
    assert (lab["lab"], [host["name"] for host in lab["hosts"]]) == ("kafka", ["kafka-0"])


def test_down_can_be_repeated_by_who_had_the_lab(told, kafka, aws):
    assert json.loads(told("down", "--lab", "kafka", "--json")[1]) == [{"lab": "kafka", "hosts_ended": 1}]
    code, out, _ = told("down", "--lab", "kafka")
    assert (code, out) == (0, "lab kafka: 0 hosts ended, nothing is left\n")
    assert json.loads(told("down", "--all", "--json")[1]) == []


def test_down_ends_what_another_user_left(told, kafka, aws, monkeypatch, tmp_path):
    monkeypatch.setenv("LABTOOL_HOME", str(tmp_path / "other"))
    assert told("down", "--lab", "kafka")[:2] == (0, "lab kafka: 1 host ended, nothing is left\n")


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_an_unknown_instance_type_is_told_before_anything_is_made(told, aws, more):
    code, out, err = told("up", "web=1:t9.bogus", "--yes", "--ssh-from", "198.51.100.7/32", *more)
    assert (code, out) == (2, "")
    assert "us-east-1 has no instance type t9.bogus" in err and "nearest" in err and ".nano" in err
    assert aws.ec2.describe_instances()["Reservations"] == []
    assert aws.ec2.describe_key_pairs()["KeyPairs"] == []
    assert not [g for g in aws.ec2.describe_security_groups()["SecurityGroups"] if g["GroupName"] != "default"]


@pytest.mark.usefixtures("kafka")
def test_a_jump_host_comes_from_flag_environment_and_file(told, here, monkeypatch, tmp_path):
    def options(*words):
        here.write_text("")
        code, _, err = told(*words)
        assert code == 0, err
        return here.read_text().splitlines()

    asked = ("exec", "--lab", "kafka", "true")
    assert not [word for word in options(*asked) if "ProxyJump" in word]
    assert "ProxyJump=me@bastion:2222" in options("exec", "--proxy-jump", "me@bastion:2222", *asked[1:])
    (tmp_path / "labtool.toml").write_text('proxy_jump = "from-file"\n')
    assert "ProxyJump=from-file" in options(*asked)
    monkeypatch.setenv("LABTOOL_PROXY_JUMP", "from-environment")
    found = options(*asked)
    assert "ProxyJump=from-environment" in found and "StrictHostKeyChecking=yes" in found
    note = tmp_path / "note"
    note.write_text("a note")
    assert "ProxyJump=b" in options("cp", "--lab", "kafka", "--proxy-jump", "b", str(note), "kafka-0:")
    assert not [word for word in options("exec", "--proxy-jump", "none", *asked[1:]) if "ProxyJump" in word]
    _, out, _ = told("inventory", "--lab", "kafka", "--json")
    (host,) = json.loads(out)["_meta"]["hostvars"].values()
    assert "-o ProxyJump=from-environment" in host["ansible_ssh_common_args"]
    assert "-o StrictHostKeyChecking=yes" in host["ansible_ssh_common_args"]


def test_the_report_of_a_lab_that_was_never_measured_names_those_that_were(told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "kafka").mkdir(parents=True)
    code, _, err = told("report", "--lab", "kafak")
    assert code == 2 and "did you mean kafka?" in err


@pytest.fixture
def one_stopped(aws, account, monkeypatch):
    """The lab two: kafka-0 and load-0 run, kafka-1 is stopped."""
    specs = [GroupSpec("kafka", 2, "t3.small"), GroupSpec("load", 1, "t3.small")]
    lab = launch.up(aws, "two", specs, image=None, ttl=timedelta(hours=4), progress=Silent())
    account.stop(lab.host("kafka-1").instance_id)
    account.aws.pass_time(30)
    monkeypatch.setenv("LABTOOL_LAB", "two")


@pytest.mark.usefixtures("one_stopped", "here")
@pytest.mark.parametrize(("on", "ran"), [((), "kafka-0 load-0"), (("--on", "kafka"), "kafka-0")])
def test_exec_names_the_hosts_that_it_leaves_out(told, on, ran):
    code, out, err = told("exec", *on, "echo", "here")
    assert (code, [line.split() for line in out.splitlines()]) == (0, [[host, "here"] for host in ran.split()])
    assert err == "kafka-1 is stopped, and was left out\n"
    code, out, _ = told("exec", *on, "--json", "echo", "here")
    assert [(each["host"], each["code"], each["left_out"]) for each in json.loads(out)] == [
        *((host, 0, None) for host in ran.split()),
        ("kafka-1", None, "stopped"),
    ]


@pytest.mark.usefixtures("one_stopped", "here")
def test_exec_that_runs_on_all_it_was_asked_for_leaves_nothing_out(told):
    assert told("exec", "--on", "load", "true") == (0, "load-0\n", "")
    code, out, err = told("exec", "--on", "kafka-0,kafka-1", "true")
    assert (code, out) == (1, "") and "kafka-1 is not running" in err


@pytest.mark.usefixtures("one_stopped", "here")
def test_cp_names_the_hosts_that_it_leaves_out(told, tmp_path):
    (tmp_path / "note").write_text("a note")
    assert told("cp", "note", "kafka:/tmp") == (0, "", "kafka-1 is stopped, and was left out\n")


@pytest.mark.usefixtures("one_stopped")
def test_extend_names_the_stopped_host_of_a_group(told, monkeypatch):
    monkeypatch.setattr("labtool.cloud.network.admit_caller", lambda *given: None)
    monkeypatch.setattr("labtool.cloud.extend.over_ssh", lambda access: lambda host, expires: "")
    code, _, err = told("extend", "--on", "kafka", "--ttl", "8h")
    assert code == 1 and "kafka-1 (stopped)" in err


@pytest.mark.usefixtures("kafka", "here")
@pytest.mark.parametrize("words", [("echo", "-n", "a b"), ("--", "echo", "-n", "a b"), ("--", "echo -n 'a b'")])
def test_ssh_and_exec_take_a_command_with_dashes_before_it(told, monkeypatch, words):
    lines = []
    monkeypatch.setattr("os.execvp", lambda program, line: lines.append(line))
    assert told("ssh", "--lab", "kafka", "kafka-0", *words)[0] == 0
    assert lines[0][-2:] == ["--", "echo -n 'a b'"]
    assert told("exec", "--lab", "kafka", *words)[:2] == (0, "kafka-0  a b\n")


@pytest.mark.usefixtures("kafka", "here")
@pytest.mark.parametrize("words", [("-t", "top"), ("--", "-t"), ("--lab", "kafka")])
def test_ssh_takes_no_option_after_the_host(told, monkeypatch, words):
    monkeypatch.setattr("os.execvp", lambda program, line: pytest.fail(f"{line} was run"))
    code, out, err = told("ssh", "--lab", "kafka", "kafka-0", *words)
    assert (code, out) == (2, "")
    assert f"{words[-1] if words[0] == '--' else words[0]} is no command" in err
    assert "labtool ssh [OPTIONS] HOST [COMMAND]" in err


@pytest.mark.usefixtures("kafka", "here")
@pytest.mark.parametrize(
    ("words", "says"), [(("--onn", "kafka", "true"), "--onn is no command"), (("--", "--"), "no command is named")]
)
def test_exec_takes_no_option_for_a_command(told, words, says):
    code, out, err = told("exec", "--lab", "kafka", *words)
    assert (code, out) == (2, "") and says in err


@pytest.mark.slow
@pytest.mark.usefixtures("kafka", "here")
def test_exec_tells_its_own_deadline_from_a_command_that_says_124(told):
    code, _, err = told("exec", "--lab", "kafka", "--timeout", "0.5", "sleep 30")
    assert code == 1 and "failed on kafka-0 (not finished after 0.5 s)\n" in err and "--timeout" in err
    code, _, err = told("exec", "--lab", "kafka", "exit 124")
    assert code == 1 and "failed on kafka-0 (exit code 124)\n" in err and "--timeout" not in err


@pytest.mark.usefixtures("one_stopped", "here")
def test_a_list_of_hosts_may_have_empty_parts_and_not_be_empty(told):
    assert told("exec", "--on", "kafka-0, load,", "true")[:2] == (0, "kafka-0\nload-0\n")
    for words in (("exec", "--on", ",", "true"), ("exec", "--on", "", "true"), ("cp", ":/etc/hosts", ".")):
        code, out, err = told(*words)
        assert (code, out) == (2, "") and "no host or group is named" in err
