from __future__ import annotations

import pytest

from labtool.localcloud import metrics
from labtool.localcloud.cloudwatch.store import Metric, Store
from labtool.localcloud.counters import Counters
from labtool.localcloud.metrics import Health, Publisher
from labtool.localcloud.reconcile import RunningHost

T0 = 1_700_000_100 // 300 * 300  # a boundary of five minutes


class Lab:
    """Hosts whose counters and clock the test sets."""

    def __init__(self, store, monkeypatch):
        self.store = store
        self.now = float(T0)
        self.hosts: dict[str, RunningHost] = {}
        self.counters: dict[int, Counters] = {}
        self.detailed = True
        self.failed = False
        monkeypatch.setattr(metrics.time, "time", lambda: self.now)
        monkeypatch.setattr(metrics.counters, "read", self.read)
        self.publisher = self.make()

    def make(self):
        return Publisher(
            self.store,
            lambda: list(self.hosts.values()),
            lambda _id: Health(detailed=self.detailed, instance_failed=self.failed, root_volume="vol-1"),
        )

    def read(self, pid):
        if pid not in self.counters:
            raise OSError("gone")
        return self.counters[pid]

    def start(self, instance_id="i-1", pid=1, vcpus=2):
        self.hosts[instance_id] = RunningHost(instance_id, pid, self.now, vcpus)
        self.use(pid)

    def use(self, pid=1, cpu=0.0, net=0, disk=0):
        self.counters[pid] = Counters(cpu, net, net // 2, net // 100, net // 200, disk, disk, disk // 4096, 1)

    def minute(self, number):
        """Let the clock reach the end of minute `number` and sample."""
        self.now = T0 + 60 * number + 0.02
        self.publisher.sample(T0 + 60 * number)

    def points(self, name, instance_id="i-1", statistic="Average"):
        metric = Metric("AWS/EC2", name, (("InstanceId", instance_id),))
        return self.read_back(metric, statistic)

    def read_back(self, metric, statistic="Average"):
        series = self.store.read(metric, T0, T0 + 7200, 60)
        return {(t - T0) // 60: round(v, 1) for t, v in zip(series.times, series.statistic(statistic), strict=True)}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    return Lab(Store(tmp_path / "m.sqlite"), monkeypatch)


def test_cpu_is_the_share_of_all_vcpus(lab):
    lab.start(vcpus=2)
    lab.use(cpu=60.0)
    lab.minute(1)
    lab.use(cpu=180.0)
    lab.minute(2)
    assert lab.points("CPUUtilization") == {0: 50.0, 1: 100.0}


def test_a_first_partial_minute_is_the_share_of_the_time_it_ran(lab):
    lab.now = T0 + 30.0
    lab.start(vcpus=1)
    lab.use(cpu=15.0, net=1000)
    lab.minute(1)
    assert lab.points("CPUUtilization") == {0: 50.0}
    assert lab.points("NetworkIn") == {0: 1000.0}


@pytest.mark.parametrize("detailed", [True, False])
def test_a_volume_has_a_point_a_minute_whatever_the_monitoring(lab, detailed):
    lab.detailed = detailed
    lab.start()
    lab.use(disk=8192)
    lab.minute(1)
    lab.use(disk=12_288)
    lab.minute(2)
    seen = {
        name: lab.read_back(Metric("AWS/EBS", name, (("VolumeId", "vol-1"),)))
        for name in ("VolumeReadBytes", "VolumeWriteBytes", "VolumeReadOps")
    }
    both = {0: 8192.0, 1: 4096.0}
    assert seen == {"VolumeReadBytes": both, "VolumeWriteBytes": both, "VolumeReadOps": {0: 2.0, 1: 1.0}}


def test_bytes_are_those_of_the_minute(lab):
    lab.start()
    lab.use(net=10_000, disk=8192)
    lab.minute(1)
    lab.use(net=25_000, disk=8192)
    lab.minute(2)
    assert lab.points("NetworkIn") == {0: 10_000.0, 1: 15_000.0}
    assert lab.points("NetworkOut") == {0: 5_000.0, 1: 7_500.0}
    assert lab.points("NetworkPacketsIn") == {0: 100.0, 1: 150.0}
    assert lab.points("EBSWriteBytes") == {0: 8192.0, 1: 0.0}
    assert lab.points("EBSReadOps") == {0: 2.0, 1: 0.0}
    assert lab.points("DiskReadBytes") == {0: 0.0, 1: 0.0}  # there is no instance store


def test_basic_monitoring_is_a_point_in_five_minutes(lab):
    lab.detailed = False
    lab.start(vcpus=1)
    for number in range(1, 11):
        lab.use(cpu=30.0 * number)
        lab.minute(number)
    assert lab.points("CPUUtilization") == {0: 50.0, 5: 50.0}
    assert sorted(lab.points("StatusCheckFailed")) == list(range(10))  # these come each minute


def test_a_basic_host_that_starts_within_the_five_minutes(lab):
    lab.detailed = False
    lab.now = T0 + 90.0
    lab.start(vcpus=1)
    for number in range(2, 6):
        lab.use(cpu=(60 * number - 90) * 0.5)
        lab.minute(number)
    assert lab.points("CPUUtilization") == {0: 50.0}


def test_a_restarted_host_counts_from_zero(lab):
    lab.start(vcpus=1)
    lab.use(cpu=60.0, net=5000)
    lab.minute(1)
    lab.now = T0 + 90.0
    lab.start(pid=2, vcpus=1)
    lab.use(pid=2, cpu=15.0, net=100)
    lab.minute(2)
    assert lab.points("CPUUtilization") == {0: 100.0, 1: 50.0}
    assert lab.points("NetworkIn") == {0: 5000.0, 1: 100.0}


def test_what_this_process_did_not_see_is_left_out(lab):
    lab.start(vcpus=1)
    lab.use(cpu=60.0)
    lab.minute(1)
    lab.now = T0 + 150.0
    lab.publisher = lab.make()  # killed, and started again in the middle of a minute
    lab.use(cpu=170.0)
    lab.minute(3)
    lab.use(cpu=200.0)
    lab.minute(4)
    assert lab.points("CPUUtilization") == {0: 100.0, 3: 50.0}


def test_a_host_that_has_gone_is_left_out_and_forgotten(lab):
    lab.start()
    lab.minute(1)
    del lab.counters[1]
    lab.minute(2)
    del lab.hosts["i-1"]
    lab.minute(3)
    assert sorted(lab.points("CPUUtilization")) == [0]
    assert lab.publisher._minutes == {}


def test_status_checks_say_what_failed(lab):
    lab.start()
    lab.failed = True
    lab.minute(1)
    assert lab.points("StatusCheckFailed") == {0: 1.0}
    assert lab.points("StatusCheckFailed_Instance") == {0: 1.0}
    assert lab.points("StatusCheckFailed_System") == {0: 0.0}


def test_units_and_counts_are_those_of_ec2(lab):
    lab.start()
    lab.use(cpu=1.0)
    lab.minute(1)
    units = {m.name: lab.store.unit(m, T0, T0 + 60) for m in lab.store.metrics("AWS/EC2")}
    assert units["CPUUtilization"] == "Percent"
    assert units["NetworkIn"] == units["EBSReadBytes"] == "Bytes"
    assert units["NetworkPacketsOut"] == units["DiskReadOps"] == units["StatusCheckFailed"] == "Count"
    assert len(units) == 16
    assert lab.points("CPUUtilization", statistic="SampleCount") == {0: 1.0}
