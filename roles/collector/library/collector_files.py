#!/usr/bin/python
"""Write the collector's programs and unit, and say what it still needs: one task on a host where all is well."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: collector_files
short_description: The collector's files, and whether it runs
description:
  - Each file is replaced as a whole, and only if it differs; C(changed_paths) names those that did.
  - Says which programs are C(missing), and whether the unit is C(running), now and after every boot. Starts nothing.
options:
  files: {description: Files to write (path, content, mode), required: true, type: list, elements: dict}
  programs: {description: Names of programs that the unit needs, required: true, type: list, elements: str}
  unit: {description: The systemd unit, required: true, type: str}
"""


def write(path: Path, content: str, mode: int, check_mode: bool) -> dict | None:
    """Write a file of root's; return its difference, None where there was none."""
    try:
        before, status = path.read_text(), path.stat()
    except FileNotFoundError:
        before, status = None, None
    if before == content and status and (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (mode, 0, 0):
        return None
    if not check_mode:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(content)
        temporary.chmod(mode)
        os.chown(temporary, 0, 0)
        temporary.replace(path)
    return {"before_header": str(path), "after_header": str(path), "before": before or "", "after": content}


def running(unit: str) -> bool:
    """Return whether a unit is active and will be after a boot."""
    asked = ["systemctl", "show", unit, "-p", "ActiveState", "-p", "UnitFileState"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    except FileNotFoundError:  # the task that starts it says so
        return False
    return {"ActiveState=active", "UnitFileState=enabled"} <= set(told)


def main() -> None:
    """Run as an Ansible module."""
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"path": text, "content": text, "mode": text},
            },
            "programs": {"type": "list", "elements": "str", "required": True},
            "unit": text,
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # folders that others must pass, whatever the login says
    differences: list[dict] = []
    try:
        for file in module.params["files"]:
            content = file["content"].rstrip("\n") + "\n"
            difference = write(Path(file["path"]), content, int(file["mode"], 8), module.check_mode)
            if difference is not None:
                differences.append(difference)
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"a file could not be written: {error}")
    module.exit_json(
        changed=bool(differences),
        changed_paths=[one["after_header"] for one in differences],
        diff=differences,
        missing=[name for name in module.params["programs"] if shutil.which(name) is None],
        running=running(module.params["unit"]),
    )


if __name__ == "__main__":
    main()
