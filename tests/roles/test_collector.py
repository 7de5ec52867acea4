"""The collector on real hosts: the role alone, what it records, and both ways to collect it."""

from __future__ import annotations

import json
import tarfile
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from labtool.collect import clock, gather, live, observer
from labtool.dataset import build, compressed, sysstat, tables
from labtool.dataset import clock as clock_rows
from labtool.dataset.run import HostRecord, RunDirectory, RunRecord
from labtool.ssh import Access
from labtool.topology import Host

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
PLAYBOOK = ROOT / "playbooks" / "collector.yml"
ALWAYS = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def two(lab_hosts, ansible):
    hosts = lab_hosts(2)
    ansible.groups({"web": {f"web-{at}": (host, {}) for at, host in enumerate(hosts)}})
    for host in hosts:
        host.run(
            "mkdir -p /etc/labtool/logs.d /var/log/web\n"
            "printf 'unit labtool-collector.service\\nfile /var/log/web/*.log\\n' > /etc/labtool/logs.d/web.conf\n"
            f"echo 'a line of {host.name}' > /var/log/web/access.log; chmod 600 /var/log/web/access.log"
        )
    return hosts


@pytest.fixture(scope="module")
def deployed(two, ansible):
    ansible.run(PLAYBOOK)
    return two


@pytest.fixture
def reached(deployed, tmp_path):
    """The hosts as labtool knows hosts, and its way to them."""
    first = deployed[0]
    known = Path(first.ssh_args.split("UserKnownHostsFile=")[1].split()[0])
    hosts = [
        Host(
            name=f"web-{at}",
            group="web",
            index=at,
            instance_id=f"i-{at}",
            state="running",
            instance_type="t3.small",
            address=host.address,
            private_address=host.address,
            zone="",
            image_id="",
            login=host.user,
            launched=datetime.now(UTC),
        )
        for at, host in enumerate(deployed)
    ]
    # Not under tmp_path: a socket's path must stay short.
    with tempfile.TemporaryDirectory(prefix="lt") as control:
        yield hosts, Access(first.key, known, Path(control))


def test_the_role_alone(two, ansible, strategy):
    for host in two:
        host.run(
            "systemctl disable --now labtool-collector; rm -f /etc/systemd/system/labtool-collector.service",
            check=False,
        )
        host.run("rm -rf /usr/local/sbin/labtool-record /usr/local/bin/labtool-collect; systemctl daemon-reload")
    assert ansible.run(PLAYBOOK, "--check", strategy=strategy).changed > 0
    first = ansible.run(PLAYBOOK, strategy=strategy)
    assert first.changed > 0
    assert first.host_tasks("web-0") <= 7
    second = ansible.run(PLAYBOOK, strategy=strategy)
    assert second.changed == 0, second.output
    for host in two:
        # Started means that there is a sample.
        assert host.run("find /var/log/labtool/sysstat -name 'sa-*' -size +0")
        assert "labtool.slice/labtool-collector.service" in host.run("cat /proc/$(pgrep -x sadc)/cgroup")


def test_a_setting_that_changes_restarts_it(deployed, ansible):
    before = deployed[0].run("pgrep -x sadc")
    assert ansible.run(PLAYBOOK, collector_interval_s=2).changed == 4  # the unit and its restart, on two hosts
    assert deployed[0].run("pgrep -x sadc") != before
    assert " 2 1802 sa-" in deployed[0].run("pgrep -ax sadc")
    ansible.run(PLAYBOOK)


def test_a_value_of_the_wrong_type_is_refused(deployed, ansible):
    refused = ansible.run(PLAYBOOK, code=2, collector_keep_hours="many")
    assert "collector_keep_hours" in refused.output


def test_no_second_is_lost_when_files_change_and_old_ones_go(deployed, tmp_path):
    host = deployed[1]
    drop = "/etc/systemd/system/labtool-collector.service.d"
    host.run(
        f"mkdir -p {drop}\n"
        f"printf '[Service]\\nEnvironment=LABTOOL_PERIOD_S=4 LABTOOL_MAX_BYTES=30000\\n' > {drop}/x.conf"
    )
    host.run("rm -f /var/log/labtool/sysstat/*; systemctl daemon-reload; systemctl restart labtool-collector")
    time.sleep(16)
    host.run(f"rm -r {drop}; systemctl daemon-reload; tar cf /tmp/sysstat.tar -C /var/log/labtool/sysstat .")
    host.run("chmod 644 /tmp/sysstat.tar; systemctl restart labtool-collector")
    archive = tmp_path / "sysstat.tar"
    archive.write_bytes(bytes.fromhex(host.run("od -An -v -tx1 /tmp/sysstat.tar").replace("\n", "").replace(" ", "")))
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "sysstat", filter="data")
    files = sorted((tmp_path / "sysstat").iterdir())
    # 6 samples of 2 KB a file, and 30 KB at most besides the file being written.
    assert 2 <= len(files) <= 4
    rows, problems = sysstat.decode(files, "h", *ALWAYS)
    assert problems == []
    times = sorted(set(rows["time"].to_pylist()))
    assert len(times) >= 8
    assert times == [times[0] + timedelta(seconds=n) for n in range(len(times))]


