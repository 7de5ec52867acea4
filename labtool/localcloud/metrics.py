"""The AWS/EC2 metrics of local hosts and the AWS/EBS ones of their root volumes, published as a hypervisor would.

Counters are read at each whole minute; a point carries the time of its period's start, as in CloudWatch. With
detailed monitoring a point a minute, otherwise one each five minutes; status checks and volumes always each minute.
What a host did in the part of a minute before it started is nothing: CPUUtilization of a first, partial minute is the
share of the time that it ran. A minute that this process did not see from its beginning is left out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from labtool.localcloud import counters
from labtool.localcloud.cloudwatch.store import Datum, Metric, Store
from labtool.localcloud.counters import Counters
from labtool.localcloud.reconcile import RunningHost

log = logging.getLogger(__name__)

NAMESPACE = "AWS/EC2"
VOLUMES = "AWS/EBS"
MINUTE, FIVE_MINUTES = 60, 300
_SHORTEST_S = 1.0  # of a first minute less than this, nothing is said
_EXPIRE_EVERY_S = 3600


@dataclass(frozen=True)
class Health:
    """What status checks say of an instance."""

    detailed: bool
    instance_failed: bool
    root_volume: str = ""  # its id; all of a host's disk operations are this one's


@dataclass
class _Baseline:
    """Where a period began: a host's counters at a time."""

    started: float  # of the host: a restart begins anew
    time: float
    counters: Counters


class Publisher:
    """Samples hosts on the minute and stores their metrics."""

    def __init__(
        self, store: Store, hosts: Callable[[], list[RunningHost]], health: Callable[[str], Health | None]
    ) -> None:
        self._store, self._hosts, self._health = store, hosts, health
        self._minutes: dict[str, _Baseline] = {}
        self._fives: dict[str, _Baseline] = {}
        self._stop = threading.Event()
        self._began = time.time()
        self._thread = threading.Thread(target=self._loop, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(5)

    def _loop(self) -> None:
        expired = 0.0
        while True:
            now = time.time()
            boundary = (int(now) // MINUTE + 1) * MINUTE
            if self._stop.wait(boundary - now):
                return
            try:
                self.sample(boundary)
                if time.monotonic() - expired > _EXPIRE_EVERY_S:
                    expired = time.monotonic()
                    self._store.expire()
            except Exception:
                log.exception("metrics of the minute before %d are lost", boundary)

    def sample(self, boundary: int) -> None:
        """Read all counters now and publish the periods that end at `boundary` (Unix seconds)."""
        data: list[Datum] = []
        hosts = self._hosts()
        for host in hosts:
            try:
                seen, when = counters.read(host.pid), time.time()
            except (OSError, ValueError, KeyError):
                continue  # it has just ended
            health = self._health(host.instance_id)
            if health is None:
                continue
            minute = self._advance(self._minutes, host, seen, when, boundary - MINUTE)
            data += _status(host.instance_id, boundary - MINUTE, health)
            if health.detailed and minute:
                data += _usage(host, boundary - MINUTE, *minute)
            if health.root_volume and minute:
                data += _volume(health.root_volume, boundary - MINUTE, minute[0])
            if boundary % FIVE_MINUTES == 0:
                five = self._advance(self._fives, host, seen, when, boundary - FIVE_MINUTES)
                if not health.detailed and five:
                    data += _usage(host, boundary - FIVE_MINUTES, *five)
            elif host.instance_id not in self._fives:
                self._advance(self._fives, host, seen, when, boundary // FIVE_MINUTES * FIVE_MINUTES, open_only=True)
        present = {host.instance_id for host in hosts}
        for baselines in (self._minutes, self._fives):
            for instance_id in baselines.keys() - present:
                del baselines[instance_id]
        self._store.put(data)

    def _advance(
        self,
        baselines: dict[str, _Baseline],
        host: RunningHost,
        seen: Counters,
        when: float,
        began: int,
        *,
        open_only: bool = False,
    ) -> tuple[Counters, float] | None:
        """Return what a host did in the period that began at `began` and over how many seconds.

        None if that is not known. The next period begins here.
        """
        last = baselines.get(host.instance_id)
        if last is None or last.started != host.started:
            # Counters begin at zero with the host; without having seen that, only from here on.
            fresh = host.started >= max(began - 1, self._began)
            last = _Baseline(host.started, max(host.started, began), counters.ZERO) if fresh else None
        if open_only:
            if last is not None:
                baselines[host.instance_id] = last
            return None
        baselines[host.instance_id] = _Baseline(host.started, when, seen)
        if last is None or when - last.time < _SHORTEST_S:
            return None
        return seen - last.counters, when - last.time


def _usage(host: RunningHost, when: int, used: Counters, elapsed_s: float) -> Iterator[Datum]:
    values = (
        ("CPUUtilization", "Percent", min(100.0, 100.0 * used.cpu_s / (elapsed_s * host.vcpus))),
        ("NetworkIn", "Bytes", used.net_in_bytes),
        ("NetworkOut", "Bytes", used.net_out_bytes),
        ("NetworkPacketsIn", "Count", used.net_in_packets),
        ("NetworkPacketsOut", "Count", used.net_out_packets),
        ("EBSReadBytes", "Bytes", used.disk_read_bytes),
        ("EBSWriteBytes", "Bytes", used.disk_write_bytes),
        ("EBSReadOps", "Count", used.disk_read_ops),
        ("EBSWriteOps", "Count", used.disk_write_ops),
        # Instance store volumes, of which there are none: EC2 says 0.
        ("DiskReadBytes", "Bytes", 0),
        ("DiskWriteBytes", "Bytes", 0),
        ("DiskReadOps", "Count", 0),
        ("DiskWriteOps", "Count", 0),
    )
    for name, unit, value in values:
        yield _datum(host.instance_id, name, unit, when, float(value))


def _volume(volume_id: str, when: int, used: Counters) -> Iterator[Datum]:
    """What a cgroup counts of a volume; times and queues it does not, so there are none."""
    for name, unit, value in (
        ("VolumeReadBytes", "Bytes", used.disk_read_bytes),
        ("VolumeWriteBytes", "Bytes", used.disk_write_bytes),
        ("VolumeReadOps", "Count", used.disk_read_ops),
        ("VolumeWriteOps", "Count", used.disk_write_ops),
    ):
        metric = Metric(VOLUMES, name, (("VolumeId", volume_id),))
        yield Datum(metric, float(when), value, value, value, 1.0, unit)


def _status(instance_id: str, when: int, health: Health) -> Iterator[Datum]:
    failed = 1.0 if health.instance_failed else 0.0
    for name, value in (
        ("StatusCheckFailed", failed),
        ("StatusCheckFailed_Instance", failed),
        ("StatusCheckFailed_System", 0.0),
    ):
        yield _datum(instance_id, name, "Count", when, value)


def _datum(instance_id: str, name: str, unit: str, when: int, value: float) -> Datum:
    metric = Metric(NAMESPACE, name, (("InstanceId", instance_id),))
    return Datum(metric, float(when), value, value, value, 1.0, unit)
