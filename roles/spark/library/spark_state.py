#!/usr/bin/python
"""Read what Spark can have of a host, and where others reach it."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.daemon_host import cores, home_and_shell, memory_mb, own_address

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
