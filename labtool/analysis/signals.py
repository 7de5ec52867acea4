"""The signals that findings and figures use, and where each is in the `host_metrics` table.

A table has hundreds of series a host; a signal is one of them, or a sum or maximum over devices, under a name that
the rest of the code can rely on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Devices = Literal["all", "cores", "disks", "interfaces", "any"]


@dataclass(frozen=True)
class Signal:
    """A signal: its name, its unit, and the rows it is made of.

    `metrics` are the names the table may use, the preferred first; `devices` says which devices' rows take part, and
    `combine` how they become one value per second.
    """

    name: str
    label: str
    unit: str
    resource: str
    metrics: tuple[str, ...]
    devices: Devices = "any"
    combine: Literal["sum", "max"] = "max"


SIGNALS: tuple[Signal, ...] = (
    Signal("cpu", "CPU", "ratio", "cpu", ("utilisation",), "all"),
    Signal("cpu_user", "user", "ratio", "cpu", ("user",), "all"),
    Signal("cpu_system", "system", "ratio", "cpu", ("system",), "all"),
    Signal("cpu_iowait", "waiting for disk", "ratio", "cpu", ("iowait",), "all"),
    Signal("cpu_steal", "stolen", "ratio", "cpu", ("steal",), "all"),
    Signal("cpu_idle", "idle", "ratio", "cpu", ("idle",), "all"),
    Signal("cpu_core", "busiest core", "ratio", "cpu", ("utilisation",), "cores"),
    Signal("memory", "memory", "ratio", "memory", ("utilisation", "used"), "any"),
    Signal("swap", "swap", "ratio", "swap", ("utilisation", "used"), "any"),
    Signal("disk", "disk", "ratio", "disk", ("utilisation",), "disks"),
    Signal("disk_read", "read", "bytes/s", "disk", ("read_bytes",), "disks", "sum"),
    Signal("disk_write", "write", "bytes/s", "disk", ("write_bytes",), "disks", "sum"),
    Signal("disk_queue", "disk queue", "count", "disk", ("queue",), "disks"),
    Signal("disk_await", "disk wait", "seconds", "disk", ("await",), "disks"),
    Signal("net_rx", "in", "bytes/s", "network", ("rx_bytes",), "interfaces", "sum"),
    Signal("net_tx", "out", "bytes/s", "network", ("tx_bytes",), "interfaces", "sum"),
    Signal(
        "net_lost",
        "lost",
        "packets/s",
        "network",
        ("rx_dropped", "tx_dropped", "rx_errors", "tx_errors"),
        "interfaces",
        "sum",
    ),
    Signal("tcp_sent", "TCP segments sent", "packets/s", "network", ("tcp_sent",)),
    Signal("tcp_again", "TCP segments sent again", "packets/s", "network", ("tcp_retransmitted",)),
    Signal("load1", "load", "count", "load", ("load1",), "any"),
    Signal("run_queue", "run queue", "count", "load", ("run_queue",), "any"),
)

BY_NAME = {signal.name: signal for signal in SIGNALS}

_PARTITION = re.compile(r"(?P<disk>(nvme\d+n\d+|mmcblk\d+|nbd\d+)(?=p\d)|(sd|vd|xvd|hd)[a-z]+(?=\d))p?\d+")
_STACKED = re.compile(r"(loop|ram|zram|dm-|md|sr|fd)\d+")
_INTERNAL = re.compile(r"lo|docker\d+|veth.*|br-.*|virbr\d+|cni.*|podman\d+|ifb\d+|dummy\d+")


def disks(devices: Iterable[str]) -> tuple[str, ...]:
    """Return the devices whose traffic may be summed: no partition of a disk that is there, nothing stacked on one."""
    found = set(devices) - {""}
    kept = []
    for device in sorted(found):
        partition = _PARTITION.fullmatch(device)
        if partition and partition["disk"] in found:
            continue
        kept.append(device)
    solid = tuple(device for device in kept if not _STACKED.fullmatch(device))
    return solid or tuple(kept)


def interfaces(devices: Iterable[str]) -> tuple[str, ...]:
    """Return the interfaces that lead out of the host: no loopback, no bridge of an engine on it."""
    return tuple(device for device in sorted(set(devices) - {""}) if not _INTERNAL.fullmatch(device))
