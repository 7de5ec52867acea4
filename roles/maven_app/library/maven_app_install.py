#!/usr/bin/python
"""Install what a Maven build made in a versioned folder of the host, behind a `current` link."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path

from ansible.module_utils.app_versions import MARKER, drop_old, members, point
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: maven_app_install
short_description: A program of jars in a versioned folder
description:
  - The action plugin of this name hands the archive over where the host has the version not yet.
  - A version's folder has C(app) (the jar, the working directory) and C(libs). A version that is there is whole, and is
    not replaced by another build of the same sources.
options:
  src: {description: The archive on the controller, required: true, type: str}
  version: {description: Name of the version's folder, required: true, type: str}
  sha512: {description: Of the archive, required: true, type: str}
  directory: {description: Folder that holds the versions and the link, required: true, type: path}
  keep: {description: Versions that stay, this one included, type: int, default: 3}
"""


def unpack(archive: Path, folder: Path, sha512: str) -> None:
    """Fill a version's folder; the marker, which says that it is whole, comes last."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, members=members(tar))  # noqa: S202 - members() lets no path lead outside
    (folder / MARKER).write_text(json.dumps({"sha512": sha512}) + "\n")


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "src": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "sha512": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "keep": {"type": "int", "default": 3},
            "_archive": {"type": "path"},  # where the action plugin put it on this host
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # folders that others must pass, whatever the login says
    arguments = module.params
    directory, version = Path(arguments["directory"]), arguments["version"]
    folder, link, archive = directory / version, directory / "current", arguments["_archive"]
    present = (folder / MARKER).is_file()
    linked = link.is_symlink() and str(link.readlink()) == version
    result = {"changed": not (present and linked), "version": version, "needs_archive": not present}
    if module.check_mode or not (present or archive):
        module.exit_json(**result)
    try:
        if not present:
            if hashlib.sha512(Path(archive).read_bytes()).hexdigest() != arguments["sha512"]:
                module.fail_json(msg=f"{arguments['src']} was altered on its way to this host; run this again")
            unpack(Path(archive), folder, arguments["sha512"])
        if not linked:
            point(link, version)
            drop_old(directory, version, arguments["keep"])
    except (OSError, ValueError, tarfile.TarError) as error:
        module.fail_json(msg=f"{arguments['src']} could not be unpacked to {folder}: {error}")
    module.exit_json(**{**result, "needs_archive": False})


if __name__ == "__main__":
    main()
