"""What can be seen of a host from outside: when it started, whether its sshd answers, how it went down."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from labtool.localcloud.layout import InstanceFolder
from labtool.localcloud.security_groups import PROBE_MARK

_SO_MARK = 36


def read_shutdown(folder: InstanceFolder) -> str:
    """Return how a host says it went down; empty if it did not.

    The file is the host's to write, so it is opened without following links and little of it is read.
    """
    try:
        descriptor = os.open(folder.shutdown, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(32).decode(errors="replace").strip()


def ssh_answers(address: str, timeout_s: float = 1.0) -> bool:
    """True if an SSH server says its name at `address`, port 22; no security group keeps this out."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            with suppress(PermissionError):  # only root has rules to pass
                connection.setsockopt(socket.SOL_SOCKET, _SO_MARK, PROBE_MARK)
            connection.settimeout(timeout_s)
            connection.connect((address, 22))
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def started(pid: int) -> float:
    """Return when a process started, Unix seconds (proc(5): field 22 of stat, in clock ticks since boot)."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    boot = next(
        int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime")
    )
    return boot + ticks / os.sysconf("SC_CLK_TCK")
