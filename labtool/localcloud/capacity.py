"""What a number of local hosts would need of this machine, said before the first is started.

What a host takes was measured with 50 idle t3.micro hosts that run the collector (docs/localcloud.md says how).
Systems under test take what they take on top of it.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from labtool.config import LocalSettings
from labtool.localcloud import machine, network
from labtool.localcloud.check import Check

_MIB = 2**20
_MEMORY = 40 * _MIB  # 29 its control group, 3 the kernel's, less than 1 its monitor, the rest page tables and the like
_DISK = 300 * _MIB  # its own layer, and the collector's files at their bound (roles/collector)
_PROCESSORS = 0.005  # the recorder with what lxcfs answers it, and the host's systemd
_INOTIFY = 6  # instances: systemd four, logind and dbus one each
_PROCESSES = 16
_TERMINALS = 1
_RESERVED_ADDRESSES = 5  # of EC2's subnets
_BRIDGE_PORTS = 1023  # the kernel's BR_MAX_PORTS, less one
_KEPT_FREE = 512 * _MIB  # for the API, Ansible and whoever works here
_SYS = Path("/proc/sys")


@dataclass(frozen=True)
class Room:
    """What the machine has for hosts; see `look`."""

    memory: int  # bytes available
    disk: int  # bytes free
    processors: int
    addresses: int
    inotify: int  # instances of one user, as far as the local cloud will raise them
    neighbours: int  # entries of all hosts together, likewise
    processes: int
    terminals: int


def checks(settings: LocalSettings, hosts: int, running: int = 0) -> list[Check]:
    """Compare what `hosts` more hosts need with what there is; `running` are there already. Changes nothing."""
    return compare(look(settings), hosts, running)


def compare(room: Room, hosts: int, running: int = 0) -> list[Check]:
    """Return a check for each thing that hosts share; those that are needed stop `labtool up`."""
    together = hosts + running
    larger = "fewer hosts, or a larger machine"
    memory, disk = hosts * _MEMORY, hosts * _DISK
    share = together * _PROCESSORS / room.processors
    return [
        Check(
            "memory of hosts",
            memory + _KEPT_FREE <= room.memory,
            f"{hosts} idle hosts take {_gib(memory)} of {_gib(room.memory)} available",
            f"{larger}; there is room for {_fits(room.memory - _KEPT_FREE, _MEMORY)}",
        ),
        Check(
            "disk of hosts",
            disk <= room.disk,
            f"{hosts} hosts take up to {_gib(disk)} of {_gib(room.disk)} free, without what is deployed on them",
            f"free some; there is room for {_fits(room.disk, _DISK)} hosts",
            needed=False,
        ),
        Check(
            "processors of hosts",
            share <= 0.25,
            f"{together} idle hosts with the collector take {share:.0%} of {room.processors} processors",
            f"{larger}: figures of such hosts are the machine's rather than theirs",
            needed=False,
        ),
        _limit("addresses", together, room.addresses, "LABTOOL_LOCAL_SUBNET with a shorter prefix"),
        _limit("bridge ports", together, _BRIDGE_PORTS, "fewer hosts: the kernel has no more to a bridge"),
        _limit(
            "inotify instances",
            together * _INOTIFY,
            room.inotify,
            f"sudo sysctl fs.inotify.max_user_instances={network.KERNEL_SETTINGS['fs/inotify/max_user_instances']}",
        ),
        _limit(
            "processes", together * _PROCESSES, room.processes, "raise kernel.pid_max and ulimit -u, or fewer hosts"
        ),
        _limit("terminals", together * _TERMINALS, room.terminals, f"sudo sysctl kernel.pty.max={4 * together}"),
        _limit(
            "neighbour entries",
            together * (together - 1),
            room.neighbours,
            f"sudo sysctl net.ipv4.neigh.default.gc_thresh3={2 * together**2}",
            needed=False,  # only if each talks to each at the same time
        ),
    ]


def look(settings: LocalSettings) -> Room:
    """Read what this machine has for hosts."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    place = next(p for p in (settings.state, *settings.state.parents) if p.exists())
    store = Path("/var/lib/containers")
    return Room(
        memory=int(fields["MemAvailable"].split()[0]) * 1024,
        disk=min(shutil.disk_usage(p).free for p in (place, store if store.exists() else place)),
        processors=machine.processors(),
        addresses=ipaddress.IPv4Network(settings.subnet).num_addresses - _RESERVED_ADDRESSES,
        inotify=_raised("fs/inotify/max_user_instances"),
        neighbours=_raised("net/ipv4/neigh/default/gc_thresh3"),
        processes=min(_read("kernel/pid_max"), machine.limits().nproc),
        terminals=_read("kernel/pty/max") - _read("kernel/pty/nr"),
    )


def _raised(setting: str) -> int:
    """Return the setting as it is while the local cloud runs: root raises it, where /proc/sys can be written."""
    file = _SYS / setting
    root_can = os.access(file, os.W_OK) if os.geteuid() == 0 else shutil.which("sudo") is not None
    return max(_read(setting), network.KERNEL_SETTINGS[setting] if root_can else 0)


def _read(setting: str) -> int:
    try:
        return int((_SYS / setting).read_text())
    except FileNotFoundError:
        return 2**31  # not this network namespace's to limit


def _limit(name: str, needed_count: int, there: int, mend: str, *, needed: bool = True) -> Check:
    return Check(name, needed_count <= there, f"{needed_count} of {there}", mend, needed)


def _fits(there: int, each: int) -> int:
    return max(0, there // each)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
