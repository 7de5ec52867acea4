"""The commands as they are typed, against the fake of AWS; what they ask of it stands in docs/aws.md."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fake import wire
from fake.policy import Policy
from fake.promises import Promises

from labtool import config
from labtool.ansible.events import HostCounts
from labtool.cli.app import run
from labtool.cloud import extend as extending
from labtool.cloud import keys, network, price_list, wait
from labtool.cloud.price import SHIPPED
from labtool.experiment import deploy as deploying

DOCS = Path(__file__).parents[2] / "docs" / "aws.md"
DRY = {"DescribeInstances", "DescribeInstanceTypes", "GetParameter", "DescribeImages", "GetProducts"}
"""What a dry run asks for: it makes nothing."""


@pytest.fixture
def asked(aws):
    """The actions asked for since the last time, each where it was first asked for."""
    begun = [0]

    def since():
        calls = [call.action for call in aws.calls[begun[0] :]]
        begun[0] = len(aws.calls)
        return list(dict.fromkeys(calls))

    return since


def documented(command):
    """Return the actions that docs/aws.md gives for a command."""
    text = DOCS.read_text()
    block = text.split(f"\n### `{command}`\n", 1)[1].split("```\n", 2)[1]
    return [line.split()[0] for line in block.splitlines() if line.strip()]


def test_the_documented_sequence_is_what_is_asked(labtool, asked, aws, monkeypatch):
    """Every request was checked against botocore's model on its way, down to enums, patterns and bounds."""
    labtool("up", "kafka=3", "load=1", "--yes")
    assert asked() == documented("labtool up kafka=3 load=1")
    labtool("up", "kafka=3", "load=1", "--yes")
    assert asked() == documented("labtool up kafka=3 load=1, again")
    labtool("status", "--all")
    assert asked() == documented("labtool status --all")
    monkeypatch.setattr(extending, "over_ssh", lambda access: lambda host, expires: "")
    labtool("extend", "--ttl", "8h")
    assert asked() == documented("labtool extend --ttl 8h")
    labtool("down")
    assert asked() == documented("labtool down")
    assert aws.ec2.left() == []


def test_deploy_asks_for_what_up_does_and_two_tags_more(labtool, asked, without_hosts):
    labtool("deploy", "kafka-cluster", "--yes")
    assert asked() == documented("labtool deploy kafka-cluster")
    assert without_hosts == [["kafka-0", "kafka-1", "kafka-2"]]


