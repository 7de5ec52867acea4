"""The main job on real hosts and real brokers: one story, told in order."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

from labtool.dataset import query
from labtool.dataset.run import RunDirectory

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(900)]
LAB = ("--lab", "kafka")


@pytest.fixture(scope="module")
def deployed(labtool):
    # A broker that starts costs half the processor time without the optimising compiler.
    return labtool.json("deploy", "kafka-cluster", "--java-options=-XX:TieredStopAtLevel=1", *LAB)


def test_deploy_launches_deploys_and_says_where(labtool, deployed):
    assert deployed["changed"] > 0
    brokers = deployed["endpoints"]["bootstrap servers"].split(",")
    assert len(brokers) == 3
    hosts = labtool.json("status", *LAB)[0]["hosts"]
    assert {f"{host['address']}:9092" for host in hosts} == set(brokers)
    assert [host["vars"]["kafka_node_id"] for host in hosts] == ["1", "2", "3"]


def test_deploy_costs_few_host_tasks(deployed):
    assert deployed["host_tasks"] / 3 <= 40


def test_the_archive_came_to_the_hosts_by_the_labs_bucket(labtool, deployed):
    (logs,) = labtool.folder.glob("home/labs/*/kafka/logs")
    first = min(logs.glob("*-deploy.jsonl"))  # of the fixture
    tasks = [row for row in map(json.loads, first.read_text().splitlines()) if row["kind"] == "task"]
    unpacked = "artifact : Unpack what was published, behind the current link"
    told = {(row["host"], row["status"]) for row in tasks if row["name"] == unpacked}
    assert told == {(f"kafka-{index}", "changed") for index in range(3)}
    assert "TASK [artifact : Publish it once]" in first.with_suffix(".log").read_text()
    assert "sent over SSH" not in first.with_suffix(".log").read_text()  # which is said where the bucket was no way
    home = bucket(labtool)
    tagged = labtool.aws("s3api", "get-bucket-tagging", "--bucket", home)["TagSet"]
    assert tagged == [{"Key": "labtool:lab", "Value": "kafka"}]
    (held,) = labtool.aws("s3api", "list-objects-v2", "--bucket", home)["Contents"]
    shown = labtool.run("exec", *LAB, "cat /opt/kafka/current/.artifact.json").stdout
    assert shown.count(held["Key"]) == 3 and len(held["Key"]) == 128  # its SHA-512
    assert held["Size"] > 50_000_000


def test_a_second_deploy_changes_nothing_and_is_quick(labtool, deployed):
    again = labtool.json("deploy", "kafka-cluster", *LAB)
    assert again["changed"] == 0
    assert again["seconds"] < deployed["seconds"] / 1.5


def test_ansibles_own_strategy_finds_nothing_to_change_either(labtool, deployed):
    assert labtool.json("deploy", "kafka-cluster", *LAB, "--strategy", "linear")["changed"] == 0


def test_exec_cp_and_inventory_reach_the_hosts(labtool, deployed, tmp_path):
    # Every host knows the others of its lab by name.
    words = labtool.run("exec", *LAB, "getent hosts kafka-2").stdout.split()
    address = next(h["address"] for h in labtool.json("status", *LAB)[0]["hosts"] if h["name"] == "kafka-2")
    assert words == ["kafka-0", address, "kafka-2", "kafka-1", address, "kafka-2", "kafka-2", address, "kafka-2"]
    file = tmp_path / "note"
    file.write_text("a note\n")
    labtool.run("cp", *LAB, str(file), "kafka-1:/tmp/note")
    assert labtool.run("ssh", *LAB, "kafka-1", "cat", "/tmp/note").stdout == "a note\n"
    listed = json.loads(labtool.run("inventory", *LAB, "--list").stdout)
    assert sorted(listed["kafka"]["hosts"]) == ["kafka-0", "kafka-1", "kafka-2"]


def test_a_hosts_own_proc_shows_its_size(labtool, deployed):
    memory = labtool.run("ssh", *LAB, "kafka-0", "free -m | awk '/Mem:/ {print $2}'").stdout
    assert 3800 <= int(memory) <= 4100  # t3.medium: 4 GiB


def test_unknown_names_get_the_nearest(labtool):
    assert "kafka-cluster" in labtool.run("deploy", "kafka-clutser", code=2).stderr
    assert "kafka-throughput" in labtool.run("run", "kafka-thruput", code=2).stderr
    assert "kafka-1" in labtool.run("ssh", *LAB, "kafka1", code=2).stderr
    assert "--brokers" in labtool.run("deploy", "kafka-cluster", "--broker", "3", code=2).stderr


OMB_WORKLOAD = """\
name: 1 topic / 6 partitions / 100 B
topics: 1
partitionsPerTopic: 6
messageSize: 100
subscriptionsPerTopic: 1
consumerPerSubscription: 1
producersPerTopic: 2
producerRate: 50000
testDurationMinutes: 2
"""

OMB_DRIVER = """\
name: Kafka
driverClass: io.openmessaging.benchmark.driver.kafka.KafkaBenchmarkDriver
replicationFactor: 3
topicConfig: |
  min.insync.replicas=2
