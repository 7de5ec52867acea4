#!/usr/bin/python
"""Write a service's folders and small files in one task."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: kafka_files
short_description: Write small files in one step each
description:
  - One task instead of one per file and folder. Each file is replaced as a whole, and only if it differs.
options:
  directories: {description: Folders to make (path, owner, mode), type: list, elements: dict, default: []}
  files: {description: Files to write (path, content, mode), required: true, type: list, elements: dict}
"""


def read(path: Path) -> str | None:
    """Return a file's text; None where there is no file."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def mode_of(path: Path) -> int | None:
    """Return the permission bits; None where there is nothing."""
    try:
        return path.stat().st_mode & 0o7777
    except FileNotFoundError:
        return None


def make_directory(wanted: dict, check_mode: bool) -> bool:
    """Make a folder as wanted; return whether anything was to be changed."""
    path, mode = Path(wanted["path"]), int(wanted["mode"], 8)
    present = path.is_dir()
    try:
        owner = pwd.getpwnam(wanted["owner"])
    except KeyError:
        if check_mode:  # the user is not made yet
            return True
        raise
    right = present and mode_of(path) == mode and path.stat().st_uid == owner.pw_uid
    if not right and not check_mode:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        os.chown(path, owner.pw_uid, owner.pw_gid)
    return not right


def write_file(wanted: dict, check_mode: bool) -> dict | None:
    """Write a file as wanted; return its difference, None where there was none."""
    path, mode = Path(wanted["path"]), int(wanted["mode"], 8)
    content = wanted["content"].rstrip("\n") + "\n"
    before = read(path)
    if before == content and mode_of(path) == mode:
        return None
    if not check_mode:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(content)
        temporary.chmod(mode)
        temporary.replace(path)
    return {"before_header": str(path), "after_header": str(path), "before": before or "", "after": content}


def main() -> None:
    """Run as an Ansible module."""
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": text, "owner": text, "mode": text},
            },
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"path": text, "content": text, "mode": text},
            },
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # folders that others must pass, whatever the login says
    changed: list[str] = []
    differences: list[dict] = []
    try:
        for directory in module.params["directories"]:
            if make_directory(directory, module.check_mode):
                changed.append(directory["path"])
        for file in module.params["files"]:
            difference = write_file(file, module.check_mode)
            if difference is not None:
                changed.append(file["path"])
                differences.append(difference)
    except (OSError, KeyError, ValueError) as error:
        module.fail_json(msg=f"a file could not be written: {error}")
    module.exit_json(changed=bool(changed), changed_paths=changed, diff=differences)


if __name__ == "__main__":
    main()
