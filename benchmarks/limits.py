"""How fast a local host may read from its disk: a limit that only the machine under it can set, as root."""

from __future__ import annotations

import os
from pathlib import Path

from labtool.config import Settings
from labtool.localcloud import counters, engine

NEVER = 0  # version 1 of cgroups takes this for no limit


def limit_reads(settings: Settings, instances: list[str], mib_per_s: float | None) -> None:
    """Let the hosts of these instances read so much from their disks, or as much as they can.

    Version 1 of cgroups holds back reads and not buffered writes, version 2 is told of reads only. A `SystemExit` says
    why it cannot be set.
    """
    if os.geteuid():
        raise SystemExit("a host's disk is limited from outside, by root: run this with sudo -E")
    running = {one.instance_id: one.pid for one in engine.find(settings.local.name).containers() if one.running}
    if missing := [one for one in instances if one not in running]:
        raise SystemExit(f"{missing[0]} is no running host of this machine's local cloud")
    for instance in instances:
        for file, line in lines(counters.cgroup_folders(running[instance]), counters.disks(), mib_per_s):
            try:
                file.write_text(line)
            except OSError as error:
                raise SystemExit(f"this kernel does not limit what a host reads: {file}: {error.strerror}") from None


def lines(folders: dict[str, Path], disks: list[str], mib_per_s: float | None) -> list[tuple[Path, str]]:
    """Return what is written to which files of a host's cgroup."""
    most = None if mib_per_s is None else round(mib_per_s * 2**20)
    if "blkio" in folders:
        return [(folders["blkio"] / "blkio.throttle.read_bps_device", f"{disk} {most or NEVER}") for disk in disks]
    return [(folders[""] / "io.max", f"{disk} rbps={'max' if most is None else most}") for disk in disks]
