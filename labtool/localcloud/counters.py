"""A host's counters seen from outside: processor time and disk from its cgroup, network from its namespace.

Nothing runs in the host for them. They are what a hypervisor would know.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_HIGH = 10**15  # bytes per second: a limit that limits nothing


@dataclass(frozen=True)
class Counters:
    """Totals since a host's start."""

    cpu_s: float
    net_in_bytes: int
    net_out_bytes: int
    net_in_packets: int
    net_out_packets: int
    disk_read_bytes: int
    disk_write_bytes: int
    disk_read_ops: int
    disk_write_ops: int

    def __sub__(self, before: Counters) -> Counters:
        return Counters(*(getattr(self, f.name) - getattr(before, f.name) for f in fields(self)))


ZERO = Counters(0.0, 0, 0, 0, 0, 0, 0, 0, 0)


def read(pid: int) -> Counters:
    """Return the counters of the host whose systemd is `pid`; `OSError` if it has gone."""
    places = cgroup_folders(pid)
    received, sent = _network(pid)
    disk = _disk(places)
    return Counters(_cpu(places), received[0], sent[0], received[1], sent[1], *disk)


def cgroup_folders(pid: int) -> dict[str, Path]:
    """Return the host's own cgroup by controller (v1), the unified one as `""` (v2)."""
    found: dict[str, Path] = {}
    for line in (PROC / str(pid) / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        relative = _up_to_container(path)
        if not controllers:
            unified = CGROUPS / "unified"
            found[""] = (unified if unified.is_dir() else CGROUPS) / relative
        elif not controllers.startswith("name="):
            for controller in controllers.split(","):
                found[controller] = CGROUPS / controllers / relative
    return found


def count_disk(pid: int) -> None:
    """Make a v1 kernel count the disk's bytes of this host.

    Since Linux 6.10 the v1 counters of blk-throttle stand still until some limit is set on the disk; a limit far
    above any disk's speed starts them. cgroup v2's io.stat needs nothing.
    """
    folder = cgroup_folders(pid).get("blkio")
    if folder is None:
        return
    for device in disks():
        try:
            (folder / "blkio.throttle.write_bps_device").write_text(f"{device} {_HIGH}\n")
        except OSError:
            continue  # the metric will stand at zero, as the kernel's counter does


def _up_to_container(path: str) -> str:
    """Cut what the host's own systemd made below its container's cgroup."""
    parts = path.strip("/").split("/")
    for index, part in enumerate(parts):
        if _CONTAINER_ID.search(part):
            return "/".join(parts[: index + 1])
    return "/".join(parts)


def _cpu(places: dict[str, Path]) -> float:
    if "cpuacct" in places:
        return int((places["cpuacct"] / "cpuacct.usage").read_text()) / 1e9
    return _pairs((places[""] / "cpu.stat").read_text())["usage_usec"] / 1e6


def _disk(places: dict[str, Path]) -> tuple[int, int, int, int]:
    """Return bytes read and written, operations read and written."""
    if "blkio" in places:
        sizes = _throttled(places["blkio"] / "blkio.throttle.io_service_bytes_recursive")
        counts = _throttled(places["blkio"] / "blkio.throttle.io_serviced_recursive")
        return (*sizes, *counts)
    totals = {"rbytes": 0, "wbytes": 0, "rios": 0, "wios": 0}
    file = places[""] / "io.stat"
    for line in file.read_text().splitlines() if file.exists() else []:
        for entry in line.split()[1:]:
            key, _, value = entry.partition("=")
            if key in totals:
                totals[key] += int(value)
    return totals["rbytes"], totals["wbytes"], totals["rios"], totals["wios"]


def _throttled(file: Path) -> tuple[int, int]:
    read = written = 0
    for line in file.read_text().splitlines() if file.exists() else []:
        words = line.split()
        if len(words) == 3 and words[1] == "Read":
            read += int(words[2])
        elif len(words) == 3 and words[1] == "Write":
            written += int(words[2])
    return read, written


def _network(pid: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (bytes, packets) received and sent by all interfaces but lo, of the namespace of `pid`."""
    in_bytes = in_packets = out_bytes = out_packets = 0
    for line in (PROC / str(pid) / "net" / "dev").read_text().splitlines()[2:]:
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            continue
        columns = [int(column) for column in rest.split()]
        in_bytes, in_packets = in_bytes + columns[0], in_packets + columns[1]
        out_bytes, out_packets = out_bytes + columns[8], out_packets + columns[9]
    return (in_bytes, in_packets), (out_bytes, out_packets)


def _pairs(text: str) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in text.splitlines())}


def disks() -> list[str]:
    """Return `major:minor` of the disks below the folders where engines keep containers."""
    found = set()
    for folder in ("/var/lib/containers", "/var/lib/docker", "/var/lib"):
        try:
            device = os.stat(folder).st_dev  # noqa: PTH116
        except OSError:
            continue
        block = Path("/sys/dev/block") / f"{os.major(device)}:{os.minor(device)}"
        if (block / "partition").exists():
            block = block.resolve().parent
        if (block / "dev").exists():
            found.add((block / "dev").read_text().strip())
    return sorted(found)
