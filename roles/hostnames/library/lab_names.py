#!/usr/bin/python
"""Give a host its name, and the names of the others."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: lab_names
short_description: A host's name and its lab's part of /etc/hosts
description:
  - Sets the hostname now and for the next boot, and keeps one marked block of C(/etc/hosts). Other lines stay.
  - In a container either file may be a mount, which cannot be replaced, only written; and the kernel's name may not be
    the container's to set. Then it stays what the container's engine gave, and C(hostname_settable) is false.
options:
  hostname: {description: This host's name, required: true, type: str}
  hosts: {description: Lines "address name", required: true, type: list, elements: str}
  hosts_file: {description: The file to keep, type: path, default: /etc/hosts}
"""

BEGIN, END = "# BEGIN lab hosts", "# END lab hosts"
HOSTNAME = Path("/etc/hostname")


def with_block(text: str, lines: list[str]) -> str:
    """Return `text` with the marked block replaced, or added at the end."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines():
        if line == BEGIN:
            inside = True
        elif line == END:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join([*kept, BEGIN, *lines, END]) + "\n"


def read(path: Path) -> str:
    """Return a file's text; '' where there is none."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def write(path: Path, text: str) -> None:
    """Replace the file in one step, or write into it where it is a mount."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.chmod(0o644)
    try:
        temporary.replace(path)
    except OSError as error:
        temporary.unlink()
        if error.errno != errno.EBUSY:
            raise
        path.write_text(text)


def set_hostname(name: str, check_mode: bool) -> tuple[bool, bool]:
    """Return whether the name was to be changed, and whether it can be."""
    stored = read(HOSTNAME).strip()
    if socket.gethostname() == name and stored == name:
        return False, True
    if check_mode:
        return True, True
    try:
        socket.sethostname(name)
    except PermissionError:
        return False, False
    write(HOSTNAME, name + "\n")
    return True, True


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "hostname": {"type": "str", "required": True},
            "hosts": {"type": "list", "elements": "str", "required": True},
            "hosts_file": {"type": "path", "default": "/etc/hosts"},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["hosts_file"])
    try:
        before = read(path)
        after = with_block(before, module.params["hosts"])
        if after != before and not module.check_mode:
            write(path, after)
        renamed, settable = set_hostname(module.params["hostname"], module.check_mode)
    except OSError as error:
        module.fail_json(msg=f"the host's names could not be written: {error}")
    module.exit_json(
        changed=after != before or renamed,
        hostname_settable=settable,
        diff={"before_header": str(path), "after_header": str(path), "before": before, "after": after},
    )


if __name__ == "__main__":
    main()
