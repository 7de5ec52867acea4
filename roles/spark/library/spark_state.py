#!/usr/bin/python
"""Read what Spark can have of a host."""

from __future__ import annotations

import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: spark_state
short_description: What Spark can have of a host
description:
  - Sets the fact C(spark_state) with C(memory_mb), the host's memory in MiB, and C(cores), its processors.
options: {}
"""


def memory_mb(text: str) -> int:
    """Return the memory that /proc/meminfo tells of, in MiB."""
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("MemTotal:"))) // 1024


def cores(text: str) -> int:
    """Return how many processors /proc/stat tells of: in a container its own, where sysconf has the machine's."""
    return max(len(re.findall(r"^cpu\d+ ", text, re.MULTILINE)), 1)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    state = {
        "memory_mb": memory_mb(Path("/proc/meminfo").read_text()),
        "cores": cores(Path("/proc/stat").read_text()),
    }
    module.exit_json(changed=False, ansible_facts={"spark_state": state})


if __name__ == "__main__":
    main()
