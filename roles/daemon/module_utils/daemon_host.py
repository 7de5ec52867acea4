"""What a host is, before anything is changed on it."""

from __future__ import annotations

import pwd
import re
import socket


def memory_mb(text: str) -> int:
    """Return the memory that /proc/meminfo tells of, in MiB."""
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("MemTotal:"))) // 1024


def cores(text: str) -> int:
    """Return how many processors /proc/stat tells of: in a container its own, where sysconf has the machine's."""
    return max(len(re.findall(r"^cpu\d+ ", text, re.MULTILINE)), 1)


def own_address() -> str:
    """Return the address that packets to elsewhere would leave with; '' without a route. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unsent:
        try:
            unsent.connect(("192.0.2.1", 9))  # an address of documentation (RFC 5737)
        except OSError:
            return ""
        return str(unsent.getsockname()[0])


def home_and_shell(user: str) -> list[str]:
    """Return a user's home and shell; [] where there is no such user."""
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        return []
    return [found.pw_dir, found.pw_shell]