commonConfig: |
  bootstrap.servers=localhost:9092
producerConfig: |
  acks=all
  linger.ms=1
"""


def test_a_profile_measures_the_load_that_ran(labtool, deployed, tmp_path):
    for name, text in (("workload", OMB_WORKLOAD), ("driver", OMB_DRIVER)):
        (tmp_path / f"{name}.yaml").write_text(text)
    told = labtool.run(
        "profile", *LAB, "--warmup", "10", "--workload", "kafka-throughput", "--rate", "5000",
        "--omb-workload", str(tmp_path / "workload.yaml"), "--omb-driver", str(tmp_path / "driver.yaml"),
        "--client", "perf-test",
    ).stderr  # fmt: skip
    assert "--rate 5000 was typed, and is used instead of producerRate: 50000" in told
    run = labtool.folder / "runs" / "kafka" / "latest"
    record = json.loads((run / "run.json").read_text())
    assert [stage["outcome"] for stage in record["stages"]].count("failed") == 0
    summary = json.loads((run / "summary.json").read_text())
    print(json.dumps(summary, indent=1)[:3000])
    page = (run / "report.html").read_text()
    assert "kafka-throughput" in page and page.count("<img") + page.count("<svg") >= 6
    tables = {path.stem for path in (run / "tables").glob("*.parquet")}
    assert {"host_metrics", "cloudwatch", "timeline", "clock", "workload_intervals", "workload_summary"} <= tables
    result = json.loads((run / "RESULT.json").read_text())
    assert (result["workload"], result["driver"]) == ("1 topic / 6 partitions / 100 B", "Kafka")
    assert len(result["publishRate"]) == len(result["publishLatencyAvg"]) >= 10
    assert sum(result["publishRate"][:10]) / 10 == pytest.approx(5000, rel=0.1)
    # The records the producers say they sent are in the topic: its end offsets are the independent count.
    ((claimed, counted),) = rows(run, "select claimed, counted from workload_counts")
    assert claimed == counted > 500_000
    assert "counts.records" in {finding["id"] for finding in summary["findings"] if finding["severity"] == "ok"}
    # The load's own first second is the window's, and the warm-up is in neither the rate nor the percentiles.
    ((first,),) = rows(run, "select min(time - to_microseconds((duration_s * 1e6)::bigint)) from workload_intervals")
    assert abs((first.replace(tzinfo=UTC) - datetime.fromisoformat(record["window_start"])).total_seconds()) < 1
    assert "latency.warmup" not in {finding["id"] for finding in summary["findings"]}


def test_cloudwatch_agrees_with_the_hosts(labtool, deployed):
    run = labtool.folder / "runs" / "kafka" / "latest"
    pairs = rows(
        run,
        """
        with own as (
          select host, date_trunc('minute', time) as minute, avg(value) * 100 as cpu, count(*) as seconds
          from host_metrics where resource = 'cpu' and device = 'all' and metric = 'utilisation' group by all
        )
        select own.host, own.minute, own.cpu, c.value
        from own join cloudwatch c on c.host = own.host and c.time = own.minute
        where c.metric = 'CPUUtilization' and c.statistic = 'Average' and own.seconds >= 55
        """,
    )
    assert pairs, "no whole minute is in both"
    for host, minute, own, theirs in pairs:
        assert abs(own - theirs) < 6, (host, minute, own, theirs)


def test_the_report_is_made_again_without_hosts(labtool, deployed):
    run = labtool.folder / "runs" / "kafka" / "latest"
    (run / "report.html").unlink()
    labtool.run("report", "runs/kafka/latest")
    assert (run / "report.html").stat().st_size > 50_000


def test_the_past_can_be_profiled(labtool, deployed):
    labtool.run("profile", *LAB, "--last", "1")
    run = labtool.folder / "runs" / "kafka" / "latest"
    seconds = rows(run, "select count(distinct time) from host_metrics where host = 'kafka-0'")[0][0]
    assert seconds >= 45


def test_an_unmodified_aws_client_sees_the_same_hosts(labtool, deployed):
    found = labtool.aws("ec2", "describe-instances", "--filters", "Name=tag:labtool:lab,Values=kafka")
    instances = {
        next(tag["Value"] for tag in i["Tags"] if tag["Key"] == "Name"): i
        for r in found["Reservations"]
        for i in r["Instances"]
        if i["State"]["Name"] == "running"
    }
    assert {"kafka-0", "kafka-1", "kafka-2"} <= set(instances)
    now = datetime.now(UTC)
    points = labtool.aws(
        "cloudwatch", "get-metric-statistics", "--namespace", "AWS/EC2", "--metric-name", "CPUUtilization",
        "--dimensions", f"Name=InstanceId,Value={instances['kafka-0']['InstanceId']}",
        "--start-time", (now - timedelta(hours=1)).isoformat(), "--end-time", now.isoformat(),
        "--period", "60", "--statistics", "Average", "Maximum",
    )["Datapoints"]  # fmt: skip
    assert points and all(0 <= point["Average"] <= 100 for point in points)


def test_a_stopped_host_is_brought_back_by_deploy(labtool, deployed):
    victim = next(h for h in labtool.json("status", *LAB)[0]["hosts"] if h["name"] == "kafka-2")
    labtool.aws("ec2", "stop-instances", "--instance-ids", victim["instance_id"])
    until = time.monotonic() + 90
    while time.monotonic() < until:
        state = next(h for h in labtool.json("status", *LAB)[0]["hosts"] if h["name"] == "kafka-2")["state"]
        if state == "stopped":
            break
        time.sleep(1)
    assert state == "stopped"
    labtool.json("deploy", "kafka-cluster", *LAB)
    after = next(h for h in labtool.json("status", *LAB)[0]["hosts"] if h["name"] == "kafka-2")
    assert (after["instance_id"], after["address"], after["state"]) == (
        victim["instance_id"],
        victim["address"],
        "running",
    )


def test_another_broker_joins_though_labtool_is_killed_and_the_others_stay(labtool, deployed):
    before = ids(labtool)
    grow = ("deploy", "kafka-cluster", "--brokers", "4", *LAB)
    killed = labtool.start(*grow)
    assert any("kafka : Create the user" in line for line in killed.stderr)  # a host that has half of what it needs
    killed.kill()
    killed.communicate()
    grown = labtool.json(*grow)
    assert len(grown["endpoints"]["bootstrap servers"].split(",")) == 4
    after = ids(labtool)
    assert {name: after[name] for name in before} == before
    assert after["kafka-3"] == "4"


def test_an_interrupted_profile_reports_what_there_is(labtool, deployed):
    watching = labtool.start("profile", *LAB, "--minutes", "9")
    time.sleep(25)
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=120)
    assert watching.returncode == 0, err
    run = labtool.folder / "runs" / "kafka" / "latest"
    record = json.loads((run / "run.json").read_text())
    assert any("ended early" in each["why"] for each in record["missing"])
    assert (run / "report.html").exists() and "report:" in out
    assert rows(run, "select count(distinct host) from host_metrics")[0][0] >= 4


def test_a_host_that_dies_in_the_window_is_named_and_deploy_repairs(labtool, deployed):
    victim = next(h for h in labtool.json("status", *LAB)[0]["hosts"] if h["name"] == "kafka-3")
    watching = labtool.start("profile", *LAB, "--minutes", "0.6")
    time.sleep(15)
    subprocess.run(["podman", "kill", f"{labtool.cloud}-{victim['instance_id']}"], capture_output=True, check=True)
    _, err = watching.communicate(timeout=180)
    assert watching.returncode == 0, err
    run = labtool.folder / "runs" / "kafka" / "latest"
    record = json.loads((run / "run.json").read_text())
    assert "kafka-3" in {each["host"] for each in record["missing"]}
    kept = {host for (host,) in rows(run, "select distinct host from host_metrics")}
    assert {"kafka-0", "kafka-1", "kafka-2"} <= kept
    repaired = labtool.json("deploy", "kafka-cluster", *LAB)
    assert len(repaired["endpoints"]["bootstrap servers"].split(",")) == 4
    assert ids(labtool)["kafka-3"] == "4"


def test_two_labs_do_not_know_each_others_names(labtool, deployed):
    labtool.json("up", "web=1", "--lab", "other", "--type", "t3.micro")
    try:
        assert labtool.run("exec", "--lab", "other", "getent hosts kafka-0", code=1).stdout.strip() == ""
        assert labtool.run("exec", *LAB, "--on", "kafka-0", "getent hosts web-0", code=1).stdout.strip() == ""
    finally:
        labtool.run("down", "--lab", "other")


def test_a_second_labtool_on_the_same_lab_is_told_who_holds_it(labtool, deployed):
    first = labtool.start("deploy", "kafka-cluster", *LAB)
    try:
        time.sleep(3)
        assert first.poll() is None
        told = labtool.run("down", *LAB, code=1).stderr
        assert "deploy kafka-cluster" in told and str(first.pid) in told
    finally:
        first.send_signal(signal.SIGINT)
        assert first.wait(60) == 130
    labtool.json("deploy", "kafka-cluster", *LAB)


def test_down_ends_everything(labtool, deployed):
    held = [f"{labtool.cloud}-{host['instance_id']}" for host in labtool.json("status", *LAB)[0]["hosts"]]
    home = bucket(labtool)
    assert home in buckets(labtool)
    assert "nothing is left" in labtool.run("down", *LAB).stdout
    assert labtool.json("status", *LAB) in (
        [],
        [{"lab": "kafka", "region": "us-east-1", "usd_per_hour": 0.0, "hosts": []}],
    )
    names = subprocess.run(
        ["podman", "ps", "-a", "--format", "{{.Names}}"], capture_output=True, text=True, check=True
    ).stdout
    assert held and not [name for name in held if name in names]
    assert home not in buckets(labtool)


def bucket(labtool) -> str:
    """Return the bucket that the lab's hosts name in their tags."""
    found = labtool.aws(
        "ec2", "describe-instances",
        "--filters", "Name=tag:labtool:lab,Values=kafka", "Name=instance-state-name,Values=running",
    )  # fmt: skip
    hosts = [i for r in found["Reservations"] for i in r["Instances"]]
    (name,) = {tag["Value"] for host in hosts for tag in host["Tags"] if tag["Key"] == "labtool:bucket"}
    return name


def buckets(labtool) -> set[str]:
    return {each["Name"] for each in labtool.aws("s3api", "list-buckets").get("Buckets", [])}


def ids(labtool) -> dict[str, str]:
    return {
        h["name"]: h["vars"]["kafka_node_id"] for h in labtool.json("status", *LAB)[0]["hosts"] if h["group"] == "kafka"
    }


def rows(run, asked: str) -> list[tuple]:
    return query.connect(RunDirectory(run)).execute(asked).fetchall()
