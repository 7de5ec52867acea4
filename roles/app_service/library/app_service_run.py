#!/usr/bin/python
"""Run an installed program once, to its end, in a unit of its own."""

from __future__ import annotations

import time

from ansible.module_utils.app_unit import Unit, run
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: app_service_run
short_description: Run a program to its end in a transient unit
description:
  - The unit is systemd's own, not this task's child, so its end has one place to be brought about, C(systemctl stop).
  - One that still runs from an earlier time is stopped first. A failure ends with the last lines of its journal.
options:
  unit: {description: The unit's name, required: true, type: str}
  command: {description: The program and its arguments, required: true, type: list, elements: str}
  environment: {description: Variables by name, type: dict, default: {}}
  directory: {description: Its working directory, required: true, type: path}
  user: {description: Who runs it, required: true, type: str}
  time_limit: {description: Seconds after which it is ended; 0 is none, type: int, default: 0}
"""


def command_line(arguments: dict) -> list[str]:
    """Return the call of systemd-run."""
    words = ["systemd-run", "--wait", "--collect", "--service-type=exec", f"--unit={arguments['unit']}"]
    words += [f"--property=User={arguments['user']}", f"--property=WorkingDirectory={arguments['directory']}"]
    words += ["--property=NoNewPrivileges=yes", "--property=PrivateTmp=yes", "--property=ProtectSystem=full"]
    words += ["--property=LogRateLimitIntervalSec=0"]
    if arguments["time_limit"]:
        words.append(f"--property=RuntimeMaxSec={arguments['time_limit']}")
    words += [f"--setenv={name}={value}" for name, value in arguments["environment"].items()]
    return [*words, "--", *arguments["command"]]


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "command": {"type": "list", "elements": "str", "required": True},
            "environment": {"type": "dict", "default": {}},
            "directory": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "time_limit": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True)
    arguments, unit = module.params, Unit(module.params["unit"])
    if unit.show().get("LoadState") == "loaded":
        run("systemctl", "stop", unit.name)
        run("systemctl", "reset-failed", unit.name)
    begun = time.monotonic()
    done = run(*command_line(arguments))
    took = time.monotonic() - begun
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if not line.startswith("Running as unit")]
        why = "; ".join(said[:2]) or f"exit code {done.returncode}"
        lines = unit.journal() or "none"
        module.fail_json(
            msg=f"{unit.name} failed after {took:.1f} s: {why}. Its last lines:\n{lines}", rc=done.returncode
        )
    module.exit_json(changed=True, seconds=round(took, 3))


if __name__ == "__main__":
    main()
