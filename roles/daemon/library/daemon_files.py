#!/usr/bin/python
"""Write a service's folders and small files in one task, and its secret into them without telling it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: daemon_files
short_description: Write a service's folders and small files in one step
description:
  - One task instead of one per file and folder. Each file is replaced as a whole, and only if it differs.
  - C(@SECRET@) in a file is the secret; no difference and no result shows it.
options:
  directories: {description: Folders to make for C(owner), type: list, elements: path, default: []}
  owner: {description: Whose the folders are, default: root, type: str}
  files: {description: "Files to write (path, content, mode, owner; without an owner root's)", required: true,
          type: list, elements: dict}
  secret: {description: What stands for C(@SECRET@), type: str, default: ''}
"""

PLACE = "@SECRET@"
FOLDER_MODE = 0o755


def read(path: Path) -> str | None:
    """Return a file's text; None where there is no file."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def owner_of(name: str, check_mode: bool) -> pwd.struct_passwd | None:
    """Return the user `name`; None in check mode where it is not made yet."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        if check_mode:
            return None
        raise


def belongs(path: Path, owner: pwd.struct_passwd | None, mode: int) -> bool:
    """Return whether `path` is there with this owner and these permission bits."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return owner is not None and status.st_uid == owner.pw_uid and status.st_mode & 0o7777 == mode


def make_directory(path: Path, owner_name: str, check_mode: bool) -> bool:
    """Make a folder that others may read; return whether anything was to be changed."""
    owner = owner_of(owner_name, check_mode)
    if path.is_dir() and belongs(path, owner, FOLDER_MODE):
        return False
    if not check_mode and owner:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(FOLDER_MODE)
        os.chown(path, owner.pw_uid, owner.pw_gid)
    return True


def write_file(wanted: dict, secret: str, check_mode: bool) -> dict | None:
    """Write a file as wanted; return its difference without the secret, None where there was none."""
    path, mode = Path(wanted["path"]), int(wanted["mode"], 8)
    shown = wanted["content"].rstrip("\n") + "\n"
    content = shown.replace(PLACE, secret)
    owner = owner_of(wanted["owner"], check_mode)
    before = read(path)
    if before == content and belongs(path, owner, mode):
        return None
    if not check_mode and owner:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.touch(mode=0o600)  # nobody else reads it before it has its owner and mode
        temporary.write_text(content)
        os.chown(temporary, owner.pw_uid, owner.pw_gid)
        temporary.chmod(mode)
        temporary.replace(path)
    difference = {"before_header": str(path), "after_header": str(path), "after": shown}
    # What held another secret before is not shown either.
    return {**difference, "before": "" if before is None or shown != content else before}


def main() -> None:
    """Run as an Ansible module."""
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "directories": {"type": "list", "elements": "path", "default": []},
            "owner": {"type": "str", "default": "root"},
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"path": text, "content": text, "mode": text, "owner": {"type": "str", "default": "root"}},
            },
            "secret": {"type": "str", "default": "", "no_log": True},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # folders that others must pass, whatever the login says
    changed: list[str] = []
    differences: list[dict] = []
    try:
        for directory in module.params["directories"]:
            if make_directory(Path(directory), module.params["owner"], module.check_mode):
                changed.append(directory)
        for file in module.params["files"]:
            difference = write_file(file, module.params["secret"], module.check_mode)
            if difference is not None:
                changed.append(file["path"])
                differences.append(difference)
    except (OSError, KeyError, ValueError) as error:
        module.fail_json(msg=f"a file could not be written: {error}")
    module.exit_json(changed=bool(changed), changed_paths=changed, diff=differences)


if __name__ == "__main__":
    main()
