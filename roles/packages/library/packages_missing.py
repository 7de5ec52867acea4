#!/usr/bin/python
"""Tell which packages a host has not, without its package manager."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: packages_missing
short_description: Tell which packages are not installed
description:
  - Asks dpkg's or rpm's own database, which takes milliseconds where apt and dnf take seconds.
  - What another package provides counts as installed. Returns C(manager), apt or dnf, and C(missing).
options:
  names: {description: Packages as the package manager takes them, required: true, type: list, elements: str}
  more: {description: Further ones by package manager, type: dict, default: {}}
"""


def run(*command: str) -> str:
    """Return what a command printed, whatever its exit code."""
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.stdout


def missing_of_dpkg(names: Iterable[str], listed: str) -> list[str]:
    """Return those of `names` that dpkg's list has not: lines of name, architecture, version, status, provides."""
    versions: dict[str, str] = {}
    for line in listed.splitlines():
        name, architecture, version, status, provides = line.split("\t")
        if status != "installed":
            continue
        versions[name] = versions[f"{name}:{architecture}"] = version
        for provided in filter(None, provides.split(",")):
            versions.setdefault(provided.split("(")[0].strip().split(":")[0], "")
    found = []
    for wanted in names:
        name, _, version = wanted.partition("=")
        if name not in versions or (version and versions[name] != version):
            found.append(wanted)
    return found


def missing_of_rpm(names: Iterable[str], *asking: str) -> list[str]:
    """Return those of `names` that rpm, asked with `asking`, does not know."""
    return [
        name
        for name in names
        if "is not installed" in (told := run("rpm", "-q", *asking, name)) or not told or "no package provides" in told
    ]


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "more": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    manager = "apt" if shutil.which("dpkg-query") and shutil.which("apt-get") else "dnf"
    if manager == "dnf" and not shutil.which("rpm"):
        module.fail_json(msg="this host has neither apt nor rpm: the role knows Debian's family and Red Hat's")
    names = list(dict.fromkeys([*module.params["names"], *module.params["more"].get(manager, [])]))
    missing: list[str] = []
    if names and manager == "apt":
        shown = "${Package}\t${Architecture}\t${Version}\t${db:Status-Status}\t${Provides}\n"
        missing = missing_of_dpkg(names, run("dpkg-query", "-W", "-f", shown))
    elif names:
        missing = missing_of_rpm(missing_of_rpm(names), "--whatprovides")
    module.exit_json(changed=False, manager=manager, missing=missing)


if __name__ == "__main__":
    main()
