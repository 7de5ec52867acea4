"""How much of the machine under it a local host may have: limits that only that machine can set, as root."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from labtool.config import Settings
from labtool.localcloud import counters, engine

PERIOD_US = 100_000
NEVER = 0  # version 1 of cgroups takes this for no limit


def limit_reads(settings: Settings, instances: list[str], mib_per_s: float | None) -> None:
    """Let the hosts of these instances read so much from their disks, or as much as they can.

    Version 1 of cgroups holds back reads and not buffered writes, version 2 is told of reads only. A `SystemExit` says
    why it cannot be set.
    """
    _write(settings, instances, lambda folders: read_lines(folders, counters.disks(), mib_per_s))


def limit_processors(settings: Settings, instances: list[str], processors: float) -> None:
    """Let the hosts of these instances have so much of the processors' time; a `SystemExit` says why it cannot be."""
    _write(settings, instances, lambda folders: processor_lines(folders, processors))


def _write(
    settings: Settings, instances: list[str], lines: Callable[[dict[str, Path]], list[tuple[Path, str]]]
) -> None:
    if os.geteuid():
        raise SystemExit("a host is limited from outside, by root: run this with sudo -E")
    running = {one.instance_id: one.pid for one in engine.find(settings.local.name).containers() if one.running}
    if missing := [one for one in instances if one not in running]:
        raise SystemExit(f"{missing[0]} is no running host of this machine's local cloud")
    for instance in instances:
        for file, line in lines(counters.cgroup_folders(running[instance])):
            try:
                file.write_text(line)
            except OSError as error:
                raise SystemExit(f"this kernel does not limit a host: {file}: {error.strerror}") from None


def processor_lines(folders: dict[str, Path], processors: float) -> list[tuple[Path, str]]:
    """Return what is written to which files of a host's cgroup for a share of the processors."""
    quota = round(processors * PERIOD_US)
    if "cpu" in folders:
        return [
            (folders["cpu"] / "cpu.cfs_period_us", str(PERIOD_US)),
            (folders["cpu"] / "cpu.cfs_quota_us", str(quota)),
        ]
    return [(folders[""] / "cpu.max", f"{quota} {PERIOD_US}")]


def read_lines(folders: dict[str, Path], disks: list[str], mib_per_s: float | None) -> list[tuple[Path, str]]:
    """Return what is written to which files of a host's cgroup for a limit on reads."""
    most = None if mib_per_s is None else round(mib_per_s * 2**20)
    if "blkio" in folders:
        return [(folders["blkio"] / "blkio.throttle.read_bps_device", f"{disk} {most or NEVER}") for disk in disks]
    return [(folders[""] / "io.max", f"{disk} rbps={'max' if most is None else most}") for disk in disks]
