"""The local cloud with real hosts, by AWS's own clients. It has a name, subnet and port of its own."""

from __future__ import annotations

import ipaddress
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest

from labtool import localcloud
from labtool.config import LocalSettings
from labtool.localcloud.layout import Layout

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(400)]

SETTINGS = LocalSettings(name="lctest", subnet="198.19.128.0/20", port=4620)
SPIN = """
import time
end = time.time() + 200
while time.time() < end:
    pause = time.time() + 0.5
    while time.time() < pause:
        pass
    time.sleep(0.5)
"""
USER_DATA = "#!/bin/sh\necho once >>/var/tmp/user-data-ran\n"


def out(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def until(condition, timeout: float = 30.0, every: float = 0.1):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(every)
    raise AssertionError(f"not within {timeout} s")


class Cloud:
    """A running local cloud, its clients, and SSH to its hosts."""

    def __init__(self, folder: Path) -> None:
        self.endpoint = localcloud.start(SETTINGS, lambda text: print(text, file=sys.stderr))
        self.session = boto3.session.Session(
            self.endpoint.access_key, self.endpoint.secret_key, region_name=self.endpoint.region
        )
        self.ec2, self.cloudwatch, self.ssm = (self.client(name) for name in ("ec2", "cloudwatch", "ssm"))
        self.folder = folder
        self.addresses: dict[str, str] = {}
        self.key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        self.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=self.key.with_suffix(".pub").read_bytes())
        self.image = self.ec2.describe_images()["Images"][0]["ImageId"]
        (default,) = self.ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"]
        ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": SETTINGS.gateway_cidr}]}
        self.ec2.authorize_security_group_ingress(GroupId=default["GroupId"], IpPermissions=[ssh])
        self.login = "ubuntu" if "ubuntu" in self.endpoint.default_image else "admin"

    def client(self, service: str):
        return self.session.client(service, endpoint_url=self.endpoint.url)

    def launch(self, kind: str = "t2.small", **more) -> str:
        asked = {"ImageId": self.image, "InstanceType": kind, "MinCount": 1, "MaxCount": 1, "KeyName": "k", **more}
        return self.ec2.run_instances(**asked)["Instances"][0]["InstanceId"]

    def instance(self, instance_id: str) -> dict:
        return self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    def state(self, instance_id: str) -> str:
        return self.instance(instance_id)["State"]["Name"]

    def becomes(self, instance_id: str, state: str) -> None:
        until(lambda: self.state(instance_id) == state)

    def ready(self, instance_id: str) -> str:
        """Wait for status ok; remember the host's key from its console; return its address."""

        def ok():
            found = self.ec2.describe_instance_status(InstanceIds=[instance_id])["InstanceStatuses"]
            return found and found[0]["InstanceStatus"]["Status"] == "ok"

        until(ok)
        address = self.instance(instance_id)["PrivateIpAddress"]
        lines = self.ec2.get_console_output(InstanceId=instance_id, Latest=True)["Output"].splitlines()
        key = lines[lines.index("-----BEGIN SSH HOST KEY KEYS-----") + 1]
        (self.folder / f"known-{instance_id}").write_text(f"{address} {key}\n")
        self.addresses[instance_id] = address
        return address

    def ssh(self, instance_id: str, command: str, *, login: str | None = None):
        known = self.folder / f"known-{instance_id}"
        options = {"BatchMode": "yes", "StrictHostKeyChecking": "yes", "UserKnownHostsFile": known, "ConnectTimeout": 5}
        given = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        where = f"{login or self.login}@{self.addresses[instance_id]}"
        return subprocess.run(
            ["ssh", "-i", str(self.key), *given, where, command],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    def says(self, instance_id: str, command: str) -> str:
        done = self.ssh(instance_id, command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def pid(self) -> int:
        return int(Layout(SETTINGS).pid.read_text())

    def aws(self, *words: str):
        keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": self.endpoint.region}
        done = subprocess.run(
            [str(Path(sys.executable).parent / "aws"), "--output", "json", *words],
            env={**os.environ, **keys, "AWS_ENDPOINT_URL": self.endpoint.url},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    localcloud.stop(SETTINGS, print)  # what a killed run left
    before, of_metadata_before = machine_state(), of_metadata()
    made = Cloud(tmp_path_factory.mktemp("cloud"))
    made.of_metadata_before = of_metadata_before  # a machine of AWS's may have a route of its own
    yield made
    localcloud.stop(SETTINGS, print)
    assert machine_state() == before


def of_metadata() -> set[str]:
    """Return the machine's addresses of 169.254.169.254, and its routes there but for default ones."""
    service = ipaddress.ip_address("169.254.169.254")
    found = set()
    for link in json.loads(out("ip", "-json", "addr")):
        own = {each.get("local") for each in link.get("addr_info", [])}
        found |= {f"address of {link['ifname']}"} if str(service) in own else set()
    for route in json.loads(out("ip", "-json", "route", "show", "table", "all")):
        if route["dst"] != "default" and service in ipaddress.ip_network(route["dst"]):
            found.add(f"route {route.get('type', '')} {route['dst']} by {route.get('dev')}")
    return found


def machine_state() -> dict[str, object]:
    """Return everything that a local cloud may leave behind."""
    ours = 0
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = file.read_bytes()
            ours += SETTINGS.name.encode() in words and b"pytest" not in words
    return {
        "containers": [n for n in out("podman", "ps", "-a", "--format", "{{.Names}}").split() if "lctest" in n],
        "networks": [n for n in out("podman", "network", "ls", "--format", "{{.Name}}").split() if "lctest" in n],
        "links": [line for line in out("ip", "-o", "link").splitlines() if "lctest" in line],
        "routes": [line for line in out("ip", "route", "show", "table", "all").splitlines() if "198.19.128" in line],
        "rules": [
            line for line in out("nft", "list", "ruleset").splitlines() if "lctest" in line or "198.19.128" in line
        ],
        "policies": [line for line in out("ip", "rule").splitlines() if "lctest" in line],
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if "lctest" in line],
        "processes": ours,
        "files": [str(p) for p in SETTINGS.state.glob("lctest*")],
    }


@pytest.fixture(scope="module")
def host(cloud):
    """One host of one vCPU and 2 GiB, with detailed monitoring."""
    instance = cloud.launch("t2.small", UserData=USER_DATA, Monitoring={"Enabled": True})
    cloud.ready(instance)
    return instance


@pytest.fixture(scope="module")
def busy(cloud):
    """A host of one vCPU on which a process spins half the time, and the first whole minute of that."""
    instance = cloud.launch("t2.small", Monitoring={"Enabled": True})
    cloud.ready(instance)
    # Other tests' hosts fill the machine: this one is to have what it asks for.
    subprocess.run(["podman", "update", "--cpu-shares", "16384", f"{SETTINGS.name}-{instance}"], check=False)
    cloud.says(instance, f"nohup python3 -c {shlex.quote(SPIN)} >/dev/null 2>&1 &")
    cloud.says(instance, "nohup env LC_ALL=C S_TIME_FORMAT=ISO sar -u 1 180 >/tmp/sar.txt 2>&1 &")
    return instance, (int(time.time()) // 60 + 1) * 60


@pytest.mark.usefixtures("busy")  # begins while other tests run
def test_a_host_is_a_system_of_its_own(cloud, host):
    assert cloud.says(host, "sudo -n id -u") == "0"
    assert until(lambda: cloud.ssh(host, "systemctl is-system-running").stdout.strip() == "running")
    assert cloud.says(host, "cat /proc/1/comm") == "systemd"
    address = cloud.instance(host)["PrivateIpAddress"]
    assert cloud.says(host, "hostname") == "ip-" + address.replace(".", "-")
    assert cloud.says(host, "timedatectl show -p Timezone --value 2>/dev/null || date +%Z") in ("Etc/UTC", "UTC")
    assert cloud.ssh(host, "true", login="root").returncode != 0
    assert "passwordauthentication no" in cloud.says(host, "sudo sshd -T")


def test_proc_shows_what_the_instance_type_gives(cloud, host):
    assert cloud.says(host, "grep -c ^processor /proc/cpuinfo") == "1"
    assert cloud.says(host, "getconf _NPROCESSORS_ONLN") == "1"
    assert int(cloud.says(host, "awk '/MemTotal/ {print $2}' /proc/meminfo")) == 2 << 20
    assert float(cloud.says(host, "cut -d' ' -f1 /proc/uptime")) < 300


def test_user_data_runs_once_and_the_disk_stays(cloud, host):
    until(lambda: "once" in cloud.ssh(host, "cat /var/tmp/user-data-ran").stdout)
    key = cloud.says(host, "cat /etc/ssh/ssh_host_ed25519_key.pub")
    address = cloud.instance(host)["PrivateIpAddress"]
    cloud.ec2.stop_instances(InstanceIds=[host])
    cloud.becomes(host, "stopped")
    cloud.ec2.start_instances(InstanceIds=[host])
    assert cloud.ready(host) == address
    assert cloud.says(host, "cat /var/tmp/user-data-ran") == "once"
    assert cloud.says(host, "cat /etc/ssh/ssh_host_ed25519_key.pub") == key


def test_hosts_reach_each_other_and_the_registries_but_nothing_link_local(cloud, host):
    other = cloud.launch()
    address = cloud.ready(other)
    assert cloud.ssh(host, f"ping -c 1 -W 2 {address}").returncode == 0
    assert "installed" in cloud.says(host, "sudo apt-get install -y -q tree 2>&1 | tail -1; dpkg -s tree | grep Status")
    for elsewhere in ("169.254.7.7", "169.254.169.254:8080", "169.254.0.1"):
        assert cloud.ssh(host, f"timeout 3 curl -s http://{elsewhere}/").returncode != 0
    rules = out("nft", "list", "table", "inet", "labtool_lctest")
    dropped = next(line for line in rules.splitlines() if "169.254.0.0/16" in line)
    assert "packets 0 " not in dropped
    assert cloud.says(host, "curl -s http://169.254.169.254/").endswith("latest")
    for table in ("inet labtool_lctest", "inet labtool_lctest_groups"):  # as a firewall's reload does
        out("nft", "delete", "table", *table.split())
    asked = cloud.ssh(host, "curl -s -m 3 http://169.254.169.254/").returncode
    # No route, without any rule; an answer is the lab's own, once its rules are back.
    assert asked == 7 or "169.254.0.0/16" in out("nft", "list", "table", "inet", "labtool_lctest")
    third = cloud.launch()  # back before the next host
    cloud.ready(third)
    assert "169.254.0.0/16" in out("nft", "list", "table", "inet", "labtool_lctest")
    assert "goto in_" in out("nft", "list", "table", "inet", "labtool_lctest_groups")
    cloud.ec2.terminate_instances(InstanceIds=[other, third])
    for instance in (other, third):
        cloud.becomes(instance, "terminated")
    # What is sent to a host that has gone does not leave the machine.
    assert "unreachable" in out("ip", "route", "show", "table", "all", "198.19.128.0/20")


def test_the_metadata_service_is_no_address_and_no_route_of_the_machine(cloud, host):
    assert cloud.says(host, "curl -s http://169.254.169.254/").endswith("latest")
    assert of_metadata() - cloud.of_metadata_before == set()


def test_two_hosts_share_one_download(cloud, host):
    pair = [cloud.launch(), cloud.launch()]
    for instance in pair:
        cloud.ready(instance)
    install = "sudo apt-get install -y -q --no-install-recommends ncal 2>&1"
    processes = [
        subprocess.Popen(
            ["ssh", "-i", str(cloud.key), "-o", f"UserKnownHostsFile={cloud.folder}/known-{instance}",
             f"{cloud.login}@{cloud.instance(instance)['PrivateIpAddress']}", install],
            stdout=subprocess.PIPE, text=True,
        )
        for instance in pair
    ]  # fmt: skip
    for process in processes:
        text = process.communicate(timeout=100)[0]
        assert process.returncode == 0, text
    assert list(SETTINGS.state.glob("packages/**/ncal_*.deb"))
    cloud.ec2.terminate_instances(InstanceIds=pair)
    for instance in pair:
        cloud.becomes(instance, "terminated")


def test_cpu_utilisation_agrees_with_sadc_in_the_host(cloud, busy):
    """The first minute that was whole in the load, seen by the cgroup outside and by sysstat inside."""
    host, minute = busy
    time.sleep(max(0.0, minute + 62 - time.time()))

    def point():
        found = cloud.aws(
            "cloudwatch", "get-metric-statistics", "--namespace", "AWS/EC2", "--metric-name", "CPUUtilization",
            "--dimensions", f"Name=InstanceId,Value={host}", "--period", "60", "--statistics", "Average",
            "--start-time", datetime.fromtimestamp(minute, UTC).isoformat(),
            "--end-time", datetime.fromtimestamp(minute + 60, UTC).isoformat(),
        )  # fmt: skip
        return found["Datapoints"]

    outside = until(point, 10)[0]
    assert outside["Unit"] == "Percent"
    inside = []
    for line in cloud.says(host, "cat /tmp/sar.txt").splitlines():
        words = line.split()
        if len(words) == 8 and words[1] == "all" and words[0] != "Average:":
            h, m, s = (int(part) for part in words[0].split(":"))
            at = h * 3600 + m * 60 + s
            if minute % 86400 < at <= minute % 86400 + 60:
                inside.append(100 - float(words[-1]))
    assert len(inside) >= 55
    mean = sum(inside) / len(inside)
    print(f"outside {outside['Average']:.1f} %, inside {mean:.1f} %")
    assert 15 < mean <= 100
    assert outside["Average"] == pytest.approx(mean, abs=4)


def test_the_host_says_what_became_of_it(cloud):
    stays = cloud.launch()
    goes = cloud.launch(InstanceInitiatedShutdownBehavior="terminate")
    for instance in (stays, goes):
        cloud.ready(instance)
    booted = "systemctl show -p UserspaceTimestampMonotonic --value"
    before = cloud.says(stays, booted)
    cloud.ssh(stays, "sudo systemctl reboot")
    until(lambda: cloud.ssh(stays, booted).stdout.strip() not in ("", before))
    assert cloud.state(stays) == "running"
    for instance in (stays, goes):
        cloud.ssh(instance, "sudo poweroff")
    cloud.becomes(stays, "stopped")
    cloud.becomes(goes, "terminated")
    assert cloud.instance(goes)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    cloud.ec2.start_instances(InstanceIds=[stays])
    cloud.ready(stays)
    out("podman", "rm", "--force", "--time", "0", f"lctest-{stays}")
    cloud.becomes(stays, "terminated")
    assert "removed from outside" in cloud.instance(stays)["StateReason"]["Message"]


def test_the_aws_command_line(cloud):
    instance = cloud.launch()
    cloud.ready(instance)
    found = cloud.aws("ec2", "describe-instances", "--instance-ids", instance)
    assert found["Reservations"][0]["Instances"][0]["State"]["Name"] == "running"
    cloud.aws("ec2", "stop-instances", "--instance-ids", instance)
    cloud.aws("ec2", "wait", "instance-stopped", "--instance-ids", instance)
    cloud.aws("ec2", "start-instances", "--instance-ids", instance)
    cloud.aws("ec2", "wait", "instance-running", "--instance-ids", instance)
    cloud.aws("ec2", "terminate-instances", "--instance-ids", instance)
    cloud.becomes(instance, "terminated")


def test_a_killed_process_finds_its_hosts_again(cloud, host):
    with_tags = cloud.launch(TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}])
    cloud.ready(with_tags)
    metrics = cloud.cloudwatch.list_metrics(Namespace="AWS/EC2")["Metrics"]
    os.kill(cloud.pid(), signal.SIGKILL)
    until(lambda: localcloud.status(SETTINGS) is None)
    assert cloud.says(with_tags, "cat /proc/1/comm") == "systemd"  # hosts go on without it
    refused = cloud.ssh(with_tags, "curl -s -m 3 http://169.254.169.254/")
    assert refused.returncode == 7  # the metadata service is down: nobody else is asked in its place
    assert localcloud.start(SETTINGS, print) == cloud.endpoint
    assert cloud.state(with_tags) == "running"
    assert cloud.instance(with_tags)["Tags"] == [{"Key": "a", "Value": "b"}]
    assert cloud.cloudwatch.list_metrics(Namespace="AWS/EC2")["Metrics"] == metrics
    cloud.ec2.terminate_instances(InstanceIds=[with_tags])
    cloud.becomes(with_tags, "terminated")


def test_hosts_keep_their_own_proc_when_lxcfs_dies(cloud, host):
    pid_file = Layout(SETTINGS).proc.with_name("lxcfs.pid")
    dead = int(pid_file.read_text())
    os.kill(dead, signal.SIGKILL)
    until(lambda: int(pid_file.read_text()) != dead)
    until(lambda: cloud.ssh(host, "grep -c ^processor /proc/cpuinfo").stdout.strip() == "1")
    assert int(cloud.says(host, "awk '/MemTotal/ {print $2}' /proc/meminfo")) == 2 << 20


def test_a_second_cloud_beside_it(cloud, host, tmp_path):
    beside = LocalSettings(name="lctestb", subnet="198.19.144.0/20", port=4621)
    endpoint = localcloud.start(beside, print)
    try:
        assert endpoint.url != cloud.endpoint.url
        ec2 = cloud.session.client("ec2", endpoint_url=endpoint.url)
        assert ec2.describe_instances()["Reservations"] == []
    finally:
        localcloud.stop(beside, print)
    assert cloud.ssh(host, "true").returncode == 0