def test_it_comes_back_when_sadc_dies(deployed):
    before = deployed[0].run("pgrep -x sadc").strip()
    deployed[0].run(f"kill -9 {before}")
    deadline = time.monotonic() + 20
    while deployed[0].run("pgrep -x sadc", check=False).strip() in ("", before):
        assert time.monotonic() < deadline, deployed[0].run("journalctl -u labtool-collector --no-pager | tail")
        time.sleep(0.5)


def test_a_sysadmin_collects_with_ansible_alone(deployed, ansible, strategy, tmp_path):
    ansible.run(ROOT / "playbooks" / "collect.yml", strategy=strategy, collect_into=str(tmp_path), collect_minutes=30)
    for at, host in enumerate(deployed):
        folder = tmp_path / f"web-{at}"
        log = compressed.read(folder / "files/var/log/web/access.log.zst")
        assert log.decode().startswith(f"a line of {host.name}\n")
        assert list((folder / "sysstat").iterdir())
        assert json.loads((folder / "manifest.json").read_text())["problems"] == []
        assert "labtool" in compressed.read(folder / "journal/labtool-collector.service.log.zst").decode()
        assert host.run("ls /var/tmp | grep -c tar$", check=False).strip() == "0"
    assert not list(tmp_path.glob("*.tar"))


def test_labtool_gathers_and_makes_tables(reached, deployed, tmp_path):
    hosts, access = reached
    run = RunDirectory.create(tmp_path, "lab", "test", datetime.now(UTC))
    offsets, missing = clock.measure(access, hosts, "before")
    assert missing == []
    assert all(abs(row.offset_s) < row.bound_s < 0.5 for row in offsets)  # one machine, one clock
    clock_rows.append(run.raw, offsets)
    assert observer.observe(access, hosts, run) == []
    start = datetime.now(UTC)
    for host in deployed:
        host.run("echo one more >> /var/log/web/access.log")
    samples = []
    with live.LiveSampler(access, hosts, interval_s=1.0) as sampler:
        until = time.monotonic() + 8
        while time.monotonic() < until:
            samples += sampler.poll(0.5)
    end = datetime.now(UTC)
    assert {sample.host for sample in samples} == {"web-0", "web-1"}
    assert not [sample for sample in samples if isinstance(sample, live.HostLost)]
    time.sleep(1.2)  # the last second is written when it is over
    got = gather.gather(access, hosts, run, start, end, offsets=clock_rows.latest(offsets))
    assert got.missing == []
    run.write(
        RunRecord(
            name="test",
            lab="lab",
            cloud="local",
            region="",
            started=start,
            window_start=start,
            window_end=end,
            hosts=[
                HostRecord(name=h.name, group=h.group, instance_id="", instance_type="", address="", zone="")
                for h in hosts
            ],
        )
    )
    assert build.build_tables(run) == []
    for at, host in enumerate(deployed):
        log = run.logs / f"web-{at}" / "files/var/log/web/access.log.zst"
        assert compressed.read(log) == f"a line of {host.name}\none more\n".encode()
    metrics = tables.read(run.tables, "host_metrics").to_pylist()
    for name in ("web-0", "web-1"):
        seconds = {row["time"] for row in metrics if row["host"] == name}
        assert len(seconds) >= int((end - start).total_seconds()) - 1
        received = [
            row["value"] for row in metrics if (row["host"], row["device"], row["metric"]) == (name, "eth0", "rx_bytes")
        ]
        assert max(received) > 0
    costs = tables.read(run.tables, "observer").to_pylist()
    assert [row["host"] for row in costs] == ["web-0", "web-1"]
    for row in costs:
        assert 0 <= row["cpu_s"] < 1.0
        assert 1000 * row["window_s"] < row["bytes_written"] < 10_000 * row["window_s"]
    # Nothing of ours stays on a host.
    for host in deployed:
        assert host.run("pgrep -u admin -a python3", check=False) == ""


def test_a_host_that_dies_is_missing_and_the_other_is_not(reached, deployed, tmp_path):
    hosts, access = reached
    run = RunDirectory.create(tmp_path, "lab", "dies", datetime.now(UTC))
    deployed[1].run("for n in 1 2 3 4; do head -c 60000000 /dev/urandom > /var/log/web/$n.log; done")
    died = []

    def die(host, _, size):
        if host == "web-1" and size > 1_000_000 and not died:
            died.append(host)
            deployed[1].power_off()

    end = datetime.now(UTC)
    got = gather.gather(access, hosts, run, end - timedelta(minutes=1), end, timeout_s=60, progress=die)
    (missing,) = got.missing
    assert missing.host == "web-1"
    assert "SSH failed" in missing.why
    assert (run.logs / "web-0" / "manifest.json").is_file()
    rows, gone = clock.measure(access, hosts, "after", timeout_s=5.0)
    assert [row.host for row in rows] == ["web-0"]
    assert [one.host for one in gone] == ["web-1"]
