"""What a deploy is repeated with, on the fake of AWS: playbooks are only remembered."""

from __future__ import annotations

import json

import pytest

from labtool.ansible.result import PlayResult
from labtool.cloud import find
from labtool.errors import AnsibleError
from labtool.experiment import deploy as deploying


@pytest.fixture
def deploy(labtool, monkeypatch, tmp_path):
    """Deploy Kafka with options; returns those it had, and what was said. `fails` is how its playbook ends."""

    def typed(*words, fails=None):
        def play(playbook, hosts, **_):
            if fails is not None:
                raise fails
            return PlayResult(playbook, "ok", {}, (), 0, 0.0, tmp_path / "log")

        monkeypatch.setattr(deploying, "run_playbook", play)
        out, said = labtool("deploy", "kafka-cluster", "--yes", "--json", *words, code=1 if fails else 0)
        return json.loads(out)["options"] if out else {}, said

    return typed


def test_a_deploy_keeps_what_it_is_not_told_to_change_and_says_so(deploy):
    deploy("--heap", "512", "--version", "4.2.0")
    options, said = deploy("--heap", "700")
    assert (options["heap"], options["version"]) == (700, "4.2.0")
    assert "as kafka-cluster was deployed before: --version=4.2.0\n" in said
    _, said = deploy("--heap", "700", "--version", "4.3.0")
    assert "deployed before" not in said


def test_a_first_deploy_that_failed_is_repeated_with_its_options(deploy):
    deploy("--heap", "512", fails=AnsibleError("kafka-0: no space"))
    assert deploy()[0]["heap"] == 512


def test_what_failed_later_is_not_what_the_next_deploy_repeats(deploy):
    deploy("--heap", "512")
    deploy("--heap", "700", "--version", "4.2.0", fails=AnsibleError("kafka-0: interrupted"))
    options, _ = deploy()
    assert (options["heap"], options["version"]) == (512, "4.3.0")


def test_a_group_that_keeps_its_hosts_keeps_its_option_too(deploy):
    deploy("--controllers", "1")
    options, said = deploy("--brokers", "2", "--controllers", "0")
    assert (options["brokers"], options["controllers"]) == (3, 1)
    assert "group kafka has 3 hosts and keeps them: fewer (2) would lose what they hold" in said
    assert "group controller has a host and keeps it: fewer (0) would lose" in said
    assert deploy()[0]["brokers"] == 3
    options, _ = deploy("--brokers", "4", fails=AnsibleError("kafka-3: no"))
    options, said = deploy()
    assert options["brokers"] == 4, "they are there"


def test_a_host_that_took_anothers_place_remembers_too(deploy, aws, session):
    deploy("--heap", "512")
    for index in range(3):  # none of the first hosts is left
        (gone,) = [host for host in find.find_lab(session, "lab") if host.name == f"kafka-{index}"]
        session.ec2.terminate_instances(InstanceIds=[gone.instance_id])
        aws.pass_time(120)
        assert deploy()[0]["heap"] == 512


def test_options_that_a_tag_cannot_hold_are_refused_before_anything_is_played(deploy, labtool):
    deploy()
    long = f"--java-options=-Dx={'y' * 260}"
    _, said = labtool("deploy", "kafka-cluster", "--yes", long, code=2)
    assert "a tag holds 256" in said
