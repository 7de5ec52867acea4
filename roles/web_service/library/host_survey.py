#!/usr/bin/python
"""What a role must know of a host before it installs and sizes a service."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_survey
short_description: Which programs are missing, and how large the host is
description:
  - Sets the fact C(host_survey) with C(missing), the programs of O(programs) that are not there, C(memory_mb) and
    C(processors), as the host's own /proc tells them.
options:
  programs: {description: 'Names of programs, or paths of files', type: list, elements: str, default: []}
"""


def memory_mb(text: str) -> int:
    """Return the memory that /proc/meminfo tells of, in MiB."""
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("MemTotal:"))) // 1024


def missing(programs: list[str]) -> list[str]:
    """Return those that are not there; a login's PATH often lacks sbin."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    return [
        name
        for name in programs
        if not (Path(name).exists() if name.startswith("/") else shutil.which(name, path=path))
    ]


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={"programs": {"type": "list", "elements": "str", "default": []}}, supports_check_mode=True
    )
    survey = {
        "missing": missing(module.params["programs"]),
        "memory_mb": memory_mb(Path("/proc/meminfo").read_text()),
        "processors": os.cpu_count() or 1,
    }
    module.exit_json(changed=False, ansible_facts={"host_survey": survey})


if __name__ == "__main__":
    main()