def test_a_deploy_counts_its_changes_and_interrupted_says_how_to_go_on(labtool, without_hosts, monkeypatch):
    done, play = [0], deploying.run_playbook

    def changing(*given, **options):
        counts = {"kafka-0": HostCounts(changed=done[0])}
        return replace(play(*given, **options), hosts=counts)

    monkeypatch.setattr(deploying, "run_playbook", changing)
    for count, told in enumerate(("0 changes", "1 change", "2 changes")):
        done[0] = count
        assert labtool("deploy", "kafka-cluster", "--yes")[0].splitlines()[0].endswith(f": {told}")

    def interrupted(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(deploying, "run_playbook", interrupted)
    out, said = labtool("deploy", "kafka-cluster", "--yes", code=130)
    assert out == "" and said.endswith("labtool: interrupted\n  run it again to go on\n")


def test_a_profile_asks_for_what_is_documented(labtool, asked, session, without_hosts):
    """Of spot hosts, with prices a week old, and on a machine that has the lab's key but has not met its hosts."""
    labtool("up", "web=2", "--spot", "--yes")
    folder = keys.lab_folder(session, "lab")
    shutil.rmtree(folder / keys.HOST_KEYS)
    shutil.rmtree(config.cache() / "prices")
    asked()
    out, _ = labtool("profile", "--last", "1", "--namespace", "CWAgent")
    assert out.startswith("It was measured.")
    assert asked() == documented("labtool profile")
    labtool("profile", "--last", "1")
    usual = [name for name in documented("labtool profile") if name.startswith(("Describe", "GetMetric"))]
    assert asked() == usual


@pytest.mark.slow
def test_the_metrics_request_of_a_profile_is_valid(session):
    from datetime import UTC, datetime, timedelta

    import boto3

    from labtool.collect import cloudwatch
    from labtool.collect.metric_plan import plan
    from labtool.collect.rate import Rate
    from labtool.dataset.run import HostRecord

    client = boto3.client("cloudwatch", region_name="us-east-1")
    operation = client.meta.service_model.operation_model("GetMetricData")
    requests = []

    class Client:
        def get_metric_data(self, **request):
            client._convert_to_request_dict(request, operation, "https://monitoring.us-east-1.amazonaws.com", {})
            wire.check(operation.input_shape, request, "GetMetricData")
            requests.append(request)
            return {"MetricDataResults": []}

    about = {"group": "web", "instance_type": "t3.small", "address": "", "zone": ""}
    hosts = [
        HostRecord(name=f"web-{i}", instance_id=f"i-{i:017x}", volumes=[f"vol-{i:017x}"], **about) for i in range(100)
    ]
    end = datetime(2026, 1, 1, tzinfo=UTC)
    planned = plan(hosts, end - timedelta(hours=1), end, now=end)
    for batch in planned.batches:
        list(cloudwatch._pages(Client(), planned, batch, Rate(1e9, 1e9)))
    assert len(requests) == len(planned.batches)
    assert documented("labtool profile")[-1] == "GetMetricData"


def test_a_run_knows_what_the_networks_of_its_hosts_carry(labtool, session, aws):
    from datetime import UTC, datetime

    from labtool.cloud import find
    from labtool.experiment import profile

    labtool("up", "web=1", "big=1:m5.4xlarge", "--yes")
    lab = find.find_lab(session, "lab")
    kept = profile.first_record(session, lab, profile.Asked("watch", 60.0), datetime(2026, 1, 1, tzinfo=UTC))
    by_name = {host.name: (host.network_bits_per_s, host.network_burst_bits_per_s) for host in kept.hosts}
    assert by_name == {"web-0": (128e6, 5e9), "big-0": (None, None)}
    aws.policy = Policy({"Statement": []})  # may look at nothing: the run goes on
    kept = profile.first_record(session, lab, profile.Asked("watch", 60.0), datetime(2026, 1, 1, tzinfo=UTC))
    assert {host.network_bits_per_s for host in kept.hosts} == {None}


def test_money_is_asked_about_first(labtool, aws):
    _, said = labtool("up", "kafka=3", code=1)
    # t3.small at the list's $0.03, 20 GiB at $0.1 a month, an address, detailed monitoring
    assert "3 hosts cost $0.122 per hour (list prices of us-east-1" in said and "--yes" in said
    assert "$0.49 in the 4h they live at most" in said
    assert not any(call.action == "RunInstances" for call in aws.calls)


def test_money_is_asked_about_before_stopped_hosts_run_again(labtool, aws, account):
    labtool("up", "kafka=3", "--yes", "--ttl", "10h")
    account.stop(*aws.ec2.instances)
    aws.clock.sleep(4 * 3600)
    aws.calls.clear()
    # Of three t3.small at the list's $0.03, with an address and detailed monitoring; their disks are paid already.
    again = "3 hosts started again cost $0.114 per hour (list prices of us-east-1"
    out, _ = labtool("up", "--dry-run")
    assert "would start kafka-2" in out
    assert "$0.114 per hour" in out
    assert "until they end themselves: $0.68 at most" in out
    _, said = labtool("up", code=1)
    assert again in said
    assert "--yes" in said
    assert "$0.68 until they end at most" in said
    assert not any(call.action == "StartInstances" for call in aws.calls)
    labtool("up", "--yes", "--max-price-per-hour", "0.12", code=2)
    _, said = labtool("up", "load=1", "kafka=3", code=1)
    assert "1 host costs $0.041 per hour" in said
    assert again in said
    labtool("up", "--yes")
    assert any(call.action == "StartInstances" for call in aws.calls)


def test_a_dry_run_launches_nothing(labtool, aws):
    out, _ = labtool("up", "kafka=2:m5.large", "--root-gib", "500", "--dry-run")
    assert "would launch kafka-0, kafka-1 (m5.large)" in out
    assert "$0.393" in out  # 2 × 0.12, a terabyte of disk at 0.1, and the rest
    assert {call.action for call in aws.calls} == DRY


def test_a_lab_that_costs_too_much_is_not_launched(labtool, aws):
    labtool("up", "web=1:m5.large", "--yes", "--max-price-per-hour", "0.2")
    _, said = labtool("up", "load=1:m5.large", "--yes", "--max-price-per-hour", "0.2", code=2)
    assert "would cost $0.261 per hour" in said and "--max-price-per-hour 0.2" in said
    labtool("up", "load=1:m5.large", "--dry-run", "--max-price-per-hour", "0.2", code=2)
    assert len(aws.ec2.instances) == 1


def test_hosts_live_as_long_as_the_money_lasts(labtool, aws):
    out, _ = labtool("up", "web=10:m5.large", "--max-cost", "2", "--dry-run")
    assert "they end themselves after 90m: $1.96 at most" in out
    labtool("up", "web=10:m5.large", "--max-cost", "2", "--yes")
    (lab,) = json.loads(labtool("status", "--json")[0])
    ends = {host["expires"] for host in lab["hosts"]}
    assert len(ends) == 1
    (request,) = [call.parameters for call in aws.calls if call.action == "RunInstances"]
    tags = {tag["Key"]: tag["Value"] for tag in request["TagSpecifications"][0]["Tags"]}
    assert ends == {tags["labtool:expires"].replace("Z", "+00:00")} or ends == {tags["labtool:expires"]}
    labtool("up", "more=10:m5.large", "--max-cost", "0.2", "--yes", code=2)


def test_max_cost_does_not_lengthen_a_life(labtool):
    out, _ = labtool("up", "web=1", "--max-cost", "100", "--ttl", "1h", "--dry-run")
    assert "after 1h" in out


def test_a_dry_run_refuses_what_could_not_be_launched(labtool, aws):
    labtool("up", "web=8", "--placement", "spread", "--dry-run", code=2)
    out, _ = labtool("deploy", "kafka-cluster", "--root-gib", "500", "--dry-run", "--json")
    small, _ = labtool("deploy", "kafka-cluster", "--dry-run", "--json")
    assert json.loads(out)["usd_per_hour"] == pytest.approx(
        json.loads(small)["usd_per_hour"] + 3 * 480 * 0.1 / 730, abs=1e-4
    )
    assert {call.action for call in aws.calls} == DRY


def test_options_come_from_the_file_too_and_the_command_line_wins(labtool, aws, tmp_path):
    (tmp_path / "labtool.toml").write_text(
        '[aws]\nzones = ["us-east-1c", "us-east-1b"]\nroot_gib = 50\nplacement = "spread"\n'
    )
    labtool("up", "web=1", "--root-gib", "60", "--yes")
    (instance,) = aws.ec2.instances.values()
    assert instance.data["zone"] == "us-east-1c" and instance.data["placement"] == "labtool-lab-web"
    assert [v.data["VolumeSize"] for v in aws.ec2.volumes.values()] == [60]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--placement", "near"], "aws.placement"),
        (["--root-gib", "4"], "--root-gib"),
        (["--subnet", "a", "--zone", "us-east-1a", "--zone", "us-east-1b"], "--subnet"),
        (["--ssm"], "--instance-profile"),
        (["--at-least", "0"], "--at-least"),
    ],
)
def test_wrong_options_are_usage_errors(labtool, aws, words, names):
    _, said = labtool("up", "web=2", *words, "--yes", code=2)
    assert names in said
    assert not any(call.action.startswith(("Run", "Create")) for call in aws.calls)


