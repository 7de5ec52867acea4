#!/usr/bin/python
"""Install pip's packages in a virtual environment of the host, where one is missing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: packages_pip
short_description: Requirements in a virtual environment
description:
  - Makes the environment where there is none. What is installed is compared with the requirements by pip's own rules,
    without asking an index; pip is called where one is not met. It takes its settings from the host.
options:
  venv: {description: The virtual environment's folder, required: true, type: path}
  python: {description: The interpreter it is made with, required: true, type: str}
  requirements: {description: Requirements as pip takes them, required: true, type: list, elements: str}
"""

# Run by the environment's own interpreter: pip brings the library that reads requirements.
UNMET = """
import json, sys
from importlib import metadata
from pip._vendor.packaging.requirements import InvalidRequirement, Requirement
unmet = []
for text in json.load(sys.stdin):
    try:
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate():
            continue
        if wanted.url or not wanted.specifier.contains(metadata.version(wanted.name), prereleases=True):
            unmet.append(text)
    except InvalidRequirement as error:
        sys.exit("%r is no requirement: %s" % (text, error))
    except metadata.PackageNotFoundError:
        unmet.append(text)
print(json.dumps(unmet))
"""


class PipError(Exception):
    """What could not be made or installed, with the last lines of what was said about it."""


def run(command: list[str], what: str, given: str = "") -> str:
    """Run a command and return what it printed; `PipError` where it fails."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PipError(f"{what}: {command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()[-12:]
        raise PipError("\n".join([f"{what}:", *said]))
    return done.stdout


def works(venv: Path) -> bool:
    """Return True if there is an environment, whose interpreter was not removed under it."""
    python = venv / "bin/python"
    return os.access(python, os.X_OK) and (venv / "bin/pip").exists()


def unmet(venv: Path, requirements: list[str]) -> list[str]:
    """Return those of the requirements that the environment does not meet."""
    told = run([str(venv / "bin/python"), "-c", UNMET], "the requirements could not be read", json.dumps(requirements))
    found: list[str] = json.loads(told)
    return found


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "venv": {"type": "path", "required": True},
            "python": {"type": "str", "required": True},
            "requirements": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    venv, requirements = Path(module.params["venv"]), module.params["requirements"]
    made = not works(venv)
    missing = requirements
    try:
        if made and not module.check_mode:
            run([module.params["python"], "-m", "venv", "--clear", str(venv)], f"{venv} could not be made")
        if not (made and module.check_mode):
            missing = unmet(venv, requirements)
        if missing and not module.check_mode:
            pip = [str(venv / "bin/python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
            run([*pip, *missing], f"pip could not install {', '.join(missing)}")
    except PipError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=made or bool(missing), installed=missing)


if __name__ == "__main__":
    main()
