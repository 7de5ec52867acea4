#!/usr/bin/python
"""Read what Spark can have of a host, and where others reach it."""

from __future__ import annotations

import pwd
import re
import socket
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: spark_state
short_description: What Spark can have of a host
description:
  - Sets the fact C(spark_state) with C(memory_mb), the host's memory in MiB, C(cores), its processors, C(address), from
    which it speaks to other networks, and C(user), home and shell of the user that was asked for (empty where there
    is none).
options:
  user: {description: The user that Spark runs as, type: str, default: ''}
"""


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


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(argument_spec={"user": {"type": "str", "default": ""}}, supports_check_mode=True)
    state = {
        "memory_mb": memory_mb(Path("/proc/meminfo").read_text()),
        "cores": cores(Path("/proc/stat").read_text()),
        "address": own_address(),
        "user": home_and_shell(module.params["user"]) if module.params["user"] else [],
    }
    module.exit_json(changed=False, ansible_facts={"spark_state": state})


if __name__ == "__main__":
    main()