def test_status_of_all_labs_shows_what_is_left_and_what_it_costs(labtool, aws, session):
    labtool("up", "web=2", "--lab", "one", "--yes")
    labtool("up", "web=1", "--lab", "two", "--yes")
    session.ec2.terminate_instances(
        InstanceIds=[i.id for i in aws.ec2.instances.values() if i.tags(1e9)["labtool:lab"] == "two"]
    )
    aws.pass_time(60)
    out, _ = labtool("status", "--all")
    assert "lab one: 2 hosts in us-east-1; costs $0.081 per hour" in out
    assert "lab two: no hosts any more, but key pair labtool-two, security group labtool-two" in out
    assert "all of it costs $0.081 per hour" in out
    data = json.loads(labtool("status", "--all", "--json")[0])
    assert [(each["lab"], len(each["hosts"]), len(each["has"])) for each in data] == [("one", 2, 4), ("two", 0, 2)]


def test_down_expired_ends_what_outlived_its_time_and_nothing_else(labtool, aws):
    aws.promises = Promises(hung=frozenset({"web-0"}))
    labtool("up", "web=1", "--lab", "old", "--ttl", "1h", "--yes")
    aws.pass_time(3700)
    labtool("up", "web=1", "--lab", "new", "--ttl", "1h", "--yes")
    out, _ = labtool("down", "--expired")
    assert out == "lab old: 1 host ended, nothing is left\n"
    assert all("labtool-old" not in left for left in aws.ec2.left()) and len(aws.ec2.left()) == 4


