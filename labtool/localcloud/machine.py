"""What this machine allows: resource limits, the kind of its cgroups, its processors and memory."""

from __future__ import annotations

import os
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path

_NOFILE = 1_048_576
_NPROC = 32_000


@dataclass(frozen=True)
class Limits:
    """What a host's processes may have; never above what we may give."""

    nofile: int
    nproc: int


def limits() -> Limits:
    """Return the limits for hosts.

    Without CAP_SYS_RESOURCE a container's limits cannot be above the caller's hard ones. nproc counts a user's
    processes over the whole machine, and engines lower their own limit (podman to kernel.pid_max), so it stays
    clearly below.
    """
    return Limits(
        nofile=_below(resource.getrlimit(resource.RLIMIT_NOFILE)[1], _NOFILE, 1.0),
        nproc=_below(resource.getrlimit(resource.RLIMIT_NPROC)[1], _NPROC, 1 / 3),
    )


def _below(hard: int, wanted: int, share: float) -> int:
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, int(hard * share))


def cgroup_kind(root: Path = Path("/sys/fs/cgroup")) -> str:
    """Return `v2`, `hybrid` (v1 controllers with a v2 tree beside them) or `v1`."""
    if (root / "cgroup.controllers").exists():
        return "v2"
    return "hybrid" if (root / "unified").is_dir() else "v1"


def runtime(engine: str, kind: str | None = None) -> str | None:
    """Return the OCI runtime to ask `engine` for; None is its own choice.

    crun refuses hybrid cgroups (`cgroups in hybrid mode not supported`); runc takes all kinds.
    """
    if engine != "podman" or (kind or cgroup_kind()) == "v2":
        return None
    return shutil.which("runc") or None


def processors() -> int:
    """Return the processors this process may use."""
    return len(os.sched_getaffinity(0))


def memory_bytes() -> int:
    """Return the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
