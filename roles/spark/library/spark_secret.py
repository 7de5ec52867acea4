#!/usr/bin/python
"""Make a cluster's secret where there is none yet."""

from __future__ import annotations

import os
import pwd
import secrets
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: spark_secret
short_description: Make a cluster's secret where there is none
description:
  - 256 random bits in a file that only its owner reads. One that is there stays as it is, and none is told.
options:
  path: {description: The file, required: true, type: path}
  owner: {description: Whose it is, required: true, type: str}
"""


def make(path: Path, owner: pwd.struct_passwd) -> None:
    """Write a new secret, whole or not at all, never readable to others."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(secrets.token_hex(32) + "\n")
    os.chown(temporary, owner.pw_uid, owner.pw_gid)
    temporary.replace(path)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}, "owner": {"type": "str", "required": True}},
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    missing = not path.is_file() or not path.stat().st_size
    if missing and not module.check_mode:
        try:
            make(path, pwd.getpwnam(module.params["owner"]))
        except (OSError, KeyError) as error:
            module.fail_json(msg=f"the secret {path} could not be made: {error}")
    module.exit_json(changed=missing)


if __name__ == "__main__":
    main()