def test_down_expired_ends_single_hosts_of_a_lab_that_goes_on(labtool, aws):
    aws.promises = Promises(hung=frozenset({"web-0"}))
    labtool("up", "web=1", "--ttl", "1h", "--yes")
    aws.pass_time(3700)
    labtool("up", "web=2", "--ttl", "1h", "--yes")
    out, _ = labtool("down", "--expired")
    assert out == "ended in lab lab, which goes on: web-0\n"
    aws.pass_time(60)
    (lab,) = json.loads(labtool("status", "--json")[0])
    assert [host["name"] for host in lab["hosts"]] == ["web-1"]
    assert json.loads(labtool("down", "--expired", "--json")[0]) == []


def test_down_all_asks_first(labtool, aws):
    labtool("up", "web=1", "--yes")
    _, said = labtool("down", "--all", code=1)
    assert "end 1 labs (lab)" in said and len(aws.ec2.left()) == 4
    labtool("down", "--all", "--yes")
    assert aws.ec2.left() == []


def test_extend_says_which_hosts_it_could_not_reach(labtool, aws, monkeypatch):
    labtool("up", "web=2", "--yes")
    monkeypatch.setattr(
        extending, "over_ssh", lambda access: lambda host, expires: "Connection refused" * (host.name == "web-1")
    )
    out, said = labtool("extend", "--ttl", "30d", code=1)
    assert out.startswith("1 host of lab lab: ends in ")
    # not quite 29 days and 20 hours of one host at $0.041 an hour
    assert ": $29.08 more at most (list prices of us-east-1" in out
    assert "web-1 (Connection refused)" in said


def test_extend_says_which_types_its_price_leaves_out(labtool, aws, monkeypatch):
    monkeypatch.setattr(extending, "over_ssh", lambda access: lambda host, expires: "")
    monkeypatch.setattr(price_list, "prices", lambda session, types: replace(SHIPPED, hourly={"t3.small": 0.0208}))
    labtool("up", "web=1", "--yes")
    labtool("up", "db=1", "--type", "m5.large", "--yes")
    out, _ = labtool("extend", "--ttl", "8h")
    assert out.splitlines()[0].endswith("), without m5.large: no price known")
    assert json.loads(labtool("extend", "--ttl", "9h", "--json")[0])["types_without_price"] == ["m5.large"]


def test_a_caller_who_moved_is_admitted_when_a_host_does_not_answer(labtool, aws, session, monkeypatch):
    labtool("up", "web=1", "--yes")
    monkeypatch.setattr(session, "target", replace(session.target, caller_cidr="203.0.113.9/32"))
    labtool("inventory")
    assert aws.calls[-1].action != "RevokeSecurityGroupIngress"  # it answers: nothing is asked
    monkeypatch.setattr(wait, "greets", lambda host, access: False)
    _, said = labtool("inventory")
    assert "this machine's address is 203.0.113.9/32 now" in said
    assert network.admit_caller(session, "lab") is False


def test_without_credentials_the_way_out_is_said(monkeypatch, capfd, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    assert run(["status", "--cloud", "aws"]) == 1
    assert "aws configure" in capfd.readouterr().err
