#!/usr/bin/python
"""Install a Python program in a versioned folder of the host, behind a `current` link."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from ansible.module_utils.app_versions import MARKER, drop_old, members, point
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: python_app_install
short_description: A Python program in a virtual environment of its own
description:
  - The action plugin of this name packs the program on the controller and hands it over where the host has it not.
  - A version's folder has C(app) (its files, the working directory) and C(venv). Its name follows from the program, its
    requirements and its interpreter. It counts as installed when all of it is; the link is changed in one step.
options:
  source: {description: Where it came from; for messages, required: true, type: str}
  kind: {description: folder or wheel, required: true, type: str}
  label: {description: How its version's name begins, required: true, type: str}
  sha512: {description: Of what is handed over, required: true, type: str}
  directory: {description: Folder that holds the versions and the link, required: true, type: path}
  python: {description: The interpreter its environment is made with, required: true, type: str}
  pip: {description: Whether there is anything for pip to install, required: true, type: bool}
  requirements: {description: Besides those of the program itself, type: list, elements: str, default: []}
  keep: {description: Versions that stay, this one included, type: int, default: 3}
"""


class InstallError(Exception):
    """What could not be done, with the last lines of what was said about it."""


def version_of(arguments: dict) -> str:
    """Return the name of the version's folder."""
    parts = [arguments["kind"], arguments["sha512"], arguments["python"], *arguments["requirements"]]
    return f"{arguments['label']}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]}"


def run(command: list[str], what: str) -> None:
    """Run a command; `InstallError` where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise InstallError(f"{what}: {command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()[-12:]
        raise InstallError("\n".join([f"{what}:", *said]))


def install(arguments: dict, folder: Path, program: Path) -> None:
    """Fill a version's folder; the marker, which says that it is whole, comes last."""
    shutil.rmtree(folder, ignore_errors=True)
    app, venv = folder / "app", folder / "venv"
    app.mkdir(parents=True)
    if arguments["kind"] == "folder":
        with tarfile.open(program) as tar:
            tar.extractall(app, members=members(tar))  # noqa: S202 - members() lets no path lead outside
    wanted = list(arguments["requirements"])
    if (app / "requirements.txt").exists():
        wanted += ["-r", str(app / "requirements.txt")]
    if arguments["kind"] == "wheel":
        wanted.append(str(program))
    elif (app / "pyproject.toml").exists() or (app / "setup.py").exists():
        wanted.append(str(app))
    without = [] if arguments["pip"] else ["--without-pip"]
    run([arguments["python"], "-m", "venv", *without, str(venv)], f"the virtual environment {venv} could not be made")
    if wanted:
        pip = [str(venv / "bin/python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        run([*pip, *wanted], f"pip could not install {arguments['source']}")
    (folder / MARKER).write_text(json.dumps({"sha512": arguments["sha512"], "source": arguments["source"]}) + "\n")


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "required": True},
            "kind": {"type": "str", "required": True, "choices": ["folder", "wheel"]},
            "label": {"type": "str", "required": True},
            "sha512": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "python": {"type": "str", "required": True},
            "pip": {"type": "bool", "required": True},
            "requirements": {"type": "list", "elements": "str", "default": []},
            "keep": {"type": "int", "default": 3},
            "_program": {"type": "path"},  # where the action plugin put it on this host
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # folders that others must pass, whatever the login says
    arguments = module.params
    directory, version = Path(arguments["directory"]), version_of(arguments)
    folder, link = directory / version, directory / "current"
    present = (folder / MARKER).is_file()
    linked = link.is_symlink() and str(link.readlink()) == version
    result = {"changed": not (present and linked), "version": version, "needs_program": not present}
    program = arguments["_program"]
    if module.check_mode or not (present or program):
        module.exit_json(**result)
    try:
        if not present:
            if hashlib.sha512(Path(program).read_bytes()).hexdigest() != arguments["sha512"]:
                module.fail_json(msg=f"{arguments['source']} was altered on its way to this host; run this again")
            install(arguments, folder, Path(program))
        if not linked:
            point(link, version)
            drop_old(directory, version, arguments["keep"])
    except (InstallError, OSError, ValueError, tarfile.TarError) as error:
        module.fail_json(msg=str(error), version=version)
    module.exit_json(**{**result, "needs_program": False})


if __name__ == "__main__":
    main()
